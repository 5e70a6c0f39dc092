"""One clock: from when a day's features count as known, and which day's a moment sees."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.asof.clock import available_at, instants, late_minutes, published_at, refuse_early, seen
from jobs.config import FeatureSettings
from jobs.errors import Refused
from jobs.lake.tables import TIME

DAY = date(2026, 1, 4)
SIX = FeatureSettings()
MOMENT = timedelta(microseconds=1)
MINUTES = st.integers(-600, 4000)


def at(hours: float) -> datetime:
    """So long after the midnight that ends the day."""
    return datetime(2026, 1, 5, tzinfo=UTC) + timedelta(hours=hours)


def column(*times: datetime) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(times, TIME)])


def test_a_day_counts_as_known_the_promised_hours_after_its_end() -> None:
    """The default leaves the daily run of 02:00 its two hours of waiting for a late input, and two to work."""
    assert available_at(DAY, SIX) == at(6)
    assert available_at(DAY, FeatureSettings(available_after_hours=0)) == at(0)


def test_two_days_online_are_enough_for_any_promise_there_may_be() -> None:
    """A day or more, and requests would have to see a third feature day, which nobody keeps."""
    with pytest.raises(ValueError, match="less than or equal to 23"):
        FeatureSettings(available_after_hours=24)


@given(st.lists(MINUTES, max_size=6, unique=True), st.lists(MINUTES, max_size=10))
def test_a_moment_sees_the_newest_publication_at_or_before_it(published: list[int], asked: list[int]) -> None:
    """By looking through all of them: available to the microsecond, good until the next one, however late that is."""
    times = [at(0) + timedelta(minutes=n) for n in published]
    moments = [at(0) + timedelta(minutes=n) for n in asked]
    moments += [t + nudge for t in times for nudge in (-MOMENT, 0 * MOMENT, MOMENT)]
    wanted = [sum(t <= moment for t in times) - 1 for moment in moments]
    assert seen(instants(times), column(*moments)).tolist() == wanted


@pytest.mark.parametrize(
    ("published", "minutes"),
    [
        (at(-1), 0),
        (at(2), 0),
        (at(6), 0),
        (at(6) + MOMENT, 1),
        (at(7), 60),
        (at(29.99), 1440),
        (at(30), 0),
        (at(99), 0),
    ],
)
def test_late_is_what_requests_have_waited_for(published: datetime, minutes: int) -> None:
    """Until the next day's time comes; what is published afterwards is history."""
    assert late_minutes(DAY, published, SIX) == minutes


def test_rows_say_when_they_became_available() -> None:
    """Whatever is promised today: replayed, they are known from when they were; no rows at all are as promised."""
    empty = column()
    assert published_at(DAY, {"user_features": empty, "encodings": empty}, SIX) == at(6)
    for hours in (0, 6, 7):
        rows = {"user_features": empty, "item_features": column(at(hours), at(hours)), "encodings": column(at(hours))}
        assert published_at(DAY, rows, SIX) == at(hours)


@pytest.mark.parametrize(
    "rows",
    [{"a": column(at(6)), "b": column(at(7))}, {"a": column(at(6), at(7))}, {"a": column(), "b": column(at(7), at(6))}],
)
def test_a_day_that_came_apart_is_refused(rows: dict[str, Any]) -> None:
    """Half of it computed under another promise: what was known in between?"""
    says = "2026-01-04 must become available together; found 2026-01-05 06:00, 2026-01-05 07:00: featurize it again"
    with pytest.raises(Refused, match=says):
        published_at(DAY, rows, SIX)


def test_rows_that_claim_to_be_earlier_than_promised_are_refused() -> None:
    """A lake of before the promise, or a leak: nobody was served with them then. Later is what was promised then."""
    refuse_early(DAY, {"a": column(), "b": column(at(6), at(7))}, SIX)
    with pytest.raises(
        Refused, match=r"b of 2026-01-04 need .* 2026-01-05 06:00.* 2026-01-05 05:59: featurize it again"
    ):
        refuse_early(DAY, {"a": column(at(6)), "b": column(at(6), at(6) - MOMENT)}, SIX)
