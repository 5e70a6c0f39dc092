"""Mergeable sums: moments of independent units, and per-user sums that become units once every row was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Keys = NDArray[np.int64]
CHUNK = 1 << 12
"""Rows whose products are computed at a time: they fit into the CPU's cache."""
CANCELLED = 1e-14
"""A sum of squares this small relative to the terms it is the difference of is a rounding error."""
ROUNDED = 1e-15
"""So is a deviation this small relative to the mean."""
SMALLEST = 1e-120
"""A sum of squares below this counts as 0: the sum of fourth powers would not fit into a float."""


@dataclass(frozen=True)
class Moments:
    """How many units, their mean, and the sums of products of 2, 3 and 4 deviations from that mean.

    For k columns: `mean` (k,), `second` (k, k), `third` (k, k, k), `fourth` (k, k, k, k), all symmetric. Adding two is
    exact up to rounding whatever the split (Pébay 2008, multivariate); deviations, not raw powers, are summed, so a
    large mean costs no precision.
    """

    units: int
    mean: Floats
    second: Floats
    third: Floats
    fourth: Floats

    @classmethod
    def none(cls, k: int) -> Self:
        """No units yet: the neutral element of addition."""
        return cls(0, np.zeros(k), np.zeros((k,) * 2), np.zeros((k,) * 3), np.zeros((k,) * 4))

    @classmethod
    def of(cls, rows: Floats) -> Self:
        """The moments of (n, k) rows, each an independent unit."""
        n, k = rows.shape
        found = cls.none(k)
        if not n:
            return found
        columns = np.ascontiguousarray(rows.T)
        mean = columns.mean(axis=1)
        # A constant column adds nothing, and most estimators have one.
        moving = np.flatnonzero(columns.max(axis=1) > columns.min(axis=1))
        m = len(moving)
        first, last = np.triu_indices(m)
        second, third, fourth = np.zeros(len(first)), np.zeros((len(first), m)), np.zeros((len(first),) * 2)
        for start in range(0, n, CHUNK):
            d = columns[moving, start : start + CHUNK] - mean[moving, None]
            products = d[first] * d[last]
            second += products.sum(axis=1)
            # einsum on purpose: for matrices this thin a threaded BLAS waits more than it multiplies.
            third += np.einsum("an,bn->ab", products, d)
            fourth += np.einsum("an,bn->ab", products, products)
        at = np.zeros((m, m), dtype=np.int64)
        at[first, last] = at[last, first] = np.arange(len(first))
        found.second[np.ix_(moving, moving)] = second[at]
        found.third[np.ix_(*[moving] * 3)] = third[at]
        found.fourth[np.ix_(*[moving] * 4)] = fourth[at[:, :, None, None], at]
        return cls(n, mean, found.second, found.third, found.fourth)

    def __add__(self, other: Self) -> Self:
        """The moments of both sets of units together."""
        if not other.units:
            return self
        if not self.units:
            return other
        units = self.units + other.units
        mean = self.mean + (other.mean - self.mean) * (other.units / units)
        first, last = self._about(mean), other._about(mean)
        return type(self)(units, mean, *(a + b for a, b in zip(first, last, strict=True)))

    def _about(self, centre: Floats) -> tuple[Floats, Floats, Floats]:
        """The sums of products of deviations from another centre."""
        d = self.mean - centre
        d2 = np.multiply.outer(d, d)
        second = self.second + self.units * d2
        once = np.multiply.outer(self.second, d)
        third = self.third + sum(np.moveaxis(once, -1, axis) for axis in range(3))
        third = third + self.units * np.multiply.outer(d2, d)
        thrice, twice = np.multiply.outer(self.third, d), np.multiply.outer(self.second, d2)
        fourth = self.fourth + sum(np.moveaxis(thrice, -1, axis) for axis in range(4))
        fourth = fourth + sum(np.moveaxis(twice, (2, 3), axes) for axes in combinations(range(4), 2))
        return second, third, fourth + self.units * np.multiply.outer(d2, d2)

    def along(self, direction: Floats) -> tuple[float, float, float]:
        """The sums of the 2nd, 3rd and 4th powers of deviations of `direction` · unit, (k,) -> three numbers.

        Rounding errors become 0, so that units that do not differ have no deviation.
        """
        v = direction
        second = float(v @ self.second @ v)
        size = np.abs(v)
        noise = CANCELLED * float(size @ np.abs(self.second) @ size)
        if second <= max(SMALLEST, noise + self.units * (ROUNDED * float(size @ np.abs(self.mean))) ** 2):
            return 0.0, 0.0, 0.0
        third = float(v @ (self.third @ v) @ v)
        fourth = float(v @ ((self.fourth @ v) @ v) @ v)
        return second, third, min(max(fourth, second**2 / self.units), second**2)


@dataclass(frozen=True)
class ClusterSums:
    """Sums per cluster, keys ascending; adding two merges common keys, so a user may occur in many batches."""

    keys: Keys
    sums: Floats

    @classmethod
    def of(cls, keys: Keys, rows: Floats) -> Self:
        """The sums of (n, k) rows by their keys (n,)."""
        return cls.of_columns(keys, list(rows.T))

    @classmethod
    def of_columns(cls, keys: Keys, columns: Sequence[Floats]) -> Self:
        """The same from k columns (n,), which need not be contiguous."""
        names, at = np.unique(keys, return_inverse=True)
        sums = np.empty((len(names), len(columns)), order="F")
        for number, column in enumerate(columns):
            sums[:, number] = np.bincount(at, weights=column, minlength=len(names))
        return cls(names, sums)

    def __add__(self, other: Self) -> Self:
        """The sums over both."""
        return self.of(np.concatenate([self.keys, other.keys]), np.concatenate([self.sums, other.sums]))

    def moments(self) -> Moments:
        """Each cluster's sums as one unit: correct only once every row of every cluster is included."""
        return Moments.of(self.sums)

    def along(self, direction: Floats) -> tuple[float, float, float]:
        """As `moments().along`, at a cost linear in the columns instead of their fourth power."""
        moved, size = np.zeros(len(self.keys)), np.zeros(len(self.keys))
        for number in np.flatnonzero(direction):
            column, by = self.sums[:, number], float(direction[number])
            mean = float(column.mean())
            moved += by * (column - mean)
            size += abs(by) * (np.abs(column) + abs(mean))
        if float(moved @ moved) <= CANCELLED**2 * float(size @ size):
            return 0.0, 0.0, 0.0
        return powers(moved)


def powers(deviations: Floats) -> tuple[float, float, float]:
    """The sums of the 2nd, 3rd and 4th powers of (n,) deviations; all 0 where the first is below `SMALLEST`."""
    squares = deviations * deviations
    second = float(squares.sum())
    if second <= SMALLEST:
        return 0.0, 0.0, 0.0
    return second, float((squares * deviations).sum()), float((squares * squares).sum())
