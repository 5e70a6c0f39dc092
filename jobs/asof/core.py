"""The one as-of kernel: for each left row, the latest right row of the same key at or before it.

Attribution (purchase -> click) and the point-in-time join (impression -> features) are both this function.
`jobs.asof.spark` runs it inside hash buckets: the answer is the same, because a key never spans buckets.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Indices = NDArray[np.int64]
"""One row number of the right table per left row, -1 where there is none."""
ABSENT = -1
MOST = 2**62
"""No (key, time) may become a larger integer."""


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
    codes = _codes(left, right, keys)
    left_code, right_code = codes[: len(left)], codes[len(left) :]
    usable = np.flatnonzero((right_code != ABSENT) & _is_valid(right, right_time))
    if not len(usable) or not len(left):
        return np.full(len(left), ABSENT, np.int64)
    # (key, time) becomes one integer, so that one binary search answers all keys at once.
    left_step, right_step, steps = _steps(_microseconds(left, left_time), _microseconds(right, right_time)[usable])
    if codes.max() >= MOST // steps:
        left_step, right_step, steps = _ranked(left_step, right_step)
    composite = right_code[usable] * steps + right_step
    order = np.argsort(composite, kind="stable") if tie is None else np.lexsort((_ranks(right, tie)[usable], composite))
    wanted = left_code * steps + left_step
    at = np.searchsorted(composite[order], wanted, side="right") - 1
    row = usable[order[np.maximum(at, 0)]]
    found = (at >= 0) & (left_code != ABSENT) & (right_code[row] == left_code) & _is_valid(left, left_time)
    return np.where(found, row, ABSENT)


def take(table: pa.Table, rows: Indices, prefix: str = "") -> pa.Table:
    """The right rows aligned with the left, as `prefix + name`: null where there is none; lists and maps untouched."""
    index = pa.array(rows, pa.int64(), mask=rows == ABSENT)
    return table.combine_chunks().take(index).rename_columns([prefix + name for name in table.column_names])


def first_known(rows: pa.Table, key: str, clocks: Sequence[str] = ("ingested_at", "event_time")) -> pa.Table:
    """One row per `key`: of several copies the one that is first by `clocks`, then by the other columns' values.

    The rows without copies come first and in their order; the result does not depend on the order of copies.
    """
    codes = _encode(rows.column(key))
    copied = np.bincount(codes, minlength=1)[codes] > 1
    if not copied.any():
        return rows
    copies = rows.filter(pa.array(copied))
    plain = [f.name for f in copies.schema if f.name not in (key, *clocks) and not pa.types.is_nested(f.type)]
    ordered = copies.sort_by([(name, "ascending") for name in (key, *clocks, *plain)])
    _, first = np.unique(_encode(ordered.column(key)), return_index=True)
    return pa.concat_tables([rows.filter(pa.array(~copied)), ordered.take(pa.array(np.sort(first)))])


def _steps(left: Indices, right: Indices) -> tuple[Indices, Indices, int]:
    """Times as integers: the first right one is 1, what lies before it 0; and how many there are."""
    first, last = int(right.min()), int(right.max())
    return np.clip(left, first - 1, last) - first + 1, right - first + 1, last - first + 2


def _ranked(left: Indices, right: Indices) -> tuple[Indices, Indices, int]:
    """The same order with as few steps as there are right times."""
    times = np.unique(right)
    return np.searchsorted(times, left, side="right"), np.searchsorted(times, right) + 1, len(times) + 1


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


def _ranks(right: pa.Table, tie: str | None) -> Indices:
    if tie is None:
        return np.arange(len(right), dtype=np.int64)
    return np.asarray(pc.rank(right.column(tie), tiebreaker="dense").to_numpy(zero_copy_only=False), dtype=np.int64)


def _microseconds(table: pa.Table, name: str) -> Indices:
    column = table.column(name)
    raw = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
    return np.asarray(pc.fill_null(raw, 0).to_numpy(), dtype=np.int64)
