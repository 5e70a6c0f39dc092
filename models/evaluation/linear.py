"""A figure of rows and each row's influence on it: what an interval, or a difference of two figures, is made of.

Means, ratios and U-statistics have influences in closed form (the delta method). They are summed within users, whose
rows resemble one another, and users are independent: so nothing is resampled, a million rows take seconds, and the
interval is the same whenever it is computed. `models.evaluation.sufficient.Influence` makes the interval of the sums.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.moments import powers
from models.evaluation.resampling import MIN_CLUSTERS
from models.evaluation.sufficient import Influence, WeightSums
from models.evaluation.weighting import Terms

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
        n = len(self.rows)
        if not n:
            return Refusal(self.lacking)
        _, at = np.unique(self.rows if users is None else np.asarray(users)[self.rows], return_inverse=True)
        sums = np.bincount(at, weights=self.influence).astype(np.float64, copy=False)
        if len(sums) < MIN_CLUSTERS:
            return Refusal(f"an interval needs at least {MIN_CLUSTERS} users; found {len(sums)}", n)
        found = Influence(self.value, len(sums), n, float(n), *powers(sums)).estimate(confidence)
        if bounds is None:
            return found
        return Estimate(
            found.value, found.stderr, max(found.low, bounds[0]), min(found.high, bounds[1]), n, found.effective_n
        )
