"""A small world of late outcomes: two groups, one feature, Weibull delays, and what a log of it says at the cut."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.delays.methods import Learn, Predict
from models.delays.observed import Floats, Indices, Observed
from models.delays.targets import Targets, sigmoid

HORIZON, DAYS = 7.0, 28
SCALE, SHAPE = 1.5, 0.7


def within(time: Floats, slow: float = 1.0) -> Floats:
    """P(delay <= time | delay <= HORIZON), delays `slow` times as long."""

    def ever(t: Floats) -> Floats:
        return np.asarray(-np.expm1(-((t / (SCALE * slow)) ** SHAPE)))

    return ever(time) / ever(np.array(HORIZON))


@dataclass(frozen=True)
class LateWorld:
    """`rows` rows of `DAYS` days. `slow`: how many times as long group 1 waits; `mix`: its share among recent rows.

    In the last week `rise` is added to the logit, there are `crowd` times the rows, and delays are `stretch` times as
    long; every delay is drawn from those within the horizon, so p is the rate of outcomes whatever they do.
    """

    seed: int
    rows: int = 8_000
    slow: float = 1.0
    mix: float = 0.5
    rise: float = 0.0
    crowd: float = 1.0
    stretch: float = 1.0

    @cached_property
    def _drawn(self) -> tuple[Floats, Indices, Floats, Floats, Floats]:
        rng = np.random.default_rng([self.seed, 17])
        n, week = self.rows, DAYS / 4
        recent = rng.random(n) < self.crowd / (self.crowd + 3)
        age = np.where(recent, rng.uniform(0, week, n), rng.uniform(week, DAYS, n))
        group = (rng.random(n) < np.where(recent, self.mix, 0.5)).astype(np.int64)
        x = rng.standard_normal(n)
        p = sigmoid(-1.5 + 0.8 * x + np.where(recent, self.rise, 0.0))
        scale = SCALE * np.where(group == 1, self.slow, 1.0) * np.where(recent, self.stretch, 1.0)
        cut = -np.expm1(-((HORIZON / scale) ** SHAPE))
        wait = scale * (-np.log1p(-rng.random(n) * cut)) ** (1 / SHAPE)
        return age, group, x, p, np.where(rng.random(n) < p, wait, np.nan)

    @property
    def x(self) -> Floats:
        """The feature, (rows,)."""
        return self._drawn[2]

    @property
    def p(self) -> Floats:
        """P(outcome within the horizon), (rows,)."""
        return self._drawn[3]

    @property
    def delay(self) -> Floats:
        """Of every outcome that comes in the end, else NaN."""
        return self._drawn[4]

    @cached_property
    def observed(self) -> Observed:
        """What the log says at the cut."""
        age, group, _, _, delay = self._drawn
        return Observed.of(age, np.where(delay <= age, delay, np.nan), HORIZON, group)


def newton(x: Floats) -> Learn:
    """Intercept and slope of `x` by Newton's method on whatever loss."""

    def learn(targets: Targets) -> Predict:
        design = np.column_stack([np.ones(len(targets)), x[targets.rows]])
        weights = np.array([np.log(targets.rate() / (1 - targets.rate())), 0.0])
        for _ in range(200):
            _, slope, curvature = targets.at(design @ weights)
            step = np.linalg.solve(design.T @ (design * curvature[:, None]), design.T @ slope)
            weights = weights - step
            if np.abs(step).max() < 1e-7:
                break
        return lambda rows: sigmoid(weights[0] + weights[1] * rows)

    return learn
