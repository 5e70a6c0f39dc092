"""The one as-of kernel: for each left row, the latest right row of the same key at or before it.

Attribution (purchase -> click) and the point-in-time join (impression -> features) are both this function.
`jobs.parcels.spark` runs it inside hash buckets: the answer is the same, because a key never spans buckets.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Indices = NDArray[np.int64]
"""One row number of the right table per left row, -1 where there is none."""
ABSENT = -1
MOST = 2**62
"""No (key, time) may become a larger integer."""
# Where a process can be bound to some of the cores (Linux), those; elsewhere all.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORTH_THREADS = 200_000
"""Right rows from which sorting them in shards on threads pays."""
DAY_US = 86_400_000_000
FINGERPRINTED = 1 << 15
"""Texts whose bytes are held as integers at once."""


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
    code = np.full(len(right), ABSENT)
    code[both.rows] = both.right_code
    row = order[last[some] - 1]
    same = code[row] == both.left_code[some]
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
    ids = _encode(ordered.column(key))
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
        codes = _encode(column) + 1
        return np.asarray(np.bincount(codes, minlength=1)[codes] > 1)
    prints = np.concatenate([np.zeros(0, np.uint64), *(fingerprints(chunk) for chunk in column.chunks)])
    ordered = np.sort(prints)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    found = np.zeros(len(prints), bool)
    if len(twice):
        rows = np.flatnonzero(twice[np.minimum(np.searchsorted(twice, prints), len(twice) - 1)] == prints)
        codes = _encode(column.take(pa.array(rows))) + 1
        found[rows[np.bincount(codes)[codes] > 1]] = True
    return found


def fingerprints(texts: pa.StringArray) -> NDArray[np.uint64]:
    """(n,) sums of each text's bytes, weighted by place, modulo 2^64; 0 for null and for the empty text."""
    if not len(texts):
        return np.zeros(0, np.uint64)
    bytes_at = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    lengths = np.diff(bytes_at)
    weights = np.random.default_rng(0).integers(1, 2**63, int(lengths.max(initial=0)) + 1, np.uint64) | np.uint64(1)
    found = np.zeros(len(texts), np.uint64)
    for start in range(0, len(texts), FINGERPRINTED):
        stop = min(start + FINGERPRINTED, len(texts))
        block, sizes = data[bytes_at[start] : bytes_at[stop]].astype(np.uint64), lengths[start:stop]
        if len(sizes) and sizes[0] and (sizes == sizes[0]).all():
            found[start:stop] = (block.reshape(len(sizes), -1) * weights[: sizes[0]]).sum(axis=1)
            continue
        some = np.flatnonzero(sizes)
        if len(some):
            begins = (bytes_at[start:stop] - bytes_at[start])[some]
            place = np.arange(len(block)) - np.repeat(begins, sizes[some])
            found[start + some] = np.add.reduceat(block * weights[place], begins)
    if texts.null_count:
        found[~np.asarray(texts.is_valid())] = 0  # whatever bytes lie below a null
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
    codes: Indices
    places: Indices
    steps: int
    first_us: int
    first_code: int

    @classmethod
    def of(cls, rows: Indices, codes: Indices, us: Indices, ties: pa.ChunkedArray | None) -> "_Line":
        """Of right rows whose codes times the microseconds from first to last fit one integer."""
        steps, first_us, first_code = int(us.max() - us.min()) + 2, int(us.min()), int(codes.min())
        line = cls(rows, codes, codes, steps, first_us, first_code)
        places = line._place(codes, us)
        order = _in_order(places, rows, ties)
        return cls(rows[order], codes[order], places[order], steps, first_us, first_code)

    def after(self, codes: Indices, us: Indices) -> Indices:
        """Where on the line the rows after (code, time) begin."""
        places = self._place(codes, us)
        # Needles in order walk the line once; out of order each one misses the cache all the way down.
        order = np.argsort(places)
        found = np.empty(len(places), np.int64)
        found[order] = np.searchsorted(self.places, places[order], side="right")
        return found

    def _place(self, codes: Indices, us: Indices) -> Indices:
        """The first time is step 1; what lies before it is 0, what lies after the last is the last."""
        return (codes - self.first_code) * self.steps + np.clip(us - self.first_us + 1, 0, self.steps - 1)


def _in_order(places: Indices, rows: Indices, ties: pa.ChunkedArray | None) -> Indices:
    """The order of `places`; at equal places that of the ties, else of the rows (which come ascending)."""
    order = np.argsort(places)
    ordered = places[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
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
    left_code, right_code = _codes(left, right, keys)
    left_code = np.where(_is_valid(left, left_time), left_code, ABSENT)
    rows = np.flatnonzero((right_code != ABSENT) & _is_valid(right, right_time))
    right_us = microseconds(right.column(right_time))[rows]
    ties = None if tie is None else right.column(tie)
    return _Keyed(left_code, microseconds(left.column(left_time)), rows, right_code[rows], right_us, ties)


def _is_valid(table: pa.Table, name: str) -> NDArray[np.bool_]:
    return np.asarray(table.column(name).is_valid().to_numpy(), dtype=bool)


def _codes(left: pa.Table, right: pa.Table, keys: Sequence[str]) -> tuple[Indices, Indices]:
    """Left's and right's keys as dense integers, -1 where a part is null or (right) no left row has that key."""
    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(lambda key: _coded(left.column(key), right.column(key)), keys))
    left_code, right_code = parts[0]
    for left_part, right_part in parts[1:]:
        size = int(left_part.max(initial=0)) + 1
        some = np.flatnonzero((right_code != ABSENT) & (right_part != ABSENT))
        known = (left_code != ABSENT) & (left_part != ABSENT)
        left_pairs = pa.chunked_array([pa.array(left_code * size + left_part, mask=~known)])
        right_pairs = pa.chunked_array([pa.array(right_code[some] * size + right_part[some])])
        left_code, found = _coded(left_pairs, right_pairs)
        right_code = np.full(len(right_code), ABSENT)
        right_code[some] = found
    return left_code, right_code


def _coded(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[Indices, Indices]:
    """Left values as integers in order of appearance, right ones by the same dictionary; -1: null or not in it."""
    codes = left.combine_chunks().dictionary_encode()
    found = pc.index_in(right, codes.dictionary, skip_nulls=True)
    return _integers(codes.indices), _integers(found)


def _integers(column: pa.Array | pa.ChunkedArray) -> Indices:
    """Row numbers, -1 for null."""
    return np.asarray(pc.fill_null(column, ABSENT).to_numpy(zero_copy_only=False), dtype=np.int64)


def _encode(column: pa.ChunkedArray) -> Indices:
    """Values as dense integers in order of appearance, -1 for null."""
    return _integers(column.combine_chunks().dictionary_encode().indices)


def _ranks(column: pa.ChunkedArray) -> Indices:
    return np.asarray(pc.rank(column, tiebreaker="dense").to_numpy(zero_copy_only=False), dtype=np.int64)
