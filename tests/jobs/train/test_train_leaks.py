"""Planted leaks: a model that learned from the test day, itself or through what it was started from, is refused."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import bundle
from jobs.backtest import job as backtest
from jobs.bundle import Bundle
from jobs.config import Config
from jobs.errors import Refused
from jobs.lake.run import Mode
from jobs.lake.store import Lake, midnight
from jobs.promote import job as promote
from jobs.train import job as train
from tests.jobs.small_candidates import linear, live, popularity, publish_candidates, publish_ledger
from tests.jobs.small_lake import DAY, SLATE, TEST_DAY, World, a_run, examples, publish, publish_all, settings

N = 100
HONEST = datetime(2026, 1, 6, 23, 45, 36, tzinfo=UTC)
"""The last of so many requests round the clock of the validation day."""


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    quick = {"ranker__logistic__steps": "5", "ranker__xgboost__rounds": "8", "ranker__xgboost__warm_rounds": "2"}
    made = settings(tmp_path, tmp_path_factory.getbasetemp(), gate__bootstrap_replicates="50", **quick)
    publish_all(made, World(), n=N)
    return made


def trained(config: Config, mode: Mode = "full") -> dict[str, Bundle]:
    """The bundles of a real training, by ranker."""
    train.run(a_run("train", config, mode=mode))
    rows = Lake(config.lake.root).read("candidates", [DAY], where={"mode": mode}).to_pylist()
    return {row["ranker"]: bundle.load(Path(row["bundle"]), row["bundle_sha256"]) for row in rows}


def held_out(config: Config, mode: Mode = "full") -> tuple[str, str]:
    """The verdict on the challenger, and what the gate says of its test rows."""
    backtest.run(a_run("backtest", config, mode=mode))
    report = promote.run(a_run("promote", config, mode=mode))
    said = [reason for reason in report["reasons"] if reason.startswith("held_out")]
    return report["verdict"], said[0] if said else ""


def of_ranker(config: Config, kind: str) -> dict[str, Any]:
    rows = Lake(config.lake.root).read("candidates", [DAY], where={"mode": "full"}).to_pylist()
    return next(row for row in rows if row["ranker"] == kind)


def test_a_bundle_says_until_when_it_learned_and_an_honest_one_is_judged(config: Config) -> None:
    """Train days and the validation day, which it was chosen on; not the test day, which lies there as well."""
    bundles = trained(config)
    assert {found.learned_until for found in bundles.values()} == {HONEST}
    verdict, said = held_out(config)
    assert verdict != "refuse"
    assert "hours before it" in said or not said


@pytest.mark.parametrize("split", ["train", "validate"])
def test_a_training_on_a_part_of_the_test_day_is_refused(config: Config, split: str) -> None:
    """Ten of the test day's requests slipped into another split: neither fitted nor chosen on is unseen."""
    lake = Lake(config.lake.root)
    honest = lake.read("examples", [DAY], where={"mode": "full"}).drop_columns(["day", "mode"])
    leak = examples(World(), TEST_DAY, split, 2 * N).slice(0, 10 * SLATE)
    publish(config, "examples", pa.concat_tables([honest, leak]), day=str(DAY), mode="full")
    assert {found.learned_until.date() for found in trained(config).values()} == {TEST_DAY}
    verdict, said = held_out(config)
    assert verdict == "refuse"
    assert "'s is " in said
    assert "hours after it" in said


def test_a_warm_start_is_what_its_parent_was(config: Config) -> None:
    """Its own rows are older than the test day; its parent's were not, and what a parent knows a child knows."""
    leaking = publish_candidates(
        config,
        {"popularity": popularity(), "logistic": linear(0.2)},
        "logistic",
        learned_until=midnight(TEST_DAY) + timedelta(hours=6),
    )
    publish_ledger(config, live(leaking[1]))
    publish_all(config, World(), mode="warm", n=N)
    children = trained(config, "warm")
    assert {found.learned_until for found in children.values()} == {midnight(TEST_DAY) + timedelta(hours=6)}
    verdict, said = held_out(config, "warm")
    assert verdict == "refuse"
    assert "6 hours after it" in said


def test_a_champion_that_knows_the_test_day_is_no_yardstick(config: Config) -> None:
    """A backfill of an older day: what serves was trained since, on the very rows both are to be compared on."""
    later = publish_candidates(
        config, {"popularity": popularity(), "logistic": linear(0.5)}, "logistic", day="2026-01-10"
    )[1]
    publish_ledger(config, live(later, day="2026-01-10"))
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    verdict, said = held_out(config)
    assert verdict == "refuse"
    assert "the champion's is 48 hours after it" in said


def test_rows_of_the_same_moment_are_not_told_apart(config: Config) -> None:
    """The last row learned from as old as the first test row: it may be that very row."""
    first = midnight(TEST_DAY)
    for until, refused in ((first, True), (first - timedelta(microseconds=1), False)):
        publish_candidates(
            config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic", learned_until=until
        )
        verdict, said = held_out(config)
        assert (verdict == "refuse") == refused == ("at the moment of it" in said)


def bare(config: Config, **lineage: Any) -> Bundle:
    ranker = popularity()
    return bundle.write(config.bundles, "older", ranker, ranker, None, config.policy, lineage)


def test_an_older_bundle_learned_no_later_than_its_day(config: Config) -> None:
    """So it still serves as a champion to compare with, a day or two later; one that says nothing does not."""
    until = bare(config, day="2026-01-05").learned_until
    assert until == midnight(date(2026, 1, 6)) - timedelta(microseconds=1)
    with pytest.raises(Refused, match=r"older must say until when it learned.* neither in its lineage: train again"):
        _ = bare(config, settings={}).learned_until


def test_the_last_row_counts_wherever_it_stands(config: Config) -> None:
    """Rows of a dataset are in no order: shuffled they give the same bundle's date."""
    lake = Lake(config.lake.root)
    rows = lake.read("examples", [DAY], where={"mode": "full"}).drop_columns(["day", "mode"])
    order = np.random.default_rng(0).permutation(len(rows))
    publish(config, "examples", rows.take(pa.array(order)), day=str(DAY), mode="full")
    assert {found.learned_until for found in trained(config).values()} == {HONEST}
