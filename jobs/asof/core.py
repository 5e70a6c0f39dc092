"""The one as-of kernel: for each left row, the latest right row of the same key at or before it.

Attribution (purchase -> click) and the point-in-time join (impression -> features) are both this function.
`jobs.parcels.spark` runs it inside hash buckets: the answer is the same, because a key never spans buckets.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.asof.keys import ABSENT as ABSENT  # what every reader of this module's results names
from jobs.asof.keys import BLOCK, THREADS, Words, encoded, fingerprints
from jobs.asof.keys import Indices as Indices
from jobs.asof.line import Line, Rows, search
from jobs.asof.line import microseconds as microseconds

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
    found = np.full(len(left), ABSENT)

    def newest(line: Line, rows: Rows, _: int) -> None:
        last = line.after(rows, rows.us) - 1
        met = np.flatnonzero((last >= 0) & (line.rows.code[last] == rows.code))
        found[rows.number[met]] = line.rows.number[last[met]]

    search(newest, left, right, keys, (left_time, right_time), tie)
    return found


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
    order, first, last = np.empty(len(right), np.int64), np.zeros(len(left), np.int64), np.zeros(len(left), np.int64)

    def inside(line: Line, rows: Rows, start: int) -> None:
        order[start : start + len(line.places)] = line.rows.number
        first[rows.number] = start + line.after(rows, rows.us - window_us)
        last[rows.number] = start + line.after(rows, rows.us)

    search(inside, left, right, keys, (left_time, right_time), tie)
    return Spans(order, first, last)


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
    copied = repeated(rows.column(key))
    if not copied.any():
        return rows
    copies = rows.filter(pa.array(copied))
    plain = [f.name for f in copies.schema if f.name not in (key, *clocks) and not pa.types.is_nested(f.type)]
    ordered = copies.sort_by([(name, "ascending") for name in (key, *clocks, *plain)])
    ids = encoded(ordered.column(key))
    if within_days is None:
        kept = np.unique(ids, return_index=True)[1]
    else:
        kept = np.flatnonzero(
            ~_has_earlier_neighbour(ids, microseconds(ordered.column("event_time")) // DAY_US, within_days)
        )
    return pa.concat_tables([rows.filter(pa.array(~copied)), ordered.take(pa.array(np.sort(kept)))])


def repeated(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of (n,) values occur more than once; null is a value like any other.

    A dictionary of millions of strings misses the cache on every row. Sorted fingerprints do not, and only rows whose
    fingerprint occurs twice are looked at themselves: equal strings never differ in it, others hardly ever agree.
    """
    if column.type != pa.string():
        ids = encoded(column) + 1
        return np.asarray(np.bincount(ids, minlength=1)[ids] > 1)

    def twice_in(part: int) -> Words:
        mine = np.sort(prints[prints % np.uint64(THREADS) == np.uint64(part)])
        again: Words = mine[1:][mine[1:] == mine[:-1]]
        return again

    blocks = [chunk.slice(at, BLOCK) for chunk in column.chunks for at in range(0, len(chunk), BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        prints = np.concatenate([np.zeros(0, np.uint64), *pool.map(fingerprints, blocks)])
        twice = np.unique(np.concatenate(list(pool.map(twice_in, range(THREADS)))))
    found = np.zeros(len(prints), bool)
    if len(twice):
        rows = np.flatnonzero(twice[np.minimum(np.searchsorted(twice, prints), len(twice) - 1)] == prints)
        ids = encoded(column.take(pa.array(rows))) + 1
        found[rows[np.bincount(ids)[ids] > 1]] = True
    return found


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
