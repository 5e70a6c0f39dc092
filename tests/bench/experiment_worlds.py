"""Users who come back: what two arms of an experiment do day by day, with an effect or none, and what they bought."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FIGURES = ("click_rate", "clicks_per_user", "revenue_per_user")
"""A ratio whose denominator is random too, a mean, and a mean with a heavy tail."""


@dataclass(frozen=True)
class Look:
    """What is known at the end of a day of each user seen so far, (n,) each but `before` (n, 2)."""

    day: int
    treated: np.ndarray
    impressions: np.ndarray
    clicks: np.ndarray
    revenue: np.ndarray
    before: np.ndarray
    """Clicks and impressions of as many days before the start; NaN for new users."""

    def of(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Numerators and denominators of a metric."""
        return {
            "click_rate": (self.clicks, self.impressions),
            "clicks_per_user": (self.clicks, np.ones(len(self.clicks))),
            "revenue_per_user": (self.revenue, np.ones(len(self.clicks))),
        }[metric]


@dataclass(frozen=True)
class Users:
    """n users: taste, activity, when they first came, whether they are new to the shop, and their arm."""

    rate: np.ndarray
    visits: np.ndarray
    joined: np.ndarray
    new: np.ndarray
    treated: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int, days: int, share: float = 0.5) -> "Users":
        """Half of them come on the first day; tastes and activity differ a lot."""
        joined = np.where(rng.random(n) < 0.5, 0, rng.integers(0, days, n))
        return cls(
            rng.beta(1.0, 8.0, n), rng.gamma(0.7, 0.6, n) + 0.05, joined, rng.random(n) < 0.2, rng.random(n) < share
        )


def looks(rng: np.random.Generator, n: int, days: int, lift: float = 0.0, share: float = 0.5) -> Iterator[Look]:
    """What is known at the end of each day; the treated click `lift` more, relatively. 5 impressions a visit."""
    users = Users.draw(rng, n, days, share)
    past = 5 * rng.poisson(users.visits * days * 0.6) + 5
    before = np.column_stack([rng.binomial(past, users.rate), past]).astype(float)
    before[users.new] = np.nan
    impressions, clicks, revenue = np.zeros(n), np.zeros(n), np.zeros(n)
    for day in range(days):
        come = 5 * (rng.poisson(users.visits) + (users.joined == day)) * (users.joined <= day)
        clicked = rng.binomial(come, np.minimum(1, users.rate * (1 + lift * users.treated)))
        bought = rng.binomial(clicked, 0.15)
        impressions, clicks = impressions + come, clicks + clicked
        revenue = revenue + bought * rng.lognormal(3.0, 1.0, n)
        seen = users.joined <= day
        yield Look(day, users.treated[seen], impressions[seen], clicks[seen], revenue[seen], before[seen])
