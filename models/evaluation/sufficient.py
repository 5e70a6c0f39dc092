"""The mergeable sums that a counterfactual estimate is computed from, over one batch or a thousand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from models.evaluation.estimate import LARGEST, Estimate, upper_tail
from models.evaluation.moments import ClusterSums, Moments
from models.evaluation.weighting import Terms, need_one_length

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
COLUMNS = 3
CONFIDENCE = 0.95
FREEDOM = 1.5
"""Degrees of freedom per unit that matters. With a known kurtosis it would be about 2 (Satterthwaite 1946); a sample
underestimates the kurtosis, and `tests/bench/bench_coverage.py` shows by how much."""


@dataclass(frozen=True)
class Influence:
    """An estimate and the influence of each independent unit on it, as sums of powers of influences.

    `units` counts rows, or clusters if given; `rows` counts rows; `effective_n` is Kish's (sum w)² / sum w².
    """

    value: float
    units: int
    rows: int
    effective_n: float
    second: float
    third: float
    fourth: float

    @property
    def matter(self) -> float:
        """The effective number of units behind the standard error: (sum u²)² / sum u⁴, from 1 to `units`; or 0.

        0 means that no unit differs. For rare clicks of similar weight it is about the number of clicks, however many
        rows there are.
        """
        return self.second**2 / self.fourth if self.fourth > 0 else 0.0

    @property
    def stderr(self) -> float:
        """The standard error by the delta method, units independent: sqrt(m / (m - 1) sum u²)."""
        return math.sqrt(self.second * self.units / (self.units - 1))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Limits that miss about equally often on either side, even if contributions are skewed.

        Hall's transformation removes the skewness (Hall 1992, J. R. Stat. Soc. B 54, 221-228) around the usual
        value +- `quantile` x stderr.
        """
        t = self.quantile(confidence)
        if not self.second:
            return self.value, self.value
        return unskewed_interval(self.value, self.stderr, self.third / self.second**1.5, t)

    def quantile(self, confidence: float) -> float:
        """Student's quantile with `FREEDOM` x `matter` degrees of freedom, for a variance from few units.

        Infinite without units; with many similar units it is that of the normal distribution.
        """
        below = upper_tail(confidence)
        return float(stdtrit(min(FREEDOM * self.matter, self.units - 1.0), below)) if self.second else math.inf

    def estimate(self, confidence: float) -> Estimate:
        """The value with standard error and interval; constant contributions have a standard error of 0."""
        low, high = self.interval(confidence)
        return Estimate(self.value, self.stderr, low, high, self.rows, self.effective_n)


@dataclass(frozen=True)
class WeightSums:
    """The weights an estimator used: total, total of squares, and the largest."""

    total: float
    squares: float
    largest: float

    @classmethod
    def of(cls, weight: Floats) -> Self:
        """From weights (n,) >= 0."""
        return cls(float(weight.sum()), float((weight * weight).sum()), float(weight.max(initial=0.0)))

    def __add__(self, other: Self) -> Self:
        """Of both sets of rows."""
        return type(self)(self.total + other.total, self.squares + other.squares, max(self.largest, other.largest))

    def need_sums(self) -> None:
        """Raise ValueError for a weight that was cut: its product with the reward is not what the policy earned."""
        if self.largest >= LARGEST:
            raise ValueError(f"an estimate needs weights target / logged below {LARGEST:g}; found one of at least that")

    @property
    def effective_n(self) -> float:
        """(sum w)² / sum w²: the equivalent number of equally weighted rows (Kish 1965); 0 without weight."""
        return self.total**2 / self.squares if self.squares else 0.0

    @property
    def largest_share(self) -> float:
        """The largest weight as a share of the sum; 0 without weight."""
        return self.largest / self.total if self.total else 0.0


@dataclass(frozen=True)
class SufficientStatistics:
    """Mergeable sums that determine an estimate: rows in any order and any split give the same figure.

    `units` are `Moments` if rows are independent (of fixed size), and `ClusterSums` if they come in clusters (a row per
    user). Columns are the rows of a unit, then `plain`, `ratio`, `weight` of each estimator. Once no user can come
    back, `settled` makes either a fixed size.
    """

    units: Moments | ClusterSums
    weights: tuple[WeightSums, ...]

    @classmethod
    def of(cls, *terms: Terms, clusters: Ints | None = None) -> Self:
        """From the terms of one estimator or several on the same rows; `clusters` (n,) integers.

        Raises ValueError for clusters of another length.
        """
        columns = [np.ones(len(terms[0].weight)), *(column for t in terms for column in t.columns())]
        weights = tuple(WeightSums.of(t.weight) for t in terms)
        if clusters is None:
            # A column lies in one piece: that is how moments read them.
            return cls(Moments.of(np.array(columns).T), weights)
        keys = np.asarray(clusters)
        need_one_length({"reward": terms[0].weight, "clusters": keys})
        return cls(ClusterSums.of_columns(keys, columns), weights)

    def __add__(self, other: Self) -> Self:
        """Both sets of rows together. Raises ValueError if only one of them has clusters."""
        weights = tuple(a + b for a, b in zip(self.weights, other.weights, strict=True))
        if isinstance(self.units, Moments) and isinstance(other.units, Moments):
            return type(self)(self.units + other.units, weights)
        if isinstance(self.units, ClusterSums) and isinstance(other.units, ClusterSums):
            return type(self)(self.units + other.units, weights)
        raise ValueError("statistics add when both have clusters or neither; found one of each")

    def settled(self) -> Self:
        """The same with every cluster closed: adds only to statistics of other clusters, at a fixed size."""
        units = self.units.moments() if isinstance(self.units, ClusterSums) else self.units
        return type(self)(units, self.weights)

    def influence(self, signs: Sequence[float] | None = None) -> Influence:
        """The sum of the estimators' values times `signs`, and the units' influence on it.

        By default the value of the only one, or the second minus the first; a sign of 0 leaves an estimator out.
        Raises ValueError for fewer than 2 units, for a self-normalised estimator whose weights are all 0, and for a
        weight that was cut at `LARGEST`.
        """
        units = self.units
        count, total = units.units if isinstance(units, Moments) else len(units.keys), self._total()
        if count < 2:
            raise ValueError(f"an interval needs at least 2 independent rows or clusters; found {count}")
        if signs is None:
            signs = (1.0,) if len(self.weights) == 1 else (-1.0, 1.0)
        value, direction, effective_n = 0.0, np.zeros(len(total)), math.inf
        for side, (weights, sign) in enumerate(zip(self.weights, signs, strict=True)):
            if not sign:
                continue
            at = slice(1 + side * COLUMNS, 1 + (side + 1) * COLUMNS)
            figure, of_rows, of_columns = _linearised(float(total[0]), *(float(s) for s in total[at]))
            weights.need_sums()
            value += sign * figure
            direction[0] += sign * of_rows
            direction[at] += sign * of_columns
            effective_n = min(effective_n, weights.effective_n)
        return Influence(value, count, round(float(total[0])), effective_n, *units.along(direction))

    def estimate(self, confidence: float = CONFIDENCE, signs: Sequence[float] | None = None) -> Estimate:
        """The value with its analytic interval; `signs` and raises as `influence`."""
        upper_tail(confidence)
        return self.influence(signs).estimate(confidence)

    def _total(self) -> Floats:
        """(columns,) sums over all units."""
        if isinstance(self.units, Moments):
            return self.units.mean * self.units.units
        total: Floats = self.units.sums.sum(axis=0)
        return total


def figures(sums: Floats, estimators: int) -> Floats:
    """The value of each of (b, columns) sums, NaN if it has none; for resamples."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = []
        for side in range(estimators):
            plain, ratio, weight = sums[:, 1 + side * COLUMNS : 1 + (side + 1) * COLUMNS].T
            values.append(plain / sums[:, 0] + np.where(ratio == 0, 0.0, ratio / weight))
        found: Floats = values[-1] - values[0] if estimators == 2 else values[0]
        return found


def _linearised(rows: float, plain: float, ratio: float, weight: float) -> tuple[float, float, Floats]:
    """plain / rows + ratio / weight, and its derivatives by rows and by (plain, ratio, weight)."""
    if not weight and not plain:
        raise ValueError(f"the target policy never takes any of the {rows:.0f} logged decisions")
    share = ratio / weight if weight else 0.0
    inverse = 1.0 / weight if weight else 0.0
    gradient = np.array([1.0 / rows, inverse, -share * inverse])
    return plain / rows + share, -plain / rows**2, gradient


def unskewed_interval(value: float, stderr: float, skewness: float, quantile: float) -> tuple[float, float]:
    """value +- quantile x stderr with the skewness of the sum (the units' own / sqrt(units)) taken out (Hall 1992)."""
    low, high = (value - stderr * _studentised(x, skewness) for x in (quantile, -quantile))
    return min(value, low), max(value, high)


def _studentised(x: float, a: float) -> float:
    """Hall's transformation inverted: the studentised deviation whose unskewed form is x, for skewness a."""
    if abs(a) < 1e-6:
        return x
    return float(3.0 / a * (np.cbrt(1.0 + a * (x - a / 6.0)) - 1.0))
