"""The stage on a small lake: only the past counts, a range is its days, a rerun is the same, and the engines agree."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from jobs import config
from jobs.errors import NotReady
from jobs.lake.tables import LAKE
from tests.jobs.featurize.conftest import OUTCOMES, World

TABLES = ("user_features", "item_features", "encodings")


def days(world: Any, n: int) -> list[date]:
    return [world.first + timedelta(days=k) for k in range(n)]


def everything(world: Any, n: int) -> dict[tuple[str, date], list[dict[str, Any]]]:
    return {(table, day): world.rows(table, day) for table in TABLES for day in days(world, n)}


def test_a_range_is_its_days_one_by_one(lively: Any) -> None:
    """The bootstrap's rows are those the daily runs would have made, to the bit, and a rerun changes nothing."""
    *_, last = days(lively, 6)
    counts = lively.run(last, since=lively.first)
    ranged = everything(lively, 6)
    assert counts["users"] == len(ranged["user_features", last]) == 40
    assert counts["items"] == len(ranged["item_features", last]) == 16, "14 of the catalogue, 2 that were shown"
    for day in days(lively, 6):
        lively.run(day)
    assert everything(lively, 6) == ranged
    assert {row["available_at"] for row in ranged["user_features", last]} == {lively.at(6, 6)}


def test_what_happens_or_becomes_known_after_midnight_changes_nothing(lively: Any) -> None:
    """A planted leak: an event at the midnight itself, one known only then, and all of the next day."""
    day, tomorrow = days(lively, 6)[3], days(lively, 6)[4]
    lively.run(day)
    before = everything(lively, 0) | {(t, day): lively.rows(t, day) for t in TABLES}
    late = [lively.event("u01", "i01", lively.at(3, h), lively.at(4, 0), outcome="like") for h in range(24)]
    for table in ("impressions", "clicks", "purchases", "feedback"):
        kept = lively.lake.read(table, [day]).drop(["day"]).to_pylist()
        lively.put(table, day, [*kept, *[row | {LAKE[table].key[0]: f"late-{n}"} for n, row in enumerate(late)]])
        lively.put(table, tomorrow, [lively.event("u01", "i01", lively.at(4, 0), outcome="like")] * 50)
    lively.put("items", tomorrow, [lively.item("i01", "other")])
    lively.run(day)
    assert {(t, day): lively.rows(t, day) for t in TABLES} == before
    lively.run(tomorrow)
    (found,) = [row for row in lively.rows("item_features", tomorrow) if row["item_id"] == "i01"]
    assert found["impressions"] >= 74  # the late ones count from the day they were known
    assert dict(found["outcomes"])["like"] >= 74


def test_the_window_forgets(world: Any) -> None:
    """After long_term_days without an event a user has no row, and an item is back at the prior."""
    settings = config.load({"TIDEGATE_ENV": "test", "TIDEGATE__FEATURES__LONG_TERM_DAYS": "2"}).features
    world.config = world.config.model_copy(
        update={"features": world.config.features.model_copy(update={"long_term_days": settings.long_term_days})}
    )
    for n, day in enumerate(days(world, 3)):
        world.put("items", day, [world.item("i1"), world.item("i2")])
        seen = [world.event("u1", "i1", world.at(0)), world.event("u2", "i2", world.at(0))] if n == 0 else []
        world.put("impressions", day, [*seen, world.event("u3", "i2", world.at(n))])
        world.put("clicks", day, [world.event("u1", "i1", world.at(0, 13))] if n == 0 else [])
        world.put("purchases", day, [])
    world.run(days(world, 3)[-1], since=world.first)
    users = [[row["user_id"] for row in world.rows("user_features", day)] for day in days(world, 3)]
    assert users == [["u1", "u2", "u3"], ["u1", "u2", "u3"], ["u3"]]
    last = world.rows("item_features", days(world, 3)[-1])
    assert [row["click_rate"] for row in last] == [0.0, 0.0]
    assert world.rows("user_features", world.first)[0]["days_since_click"] == 11 / 24


def test_events_of_declared_outcomes_are_counted_from_when_they_were_known(tmp_path: Path) -> None:
    """By hand, over two days: a late like, a nameless one, values to a thousandth; whoever else acts is no row."""
    world = World(tmp_path, outcomes=OUTCOMES, features__long_term_days="2")
    noon = [world.at(n) for n in range(3)]
    fed = [
        [
            world.event("u1", "i1", noon[0], outcome="like"),
            world.event("u1", "i1", noon[0], noon[1], outcome="like"),
            world.event("u2", "i1", noon[0], outcome="share"),
        ],
        [
            world.event(None, "i1", noon[1], outcome="like"),
            world.event("u2", "i1", noon[1], outcome="watch"),
            *(world.event("u1", "i1", noon[1], outcome="watch", value=value) for value in (0.1, 0.2, 0.0004)),
        ],
        [],
    ]
    for n, day in enumerate(days(world, 3)):
        world.put("items", day, [world.item("i1"), world.item("i2")])
        world.put("impressions", day, [world.event("u1", "i2", noon[n])])
        world.put("clicks", day, [])
        world.put("purchases", day, [])
        world.put("feedback", day, fed[n])
    world.run(days(world, 3)[-1], since=world.first)
    users = [world.rows("user_features", day) for day in days(world, 3)]
    assert [[(row["user_id"], dict(row["outcomes"])) for row in rows] for rows in users] == [
        [("u1", {"like": 1.0, "watch": 0.0})],
        [("u1", {"like": 2.0, "watch": 0.3})],
        [("u1", {"like": 0.0, "watch": 0.3})],
    ]
    items = [[dict(row["outcomes"]) for row in world.rows("item_features", day)] for day in days(world, 3)]
    nothing = {"like": 0.0, "watch": 0.0}
    assert items == [
        [{"like": 1.0, "watch": 0.0}, nothing],
        [{"like": 3.0, "watch": 0.3}, nothing],
        [{"like": 1.0, "watch": 0.3}, nothing],
    ]
    world.run(days(world, 3)[-1], settings=world.config.model_copy(update={"outcomes": {}}))
    assert [row["outcomes"] for row in world.rows("user_features", days(world, 3)[-1])] == [None]


def test_rows_that_another_writer_deleted_count_no_more(lively: Any) -> None:
    """delta-rs deletes a person and leaves text of another type: the features are those of a log without the person."""
    *_, last = days(lively, 6)
    for table in ("impressions", "clicks"):
        deltalake.DeltaTable(str(lively.lake.root / table)).delete("user_id = 'u07' and day >= '2026-01-04'")
    lively.run(last, since=lively.first)
    found = everything(lively, 6)
    for day in days(lively, 6):
        for table in ("impressions", "clicks"):
            lively.put(table, day, lively.lake.read(table, [day]).drop(["day"]).to_pylist())
    lively.run(last, since=lively.first)
    assert everything(lively, 6) == found


def test_logs_without_users_give_item_features_and_an_empty_day_of_users(world: Any) -> None:
    """Open Bandit names no user: the table is published empty, so that readers know the day came."""
    world.put("items", world.first, [world.item("i1", None)])
    world.put("impressions", world.first, [world.event(None, "i1", world.at(0)) for _ in range(9)])
    world.put("clicks", world.first, [world.event(None, "i1", world.at(0))])
    world.put("purchases", world.first, [])
    assert world.run(world.first)["users"] == 0
    assert world.rows("user_features", world.first) == []
    (found,) = world.rows("item_features", world.first)
    assert (found["impressions"], found["clicks"], found["interest_bucket"]) == (9.0, 1.0, None)
    assert world.lake.days("user_features") == [world.first]


def test_an_empty_day_is_published(world: Any) -> None:
    """No event at all: every item is still there, at a rate of 0."""
    world.put("items", world.first, [world.item("i1")])
    for table in ("impressions", "clicks", "purchases"):
        world.put(table, world.first, [])
    world.run(world.first)
    (found,) = world.rows("item_features", world.first)
    assert [found[name] for name in ("click_rate", "click_rate_1d", "purchase_rate", "impressions")] == [0.0] * 4
    assert found["age_days"] == 4.0


def test_a_missing_day_is_waited_for(lively: Any) -> None:
    """A gap in the events, or no catalogue yet, is not quietly a shorter window."""
    beyond = lively.first + timedelta(days=7)
    with pytest.raises(NotReady, match="2026-01-07"):
        lively.run(beyond)
    with pytest.raises(NotReady, match="needs impressions of 2025-12-31; first published: 2026-01-01"):
        lively.run(lively.first - timedelta(days=1))
    assert lively.lake.days("user_features") == []


def test_a_catalogue_that_comes_later_is_waited_for(world: Any) -> None:
    """No snapshot at or before the day: nothing is published."""
    for table in ("impressions", "clicks", "purchases"):
        world.put(table, world.first, [])
    world.put("items", world.first + timedelta(days=1), [world.item("i1")])
    with pytest.raises(NotReady, match="items at or before 2026-01-01; first published: 2026-01-02"):
        world.run(world.first)


@pytest.mark.spark
def test_spark_gives_the_rows_of_one_process(oddly_named: Any) -> None:
    """Two engines, one core: the same rows, whichever the volume of the log chooses."""
    last = days(oddly_named, 6)[-1]
    oddly_named.run(last, since=oddly_named.first)
    alone = everything(oddly_named, 6)
    always = oddly_named.config.spark.model_copy(update={"from_rows": 0})
    oddly_named.config = oddly_named.config.model_copy(update={"spark": always})
    oddly_named.run(last, since=oddly_named.first)
    assert everything(oddly_named, 6) == alone
    files = oddly_named.lake.files("user_features", [last])
    assert len(files) == oddly_named.config.spark.partitions
    assert all(f"day={last}" in path and isinstance(values, dict) for path, values in files)
    assert pa.concat_tables([oddly_named.lake.read("user_features", [last])]).num_rows == 40
