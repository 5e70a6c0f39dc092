"""A figure of rows and each row's influence on it: what an interval, or a difference of two figures, is made of.

Means, ratios and U-statistics have influences in closed form (the delta method). They are summed within users, whose
rows resemble one another, and users are independent: so nothing is resampled, a million rows take seconds, and the
interval is the same whenever it is computed. `models.evaluation.sufficient.Influence` makes the interval of the sums.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.moments import powers
from models.evaluation.resampling import MIN_CLUSTERS
from models.evaluation.sufficient import Influence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Linear:
    """`value`, and by how much each row moves it: `influence` (n,), summing to 0, of the rows numbered `rows` (n,).

    Without rows there is no value (NaN), and `lacking` is why.
    """

    value: float
    influence: Floats
    rows: Ints
    lacking: str = "a metric needs rows; found none"

    @classmethod
    def mean(cls, values: Floats, rows: Ints | None = None, lacking: str = lacking) -> "Linear":
        """The mean of (n,) values, which stand for `rows` (all by default)."""
        n = len(values)
        value = float(values.mean()) if n else float("nan")
        return cls(value, (values - value) / max(1, n), np.arange(n) if rows is None else rows, lacking)

    def __sub__(self, other: "Linear") -> "Linear":
        """The difference of two figures of the same rows: what they share cancels. Raises ValueError for others."""
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
        """As `estimate`, of a figure in [0, 1] that is skewed by how near an end it lies: even on the logit scale.

        Student's quantile as there; skewness is not taken out besides: of few clicks it cannot be told.
        """
        by_user = self._by(users)
        if isinstance(by_user, Refusal):
            return by_user
        spread = self.value * (1 - self.value)
        if not spread or not by_user.second:
            return by_user.estimate(confidence)
        reach = by_user.quantile(confidence) * by_user.stderr / spread
        low, high = expit(logit(self.value) + np.array([-reach, reach]))
        return Estimate(
            self.value,
            by_user.stderr,
            min(float(low), self.value),
            max(float(high), self.value),
            by_user.rows,
            by_user.effective_n,
        )

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
