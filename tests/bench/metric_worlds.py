"""Impressions of users who come back, click, and buy days later: what a readout's metrics are made of, in two arms."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.experiments.metrics import DAY, Shown

SHOWN, DELAY_DAYS, RETENTION_DAYS, VALUE_DAYS = 3, 2.0, 3, 6
"""Items a request; the mean wait of a conversion; and what the readout is set to."""


@dataclass(frozen=True)
class World:
    """Every impression of a whole experiment, (n,) each, and the arms of its users (u,)."""

    treated: np.ndarray
    user: np.ndarray
    time: np.ndarray
    clicked: np.ndarray
    bought_at: np.ndarray
    """Infinite of an impression that sold nothing."""
    value: np.ndarray

    def at(self, day: int) -> tuple[np.ndarray, Shown]:
        """The arms of users seen by the end of a day, counted from 1, and what is known of them then."""
        now = day * DAY
        rows = self.time < now
        there, user = np.unique(self.user[rows], return_inverse=True)
        heard = self.bought_at[rows] < now
        age = (now - self.time[rows]) / DAY
        request = np.repeat(np.arange(rows.sum() // SHOWN), SHOWN)
        share = 1 - np.exp(-age / DELAY_DAYS)
        columns = (self.clicked[rows], heard * 1.0, heard * self.value[rows])
        return self.treated[there], Shown(len(there), user, self.time[rows], request, *columns, share, now)


def world(rng: np.random.Generator, users: int, days: int, lift: float = 0.0) -> World:
    """Tastes and activity differ a lot; the treated click, and so buy, `lift` more, and come back by as much."""
    treated = rng.random(users) < 0.5
    rate, visits = rng.beta(1.0, 5.0, users), rng.gamma(0.7, 0.5, users) + 0.08
    joined = np.where(rng.random(users) < 0.5, 0, rng.integers(0, days, users))
    often = rng.poisson(visits * (days - joined) * (1 + lift * treated)) + 1
    visitor = np.repeat(np.arange(users), often)
    first = np.append(True, visitor[1:] != visitor[:-1])
    at = joined[visitor] + np.where(
        first, rng.random(len(visitor)), rng.random(len(visitor)) * (days - joined[visitor])
    )
    user, time = np.repeat(visitor, SHOWN), np.repeat(np.minimum(at, days - 1e-6) * DAY, SHOWN)
    clicked = rng.random(len(user)) < np.minimum(1, rate * (1 + lift * treated))[user]
    bought = clicked & (rng.random(len(user)) < 0.25)
    bought_at = np.where(bought, time + rng.exponential(DELAY_DAYS * DAY, len(user)), np.inf)
    return World(treated, user, time, clicked * 1.0, bought_at, rng.lognormal(2.0, 0.8, len(user)))


def looks(rng: np.random.Generator, users: int, days: range, lift: float = 0.0) -> Iterator[tuple[np.ndarray, Shown]]:
    """`World.at` the end of some days of an experiment as long as the last of them."""
    drawn = world(rng, users, days[-1], lift)
    return (drawn.at(day) for day in days)
