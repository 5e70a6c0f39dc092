"""The days of `bench_warm`: a simulated world through the product's own stages, and the dataset of each of its days."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs import config
from jobs.asof.core import DAY_US, microseconds
from jobs.assemble import core, job
from jobs.assemble.inputs import inputs
from jobs.config import Config
from jobs.evidence.scored import with_known_click
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.lake.tables import TIME
from jobs.moment.columns import strings
from jobs.sources.world.truth import true_probabilities
from jobs.train.core import Folds, folds
from models.delays.curve import DelayCurve
from models.rankers.protocol import Floats
from tests.bench.quality_logs import staged

EMBARGOED = 3
"""Days of a dataset that nothing learns: its validation and its test day, and its own, whose clicks are open."""


@dataclass(frozen=True)
class Day:
    """A day's dataset: `examples` of mode full, made with what `config` says; `items` tells `created_at` of any."""

    day: date
    examples: pa.Table
    items: pa.Table
    config: Config

    def full(self) -> Folds:
        """What a full training learns from."""
        return self._folds(self.examples, None)

    def warm(self, before: DelayCurve | None) -> Folds:
        """What a warm start is given: the last of the train days; `before` is its parent's delay curve."""
        data = core.dataset(self.day, self.config.dataset, self.config.attribution, self._published)
        first = core.warm(data, self.config.dataset.warm_train_days).splits["train"][0]
        since = pc.greater_equal(self.examples["event_time"], pa.scalar(midnight(first), TIME))
        return self._folds(self.examples.filter(since), before)

    def test(self) -> pa.Table:
        """The rows that all are judged on, of a day that nobody has learned from or been calibrated by."""
        return with_known_click(self.examples.filter(pc.equal(self.examples["split"], "test")))

    def ages(self, rows: pa.Table, since: datetime) -> tuple[Floats, NDArray[np.bool_]]:
        """(n,) how many days old each row's item was when it was shown, and whether it was created after `since`."""
        at = pc.index_in(rows["item_id"], self.items["item_id"].combine_chunks())
        born = self.items["created_at"].cast(TIME).take(at)
        age: Floats = (microseconds(rows["event_time"]) - microseconds(born)) / DAY_US
        return age, pc.greater(born, pa.scalar(since, TIME)).to_numpy()

    def truth(self, rows: pa.Table) -> tuple[Floats, Floats]:
        """(n,) P(click) of each row, where it was shown, and had it been shown first."""
        names = [strings(rows[name]) for name in ("user_id", "item_id", "surface")]
        shown = self.day - timedelta(days=self.config.attribution.click_window_days)
        at, first = (
            true_probabilities(self.config, shown, *names, place) for place in (rows["position"].to_numpy(), 1)
        )
        if at is None or first is None:
            raise ValueError(
                f"the truth of rows needs the world that made them; found source {self.config.source.name}"
            )
        return at.click, first.click

    @property
    def _published(self) -> list[date]:
        first = self.config.world.first_day
        return [first + timedelta(days=n) for n in range((self.day - first).days + 1)]

    def _folds(self, rows: pa.Table, before: DelayCurve | None) -> Folds:
        conf = self.config
        return folds([rows], midnight(self.day + timedelta(days=1)), conf.attribution, conf.delays, before)


def days(folder: Path, count: int, settings: Mapping[str, str]) -> Iterator[Day]:
    """The first day whose train window lies within the world and has features before it, and `count` after it."""
    given = {"SOURCE__NAME": "simulated", "WORLD__LIVE_SHARE": "0", **settings}
    plain = config.load({f"TIDEGATE__{name}": value for name, value in given.items()})
    first = plain.world.first_day
    start = first + timedelta(days=plain.dataset.train_days + EMBARGOED)
    last = start + timedelta(days=count)
    conf = staged(folder, (first, last), given | {"WORLD__DAYS": str((last - first).days + 1)})
    items = pq.read_table(sorted((conf.lake.raw / "items").glob("date=*/hour=*/*.parquet"))[-1])
    for day in (start + timedelta(days=n) for n in range(count + 1)):
        yield Day(day, _examples(conf, day, folder / "dataset"), items, conf)


def _examples(conf: Config, day: date, folder: Path) -> pa.Table:
    run = Run(STAGES["assemble"], conf, day)
    published = run.published_days("impressions")
    data = core.dataset(day, conf.dataset, conf.attribution, published)
    folders = {table: folder / table for table in run.stage.writes}
    for part in folders.values():
        part.mkdir(parents=True, exist_ok=True)
    job.in_one_process(run, inputs(run, data, published), folders)
    return pq.read_table(folders["examples"] / "part-0.parquet")
