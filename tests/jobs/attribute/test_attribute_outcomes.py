"""Further outcomes: they find their impressions as clicks do, and read as of any time they say what a run then said."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.attribute import core
from jobs.attribute.job import read_days
from jobs.config import AttributionSettings
from jobs.lake.tables import LAKE
from jobs.outcomes import as_known, further_as_known
from models.settings import OutcomeSettings
from tests.jobs.attribute.attribution_oracle import START, events, known_before, random_events

RULES = AttributionSettings()
LIKE = OutcomeSettings()
DECLARED = {
    "like": LIKE,
    "share": OutcomeSettings(window_days=2, through="clicked"),
    "watch": OutcomeSettings(kind="value", window_days=3, unit="seconds"),
}
Rows = dict[str, list[dict[str, Any]]]
EVER = datetime(2027, 1, 1, tzinfo=UTC)


def with_feedback(found: Rows, seed: int, names: tuple[str, ...] = tuple(DECLARED)) -> Rows:
    """The clicks of the little world, once more, as events of one outcome or another, or of one nobody declared."""
    rng = np.random.default_rng([seed, 7])
    choice = [*names, "other"]
    rows = []
    for click in found["clicks"]:
        row = {name: click[name] for name in click if name != "click_id"}
        value = None if rng.random() < 0.2 else float(rng.integers(0, 9)) / 10
        rows.append(row | {"feedback_id": click["click_id"], "outcome": str(rng.choice(choice)), "value": value})
    return {**found, "feedback": rows}


def labels(found: Rows, outcomes: core.Outcomes) -> pa.Table:
    tables = {table: events(table, rows) for table, rows in found.items()}
    return core.attribute(**tables, settings=RULES, outcomes=outcomes)[0]


def said(found: pa.Table, outcomes: core.Outcomes, cut: datetime) -> list[dict[str, float]]:
    return [dict(one) for one in further_as_known(found, outcomes, cut, RULES.late_days).to_pylist()]


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(0, 340))
@settings(max_examples=120, deadline=None)
def test_reading_as_of_any_time_never_changes(seed: int, n: int, hours: int) -> None:
    """Late events, clicks and impressions alike: what all that came later makes of T is what a run at T would say."""
    found = with_feedback(random_events(seed, n, known_late=0.6), seed)
    cut = START + timedelta(hours=hours)

    def read(some: Rows) -> list[Any]:
        told = labels(some, DECLARED)
        told = told.filter(pc.less(told.column("known_at"), pa.scalar(cut)))
        return list(zip(told.column("impression_id").to_pylist(), said(told, DECLARED, cut), strict=True))

    assert read(found) == read(known_before(found, cut))


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(0, 340))
@settings(max_examples=80, deadline=None)
def test_an_outcome_with_a_clicks_events_is_what_a_click_is(seed: int, n: int, hours: int) -> None:
    """Same events, same window: same answer of every impression at any time, unknown ones too; no second rule."""
    found = random_events(seed, n, known_late=0.6)
    clicks = [row | {"feedback_id": row["click_id"], "outcome": "like", "value": None} for row in found["clicks"]]
    found = {**found, "feedback": [{name: row[name] for name in core.FEEDBACK} for row in clicks]}
    told, cut = labels(found, {"like": LIKE}), START + timedelta(hours=hours)
    for at in (cut, EVER):
        clicked = as_known(told, "clicked", at, RULES.late_days).to_pylist()
        assert [one.get("like") for one in said(told, {"like": LIKE}, at)] == clicked


@given(st.integers(0, 10**6), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_what_everybody_has_stays_what_it_was(seed: int, n: int) -> None:
    """Declaring outcomes changes no other column of labels; without any, the new one is null."""
    found = random_events(seed, n)
    plain, more = labels(found, {}), labels(with_feedback(found, seed), DECLARED)
    rest = [name for name in LAKE["labels"].columns if name != "outcomes"]
    assert more.select(rest).equals(plain.select(rest))
    assert plain.column("outcomes").null_count == len(plain)
    assert more.column("outcomes").null_count == 0


@given(st.integers(0, 10**6), st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_changes_nothing(seed: int, n: int, random: Any) -> None:
    """Not even the last bit of a sum."""
    found = with_feedback(random_events(seed, n), seed)
    before = labels(found, DECLARED)
    for rows in found.values():
        random.shuffle(rows)
    assert labels(found, DECLARED).equals(before)


def world(*feedback: dict[str, Any], clicks: tuple[dict[str, Any], ...] = ()) -> pa.Table:
    """Two impressions of one item, at 0 and 6 o'clock; the second is known only at 9."""
    event = {"user_id": "u", "item_id": "i", "value": None, "impression_id": None}
    shown = [
        {"impression_id": "early", "event_time": at(0), "ingested_at": at(0)},
        {"impression_id": "late", "event_time": at(6), "ingested_at": at(9)},
    ]
    rows = [event | {"feedback_id": f"f{n}"} | row for n, row in enumerate(feedback)]
    clicked = [event | {"click_id": f"c{n}"} | row for n, row in enumerate(clicks)]
    return labels(
        {
            "impressions": [event | {"request_id": "r"} | row for row in shown],
            "clicks": [{name: row[name] for name in core.COLUMNS["clicks"]} for row in clicked],
            "purchases": [],
            "feedback": rows,
        },
        DECLARED,
    )


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def test_a_value_is_the_sum_of_what_was_heard_and_moves_to_a_better_impression() -> None:
    """Of three parts of a view one is late; two name no impression and were first thought to be of the early one."""
    told = world(
        {"outcome": "watch", "event_time": at(7), "ingested_at": at(8), "value": 2.0},
        {"outcome": "watch", "event_time": at(7.5), "ingested_at": at(80), "value": 3.0},
        {"outcome": "watch", "impression_id": "early", "event_time": at(1), "ingested_at": at(1), "value": 0.5},
        {"outcome": "watch", "event_time": at(79), "ingested_at": at(79), "value": 9.0},  # beyond three days
    )
    assert said(told, DECLARED, at(71)) == [{"like": 0.0, "share": 0.0}] * 2, "still open, whatever has been heard"
    assert [one.get("watch") for one in said(told, DECLARED, at(72))] == [0.5, None]
    assert [one["watch"] for one in said(told, DECLARED, at(79))] == [0.5, 2.0]
    assert [one["watch"] for one in said(told, DECLARED, at(81))] == [0.5, 5.0]
    [early, _] = told.column("outcomes").to_pylist()
    moved = next(one for one in early if one["outcome"] == "watch")["events"][1]
    assert (moved["value"], moved["known_at"], moved["until"]) == (2.0, at(8), at(9))


def test_what_goes_through_a_click_needs_one_and_waits_for_it() -> None:
    """A share of an impression that nobody clicked is none; and while a click may come nobody knows."""
    share = {"outcome": "share", "impression_id": "early", "event_time": at(1), "ingested_at": at(1)}
    click = {"impression_id": "early", "event_time": at(0), "ingested_at": at(1)}
    assert said(world(share), DECLARED, at(60))[0]["share"] == 0.0
    assert said(world(share, clicks=(click,)), DECLARED, at(60))[0]["share"] == 1.0
    assert "share" not in said(world(share, clicks=(click,)), DECLARED, at(47))[0], "its own two days"


def test_an_outcome_that_was_not_declared_then_is_unknown_not_zero() -> None:
    """Labels of the days before a setting do not say that nobody liked anything."""
    told = world({"outcome": "like", "impression_id": "early", "event_time": at(1), "ingested_at": at(1)})
    assert said(told, {"like": LIKE, "since": LIKE}, EVER) == [{"like": 1.0}, {"like": 0.0}]
    assert further_as_known(told, {}, EVER, 2).to_pylist() == [None, None]


@pytest.mark.parametrize("window", [1, 3, 20])
def test_the_days_read_hold_every_event_and_impression_that_can_tell(window: int) -> None:
    """An event lies up to a window from its impression, and may name another up to a window from itself."""
    first, last = START.date(), START.date() + timedelta(days=4)
    outcomes = {"like": OutcomeSettings(window_days=window)}
    days = timedelta(days=window)
    begin, end = read_days("feedback", first, last, RULES, outcomes=outcomes)
    assert begin <= first - days
    assert end >= last + days
    begin, end = read_days("impressions", first, last, RULES, False, outcomes)
    assert begin <= first - days
    assert end >= last + 2 * days
    for table in core.COLUMNS:
        plain = read_days(table, first, last, RULES)
        assert read_days(table, first, last, RULES, outcomes={}) == plain
