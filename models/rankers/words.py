"""A column of words or ids as codes into its distinct values: a row costs four bytes, and no object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
CELLS_AT_ONCE = 1 << 18
"""Codes looked at together where whole columns would be copied."""


def said_once(column: "NDArray[Any] | Words") -> bool:
    """Whether all rows of (n, ...) are one in memory: what is true of the first is true of all."""
    array = column.at if isinstance(column, Words) else column
    return len(array) > 1 and array.strides[0] == 0


def repeated(row: NDArray[Any], n: int) -> NDArray[Any]:
    """(n, ...) rows that are one in memory, for nobody to write to: `np.broadcast_to` in a sixth of its time."""
    found: NDArray[Any] = np.ndarray((n, *row.shape), row.dtype, row, 0, (0, *row.strides))
    found.flags.writeable = False
    return found


FIRST, UNKNOWN = np.array(0, np.int32), np.array(-1, np.int32)
"""Codes: of the one value of a column, and of none."""


@dataclass(eq=False, slots=True)  # not frozen: that costs a request, which makes a dozen, a tenth of each
class Words:
    """`at` is (n,) or (n, k): which of `values`, -1 where unknown. Values are distinct; not all of them need occur.

    It is no array of objects and never becomes one on the way: numpy's functions raise, `strings` makes one.
    """

    values: Sequence[str]
    at: NDArray[np.int32]

    @classmethod
    def of(cls, column: "NDArray[Any] | Words") -> "Words":
        """Values in order of appearance; a column that repeats one row without a copy is looked up once and stays so.

        Raises ValueError for what is neither a string nor unknown (None or NaN).
        """
        if isinstance(column, Words):
            return column
        if len(column) > 1 and column.strides[0] == 0:
            if column.ndim == 1 and isinstance(column[0], str):
                return cls([column[0]], repeated(FIRST, len(column)))
            if column.ndim == 1 and column[0] is None:
                return cls([], repeated(UNKNOWN, len(column)))
            first = cls.of(column[:1])
            return cls(first.values, repeated(first.at.reshape(first.at.shape[1:]), len(column)))
        listed = column.ravel().tolist()
        distinct = dict.fromkeys(listed)
        values = [value for value in distinct if isinstance(value, str)]
        codes: dict[Any, int] = dict(zip(values, range(len(values)), strict=True))
        if len(values) < len(distinct):
            for value in distinct:
                if value is None or value != value:
                    codes[value] = -1
                elif value not in codes:
                    raise ValueError(f"a category needs to be a string or None; found {value!r}")
        return cls(values, np.fromiter(map(codes.__getitem__, listed), np.int32, len(listed)).reshape(column.shape))

    @classmethod
    def unknown(cls, n: int) -> "Words":
        """(n,) rows of which nothing is known."""
        return cls((), repeated(UNKNOWN, n))

    def __len__(self) -> int:
        return len(self.at)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of `at`."""
        return self.at.shape

    def __getitem__(self, rows: Any) -> "Words":
        """Some rows; the values stay."""
        return Words(self.values, self.at[rows])

    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        raise TypeError("a column of words is no array: `at` are its codes, `strings` makes an object of every row")

    def strings(self) -> NDArray[np.object_]:
        """Python strings, None where unknown; equal ones share an object. For few rows."""
        found: NDArray[np.object_] = np.array([*self.values, None], dtype=object)[self.at]
        return found

    def are(self, value: str) -> NDArray[np.bool_]:
        """Which rows have the value."""
        there = self.values.index(value) if value in self.values else len(self.values)
        found: NDArray[np.bool_] = self.at == there
        return found

    def looked_up(self, codes: Mapping[str, int], *, otherwise: int, unknown: int) -> Ints:
        """(values + 1,) the code of each value, `otherwise` where it has none, and last, which -1 finds, `unknown`."""
        return np.array([*(codes.get(value, otherwise) for value in self.values), unknown], dtype=np.int64)

    def counts(self) -> Ints:
        """(values,) how often each occurs."""
        found = np.zeros(len(self.values), np.int64)
        for part in self.parts():
            found += np.bincount(part[part >= 0], minlength=len(self.values))
        return found

    def parts(self) -> "list[NDArray[np.int32]]":
        """The codes row by row in flat pieces of about `CELLS_AT_ONCE`."""
        rows = max(1, CELLS_AT_ONCE // max(1, self.at[:1].size))
        return [self.at[first : first + rows].ravel() for first in range(0, len(self.at), rows)]

    def order(self) -> Ints:
        """The values that occur, by their first appearance."""
        first = np.full(len(self.values), np.iinfo(np.int64).max)
        done = 0
        for part in self.parts():
            places = np.flatnonzero(part >= 0)[::-1]  # of several assignments the last one stays: the first place
            here = np.full(len(self.values), np.iinfo(np.int64).max)
            here[part[places]] = places + done
            np.minimum(first, here, out=first)
            done += part.size
        found: Ints = np.argsort(first, kind="stable")[: int((first < np.iinfo(np.int64).max).sum())]
        return found


def unpacked(column: "NDArray[Any] | Words") -> NDArray[Any]:
    """As an array: Python strings of words. For few rows."""
    return column.strings() if isinstance(column, Words) else column
