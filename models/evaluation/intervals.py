"""A second interval besides the analytic one: the bootstrap by user, over rows in separate partitions."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Estimate, upper_tail
from models.evaluation.hashing import hashed, scrambled
from models.evaluation.moments import ClusterSums
from models.evaluation.sufficient import CONFIDENCE, WeightSums, figures, unskewed_interval
from models.evaluation.weighting import Floats, Terms

Ints = NDArray[np.int64]
KEYS_AT_ONCE = 512
POISSON = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(18)])
"""P(count <= k) for a mean of one."""


@dataclass(frozen=True)
class PoissonBootstrap:
    """An estimate in every resample of users, each user counted Poisson(1) times (Chamandy et al. 2012).

    A user's count in a replicate is a function of seed, user and replicate alone, so separate batches and partitions
    draw alike and their sums add: `draws` is (replicates, columns), `sums` (columns,), as in `SufficientStatistics`.
    """

    seed: int
    sums: Floats
    draws: Floats
    weights: tuple[WeightSums, ...]

    @classmethod
    def of(cls, *terms: Terms, users: Ints, replicates: int, seed: int) -> Self:
        """From one estimator's terms, or two (the second less the first); `users` (n,) integers, hashed if strings."""
        columns = np.column_stack([np.ones(len(users)), *(column for t in terms for column in t.columns())])
        by_user = ClusterSums.of(np.asarray(users), columns)
        draws = np.zeros((replicates, columns.shape[1]))
        for start in range(0, len(by_user.keys), KEYS_AT_ONCE):
            at = slice(start, start + KEYS_AT_ONCE)
            draws += poisson_counts(by_user.keys[at], replicates, seed) @ by_user.sums[at]
        return cls(seed, by_user.sums.sum(axis=0), draws, tuple(WeightSums.of(t.weight) for t in terms))

    def __add__(self, other: Self) -> Self:
        """Both sets of rows together. Raises ValueError for other seeds or replicates, whose draws differ."""
        if self.seed != other.seed or self.draws.shape != other.draws.shape:
            raise ValueError(
                f"bootstraps add with one seed and shape; found {self.seed} {self.draws.shape}"
                f" and {other.seed} {other.draws.shape}"
            )
        weights = tuple(a + b for a, b in zip(self.weights, other.weights, strict=True))
        return type(self)(self.seed, self.sums + other.sums, self.draws + other.draws, weights)

    def estimate(self, confidence: float = CONFIDENCE) -> Estimate:
        """The value, the draws' standard deviation, and an interval with the draws' skewness taken out (Hall 1992).

        Percentiles of the draws are off to the wrong side for skewed sums; the transformation is that of the analytic
        interval. Raises ValueError if any resample has no weight: too few users have any.
        """
        sides = len(self.weights)
        for of_side in self.weights:
            of_side.need_sums()
        value = float(figures(self.sums[None], sides)[0])
        draws = figures(self.draws, sides)
        if not (math.isfinite(value) and np.isfinite(draws).all()):
            found = int(np.isfinite(draws).sum())
            raise ValueError(f"a bootstrap needs a figure in every resample; found {found} of {len(draws)}")
        stderr, rows = float(draws.std(ddof=1)), round(float(self.sums[0]))
        skewness = float((((draws - draws.mean()) / stderr) ** 3).mean()) if stderr else 0.0
        limits = unskewed_interval(value, stderr, skewness, NormalDist().inv_cdf(upper_tail(confidence)))
        return Estimate(value, stderr, *limits, rows, min(w.effective_n for w in self.weights))


def poisson_counts(keys: Ints, replicates: int, seed: int) -> Floats:
    """(replicates, keys) counts, Poisson(1), the same for a key in any batch."""
    steps = scrambled(np.arange(1, replicates + 1, dtype=np.uint64))
    words = scrambled(hashed(keys, seed)[None, :] ^ steps[:, None])
    uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.searchsorted(POISSON, uniform, side="right").astype(np.float64)
