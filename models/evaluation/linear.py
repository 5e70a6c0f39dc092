"""A figure and each row's influence on it, from which intervals and differences of figures are computed.

Means, ratios and U-statistics have influences in closed form (the delta method). They are summed within users, whose
rows are correlated; users are independent. So nothing is resampled, a million rows take seconds, and the interval is
deterministic. `models.evaluation.sufficient.Influence` computes the interval from the sums.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from models.evaluation.estimate import LARGEST, Estimate, Finding, Refusal
from models.evaluation.moments import powers
from models.evaluation.resampling import MIN_CLUSTERS
from models.evaluation.sufficient import Influence, WeightSums
from models.evaluation.weighting import Terms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Linear:
    """`value`, and by how much each row moves it: `influence` (n,), summing to 0, of the rows numbered `rows` (n,).

    Without rows there is no value (NaN), and `lacking` is the reason.
    """

    value: float
    influence: Floats
    rows: Ints
    lacking: str = "a metric needs rows; found none"

    @classmethod
    def mean(cls, values: Floats, rows: Ints | None = None, lacking: str = lacking) -> "Linear":
        """The mean of (n,) values of the rows `rows` (all by default)."""
        n = len(values)
        value = float(values.mean()) if n else float("nan")
        return cls(value, (values - value) / max(1, n), np.arange(n) if rows is None else rows, lacking)

    @classmethod
    def of_terms(cls, terms: Terms) -> "Linear":
        """An off-policy estimate, by the delta method; NaN where the target never takes what was logged.

        Raises ValueError for weights too large to be summed.
        """
        WeightSums.of(terms.weight).need_sums()
        n, total = len(terms.weight), float(terms.weight.sum())
        plain = float(terms.plain.mean()) if n else float("nan")
        influence = (terms.plain - plain) / max(1, n)
        if total:
            ratio = float(terms.ratio.sum()) / total
            return cls(plain + ratio, influence + (terms.ratio - ratio * terms.weight) / total, np.arange(n))
        return cls(plain if terms.plain.any() else float("nan"), influence, np.arange(n))

    def __sub__(self, other: "Linear") -> "Linear":
        """The paired difference of two figures of the same rows. Raises ValueError for different rows."""
        if len(self.rows) != len(other.rows):
            raise ValueError(f"a difference needs figures of the same rows; found {len(self.rows)}, {len(other.rows)}")
        return Linear(self.value - other.value, self.influence - other.influence, self.rows, self.lacking)

    def estimate(
        self, confidence: float, users: Ints | None = None, bounds: tuple[float, float] | None = None
    ) -> Finding:
        """The value with its interval, cut to `bounds`; `users` (all rows,) integers, by default rows are independent.

        Refused without rows, and with fewer than two users.
        """
        by_user = self._by(users)
        if isinstance(by_user, Refusal):
            return by_user
        found = by_user.estimate(confidence)
        if bounds is None:
            return found
        low, high = max(found.low, bounds[0]), min(found.high, bounds[1])
        return replace(found, low=low, high=high)

    def share(self, confidence: float, users: Ints | None = None) -> Finding:
        """As `estimate`, for a figure in [0, 1]: the interval is symmetric on the logit scale.

        The quantile is that of `estimate`; the skewness of users is not corrected as well, since few clicks do not
        show it.
        """
        return self._even(confidence, users, (logit, expit), self.value * (1 - self.value))

    def factor(self, confidence: float, users: Ints | None = None) -> Finding:
        """As `share`, for a ratio >= 0: symmetric on the log scale. Refused if its upper end would be infinite."""
        return self._even(confidence, users, (np.log, np.exp), self.value)

    def _even(self, confidence: float, users: Ints | None, scale: tuple[Scale, Scale], slope: float) -> Finding:
        """Even on a scale, there and back; `slope`: of the figure by its place on the scale."""
        by_user = self._by(users)
        if isinstance(by_user, Refusal):
            return by_user
        if not slope or not by_user.second:
            return by_user.estimate(confidence)
        reach = min(LARGEST, by_user.quantile(confidence) * by_user.stderr / slope)
        (there, back), n = scale, by_user.rows
        with np.errstate(over="ignore"):
            low, high = (float(back(there(self.value) + end)) for end in (-reach, reach))
        if high > LARGEST:
            return Refusal(f"an interval needs more users that matter; found {by_user.matter:.1f}", n)
        return Estimate(self.value, by_user.stderr, min(low, self.value), max(high, self.value), n, float(n))

    def _by(self, users: Ints | None) -> Influence | Refusal:
        """The users' influences, rows of one added up."""
        n = len(self.rows)
        if not n:
            return Refusal(self.lacking)
        _, at = np.unique(self.rows if users is None else np.asarray(users)[self.rows], return_inverse=True)
        sums = np.bincount(at, weights=self.influence).astype(np.float64, copy=False)
        if len(sums) < MIN_CLUSTERS:
            return Refusal(f"an interval needs at least {MIN_CLUSTERS} users; found {len(sums)}", n)
        return Influence(self.value, len(sums), n, float(n), *powers(sums))
