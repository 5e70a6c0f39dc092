"""The cluster bootstrap: how much a figure would vary with other users."""

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.evaluation.estimate import Estimate, Finding, Refusal, upper_tail

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Counts = NDArray[np.unsignedinteger[Any]]
MIN_CLUSTERS = 2
AT_ONCE = 1 << 20
"""Maximum number of counts held as floats at a time."""
MAX_FAILED_SHARE = 0.05
"""Share of replicates that may have no figure (one class only) before the interval is refused."""


@lru_cache(maxsize=2)
def drawn(clusters: int, replicates: int, seed: int) -> Counts:
    """(replicates, clusters) how often each cluster was drawn, in the smallest integer type; read only.

    A function of its arguments alone. All metrics of the same users share one array; the last two arrays are cached,
    since an evidence alternates between users by impression and by decision.
    """
    found: Counts = np.zeros((replicates, clusters), dtype=np.uint8)
    rng, chances = np.random.default_rng(seed), np.full(clusters, 1.0 / max(1, clusters))
    for replicate in range(replicates if clusters else 0):
        counts = rng.multinomial(clusters, chances)
        found = found.astype(np.promote_types(found.dtype, np.min_scalar_type(counts.max())), copy=False)
        found[replicate] = counts
    found.setflags(write=False)
    return found


class Bootstrap:
    """Resamples that are the same for every figure computed with them, so differences are paired.

    `clusters`: (n,) integers, one per row; rows of one cluster (a user) come and go together. Each of `replicates`
    draws takes as many clusters as there are, with replacement (Efron 1979; Field & Welsh 2007 for clusters). The
    interval is value +- z x the draws' standard deviation, more stable than percentiles of a few hundred draws.
    """

    def __init__(self, clusters: Ints, replicates: int, confidence: float, seed: int) -> None:
        names, self._cluster = np.unique(np.asarray(clusters), return_inverse=True)
        self.clusters = len(names)
        self._z = NormalDist().inv_cdf(upper_tail(confidence))
        self._draws = drawn(self.clusters, replicates, seed)

    def ratio(self, numerator: Floats, denominator: Floats) -> tuple[float, Floats]:
        """sum(numerator) / sum(denominator) over rows (n,), and the same in every draw."""
        sums = [np.bincount(self._cluster, weights=x, minlength=self.clusters) for x in (numerator, denominator)]
        draws = np.concatenate([some @ np.column_stack(sums) for some in self._a_few()])
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(sums[0].sum() / sums[1].sum()), draws[:, 0] / draws[:, 1]

    def by(self, at: Ints, weights: Floats, k: int) -> tuple[Floats, Floats]:
        """(k,) sums of the rows' weights (n,) by `at` (n,) in [0, k), and (replicates, k) the same in every draw."""
        of_cluster = csr_array((weights, (self._cluster, at)), shape=(self.clusters, k)).T
        whole = np.bincount(at, weights=weights, minlength=k).astype(np.float64)
        return whole, np.concatenate([np.asarray((of_cluster @ some.T).T) for some in self._a_few()])

    def _a_few(self) -> Iterator[Floats]:
        """(some, clusters) draws as the numbers that are multiplied with, never all at once."""
        some = max(1, AT_ONCE // max(1, self.clusters))
        for start in range(0, len(self._draws), some):
            yield self._draws[start : start + some].astype(np.float64)

    def estimate(self, value: float, draws: Floats, n: int, bounds: tuple[float, float] | None = None) -> Finding:
        """The value with its interval, cut to `bounds`; refused if too few clusters or draws have a figure."""
        if self.clusters < MIN_CLUSTERS:
            return Refusal(f"an interval needs at least {MIN_CLUSTERS} users; found {self.clusters}", n)
        usable = draws[np.isfinite(draws)]
        if not math.isfinite(value) or len(usable) < (1 - MAX_FAILED_SHARE) * len(draws):
            return Refusal(f"an interval needs figures in nearly all resamples; found {len(usable)} of {len(draws)}", n)
        stderr = float(usable.std(ddof=1))
        low, high = value - self._z * stderr, value + self._z * stderr
        if bounds:
            low, high = max(low, bounds[0]), min(high, bounds[1])
        return Estimate(value, stderr, min(low, value), max(high, value), n, float(n))
