"""Logs of users who click more or less than their features say, with the true errors of models on them.

A row's logit is a base, what its features say (in part the same for all rows of a user) and the user's effect, which no
feature shows. The calibrated model predicts the click probability given the features, effects averaged out; others
distort it. Truths are those of a million rows, with probabilities in place of clicks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from models.evaluation.calibration import reliability
from models.evaluation.ranking import auc_pr_influence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
LONG = 1_000_000
OF_USER = 0.5
"""Share of the features' variance that is between users."""
MODELS: dict[str, Callable[[Floats], Floats]] = {
    "calibrated": lambda p: p,
    "a tenth too high": lambda p: np.minimum(1, 1.1 * p),
    "a third too high": lambda p: np.minimum(1, 4 / 3 * p),
    "a quarter too low": lambda p: 0.75 * p,
    "three times": lambda p: np.minimum(1, 3 * p),
    "almost none": lambda p: 0.01 * p,
    "too steep": lambda p: expit(1.5 * (logit(p) + 3) - 3),
    "too high at the top": lambda p: np.where(p > np.quantile(p, 0.9), np.minimum(1, 1.5 * p), p),
}
"""From what the calibrated model predicts to what this one does."""


@dataclass(frozen=True)
class Clicks:
    """A log of n rows: `clicked` 0.0 or 1.0, `p` the calibrated prediction, `users`, and `noise` for rankers."""

    clicked: Floats
    p: Floats
    users: Ints
    noise: Floats


@dataclass(frozen=True)
class ClickWorld:
    """How many of the shown are clicked, the users' effects on the logit, users, and their mean number of rows."""

    rate: float
    user_sd: float
    users: int
    rows: float
    feature_sd: float = 0.8
    even: bool = True
    """Poisson's numbers of rows a user; otherwise a log-normal's, of which a few have most."""

    @cached_property
    def base(self) -> float:
        """The logit that makes the rate."""
        x = self.feature_sd * np.random.default_rng(5).standard_normal(40_000)
        return float(brentq(lambda base: _averaged(base + x, self.user_sd).mean() - self.rate, -12, 6))

    def draw(self, seed: int) -> Clicks:
        """A log; users come with at least one row."""
        rng = np.random.default_rng(seed)
        sizes = rng.poisson(self.rows, self.users) if self.even else self.rows * rng.lognormal(-0.72, 1.2, self.users)
        users = np.repeat(np.arange(self.users), np.maximum(1, np.round(sizes)).astype(int))
        common, own = rng.standard_normal(self.users)[users], rng.standard_normal(len(users))
        x = self.feature_sd * (np.sqrt(OF_USER) * common + np.sqrt(1 - OF_USER) * own)
        effect = self.user_sd * rng.standard_normal(self.users)[users]
        clicked = (rng.random(len(users)) < expit(self.base + x + effect)).astype(np.float64)
        return Clicks(clicked, _averaged(self.base + x, self.user_sd), users, rng.standard_normal(len(users)))

    @cached_property
    def long(self) -> tuple[Floats, Floats]:
        """Calibrated predictions and rankers' noise of very many rows."""
        rng = np.random.default_rng(77)
        x = self.feature_sd * rng.standard_normal(LONG)
        return _averaged(self.base + x, self.user_sd), rng.standard_normal(LONG)


@cache
def true_error(world: ClickWorld, model: str, bins: int = 15) -> float:
    """The calibration error of a model over equal parts of the rows, by its prediction."""
    p, _ = world.long
    found = reliability(np.zeros(LONG), MODELS[model](p), bins=bins)
    truly = reliability(np.zeros(LONG), p, bins=bins)  # every model keeps the order
    return float(np.sqrt(sum(a.n * (a.predicted - b.predicted) ** 2 for a, b in zip(found, truly, strict=True)) / LONG))


@cache
def true_ratio(world: ClickWorld, model: str) -> float:
    """Clicks predicted over clicks that come."""
    p, _ = world.long
    return float(MODELS[model](p).mean() / p.mean())


def ranked(p: Floats, noise: Floats, blur: float, step: float = 0.0) -> Floats:
    """What a ranker says that sees the logit through noise of this standard deviation; in steps, so that rows tie."""
    said = logit(p) + blur * noise
    return np.round(said / step) * step if step else said


@cache
def true_auc_pr(world: ClickWorld, blur: float, step: float = 0.0) -> float:
    """Average precision on very many rows, each counting as clicked by its probability."""
    p, noise = world.long
    return auc_pr_influence(p, ranked(p, noise, blur, step)).value


def _averaged(of_features: Floats, user_sd: float) -> Floats:
    """The click probability by the features' logit, users' effects averaged out (Gauss-Hermite)."""
    grid = np.linspace(-16, 10, 1_500)
    probability = expit(grid[:, None] + user_sd * NODES) @ (WEIGHTS / WEIGHTS.sum())
    return np.interp(of_features, grid, probability)
