"""HyperLogLog sketches (Apache DataSketches) of whole columns, byte for byte those that are told value after value.

A value changes a sketch only where its hash has more leading zeros than any before it in its register: of a million
values a few ten thousand. Which ones is seen from the hashes of the column; only those are told.
"""

from collections.abc import Callable
from typing import Any

import datasketches
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.validate import hashes

LOG_REGISTERS = 12
"""4096 registers of 4 bits: 2 kB a column, standard error 1.04 / 64."""
TOLD = 4_096
"""So many first values are all told: up to 384 different ones a sketch keeps values, not registers."""
DIFFERENT = 1_024
"""As many of the first that differ are enough of them."""
CERTAIN = 52
"""So many leading zeros of a word and no more can be counted by a float."""
REGISTER = np.uint64((1 << LOG_REGISTERS) - 1)


def of_texts(values: pa.Array, order: NDArray[np.int64] | None = None) -> bytes:
    """Of distinct plain texts, none null, as they come, or of some of them in this order."""
    hashed = hashes.of_texts(values)
    if order is None:
        return _told(hashed, lambda rows: values.take(pa.array(rows)).to_pylist())
    ordered = hashed[0][order], hashed[1][order]
    return _told(ordered, lambda rows: values.take(pa.array(order[rows])).to_pylist())


def of_numbers(column: pa.Array) -> bytes:
    """Of whole numbers or floats, none null, as they come."""
    numbers = column if len(column.slice(0, TOLD).unique()) >= DIFFERENT else column.unique()
    values = np.asarray(numbers)
    if values.dtype.kind == "f":
        alike = np.where(np.isnan(values), np.nan, np.where(values == 0, 0.0, values)).astype(np.float64)
        words = alike.view(np.uint64)
    else:
        words = values.astype(np.int64).view(np.uint64)
    return _told(hashes.of_words(words), lambda rows: values[rows].tolist())


def _told(hashed: hashes.Pair, values: Callable[[NDArray[np.int64]], list[Any]]) -> bytes:
    """The sketch of values by their hashes; `values` are those at some places."""
    register, zeros = (hashed[0] & REGISTER).astype(np.int64), _leading_zeros(hashed[1])
    sketch, highest = datasketches.hll_sketch(LOG_REGISTERS), np.zeros(1 << LOG_REGISTERS, np.int64)
    # Empty texts, which the sketch ignores, and long ones have no hash, which counts as many zeros: they are told.
    certain = zeros < CERTAIN
    start, end = 0, TOLD
    while start < len(register):
        some = slice(start, end)
        may_change = (zeros[some] >= highest[register[some]]) | ~certain[some] if start else np.ones(end, bool)
        rows = start + np.flatnonzero(may_change[: len(register) - start])
        for value in values(rows):
            sketch.update(value)
        known = rows[certain[rows]]
        np.maximum.at(highest, register[known], zeros[known] + 1)
        start, end = end, 2 * end
    return bytes(sketch.serialize_compact())


def _leading_zeros(words: hashes.Words) -> NDArray[np.int64]:
    """Of each word, `CERTAIN` where there may be more."""
    # Of the highest 53 bits, which a float holds exactly; its exponent says where the first 1 is.
    high = (words >> np.uint64(11)).astype(np.float64)
    return CERTAIN - np.maximum(np.frexp(high)[1].astype(np.int64) - 1, 0)
