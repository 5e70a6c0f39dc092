"""Clusters drawn with replacement: how far a figure would move had other users come by."""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.evaluation.estimate import Estimate, Finding, Refusal

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MIN_CLUSTERS = 2
MAX_FAILED_SHARE = 0.05
"""Share of replicates that may come out without a figure (one class only) before the interval is refused."""


class Bootstrap:
    """The same draws for every figure computed with it, so that differences are paired.

    `clusters`: (n,) integers, one per row; rows of one cluster (a user) come and go together. Each of `replicates`
    draws takes as many clusters as there are, with replacement (Efron 1979; Field & Welsh 2007 for clusters). The
    interval is value +- z x the draws' standard deviation: with few hundred draws steadier than their percentiles.
    """

    def __init__(self, clusters: Ints, replicates: int, confidence: float, seed: int) -> None:
        names, self._cluster = np.unique(np.asarray(clusters), return_inverse=True)
        self.clusters = len(names)
        self._z = NormalDist().inv_cdf(0.5 + confidence / 2)
        rng = np.random.default_rng(seed)
        chances = np.full(self.clusters, 1.0 / max(1, self.clusters))
        self._draws = rng.multinomial(self.clusters, chances, size=replicates) if self.clusters else np.zeros((0, 0))

    def ratio(self, numerator: Floats, denominator: Floats) -> tuple[float, Floats]:
        """sum(numerator) / sum(denominator) over rows (n,), and the same in every draw."""
        sums = [np.bincount(self._cluster, weights=x, minlength=self.clusters) for x in (numerator, denominator)]
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = (self._draws @ sums[0]) / (self._draws @ sums[1])
            return float(sums[0].sum() / sums[1].sum()), draws

    def by(self, at: Ints, weights: Floats, k: int) -> tuple[Floats, Floats]:
        """(k,) sums of the rows' weights (n,) by `at` (n,) in [0, k), and (replicates, k) the same in every draw."""
        of_cluster = csr_array((weights, (self._cluster, at)), shape=(self.clusters, k))
        whole = np.bincount(at, weights=weights, minlength=k).astype(np.float64)
        return whole, np.asarray((of_cluster.T @ self._draws.T).T)

    def each(self, figure: Callable[[Floats], float]) -> tuple[float, Floats]:
        """A figure of row weights (n,): with every weight one, and in every draw."""
        draws = [figure(draw[self._cluster].astype(np.float64)) for draw in self._draws]
        return figure(np.ones(len(self._cluster))), np.array(draws)

    def estimate(self, value: float, draws: Floats, n: int, bounds: tuple[float, float] | None = None) -> Finding:
        """The value with its interval, cut to `bounds`; a refusal where too few clusters or draws carry one."""
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
