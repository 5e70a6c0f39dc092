"""Users of whom a few weigh much, or whose figures have a long tail: what intervals of a ratio are tried on."""

from collections.abc import Callable

import numpy as np
from scipy.stats import t as student

from models.evaluation.estimate import Estimate
from models.experiments.interleaving import preferences
from models.experiments.sequences import half_width

Drawn = tuple[np.ndarray, np.ndarray]
LOOKS = 7


def _first_value(rng: np.random.Generator, n: int) -> Drawn:
    bought = rng.poisson(0.25 * rng.gamma(0.7, 1.5, n))
    return bought * rng.lognormal(2.0, 0.9, n), np.ones(n)


def _revenue(rng: np.random.Generator, n: int) -> Drawn:
    return rng.lognormal(0.0, 1.0, n), np.ones(n)


def _clicks(rng: np.random.Generator, n: int) -> Drawn:
    shown = np.ceil(rng.lognormal(1.0, 1.3, n))
    return rng.binomial(shown.astype(int), rng.beta(1, 8, n)).astype(float), shown


LEVELS: dict[str, tuple[Callable[[np.random.Generator, int], Drawn], float]] = {
    "most bought nothing, a few a lot": (_first_value, 0.25 * 0.7 * 1.5 * float(np.exp(2.0 + 0.9**2 / 2))),
    "revenue of all": (_revenue, float(np.exp(0.5))),
    "a few have most of the impressions": (_clicks, 1 / 9),
}
"""Numerators and denominators of n users, and the true ratio."""
TASTES = {"alike": (60, 0.0, 0.5), "own tastes, a few click most": (60, 1.0, 1.3), "few users": (20, 0.5, 1.5)}
"""Users, how far they differ in whom they prefer (a standard deviation of log-odds) and in how much they click."""


def by_delta_method(y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """The usual limits, value +- t x stderr, at 95 %."""
    value, n = float(y.sum() / x.sum()), len(y)
    reach = float(student.ppf(0.975, n - 1) * (y - value * x).std(ddof=1) * n**0.5 / x.sum())
    return value - reach, value + reach


def read_preferences(
    rng: np.random.Generator, users: int, taste: float, heavy: float
) -> tuple[list[Estimate], tuple[float, float]]:
    """What is told at each of seven looks of two rankers alike, and the delta method's limits at the last of them."""
    often, other = rng.lognormal(1.0, heavy, users) / LOOKS, 1 / (1 + np.exp(-rng.normal(0, taste, users)))
    clicks = rng.poisson(often, (LOOKS, users))
    liked = rng.binomial(clicks, other)
    credits = np.stack([clicks - liked, liked], axis=2).astype(float)
    read = [
        preferences(credits[:day].reshape(-1, 2), np.tile(np.arange(users), day), 0.95)[0]
        for day in range(1, LOOKS + 1)
    ]
    gaps, sums = (2 * liked - clicks).sum(axis=0), clicks.sum(axis=0)
    told = [one for one in read if isinstance(one, Estimate)]
    return told, by_delta_method(gaps[sums > 0], sums[sums > 0])


def missed(told: list[Estimate]) -> tuple[bool, bool]:
    """Whether the last look's interval misses none, and whether the one for any look ever does."""
    always = any(abs(one.value) > half_width(one.stderr, 0.1, 0.95) for one in told)
    return not told[-1].low <= 0 <= told[-1].high, always
