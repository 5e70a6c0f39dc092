"""The one as-of kernel: for each left row, the latest right row of the same key at or before it.

Attribution (purchase -> click) and the point-in-time join (impression -> features) are both this function.
`jobs.parcels.spark` runs it inside hash buckets: the answer is the same, because a key never spans buckets.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.keys import ABSENT as ABSENT  # what every reader of this module's results names
from jobs.asof.keys import THREADS, codes, encoded, fingerprints
from jobs.asof.keys import Indices as Indices

MOST = 2**62
"""No (key, time) may become a larger integer."""
WORTH_THREADS = 200_000
"""Right rows from which sorting them in shards on threads pays."""
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
    both = _keyed(left, right, keys, left_time, right_time, tie)
    order, (last,) = both.after([both.left_us])
    found = np.full(len(left), ABSENT, np.int64)
    some = np.flatnonzero((both.left_code != ABSENT) & (last > 0))
    row = order[last[some] - 1]
    same = both.of_rows(len(right))[row] == both.left_code[some]
    found[some[same]] = row[same]
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
    both = _keyed(left, right, keys, left_time, right_time, tie)
    order, (first, last) = both.after([both.left_us - window_us, both.left_us])
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
    with ThreadPoolExecutor(THREADS) as pool:
        prints = np.concatenate([np.zeros(0, np.uint64), *pool.map(fingerprints, column.chunks)])
    ordered = np.sort(prints)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
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


def microseconds(column: pa.ChunkedArray) -> Indices:
    """Times as microseconds since 1970, 0 where null."""
    raw = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
    return np.asarray(pc.fill_null(raw, 0).to_numpy(), dtype=np.int64)


@dataclass(frozen=True)
class _Line:
    """Right rows on one line of integers, by key, time and tie, so that one binary search answers all keys at once."""

    rows: Indices
    places: Indices
    steps: int
    first_us: int
    first_code: int

    @classmethod
    def of(cls, rows: Indices, codes: Indices, us: Indices, ties: pa.ChunkedArray | None) -> "_Line":
        """Of right rows whose codes times the microseconds from first to last fit one integer."""
        steps, first_us, first_code = int(us.max() - us.min()) + 2, int(us.min()), int(codes.min())
        line = cls(rows, codes, steps, first_us, first_code)
        places = line._place(codes, us)
        order = _in_order(places, rows, ties)
        return cls(rows[order], places[order], steps, first_us, first_code)

    def after(self, codes: Indices, us: Indices) -> Indices:
        """Where on the line the rows after (code, time) begin."""
        # A key before the first one of the line stands before all of it, as step 0 of the first does.
        places = np.maximum(self._place(codes, us), 0)
        # Needles in order walk the line once; out of order each one misses the cache all the way down.
        order, _ = _sorted(places)
        found = np.empty(len(places), np.int64)
        found[order] = np.searchsorted(self.places, places[order], side="right")
        return found

    def _place(self, codes: Indices, us: Indices) -> Indices:
        """The first time is step 1; what lies before it is 0, what lies after the last is the last."""
        return (codes - self.first_code) * self.steps + np.clip(us - self.first_us + 1, 0, self.steps - 1)


def _in_order(places: Indices, rows: Indices, ties: pa.ChunkedArray | None) -> Indices:
    """The order of `places`; at equal places that of the ties, else of the rows (which come ascending)."""
    order, place = _sorted(places)
    same = np.flatnonzero(place[1:] == place[:-1])
    if not len(same):
        return order
    # Few, as a rule: only what stands at one place needs a second look.
    at = np.union1d(same, same + 1)
    some = order[at]
    if ties is None:
        order[at] = some[np.lexsort((some, places[some]))]
    else:
        mine = ties.take(pa.array(rows[some]))
        order[at] = some[np.lexsort((some, _ranks(mine), places[some]))]
    return order


def _sorted(places: Indices) -> tuple[Indices, Indices]:
    """(order, place): the order of numbers >= 0, and those in that order, less as many of their last bits as it takes.

    A number and its row are sorted as one, which is several times as quick as finding the order of numbers; those that
    differ in bits that found no room stand in any order.
    """
    bits = len(places).bit_length()
    room = np.int64(max(0, int(places.max(initial=0)).bit_length() + bits - 63))
    both = places >> room
    both <<= bits
    both |= np.arange(len(places))
    both.sort()
    return both & ((1 << bits) - 1), both >> bits


@dataclass(frozen=True)
class _Keyed:
    """Both sides of a join: key codes (-1: nothing can match) and times; of the right side only rows that can match."""

    left_code: Indices
    left_us: Indices
    rows: Indices
    right_code: Indices
    right_us: Indices
    ties: pa.ChunkedArray | None

    def after(self, bounds: Sequence[Indices]) -> tuple[Indices, list[Indices]]:
        """(order, positions): per bound, where in `order` the right rows after (left key, bound) begin; 0 for no key.

        Shards of keys are sorted and searched on as many threads as there are cores; which shards changes nothing.
        """
        found = [np.zeros(len(self.left_code), np.int64) for _ in bounds]
        if not len(self.rows):
            return self.rows, found
        shards = self._shards()
        lefts, rights = _by_shard(self.left_code, shards), _by_shard(self.right_code, shards)
        starts = np.cumsum([0, *map(len, rights)])
        order = np.empty(len(self.rows), np.int64)

        def search(shard: int) -> None:
            left, right, start = lefts[shard], rights[shard], starts[shard]
            for positions in found:
                positions[left] = start
            if len(right):
                line = _Line.of(self.rows[right], self.right_code[right], self.right_us[right], self.ties)
                order[start : start + len(right)] = line.rows
                for bound, positions in zip(bounds, found, strict=True):
                    positions[left] += line.after(self.left_code[left], bound[left])

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(search, range(len(rights))))
        return order, found

    def of_rows(self, size: int) -> Indices:
        """(size,) the key code of every right row, -1 of one that can match nothing."""
        if len(self.rows) == size:
            return self.right_code
        code = np.full(size, ABSENT)
        code[self.rows] = self.right_code
        return code

    def _shards(self) -> Indices:
        """The first code of each shard: no more (key, microsecond) pairs in one than fit an integer."""
        codes, span = max(int(self.left_code.max()) + 1, 1), int(self.right_us.max() - self.right_us.min()) + 2
        wanted = max(THREADS if len(self.rows) >= WORTH_THREADS else 1, -(-codes * span // MOST))
        return np.arange(0, codes, max(1, codes // wanted))


def _by_shard(codes: Indices, first_codes: Indices) -> list[Indices]:
    """The row numbers of each shard, in order; codes of -1 are in none."""
    if len(first_codes) == 1:
        return [np.flatnonzero(codes != ABSENT)]
    ends = np.append(first_codes[1:], np.iinfo(np.int64).max)
    if len(first_codes) <= THREADS + 1:
        return [np.flatnonzero((codes >= first) & (codes < end)) for first, end in zip(first_codes, ends, strict=True)]
    order = np.argsort(codes, kind="stable")
    at = np.searchsorted(codes[order], np.append(first_codes, ends[-1]))
    return [np.sort(order[begin:end]) for begin, end in pairwise(at)]


def _keyed(
    left: pa.Table, right: pa.Table, keys: Sequence[str], left_time: str, right_time: str, tie: str | None
) -> _Keyed:
    """Key codes from the left side's own keys: most right rows of a large table match none and go no further."""
    left_code, right_code = codes(left, right, keys)
    left_code = np.where(_is_valid(left, left_time), left_code, ABSENT)
    rows = np.flatnonzero((right_code != ABSENT) & _is_valid(right, right_time))
    right_us = microseconds(right.column(right_time))
    if len(rows) < len(right):
        right_code, right_us = right_code[rows], right_us[rows]
    ties = None if tie is None else right.column(tie)
    return _Keyed(left_code, microseconds(left.column(left_time)), rows, right_code, right_us, ties)


def _is_valid(table: pa.Table, name: str) -> NDArray[np.bool_]:
    return np.asarray(table.column(name).is_valid().to_numpy(), dtype=bool)


def _ranks(column: pa.ChunkedArray) -> Indices:
    return np.asarray(pc.rank(column, tiebreaker="dense").to_numpy(zero_copy_only=False), dtype=np.int64)
