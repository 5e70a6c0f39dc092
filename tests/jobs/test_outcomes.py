"""What a label says as of a time: true or false once it is closed, and until then nothing."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.attribute.core import attribute
from jobs.config import AttributionSettings
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE, TIME
from jobs.outcomes import as_known, closed, closes_on, heard_at, so_far
from tests.jobs.attribute.attribution_oracle import START, events, random_events

CUT = datetime(2026, 1, 31, tzinfo=UTC)
HOURS = st.one_of(st.none(), st.integers(-50, 50))
SPANS = st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 50)), max_size=3)


def label(happened: bool | None, known: int | None, matures: int | None, spans: Any = None) -> dict[str, Any]:
    """A label's columns about conversion, in hours from the cut."""

    def time(hours: int | None) -> datetime | None:
        return None if hours is None else CUT + timedelta(hours=hours)

    over = None if spans is None else [{"known_at": time(begin), "until": time(begin + n)} for begin, n in spans]
    return {
        "converted": happened,
        "conversion_known_at": time(known),
        "conversion_superseded": over,
        "matures_at": time(matures),
    }


def known(*rows: dict[str, Any], late_days: int = 0) -> list[bool | None]:
    fields = [LAKE["labels"].schema.field(name) for name in rows[0]]
    labels = pa.Table.from_pylist(list(rows), pa.schema(fields))
    found: list[bool | None] = as_known(labels, "converted", CUT, late_days).to_pylist()
    return found


@given(st.sampled_from([True, False, None]), HOURS, HOURS, st.one_of(st.none(), SPANS), st.integers(0, 2))
@settings(deadline=None)
def test_a_label_is_true_false_or_unknown(
    happened: bool | None, known_at: int | None, matures: int | None, spans: Any, late_days: int
) -> None:
    """Until the last late event of the window's last day can have come it is unknown, whatever has been heard of it;
    then it is true where it was known before the cut (and not yet taken back), else false.
    """
    for_good = bool(happened) and known_at is not None and known_at < 0
    yes = for_good or any(begin < 0 <= begin + n for begin, n in spans or [])
    closed = matures is not None and math.ceil(matures / 24) + late_days <= 0
    wanted = yes if closed else None
    row = label(happened, known_at, matures, spans)
    assert known(row, late_days=late_days) == [wanted]
    # Beside other rows too: lists are read from where they lie.
    told = [label(False, None, -48, [(-3, 9)]), row, label(False, None, -48)]
    assert known(*told, late_days=late_days) == [True, wanted, False]


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), HOURS, st.one_of(st.none(), SPANS)), min_size=1))
@settings(deadline=None)
def test_an_outcome_is_heard_of_exactly_where_it_has_come_so_far(rows: list[Any]) -> None:
    """Always before the cut, and since a time that tells it: that of the label, or of what held meanwhile."""
    fields = [LAKE["labels"].schema.field(name) for name in label(None, None, None)]
    labels = pa.Table.from_pylist([label(one, at, 100, spans) for one, at, spans in rows], pa.schema(fields))
    heard = heard_at(labels, "converted", CUT).to_pylist()
    assert [time is not None for time in heard] == so_far(labels, "converted", CUT).to_pylist()
    for time, row in zip(heard, labels.to_pylist(), strict=True):
        told = [row["conversion_known_at"], *(span["known_at"] for span in row["conversion_superseded"] or [])]
        assert time is None or (time < CUT and time in told)


def test_an_open_conversion_is_unknown_whatever_has_been_heard() -> None:
    """The trap this exists for: a yes that is known early, among others whose no cannot be, teaches too much."""
    assert known(label(True, -5, 100), label(True, 5, 100), label(False, None, 100)) == [None, None, None]
    assert known(label(True, -5, 0), label(True, 0, 0), label(False, None, 0)) == [True, False, False]
    assert known(label(True, -5, 0), label(False, None, -24), late_days=1) == [None, False]


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 2), st.integers(2, 16))
@settings(max_examples=60, deadline=None)
def test_what_is_closed_never_changes_again(seed: int, window: int, click_window: int, day: int) -> None:
    """By attribution itself, over crowded little worlds whose events come up to two days late: a closed conversion says
    what it will say when all is known. Nearly all are closed in the end, so the law is not empty.
    """
    rules = AttributionSettings(window_days=window, click_window_days=click_window)
    found = random_events(seed, 12, known_late=0.6, late_hours=24 * rules.late_days)
    labels, _ = attribute(**{table: events(table, rows) for table, rows in found.items()}, settings=rules)
    final = so_far(labels, "converted", START + timedelta(days=99)).to_pylist()
    now = as_known(labels, "converted", START + timedelta(days=day), rules.late_days).to_pylist()
    assert [said for said in now if said is not None] == [
        said for said, at in zip(final, now, strict=True) if at is not None
    ]
    shown_by = START + timedelta(days=day - click_window - window - rules.late_days)
    assert all(
        said is not None for said, at in zip(now, labels["event_time"].to_pylist(), strict=True) if at < shown_by
    )


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 1)), st.integers(1, 9), st.integers(1, 3), st.integers(0, 3)
)
def test_the_day_it_closes_on_is_the_first_whose_end_closes_it(shown: Any, window: int, click: int, late: int) -> None:
    """One definition: the day that evidence writes down and the labels of that day agree on when all is known."""
    rules = AttributionSettings(window_days=window, click_window_days=click, late_days=late)
    shown = shown.replace(tzinfo=UTC)
    row = pa.table({"matures_at": pa.array([shown + timedelta(days=window + click)], TIME)})
    end = midnight(closes_on(shown, rules, {}) + timedelta(days=1))
    assert closed(row, "converted", end, late).to_pylist() == [True]
    assert closed(row, "converted", end - timedelta(microseconds=1), late).to_pylist() == [False]


def test_a_slice_of_labels_is_read_as_its_own_rows() -> None:
    """A slice keeps the lists of the whole in memory; they are not its own."""
    rows = [label(False, None, 0, [(-3, 9)]), label(False, None, 0), label(False, None, 0, [(-3, 9)])]
    fields = [LAKE["labels"].schema.field(name) for name in rows[0]]
    labels = pa.Table.from_pylist(rows, pa.schema(fields))
    assert so_far(labels.slice(1), "converted", CUT).to_pylist() == [False, True]
