"""The one as-of kernel: for each left row, the latest right row of the same key at or before it.

Attribution (purchase -> click) and the point-in-time join (impression -> features) are both this function.
`jobs.asof.spark` runs it inside hash buckets: the answer is the same, because a key never spans buckets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Indices = NDArray[np.int64]
"""One row number of the right table per left row, -1 where there is none."""
ABSENT = -1
MOST = 2**62
"""No (key, time) may become a larger integer."""
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Spans:
    """For each left row the right rows `order[first:last]`: those of its keys and its window, oldest first."""

    order: Indices
    first: Indices
    last: Indices

    def at(self, rows: Indices) -> "Spans":
        """The spans of some left rows."""
        return Spans(self.order, self.first[rows], self.last[rows])

    def best(self, newest: bool = True) -> Indices:
        """The newest (or the oldest) right row of each span, -1 where it is empty."""
        rows = np.full(len(self.first), ABSENT)
        some = self.last > self.first
        rows[some] = self.order[(self.last - 1 if newest else self.first)[some]]
        return rows

    def pairs(self, newest_first: bool = False) -> tuple[Indices, Indices]:
        """(left, right): every pair of rows, left rows in order, right rows from oldest to newest or the reverse."""
        count = self.last - self.first
        left = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
        place = self.last[left] - 1 - within if newest_first else self.first[left] + within
        return left, self.order[place]


def latest(
    left: pa.Table,
    right: pa.Table,
    keys: Sequence[str],
    left_time: str = "event_time",
    right_time: str = "event_time",
    tie: str | None = None,
) -> Indices:
    """The row number of the right row with the same `keys` and the largest `right_time <= left_time`, shape (n_left,).

    Of several at that very time the one with the larger `tie` (bytewise, for strings) wins, and the later row without
    one. -1 where there is none; a null key or time matches nothing. Takes O((n + m) log m).
    """
    left_code, left_us, line = _lined_up(left, right, keys, left_time, right_time, tie)
    if line is None:
        return np.full(len(left), ABSENT, np.int64)
    at = line.after(left_code, left_us) - 1
    held = line.codes[np.maximum(at, 0)]
    found = (at >= 0) & (left_code != ABSENT) & (held == left_code)
    return np.where(found, line.rows[np.maximum(at, 0)], ABSENT)


def spans(
    left: pa.Table,
    right: pa.Table,
    keys: Sequence[str],
    window_us: int,
    left_time: str = "event_time",
    right_time: str = "event_time",
    tie: str | None = None,
) -> Spans:
    """All right rows with the same `keys` and `left_time - window_us < right_time <= left_time`, by time, then `tie`.

    The last of each span is what `latest` finds, where that lies in the window.
    """
    left_code, left_us, line = _lined_up(left, right, keys, left_time, right_time, tie)
    if line is None:
        nothing = np.zeros(len(left), np.int64)
        return Spans(nothing[:0], nothing, nothing)
    last = np.where(left_code != ABSENT, line.after(left_code, left_us), 0)
    first = np.where(left_code != ABSENT, line.after(left_code, left_us - window_us), 0)
    return Spans(line.rows, first, last)


def take(table: pa.Table, rows: Indices, prefix: str = "") -> pa.Table:
    """The right rows aligned with the left, as `prefix + name`: null where there is none; lists and maps untouched."""
    index = pa.array(rows, pa.int64(), mask=rows == ABSENT)
    return table.combine_chunks().take(index).rename_columns([prefix + name for name in table.column_names])


def first_known(
    rows: pa.Table, key: str, clocks: Sequence[str] = ("ingested_at", "event_time"), within_days: int | None = None
) -> pa.Table:
    """One row per `key`: of several copies the one that is first by `clocks`, then by the other columns' values.

    With `within_days` a row is a copy only of one that was known earlier and whose `event_time` lies on a day at most
    so many days from its own: then rows further away decide nothing. The rows without copies come first and in their
    order; the result does not depend on the order of copies.
    """
    codes = _encode(rows.column(key))
    copied = np.bincount(codes, minlength=1)[codes] > 1
    if not copied.any():
        return rows
    copies = rows.filter(pa.array(copied))
    plain = [f.name for f in copies.schema if f.name not in (key, *clocks) and not pa.types.is_nested(f.type)]
    ordered = copies.sort_by([(name, "ascending") for name in (key, *clocks, *plain)])
    ids = _encode(ordered.column(key))
    if within_days is None:
        kept = np.unique(ids, return_index=True)[1]
    else:
        kept = np.flatnonzero(
            ~_has_earlier_neighbour(ids, microseconds(ordered.column("event_time")) // DAY_US, within_days)
        )
    return pa.concat_tables([rows.filter(pa.array(~copied)), ordered.take(pa.array(np.sort(kept)))])


def _has_earlier_neighbour(ids: Indices, days: Indices, within: int) -> NDArray[np.bool_]:
    """Whether an earlier row of the same id lies at most `within` days away, either side."""
    days = days - days.min() + within
    place = ids * (days.max() + within + 1) + days
    places, first = np.unique(place, return_index=True)
    found = np.zeros(len(ids), bool)
    for apart in range(-within, within + 1):
        at = np.minimum(np.searchsorted(places, place + apart), len(places) - 1)
        found |= (places[at] == place + apart) & (first[at] < np.arange(len(ids)))
    return found


def microseconds(column: pa.ChunkedArray) -> Indices:
    """Times as microseconds since 1970, 0 where null."""
    raw = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
    return np.asarray(pc.fill_null(raw, 0).to_numpy(), dtype=np.int64)


@dataclass(frozen=True)
class _Line:
    """Right rows on one line of integers, by key, time and tie, so that one binary search answers all keys at once."""

    rows: Indices
    codes: Indices
    places: Indices
    steps: int
    first: int
    times: Indices | None
    """The distinct times, where key and microsecond together do not fit one integer."""

    @classmethod
    def of(cls, rows: Indices, codes: Indices, us: Indices, ranks: Indices | None) -> "_Line":
        first, steps, times = int(us.min()), int(us.max() - us.min()) + 2, None
        if codes.max() >= MOST // steps:
            times = np.unique(us)
            first, steps = 0, len(times) + 1
        line = cls(rows, codes, codes, steps, first, times)
        places = line._place(codes, us)
        order = np.argsort(places, kind="stable") if ranks is None else np.lexsort((ranks, places))
        return cls(rows[order], codes[order], places[order], steps, first, times)

    def after(self, codes: Indices, us: Indices) -> Indices:
        """Where on the line the rows after (code, time) begin."""
        return np.searchsorted(self.places, self._place(codes, us), side="right")

    def _place(self, codes: Indices, us: Indices) -> Indices:
        """The first time is step 1; what lies before it is 0, what lies after the last is the last."""
        if self.times is not None:
            return codes * self.steps + np.searchsorted(self.times, us, side="right")
        return codes * self.steps + np.clip(us - self.first + 1, 0, self.steps - 1)


def _lined_up(
    left: pa.Table, right: pa.Table, keys: Sequence[str], left_time: str, right_time: str, tie: str | None
) -> tuple[Indices, Indices, _Line | None]:
    """Left's key codes (-1: nothing can match) and times, and the right rows on a line; None where none is usable."""
    codes = _codes(left, right, keys)
    left_code, right_code = codes[: len(left)], codes[len(left) :]
    left_code = np.where(_is_valid(left, left_time), left_code, ABSENT)
    usable = np.flatnonzero((right_code != ABSENT) & _is_valid(right, right_time))
    left_us = microseconds(left.column(left_time))
    if not len(usable) or not len(left):
        return left_code, left_us, None
    ranks = None if tie is None else _ranks(right.column(tie))[usable]
    return (
        left_code,
        left_us,
        _Line.of(usable, right_code[usable], microseconds(right.column(right_time))[usable], ranks),
    )


def _is_valid(table: pa.Table, name: str) -> NDArray[np.bool_]:
    return np.asarray(table.column(name).is_valid().to_numpy(), dtype=bool)


def _codes(left: pa.Table, right: pa.Table, keys: Sequence[str]) -> Indices:
    """Left's then right's keys as dense integers from one dictionary, -1 where a part is null."""
    combined = np.zeros(len(left) + len(right), np.int64)
    absent = np.zeros(len(combined), bool)
    for key in keys:
        part = pa.chunked_array([*left.column(key).chunks, *right.column(key).chunks], left.schema.field(key).type)
        codes = _encode(part)
        absent |= codes == ABSENT
        combined = combined * (codes.max(initial=0) + 1) + codes
        if len(keys) > 1:
            combined = np.unique(combined, return_inverse=True)[1].astype(np.int64)
    combined[absent] = ABSENT
    return combined


def _encode(column: pa.ChunkedArray) -> Indices:
    """Values as dense integers in order of appearance, -1 for null."""
    indices = column.combine_chunks().dictionary_encode().indices
    return np.asarray(pc.fill_null(indices, ABSENT).to_numpy(zero_copy_only=False), dtype=np.int64)


def _ranks(column: pa.ChunkedArray) -> Indices:
    return np.asarray(pc.rank(column, tiebreaker="dense").to_numpy(zero_copy_only=False), dtype=np.int64)
