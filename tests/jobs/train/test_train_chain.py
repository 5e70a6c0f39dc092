"""Guards of a chain of warm starts: each test is of the guard that fires in it."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs import bundle
from jobs.bundle import Bundle
from jobs.config import Config
from jobs.errors import Refused
from jobs.evidence.data_warnings import of_drift
from jobs.lake.store import Lake
from jobs.train import job, probe
from jobs.train.chain import Drift, Link
from models.rankers.features import TABLE
from tests.jobs.small_candidates import live, publish_ledger
from tests.jobs.small_lake import DAY, World, a_run, publish, publish_all, settings

QUICK = {
    "ranker__logistic__steps": "5",
    "ranker__xgboost__rounds": "8",
    "ranker__xgboost__stop_after": "0",  # else further trees that lose on the held-out rows are none
    "ranker__mmoe__batch_size": "8192",
    "dataset__train_days": "4",
}
NEXT = DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A full training of `DAY`, whose trees serve, and the warm dataset of the next day."""
    config = settings(tmp_path_factory.mktemp("chain"), tmp_path_factory.getbasetemp(), **QUICK)
    publish_all(config, World(), n=100)
    job.run(a_run("train", config))
    publish_ledger(config, live(next(row for row in candidates(config, "full", DAY) if row["ranker"] == "xgboost")))
    publish_all(config, World(), day=NEXT, mode="warm", n=100)
    return config


def candidates(config: Config, mode: str, day: date) -> list[dict[str, Any]]:
    return Lake(config.lake.root).read("candidates", where={"mode": mode, "day": str(day)}).to_pylist()


def warm(config: Config, day: date = NEXT, **changes: Any) -> tuple[dict[str, Any], Bundle]:
    """The report of a warm start and the trees it made."""
    report = job.run(a_run("train", with_warm(config, **changes), day=day, mode="warm"))
    made = {row["ranker"]: bundle.load(Path(row["bundle"])) for row in candidates(config, "warm", day)}
    return report, made["xgboost"]


def with_warm(config: Config, **changes: Any) -> Config:
    trees = {k: v for k, v in changes.items() if k in type(config.ranker.xgboost).model_fields}
    own = {k: v for k, v in changes.items() if k not in trees}
    ranker = config.ranker.model_copy(update={"xgboost": config.ranker.xgboost.model_copy(update=trees)})
    return config.model_copy(update={"ranker": ranker, "warm": config.warm.model_copy(update=own)})


def test_a_link_says_where_it_stands(trained: Config) -> None:
    """One warm start deep, compared with its parent, which is the newest full training too, on rows neither learned."""
    report, made = warm(trained)
    told = report["chain"]["xgboost"]
    assert (told["depth"], told["lost_in_a_row"]) == (1, 0)
    assert set(told["against"]) == {"parent", "full"}
    assert told["against"]["parent"] == told["against"]["full"]
    assert set(told["against"]["parent"]) == {"ndcg_at_10", "log_loss", "auc"}
    assert 0 < told["drift"]["mean"] < told["drift"]["largest"]
    assert made.manifest["lineage"]["chain"]["depth"] == 1
    parent = bundle.load(trained.bundles / f"xgboost-full-{DAY}")
    assert made.probe == parent.probe, "frozen along the chain"
    assert parent.manifest["lineage"]["chain"] == Link(0, taught_until(trained, DAY, "full")).lineage
    assert (report["alarms"], report["full_training"]) == (0, {})


def taught_until(config: Config, day: date, mode: str) -> Any:
    rows = Lake(config.lake.root).read("examples", [day], where={"mode": mode})
    return pc.max(rows.filter(pc.equal(rows["split"], "train"))["event_time"]).as_py()


def test_without_new_rows_a_warm_start_is_its_parent_bit_for_bit(trained: Config) -> None:
    """The warm dataset of the very day of the full training: its train days are all learned already."""
    publish_all(trained, World(), day=DAY, mode="warm", n=100)
    _, made = warm(trained, day=DAY)
    parent = bundle.load(trained.bundles / f"xgboost-full-{DAY}")
    assert made.ranker.to_files() == parent.ranker.to_files()
    assert made.fallback.to_files() == parent.fallback.to_files()
    assert made.manifest["lineage"]["chain"]["depth"] == 0
    assert made.manifest["lineage"]["chain"]["drift"] == {"mean": 0.0, "largest": 0.0}


def test_what_counts_learns_a_day_once(trained: Config) -> None:
    """Other labels on the days that the parent has learned change no rate of an item; on the new day they do."""

    def bytes_with(flipped: Any) -> bytes:
        rows = Lake(trained.lake.root).read("examples", [NEXT], where={"mode": "warm"})
        wanted = pc.and_(pc.equal(rows["split"], "train"), flipped(rows["event_time"]))
        clicked = pc.if_else(wanted, pc.invert(rows["clicked"]), rows["clicked"])
        changed = rows.set_column(rows.column_names.index("clicked"), rows.schema.field("clicked"), clicked)
        publish_examples(trained, changed)
        try:
            return warm(trained)[1].fallback.to_files()["popularity.json"]
        finally:
            publish_examples(trained, rows)

    last = pa.scalar(taught_until(trained, DAY, "full"))
    never = bytes_with(lambda times: pc.less(times, pa.scalar(None, times.type)).fill_null(False))
    assert bytes_with(lambda times: pc.less_equal(times, last)) == never
    assert bytes_with(lambda times: pc.greater(times, last)) != never


def publish_examples(config: Config, rows: pa.Table, day: date = NEXT) -> None:
    publish(config, "examples", rows.drop_columns(["day", "mode"]), day=str(day), mode="warm")


def test_a_chain_that_is_too_long_is_refused_until_a_full_training(trained: Config) -> None:
    """The champion serves on, and somebody is told to look at weekly training."""
    warm(trained)
    later = NEXT + timedelta(days=1)
    publish_all(trained, World(), day=later, mode="warm", n=100)
    with pytest.raises(Refused, match=r"warm.max_depth = 1 warm starts ago; .*-warm-2026-01-09 is the 1th since"):
        warm(trained, day=later, max_depth=1)
    assert candidates(trained, "warm", later) == []
    report, _ = warm(trained, day=later, max_depth=2)
    assert report["chain"]["xgboost"]["depth"] == 2


def test_a_warm_start_that_moves_far_is_told(trained: Config) -> None:
    """In the report, as an alarm, and on the evidence of whoever is asked to approve it."""
    report, made = warm(trained, max_drift=1e-4)
    assert report["alarms"] > 0
    [said, *_] = [text for text in report["alarmed"][str(NEXT)] if text.startswith("xgboost")]
    assert "warm.max_drift is 0.0001" in said
    [warned] = of_drift(made.manifest["lineage"])
    assert warned.days[0].found == report["chain"]["xgboost"]["drift"]["mean"]
    assert of_drift(warm(trained)[1].manifest["lineage"]) == []


@pytest.fixture
def poisoned(trained: Config) -> Iterator[Config]:
    """The new days of two warm datasets are told the wrong way round: what learns them loses."""
    days = (NEXT, NEXT + timedelta(days=1))
    for day in days:
        publish_all(trained, World(), day=day, mode="warm", n=400)
        rows = Lake(trained.lake.root).read("examples", [day], where={"mode": "warm"})
        clicked = pc.if_else(pc.equal(rows["split"], "train"), pc.invert(rows["clicked"]), rows["clicked"])
        changed = rows.set_column(rows.column_names.index("clicked"), rows.schema.field("clicked"), clicked)
        publish_examples(trained, changed, day)
    yield trained
    for day in days:
        publish_all(trained, World(), day=day, mode="warm", n=100)


def test_losing_twice_in_a_row_asks_for_a_full_training(poisoned: Config) -> None:
    """By name, with the reason, as an alarm and as what the DAG starts a full training for; a full one ends it."""
    first, made = warm(poisoned, warm_eta=0.5)
    assert first["chain"]["xgboost"]["lost_in_a_row"] == made.manifest["lineage"]["chain"]["lost_in_a_row"] == 1
    assert "xgboost" not in first["full_training"]
    second, _ = warm(poisoned, day=NEXT + timedelta(days=1), warm_eta=0.5)
    assert second["chain"]["xgboost"]["lost_in_a_row"] == 2
    assert second["full_training"]["xgboost"].startswith("2 warm starts in a row lost to what they continued")
    assert any("a full training is due" in said for said in second["alarmed"][str(NEXT + timedelta(days=1))])


def test_the_probe_is_read_back_as_it_was() -> None:
    rng = np.random.default_rng(0)
    features: dict[str, Any] = {name: rng.standard_normal(2_000) for name in TABLE.numbers}
    features |= {name: np.array(["a", None], dtype=object)[rng.integers(0, 2, 2_000)] for name in TABLE.categories}
    features[TABLE.numbers[0]][::2] = np.nan
    features["user_id"] = np.full(2_000, "nobody asked", dtype=object)
    found = probe.columns(probe.frozen(features, TABLE))
    assert set(found) == set(features) - {"user_id"}
    assert {len(column) for column in found.values()} == {probe.ROWS}
    for name, column in found.items():
        np.testing.assert_array_equal(column, features[name][np.linspace(0, 1_999, probe.ROWS).astype(int)])


def test_drift_is_in_logits() -> None:
    before, after = np.array([0.5, 0.5, 0.1]), np.array([0.5, np.e / (1 + np.e), 0.1])
    assert Drift.of(before, after) == Drift(pytest.approx(1 / 3, abs=1e-6), pytest.approx(1.0, abs=1e-6))
