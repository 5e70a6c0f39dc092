"""Labels as known at the cut, the split's calendar, maps put together: rule by rule."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.assemble import core
from jobs.errors import NotReady, Refused
from jobs.tables import ATTRIBUTES, TIME

DAY = date(2026, 1, 30)
CUT = datetime(2026, 1, 31, tzinfo=UTC)
TEXTS = st.text("ab", max_size=2)
MAPS = st.one_of(st.none(), st.lists(st.tuples(TEXTS, TEXTS), max_size=3))


def days(*spans: tuple[int, int]) -> list[date]:
    return [date(2026, 1, n) for first, last in spans for n in range(first, last + 1)]


def test_the_split_is_train_then_validate_then_test_then_an_embargo() -> None:
    """By event time, never random; a click of the newest day still belongs to the day before it."""
    data = core.dataset(DAY, 20, 1, 2, 1, days((1, 30)))
    assert data.splits == {"train": days((7, 26)), "validate": days((27, 27)), "test": days((28, 29))}
    assert data.cut == CUT
    assert data.days == days((7, 29))


def test_a_short_history_trains_on_what_there_is_and_none_is_not_ready() -> None:
    """Real samples are shorter than 28 days; without a single train day there is nothing to learn from."""
    assert core.dataset(DAY, 20, 1, 1, 1, days((26, 30))).splits["train"] == days((26, 27))
    with pytest.raises(NotReady, match=r"2026-01-27 or earlier to train on; the first published is 2026-01-28"):
        core.dataset(DAY, 20, 1, 1, 1, days((28, 30)))
    with pytest.raises(NotReady, match="none is published"):
        core.dataset(DAY, 20, 1, 1, 1, [])


def test_a_warm_start_sees_the_last_train_days_and_is_judged_on_the_same() -> None:
    """Mode changes what is learned from, never what is judged on."""
    full = core.dataset(DAY, 20, 1, 1, 1, days((1, 30)))
    warm = core.warm(full, 3)
    assert warm.splits == full.splits | {"train": full.splits["train"][-3:]}
    assert warm.cut == full.cut


@given(st.lists(st.tuples(MAPS, MAPS, MAPS), max_size=8), st.integers(0, 3))
@settings(deadline=None)
def test_maps_are_put_together_row_by_row(rows: list[tuple[Any, ...]], skip: int) -> None:
    """Each row's entries in the order of the parts; null maps have none; sliced input is read where it starts."""
    parts = [pa.array([row[k] for row in rows], ATTRIBUTES).slice(skip) for k in range(3)]
    wanted = [[entry for part in row for entry in part or []] for row in rows[skip:]]
    assert core.merged(parts).to_pylist() == wanted


def test_a_feature_row_of_the_future_is_refused() -> None:
    """The planted leak: a join that handed out later rows would make every offline number too good."""
    rows = pa.table({"event_time": pa.array([CUT, CUT], TIME)})
    core.refuse_leaks(rows, pa.chunked_array([pa.array([CUT, None], TIME)]), "user_features")
    late = pa.chunked_array([pa.array([CUT, CUT + timedelta(microseconds=1)], TIME)])
    with pytest.raises(Refused, match=r"user_features rows .* found 1 available later"):
        core.refuse_leaks(rows, late, "user_features")
