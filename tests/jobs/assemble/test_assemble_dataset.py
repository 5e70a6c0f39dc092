"""A dataset with every rule on: its card adds up, its negatives stay apart, and Spark makes the same of it."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.evidence.dataset import figures
from jobs.flow import STAGES
from tests.jobs.assemble.assemble_world import DAY, DECLARED, EVERYTHING, TRAIN, World, busy, on_spark, with_dataset


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_card_adds_up(world: World) -> None:
    """Every impression read is an example, left out for a reason, a copy, or unknown at the cut; rates are weighted."""
    busy(world)
    with_dataset(world, EVERYTHING)
    counts = world.assemble()
    rows = world.examples()
    card = world.card()
    train, test = card["splits"]["train"], card["splits"]["test"]
    left_out = sum(n for reasons in train["left_out"].values() for n in reasons.values())
    assert counts["left_out"] == left_out > 0
    assert set(train["left_out"]) == {"inactive_user", "duplicate", "negative", "surface"}
    assert card["copies_or_unknown_at_cut"] == 3 * 6
    assert card["impressions_read"] == len(rows) + left_out + card["copies_or_unknown_at_cut"]
    assert test["left_out"] == {}
    assert (test["rows"], test["weight"], test["weight_span"]) == (66, 66.0, [1.0, 1.0])
    mine = [row for row in rows if row["split"] == "train"]
    known = [row for row in mine if row["clicked"] is not None]
    rate = sum(row["weight"] * row["clicked"] for row in known) / sum(row["weight"] for row in known)
    assert train["click_rate"] == pytest.approx(rate, rel=1e-8)
    assert train["weight"] == pytest.approx(sum(row["weight"] for row in mine), rel=1e-8)
    assert train["users"] == len({row["user_id"] for row in mine} - {None})
    assert train["event_time"] == [str(mine[0]["event_time"]), str(mine[-1]["event_time"])]
    assert sum(surface["rows"] for surface in train["surfaces"].values()) == train["rows"] == len(mine)
    empty = sum(row["item_click_rate"] is None for row in mine) / len(mine)
    assert train["missing"]["item_click_rate"] == pytest.approx(empty, abs=1e-6)
    assert card["duplicate_items"] == 1
    assert card["versions"] == {table: world.lake.version(table) for table in STAGES["assemble"].reads}
    assert world.card("retrieval_negatives") == card
    told = figures(card)
    assert told["dataset.train.rows"] == len(mine)
    assert told["dataset.train.click_rate"] == train["click_rate"]


def test_negatives_for_retrieval_have_their_own_table_and_leave_the_examples_alone(world: World) -> None:
    """A ranker that took them for impressions would learn that whatever was not shown is not clicked."""
    busy(world)
    world.assemble()
    examples, none = world.examples(), world.lake.read("retrieval_negatives", [DAY])
    assert len(none) == 0
    with_dataset(world, {"retrieval": {"per_click": 9}})
    world.assemble()
    found = world.lake.read("retrieval_negatives", [DAY], {"mode": "full"}).to_pylist()
    clicked = {row["impression_id"]: row for row in examples if row["split"] == "train" and row["clicked"]}
    for row in found:
        shown = clicked[row["impression_id"]]
        assert all(row[name] == shown[name] for name in ("user_id", "event_time", "surface"))
    assert {row["item_id"] for row in found} == {"far"}
    assert {row["event_time"].day for row in found} == {2, 3, 4}, "on the first day no catalogue was known"
    assert world.card()["retrieval_negatives"] == len(found)
    assert world.examples() == examples


def test_warm_is_the_end_of_full_with_every_rule_on(world: World) -> None:
    """Coins, activity and blocks of days do not depend on where the train window begins."""
    busy(world)
    with_dataset(world, {"selection": EVERYTHING["selection"] | {"max_train_rows": None, "surface_shares": "traffic"}})
    world.assemble()
    world.assemble("warm")
    full, warm = (
        [{k: v for k, v in row.items() if k != "mode"} for row in world.examples(mode)] for mode in ("full", "warm")
    )
    assert warm == full[-len(warm) :]
    assert min(row["event_time"] for row in warm).day == TRAIN[-2].day


@pytest.mark.spark
@pytest.mark.parametrize(("chosen", "partitions"), [({}, 2), (EVERYTHING, 5)])
def test_spark_is_the_core(
    world: World, chosen: dict[str, Any], partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same examples, negatives and card from any number of buckets as from one process; copies, maps and nulls.

    The driver reads no row: its memory does not grow with rows, users or items.
    """
    busy(world)
    with_dataset(world, chosen)
    world.config = world.config.model_copy(update={"outcomes": DECLARED})
    counts = world.assemble()
    examples, negatives, card = (
        world.examples(),
        world.lake.read("retrieval_negatives", [DAY]).to_pylist(),
        world.card(),
    )
    on_spark(world, partitions)
    with monkeypatch.context() as driver:
        for read in ("read", "read_row_group", "read_row_groups", "iter_batches"):
            driver.setattr(pq.ParquetFile, read, None)
        assert world.assemble() == counts
    assert sorted(world.examples(), key=by_id) == sorted(examples, key=by_id)
    assert sorted(world.lake.read("retrieval_negatives", [DAY]).to_pylist(), key=by_id) == sorted(negatives, key=by_id)
    assert world.card() == card
    assert len(negatives) > 0 or not chosen
    told = [dict(row["outcomes"]) for row in examples]
    assert all("like" in one for one in told)
    assert 0 < sum("watch" in one for one in told) < len(told), "open in the newest rows"
    assert {one["watch"] > 0 for one in told if "watch" in one} == {True, False}


def by_id(row: dict[str, Any]) -> tuple[str, int]:
    return row["impression_id"], row.get("draw", 0)
