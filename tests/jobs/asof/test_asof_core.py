"""The as-of kernel's laws: it finds what a nested loop finds, and nothing but key and time matters to it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.asof import core, line
from jobs.asof.core import first_known, latest, repeated, spans, take
from jobs.lake.tables import TIME

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", None]),
        st.sampled_from([1, 2, 3, None]),
        st.one_of(st.none(), st.integers(0, 12)),
        st.integers(0, 5),
    ),
    max_size=25,
)
KEYS = ("user", "item")
WINDOW_HOURS = 4
WINDOW_US = WINDOW_HOURS * 3_600_000_000


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    """(user, item, hour, tie) rows; an hour of None is a null time."""
    times = [None if hour is None else START + timedelta(hours=hour) for _, _, hour, _ in rows]
    return pa.table(
        {
            "user": pa.array([row[0] for row in rows], pa.string()),
            "item": pa.array([row[1] for row in rows], pa.int64()),
            "event_time": pa.array(times, TIME),
            "tie": pa.array([f"t{row[3]}" for row in rows], pa.string()),
        }
    )


def nested_loop(left: pa.Table, right: pa.Table, tie: str | None) -> list[int]:
    """The definition, row by row."""
    found = []
    for some in left.to_pylist():
        best = -1
        fits: list[tuple[Any, ...]] = []
        for n, other in enumerate(right.to_pylist()):
            same = all(some[key] is not None and some[key] == other[key] for key in KEYS)
            timed = some["event_time"] is not None and other["event_time"] is not None
            if same and timed and other["event_time"] <= some["event_time"]:
                fits.append((other["event_time"], other[tie] if tie else "", n))
        if fits:
            best = max(fits)[2]
        found.append(best)
    return found


@given(ROWS, ROWS, st.sampled_from([None, "tie"]))
@settings(max_examples=100, deadline=None)
def test_it_is_the_nested_loop(left: list[Any], right: list[Any], tie: str | None) -> None:
    """The binary search over composite integers is the definition, nulls, ties and empty sides included."""
    assert latest(table(left), table(right), KEYS, tie=tie).tolist() == nested_loop(table(left), table(right), tie)


@given(ROWS, ROWS)
@settings(max_examples=30, deadline=None)
def test_shards_of_keys_change_nothing(left: list[Any], right: list[Any]) -> None:
    """A few keys are looked at together, fewer where key x time would not fit 63 bits, and a few rows: same answer."""
    wanted = latest(table(left), table(right), KEYS, tie="tie").tolist()
    inside = pairs_in_window(table(left), table(right))
    for setting, value in (("MOST", 1), ("MOST", 10**11), ("TOGETHER", 1), ("TOGETHER", 7)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(line, setting, value)
            assert latest(table(left), table(right), KEYS, tie="tie").tolist() == wanted
            assert pairs_in_window(table(left), table(right)) == inside


@given(ROWS, ROWS)
@settings(max_examples=60, deadline=None)
def test_a_span_is_every_row_of_the_key_in_the_window_oldest_first(left: list[Any], right: list[Any]) -> None:
    """Row by row, `left_time - window < right_time <= left_time`; its last is what `latest` finds in the window."""
    some, others = table(left), table(right)
    wanted = []
    for n, row in enumerate(some.to_pylist()):
        fits = [
            (other["event_time"], other["tie"], m)
            for m, other in enumerate(others.to_pylist())
            if all(row[key] is not None and row[key] == other[key] for key in KEYS)
            and row["event_time"] is not None
            and other["event_time"] is not None
            and row["event_time"] - timedelta(hours=WINDOW_HOURS) < other["event_time"] <= row["event_time"]
        ]
        wanted += [(n, m) for *_, m in sorted(fits)]
    assert pairs_in_window(some, others) == wanted
    found = spans(some, others, KEYS, WINDOW_US, tie="tie")
    backwards = list(zip(*(side.tolist() for side in found.pairs(newest_first=True)), strict=True))
    assert sorted(backwards) == sorted(wanted)
    newest = dict(wanted)
    assert found.best().tolist() == [newest.get(n, -1) for n in range(len(left))]


def pairs_in_window(left: pa.Table, right: pa.Table) -> list[tuple[int, int]]:
    pairs = spans(left, right, KEYS, WINDOW_US, tie="tie").pairs()
    return list(zip(*(side.tolist() for side in pairs), strict=True))


@given(ROWS, ROWS, st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_buckets_of_the_key_change_nothing(left: list[Any], right: list[Any], buckets: int) -> None:
    """What lets Spark distribute it: each bucket's own answer is the whole answer."""

    def bucket(row: tuple[Any, ...]) -> int:
        return sum(map(ord, f"{row[0]}{row[1]}")) % buckets

    whole = take(table(right), latest(table(left), table(right), KEYS, tie="tie")).to_pylist()
    for n in range(buckets):
        places = [k for k, row in enumerate(left) if bucket(row) == n]
        some, others = table([left[k] for k in places]), table([row for row in right if bucket(row) == n])
        part = take(others, latest(some, others, KEYS, tie="tie")).to_pylist()
        assert part == [whole[k] for k in places]


@given(ROWS, ROWS, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_later_rows_and_the_order_of_rows_change_nothing(left: list[Any], right: list[Any], random: Any) -> None:
    """No look ahead: rows after the last left time are as good as absent; shuffled input finds the same values."""
    found = take(table(right), latest(table(left), table(right), KEYS, tie="tie")).to_pylist()
    more = [*right, ("ann", 1, 99, 0), ("bob", 2, 99, 9)]
    random.shuffle(more)
    assert take(table(more), latest(table(left), table(more), KEYS, tie="tie")).to_pylist() == found


def test_maps_and_lists_are_taken_as_they_are() -> None:
    """Nested columns ride along: null where nothing was found, equal where it was."""
    right = table([("ann", 1, 3, 0)])
    right = right.append_column("map", pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())))
    right = right.append_column("list", pa.array([[1.0, 2.0]], pa.list_(pa.float32())))
    rows = take(right, latest(table([("ann", 1, 4, 0), ("ann", 1, 2, 0)]), right, KEYS), "found_")
    assert rows.column("found_map").to_pylist() == [[("a", "b")], None]
    assert rows.column("found_list").to_pylist() == [[1.0, 2.0], None]
    assert rows.column("found_map").type == right.column("map").type


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3)), max_size=20), st.randoms())
@settings(max_examples=30, deadline=None)
def test_the_first_known_copy_stays_whatever_the_order(rows: list[tuple[str, int, int]], random: Any) -> None:
    """Copies are told apart by when they were known, so a rerun that reads files in another order agrees."""

    def copies(given_rows: list[tuple[str, int, int]]) -> pa.Table:
        names = ("id", "ingested_at", "event_time")
        return pa.table({name: [row[k] for row in given_rows] for k, name in enumerate(names)}) if given_rows else None

    if not rows:
        return
    kept = sorted(tuple(row.values()) for row in first_known(copies(rows), "id").to_pylist())
    wanted = {key: min(row[1:] for row in rows if row[0] == key) for key in {row[0] for row in rows}}
    assert kept == sorted((key, *clocks) for key, clocks in wanted.items())
    random.shuffle(rows)
    assert sorted(tuple(row.values()) for row in first_known(copies(rows), "id").to_pylist()) == kept


def test_a_million_rows_take_a_moment() -> None:
    """A guard against a quadratic slip, not a benchmark: the nested loop would need hours."""
    rng = np.random.default_rng(0)
    times = pa.array(rng.integers(0, 10**12, 200_000)).cast(TIME)
    rows = pa.table({"user": rng.integers(0, 5_000, 200_000), "event_time": times})
    assert (latest(rows, rows, ["user"]) >= 0).all()


@given(
    values=st.lists(st.none() | st.text(max_size=3) | st.sampled_from(["a1", "b1", "a2", "\x00", "é"]), max_size=40),
    cut=st.integers(0, 40),
)
@settings(deadline=None, max_examples=200)
def test_repeated_values_are_exactly_those_that_occur_twice(values: list[str | None], cut: int) -> None:
    """Copies are found by fingerprints: a text that shares one with another must not be taken for its copy."""
    column = pa.chunked_array([pa.array(values[:cut], pa.string()), pa.array(["x", *values[cut:]], pa.string())[1:]])
    assert repeated(column).tolist() == [values.count(value) > 1 for value in values]


def test_a_null_is_a_null_whatever_bytes_lie_below_it() -> None:
    """Arrow leaves the bytes of masked values in place."""
    below = pa.StringArray.from_buffers(
        3, pa.py_buffer(np.array([0, 2, 4, 6], np.int32)), pa.py_buffer(b"aabbcc"), pa.py_buffer(b"\x04"), 2
    )
    assert repeated(pa.chunked_array([below])).tolist() == [True, True, False]


def test_texts_of_one_fingerprint_are_still_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fingerprint only picks whom to look at."""
    monkeypatch.setattr(core, "fingerprints", lambda texts: np.zeros(len(texts), np.uint64))
    assert repeated(pa.chunked_array([["a", "b", "a", "c"]])).tolist() == [True, False, True, False]
