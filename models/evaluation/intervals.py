"""Intervals beside the analytic one: bootstrap by user, finite-sample bounds, and bounds that hold at every look."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import LARGEST, Estimate, exactly, upper_tail
from models.evaluation.hashing import hashed, scrambled
from models.evaluation.moments import ClusterSums, Moments
from models.evaluation.sufficient import CONFIDENCE, SufficientStatistics, WeightSums, figures, unskewed_interval
from models.evaluation.weighting import Floats, Log, Terms

Ints = NDArray[np.int64]
KEYS_AT_ONCE = 512
CAUTION = 0.5
"""No bet of a confidence sequence is larger: a loss is then never worse than half of what was there."""
POISSON = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(18)])
"""P(count <= k) for a mean of one."""


@dataclass(frozen=True)
class PoissonBootstrap:
    """An estimate in every resample of users, each user counted Poisson(1) times (Chamandy et al. 2012).

    A user's count in a replicate is a function of seed, user and replicate alone, so batches and partitions that never
    meet draw alike and their sums add: `draws` is (replicates, columns), `sums` (columns,), as `SufficientStatistics`.
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
        """Of both sets of rows. Raises ValueError for other seeds or replicates: their users were drawn otherwise."""
        if self.seed != other.seed or self.draws.shape != other.draws.shape:
            raise ValueError(
                f"bootstraps add with one seed and shape; found {self.seed} {self.draws.shape}"
                f" and {other.seed} {other.draws.shape}"
            )
        weights = tuple(a + b for a, b in zip(self.weights, other.weights, strict=True))
        return type(self)(self.seed, self.sums + other.sums, self.draws + other.draws, weights)

    def estimate(self, confidence: float = CONFIDENCE) -> Estimate:
        """The value, the draws' standard deviation, and an interval with the draws' skewness taken out (Hall 1992).

        Percentiles of the draws lean the wrong way for skewed sums; the transformation is the analytic interval's.
        Raises ValueError where any resample comes without weight: too few users carry it.
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
    """(replicates, keys) counts, Poisson(1), the same for a key wherever and beside whomever it is seen."""
    steps = scrambled(np.arange(1, replicates + 1, dtype=np.uint64))
    words = scrambled(hashed(keys, seed)[None, :] ^ steps[:, None])
    uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.searchsorted(POISSON, uniform, side="right").astype(np.float64)


def empirical_bernstein(
    statistics: SufficientStatistics, bounds: tuple[float, float], confidence: float = CONFIDENCE
) -> Estimate:
    """The value with limits that hold at any n, whatever the distribution (Maurer & Pontil 2009, theorem 4).

    For plain means (`ips`, `clipped_ips`, `dm`, `dr` and its kin) of independent rows whose contributions all lie in
    `bounds`: clipped IPS of rewards in [0, 1] lies in (0, clip). Wide: the price of holding without any approximation.
    Raises ValueError for ratios (`snips`, `sndr`), for clusters of several rows, and for a value outside `bounds`.
    """
    low, high = bounds
    if not low <= high or max(-low, high) > LARGEST:
        raise ValueError(f"empirical Bernstein needs bounds up to {LARGEST:g} in size; found {bounds}")
    upper_tail(confidence)
    units = statistics.settled().units
    found = statistics.influence()
    if not isinstance(units, Moments) or found.units != found.rows or units.second[2, 2] or units.mean[2]:
        raise ValueError("empirical Bernstein needs a plain mean of independent rows; found a ratio or clusters")
    if not low <= found.value <= high:
        raise ValueError(f"empirical Bernstein needs values in [{low:g}, {high:g}]; found a mean of {found.value:g}")
    n = found.units
    doubt = math.log(4.0 / (1.0 - confidence))
    variance = found.second * n**2 / (n - 1)
    reach = math.sqrt(2.0 * variance * doubt / n) + 7.0 * (high - low) * doubt / (3.0 * (n - 1))
    limits = max(low, found.value - reach), min(high, found.value + reach)
    return Estimate(found.value, found.stderr, *limits, found.rows, found.effective_n)


@dataclass(frozen=True)
class Bets:
    """What a one-sided sequence has seen: counts and sums of a stream of x >= 0, and its best lower limit so far."""

    seen: int = 0
    total: float = 0.0
    squares: float = 0.0
    staked_gain: float = 0.0
    staked: float = 0.0
    paid: float = 0.0
    best: float = 0.0

    def after(self, x: Floats, alpha: float) -> "Bets":
        """With x (n,) in order: predictable plug-in stakes, each from what was seen before it alone."""
        if not len(x):
            return self
        t = self.seen + np.arange(1, len(x) + 1)
        totals = self.total + np.cumsum(x)
        mean = (0.5 + totals) / (t + 1)
        squares = self.squares + np.cumsum((x - mean) ** 2)
        variance = (0.25 + squares) / (t + 1)
        before = (0.5 + self.total) / (self.seen + 1), (0.25 + self.squares) / (self.seen + 1)
        expected = np.minimum(np.concatenate([[before[0]], mean[:-1]]), 1.0)
        spread = np.concatenate([[before[1]], variance[:-1]])
        stake = np.minimum(np.sqrt(2 * math.log(1 / alpha) / (spread * t * np.log1p(t))), CAUTION)
        gained = self.staked_gain + np.cumsum(stake * x)
        staked = self.staked + np.cumsum(stake)
        paid = self.paid + np.cumsum((-np.log1p(-stake) - stake) * (x - expected) ** 2)
        best = max(self.best, float(((gained - paid - math.log(1 / alpha)) / staked).max()))
        last = [float(sums[-1]) for sums in (totals, squares, gained, staked, paid)]
        return Bets(self.seen + len(x), last[0], last[1], last[2], last[3], last[4], best)


@dataclass(frozen=True)
class ConfidenceSequence:
    """Limits for the target policy's value that hold at all times at once: look as often as you like, stop when sure.

    For rewards in [0, 1] and decisions in the order they were made. The lower limit bets on w r >= 0, the upper one on
    w (1 - r) >= 0, whose mean is 1 - value, so no largest weight needs to be known (Waudby-Smith, Wu, Ramdas,
    Karampatziakis & Mineiro 2024; stakes of Waudby-Smith & Ramdas 2024). Assumes that each
    decision's mean given the past is the same value. The best limits so far are kept, so they only ever narrow.
    """

    alpha: float
    statistics: SufficientStatistics | None = None
    lower: Bets = Bets()
    upper: Bets = Bets()

    @classmethod
    def starting(cls, confidence: float = CONFIDENCE) -> Self:
        """Before the first decision: [0, 1]."""
        upper_tail(confidence)
        return cls(1.0 - confidence)

    def after(self, log: Log) -> Self:
        """With the next decisions, in order; any cut of the stream gives the same limits.

        Raises ValueError for rewards outside [0, 1].
        """
        if not ((log.reward >= 0) & (log.reward <= 1)).all():
            low, high = exactly(log.reward.min()), exactly(log.reward.max())
            raise ValueError(f"a confidence sequence needs rewards in [0, 1]; found {low} to {high}")
        w = log.weight
        new = SufficientStatistics.of(Terms(w * log.reward, np.zeros(len(w)), w))
        return type(self)(
            self.alpha,
            new if self.statistics is None else self.statistics + new,
            self.lower.after(w * log.reward, self.alpha / 2),
            self.upper.after(w * (1.0 - log.reward), self.alpha / 2),
        )

    @property
    def interval(self) -> tuple[float, float]:
        """The limits now, in [0, 1]; both at their middle in the rare case that they crossed."""
        low, high = self.lower.best, 1.0 - self.upper.best
        return (low, high) if low <= high else ((low + high) / 2,) * 2

    def estimate(self) -> Estimate:
        """The IPS value, moved into the limits where it lies outside. Raises ValueError before the second decision."""
        if self.statistics is None:
            raise ValueError("a confidence sequence needs decisions; found none")
        found, (low, high) = self.statistics.influence(), self.interval
        return Estimate(min(max(found.value, low), high), found.stderr, low, high, found.rows, found.effective_n)
