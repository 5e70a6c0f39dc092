"""What an experiment asks of its users: figures, each a sum per user over another, and the sets a goal chooses.

A figure of a user who cannot be told yet (whose week to come back in is not over) is NaN: unknown, not zero. Of
conversions that may still come what was heard is divided by how much is heard of at that age, and a row too young to
tell is left out, yes or no (`jobs.outcomes`, `models.delays`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.experiments.rules import BLOCK_METRICS, METRICS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DAY = 86_400.0
SESSION_GAP_SECONDS = 1_800.0
LEAST_SHARE = 0.2
"""A row is left out while less than so much of what it will bring is heard of: dividing by less is mostly noise."""


@dataclass(frozen=True)
class Shown:
    """n impressions since the start of an experiment, in any order, of users numbered 0 to `users` - 1; all (n,)."""

    users: int
    user: Ints
    time: Floats
    """Seconds since the experiment's start."""
    request: Ints
    clicked: Floats
    """0 or 1, as all that follows as heard of by the readout."""
    conversions: Floats
    value: Floats
    heard_share: Floats
    """Of the conversions such a row will have brought once closed, how many are heard of at its age: 1 when closed."""
    now: float
    """Up to when impressions are known, in the same seconds: the readout's own time, or the experiment's end."""

    def __post_init__(self) -> None:
        """Raises ValueError for columns of unequal length or shares outside [0, 1]."""
        columns = (self.user, self.time, self.request, self.clicked, self.conversions, self.value, self.heard_share)
        if len({len(column) for column in columns}) != 1:
            raise ValueError(f"impressions need columns of one length; found {[len(column) for column in columns]}")
        if len(self.heard_share) and (self.heard_share.min() < 0 or self.heard_share.max() > 1):
            raise ValueError(f"heard_share must be in [0, 1]; found {self.heard_share.min()}-{self.heard_share.max()}")


def figures(metric: str, shown: Shown, *, retention_days: int = 7, value_days: int = 28) -> tuple[Floats, Floats]:
    """Numerators and denominators of a metric, (users,) each; NaN for a user who is unknown as yet.

    `click_rate` clicks of impressions; `conversion_rate` conversions of clicks; `clicks_`, `conversions_` and
    `revenue_per_user`; `sessions_per_user`, requests more than half an hour apart beginning another; `retention`: seen
    again in the `retention_days` days after the day of the first impression; `first_value`, a proxy of lifetime value:
    revenue of impressions in a user's first `value_days` days, known once these are over. Raises ValueError for
    another name.
    """
    one, (ripe, grown) = np.ones(shown.users), _heard(shown)
    match metric:
        case "click_rate":
            return _sum(shown, shown.clicked), _sum(shown, np.ones(len(shown.user)))
        case "clicks_per_user":
            return _sum(shown, shown.clicked), one
        case "conversion_rate":
            return _sum(shown, shown.conversions * grown), _sum(shown, shown.clicked * ripe)
        case "conversions_per_user":
            return _sum(shown, shown.conversions * grown), one
        case "revenue_per_user":
            return _sum(shown, shown.value * grown), one
        case "sessions_per_user":
            return sessions(shown), one
        case "retention":
            return _retained(shown, retention_days), one
        case "first_value":
            return _first_value(shown, grown, value_days), one
    raise ValueError(f"metrics are {', '.join(METRICS)}; found {metric!r}")


def by_impression(metric: str, shown: Shown) -> tuple[Floats, Floats]:
    """Numerators and denominators of a metric of blocks of time, (n,) each: what an impression adds to either.

    `click_rate` and `conversion_rate` as of users; `clicks_`, `conversions_` and `revenue_per_request`, the first
    impression of a request counting it. Raises ValueError for another name.
    """
    ripe, grown = _heard(shown)
    begins = np.zeros(len(shown.request))
    begins[np.unique(shown.request, return_index=True)[1]] = 1.0
    match metric:
        case "click_rate":
            return shown.clicked, np.ones(len(begins))
        case "clicks_per_request":
            return shown.clicked, begins
        case "conversion_rate":
            return shown.conversions * grown, shown.clicked * ripe
        case "conversions_per_request":
            return shown.conversions * grown, begins * ripe
        case "revenue_per_request":
            return shown.value * grown, begins * ripe
    raise ValueError(f"metrics of blocks are {', '.join(BLOCK_METRICS)}; found {metric!r}")


def _heard(shown: Shown) -> tuple[NDArray[np.bool_], Floats]:
    """Which rows are old enough to tell, and what a conversion heard of one stands for; 0 of a row too young."""
    ripe = shown.heard_share >= LEAST_SHARE
    return ripe, np.where(ripe, 1 / np.where(ripe, shown.heard_share, 1.0), 0.0)


def _sum(shown: Shown, column: Floats) -> Floats:
    return np.bincount(shown.user, weights=column, minlength=shown.users).astype(float)


def _first(shown: Shown) -> Floats:
    """Seconds of each user's first impression; infinite for a user without one."""
    found = np.full(shown.users, np.inf)
    np.minimum.at(found, shown.user, shown.time)
    return found


def sessions(shown: Shown) -> Floats:
    """(users,) how often a user came, a pause of more than `SESSION_GAP_SECONDS` ending a session."""
    order = np.lexsort((shown.time, shown.user))
    user, time = shown.user[order], shown.time[order]
    begins = np.ones(len(user), bool)
    begins[1:] = (user[1:] != user[:-1]) | (time[1:] - time[:-1] > SESSION_GAP_SECONDS)
    return np.bincount(user[begins], minlength=shown.users).astype(float)


def _retained(shown: Shown, days: int) -> Floats:
    first = _first(shown)
    first_day = np.floor(first / DAY)
    after = np.floor(shown.time / DAY) - first_day[shown.user]
    again = np.bincount(shown.user, weights=(after >= 1) & (after <= days), minlength=shown.users) > 0
    return np.where((first_day + 1 + days) * DAY <= shown.now, again.astype(float), np.nan)


def _first_value(shown: Shown, grown: Floats, days: int) -> Floats:
    first = _first(shown)
    early = shown.time < first[shown.user] + days * DAY
    return np.where(first + days * DAY <= shown.now, _sum(shown, shown.value * grown * early), np.nan)
