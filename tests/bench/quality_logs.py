"""The logs of `bench_quality`, each through the product's own stages in this process: what a ranker is given of them.

KuaiRand's clicks are known at once, and whether a video was watched long soon after: labels are the log's own, not
those of a cut, so that no day is lost to an embargo. Features are known six hours after a day's end, as elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs import config
from jobs.assemble import core, job
from jobs.assemble.inputs import inputs
from jobs.config import Config
from jobs.evidence.replayed import ASKED, _parts
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.moment.columns import attribute_keys, numbers, training_data
from jobs.moment.decisions import clusters, decisions, first_placements
from jobs.sources.kuairand import LOG
from jobs.train.core import lists
from models.rankers.protocol import Columns, Floats, TrainingData

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "kuairand"
DAYS = (date(2022, 4, 25), date(2022, 4, 30))
"""Of its sample."""
STAGED = ("ingest", "validate", "attribute", "featurize")


@dataclass(frozen=True)
class Rows:
    """n examples of one split: labels are final, `users` are integers by who saw them."""

    data: TrainingData
    users: NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """m requests of a day, their n candidates end to end from `offsets`, each with its true P(click) at the top."""

    columns: Columns
    offsets: NDArray[np.int64]
    truth: Floats
    shown: NDArray[np.int64]
    """(m,) which of them the logging policy put first."""

    def value(self, scores: Floats) -> Floats:
        """(m,) the true P(click) of each request's first item by these scores (n,); ties share."""
        row = np.repeat(np.arange(len(self.shown)), np.diff(self.offsets))
        best = np.maximum.reduceat(scores, self.offsets[:-1])
        first = (scores == best[row]).astype(np.float64)
        return np.bincount(row, first * self.truth) / np.bincount(row, first)


@dataclass(frozen=True)
class Logs:
    """What is learned from, stopped and calibrated by, and judged on."""

    train: Rows
    validate: Rows
    test: Rows

    @property
    def learned(self) -> TrainingData:
        """As a training run hands it to a ranker: a conversion comes of a click."""
        own, later = (replace(of, converted=of.converted * of.clicked) for of in (self.train.data, self.validate.data))
        return replace(own, held_out=later)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as the environment names them."""
    return {f"TIDEGATE__{name}": value for name, value in settings.items()}


def staged(folder: Path, days: tuple[date, date], settings: Mapping[str, str]) -> Config:
    """The lake below `folder` after the stages before `assemble`, of `days` (first, last)."""
    found = config.load(
        {
            "TIDEGATE_ENV": "local",
            "TIDEGATE__LAKE__ROOT": str(folder / "lake"),
            "TIDEGATE__LAKE__RAW": str(folder / "raw"),
            "TIDEGATE__FEATURES__ONLINE": "false",
            **environment(settings),
        }
    )
    for stage in STAGED:
        import_module(f"jobs.{stage}.job").run(Run(STAGES[stage], found, days[1], days[0]))
    return found


def examples(conf: Config, days: tuple[date, date], folder: Path) -> tuple[Run, pa.Table]:
    """`examples` of the days, the last of which is the test's, the one before that the validation's."""
    run = Run(STAGES["assemble"], conf, days[1])
    every = [days[0] + timedelta(days=n) for n in range((days[1] - days[0]).days + 1)]
    splits = {"train": every[:-2], "validate": every[-2:-1], "test": every[-1:]}
    data = core.Dataset(splits, midnight(days[1] + timedelta(days=1)), conf.attribution.late_days)
    folders = {table: folder / table for table in run.stage.writes}
    for part in folders.values():
        part.mkdir(parents=True, exist_ok=True)
    job.in_one_process(run, inputs(run, data, run.published_days("impressions")), folders)
    return run, pq.read_table(folders["examples"] / "part-0.parquet")


def logs(rows: pa.Table, clicked: Floats, converted: Floats) -> Logs:
    """By split; labels (n,) are those of all rows."""
    keys = attribute_keys(rows["attributes"])
    whole = training_data(rows, keys)
    whole = replace(whole, clicked=clicked, converted=converted, weight=np.ones(len(rows)), groups=lists(rows))
    users, split = clusters(rows), np.asarray(rows["split"].to_pylist(), dtype=object)
    found = {}
    for name in ("train", "validate", "test"):
        at = np.flatnonzero(split == name)
        found[name] = Rows(whole.where(at), users[at])
    return Logs(**found)


def kuairand(folder: Path) -> Logs:
    """25-28 April learned from, 29 April stopped by, 30 April judged on; a conversion is a long view."""
    conf = staged(folder, DAYS, {"SOURCE__NAME": "kuairand", "SOURCE__DATA": str(DATA)})
    _, rows = examples(conf, DAYS, folder / "dataset")
    log = pq.read_table(sorted(DATA.glob(LOG)), columns=["user_id", "video_id", "time_ms", "is_click", "long_view"])
    shown = pc.binary_join_element_wise(
        "k",
        *(pc.cast(log[name].cast(pa.int64()), pa.string()) for name in ("user_id", "video_id", "time_ms")),
        "1",
        "-",
    )
    at = pc.index_in(rows["impression_id"], shown)
    return logs(rows, *(numbers(log[name].cast(pa.int64()).take(at)) for name in ("is_click", "long_view")))


WORLD = {
    "WORLD__DAYS": "18",
    "WORLD__USERS": "4000",
    "WORLD__ITEMS": "600",
    "WORLD__NEW_ITEMS_PER_DAY": "8",
    "WORLD__REQUESTS_PER_DAY": "4000",
}
SMALL_WORLD = WORLD | {
    "WORLD__DAYS": "5",
    "WORLD__USERS": "300",
    "WORLD__ITEMS": "120",
    "WORLD__REQUESTS_PER_DAY": "300",
}


def world(folder: Path, settings: Mapping[str, str] = WORLD) -> tuple[Logs, Candidates]:
    """All days of a simulated world but the last two learned from, the last judged on, with everything it chose from.

    Conversions are those heard of by the end, so of the newest days too few: only clicks are judged here.
    """
    first = config.load({}).world.first_day
    days = first, first + timedelta(days=int(settings["WORLD__DAYS"]) - 1)
    conf = staged(folder, days, {"SOURCE__NAME": "simulated", "WORLD__LIVE_SHARE": "0", **settings})
    _, rows = examples(conf, days, folder / "dataset")
    told = pq.read_table(sorted((folder / "raw" / "clicks").glob("date=*/hour=*/*.parquet")), columns=["impression_id"])
    clicked = pc.is_in(rows["impression_id"], pc.unique(told["impression_id"])).to_numpy().astype(np.float64)
    found = logs(rows, clicked, np.full(len(rows), np.nan))
    at = rows.column_names.index("clicked")
    last = rows.set_column(at, "clicked", pa.array(clicked == 1.0)).filter(pc.equal(rows["split"], "test"))
    return found, candidates(conf, days[1], last.append_column("day", pa.array([days[1].isoformat()] * len(last))))


def candidates(conf: Config, day: date, rows: pa.Table) -> Candidates:
    """Of every request of the day that can be replayed."""
    run = Run(STAGES["backtest"], conf, day)
    placed, _ = first_placements(rows, run.read("requests", [day], columns=ASKED))
    chosen = decisions(placed)
    parts = list(_parts(run, placed, chosen, len(chosen.item)))
    truths: list[Any] = [part.truth for part in parts]
    names = parts[0].columns
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
    return Candidates(columns, chosen.offsets, np.concatenate(truths), chosen.shown)
