"""Rows of two tables by their key and time, some keys at a time: as many rows as a core's cache holds while it works.

Sorted or searched at once, millions of rows wait for memory at every step. A range of key codes is a shard of the rows
instead, and shards are worked on by as many threads as there are cores.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.keys import ABSENT, THREADS, Indices, codes

MOST = 2**62
"""No (key, time) may become a larger integer."""
TOGETHER = 1 << 17
"""Rows that are looked at together, about."""
DIGIT = 16
"""Bits of the numbers that numpy sorts by counting."""


class Rows(NamedTuple):
    """Rows that may meet one of the other table: their numbers, key codes and microseconds, (n,) each."""

    number: Indices
    code: Indices
    us: Indices

    def in_order(self) -> "Rows":
        """By code, then time, then as they come."""
        by = order(self.us, self.code)
        return Rows(*(of[by] for of in self))


@dataclass(frozen=True)
class Line:
    """Right rows by key, time and tie, each at its place on a line, so that one binary search answers all keys."""

    rows: Rows
    places: Indices
    first_us: int
    steps: int

    @classmethod
    def of(cls, some: Rows, ties: pa.Array | None) -> "Line":
        """Of at least one row; what their codes span, times the microseconds that they span, must fit an integer."""
        rows, first_us = some.in_order(), int(some.us.min())
        steps = int(some.us.max()) - first_us + 2
        places = (rows.code - rows.code[0]) * steps + (rows.us - first_us + 1)
        again = np.flatnonzero(places[1:] == places[:-1])
        if ties is not None and len(again):
            # Few, as a rule: only what stands at one place needs a second look.
            at = np.union1d(again, again + 1)
            number = rows.number[at]
            rows.number[at] = number[np.lexsort((_ranks(ties.take(pa.array(number))), places[at]))]
        return cls(rows, places, first_us, steps)

    def after(self, left: Rows, us: Indices) -> Indices:
        """Where the right rows after (key, time) begin, for the keys of left rows; both in order.

        Needles in order walk the line once; out of order each one misses the cache all the way down.
        """
        # The first time is step 1; what lies before it is 0, what lies after the last is the last. A key before the
        # first one of the line stands before all of it.
        step = np.clip(us - (self.first_us - 1), 0, self.steps - 1)
        places = np.maximum((left.code - self.rows.code[0]) * self.steps + step, 0)
        found: Indices = np.searchsorted(self.places, places, side="right")
        return found


def search(
    each: Callable[[Line, Rows, int], None],
    left: pa.Table,
    right: pa.Table,
    keys: Sequence[str],
    times: tuple[str, str],
    tie: str | None,
) -> None:
    """Call `each(line, rows, start)` for the shards of keys in which both tables have rows, on threads.

    `line`: the right rows of these keys, before which other shards have `start`; `rows`: the left ones, in order. Rows
    with a null key or time are in none. Which shards there are changes nothing.
    """
    left_us, right_us = (_us(table.column(name)) for table, name in zip((left, right), times, strict=True))
    span = pc.min_max(right_us)
    if not len(left) or not span["min"].is_valid:
        return
    left_code, right_code = codes(left, right, keys)
    known = int(left_code.max()) + 1
    apart = min(MOST // (span["max"].as_py() - span["min"].as_py() + 2), known * TOGETHER // max(len(left), len(right)))
    bits = max(apart.bit_length() - 1, 0)
    count = -(-known // 2**bits)
    with ThreadPoolExecutor(THREADS) as pool:
        # In one piece: of several each `take` would make one.
        ties = None if tie is None else pool.submit(right.column(tie).combine_chunks)
        lefts = _Shards.of(left_code, left_us, bits, count, pool)
        rights = _Shards.of(right_code, right_us, bits, count, pool)
        starts = (rights.begins - rights.begins[:, :1]).sum(axis=0)

        def shard(number: int) -> None:
            mine, theirs = lefts.shard(number), rights.shard(number)
            if len(mine.number) and len(theirs.number):
                each(Line.of(theirs, ties and ties.result()), mine.in_order(), int(starts[number]))

        list(pool.map(shard, range(count)))


def order(*by: Indices) -> Indices:
    """The order of rows by the last of some numbers, among equal ones by the one before, and so on; else as they come.

    It is `np.lexsort`'s, which compares numbers; counting them `DIGIT` by digit is several times as quick, and what is
    in order already, as times often are, needs nothing.
    """
    found = np.arange(len(by[0]))
    for numbers in by:
        some = numbers[found]
        if (some[1:] >= some[:-1]).all():
            continue
        rest = (some - some.min()).view(np.uint64)
        for shift in range(0, int(rest.max()).bit_length(), DIGIT):
            then = np.argsort((rest >> np.uint64(shift)).astype(np.uint16), kind="stable")
            found, rest = found[then], rest[then]
    return found


def microseconds(column: pa.ChunkedArray) -> Indices:
    """Times as microseconds since 1970, 0 where null."""
    return np.asarray(pc.fill_null(_us(column), 0).to_numpy(), dtype=np.int64)


def _us(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())


@dataclass(frozen=True)
class _Shards:
    """A table's rows, block by block those of the first shard, of the second, ...; `begins` (blocks, shards + 1)."""

    rows: Rows
    begins: Indices

    @classmethod
    def of(cls, codes: Indices, us: pa.ChunkedArray, bits: int, count: int, pool: ThreadPoolExecutor) -> "_Shards":
        """Of the rows that have a code and a time; those of a shard differ in the last `bits` of their codes."""
        rows = Rows(*(np.empty(len(codes), np.int64) for _ in range(3)))

        def block(start: int) -> Indices:
            code, time = codes[start : start + TOGETHER], us.slice(start, TOGETHER)
            known = np.flatnonzero(code != ABSENT)
            if time.null_count:
                known, time = known[np.asarray(time.is_valid())[known]], time.fill_null(0)
            shard = code[known] >> bits
            by = order(shard)
            at = known[by]
            here = slice(start, start + len(at))
            rows.number[here] = at + start
            rows.code[here] = code[at]
            rows.us[here] = np.asarray(time)[at]
            return start + np.searchsorted(shard[by], np.arange(count + 1))

        return cls(rows, np.array(list(pool.map(block, range(0, len(codes), TOGETHER)))))

    def shard(self, number: int) -> Rows:
        """Its rows as they come."""
        some = [slice(*ends) for ends in self.begins[:, number : number + 2]]
        return Rows(*(np.concatenate([of[at] for at in some]) for of in self.rows))


def _ranks(column: pa.Array) -> Indices:
    return np.asarray(pc.rank(column, tiebreaker="dense").to_numpy(zero_copy_only=False), dtype=np.int64)
