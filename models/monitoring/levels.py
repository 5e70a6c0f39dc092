"""A figure of a day against the same figure of the days before, with the noise that days have of their own.

Days differ by more than their samples: weekdays, campaigns, weather. How much by is read off the days themselves
(DerSimonian & Laird 1986), and a new day is expected where a day like them would fall.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluation.estimate import Finding, Refusal
from models.monitoring.alarms import p_beyond

MIN_DAYS = 7
"""Days before, to tell how much days differ."""


@dataclass(frozen=True)
class Level:
    """Where a day was expected and how far it is from there; on the log scale for positive figures.

    `expected`: on the figure's own scale. `low`, `high`: beyond which it is further off than allowed. `p_value`: of a
    day that is within the bound.
    """

    expected: float
    low: float
    high: float
    distance: float
    stderr: float
    p_value: float
    days: int


def level(today: Finding, before: Sequence[Finding], bound: float, *, relative: bool) -> Level | Refusal:
    """`today` against the days `before` it, refused ones left out.

    `relative`: `bound` is of |log(today / expected)|, else of |today - expected|. Refused with fewer than `MIN_DAYS`
    days, without a figure today, or where a relative one is not above 0. Student's t has Satterthwaite's degrees of
    freedom: the sample's own noise is known, the days' is an estimate.
    """
    if isinstance(today, Refusal):
        return today
    known = [(one.value, one.stderr) for one in before if not isinstance(one, Refusal)]
    if relative:
        if today.value < 0 or not any(value > 0 for value, _ in known):
            return Refusal("a relative change needs figures above 0", today.n)
        known = [(math.log(value), stderr / value) for value, stderr in known if value > 0]
        # A day of nothing is further off than any bound; half an event is what a logarithm can be taken of.
        least = 0.5 / max(1, today.n)
        value, own = math.log(max(today.value, least)), today.stderr / max(today.value, least)
    else:
        value, own = today.value, today.stderr
    if len(known) < MIN_DAYS:
        return Refusal(f"a level needs at least {MIN_DAYS} days before; found {len(known)}", today.n)
    expected, stderr, freedom = _predicted(np.array(known), own)
    back = math.exp if relative else float
    distance = value - expected
    p = p_beyond(distance, stderr, bound, freedom)
    return Level(back(expected), back(expected - bound), back(expected + bound), distance, stderr, p, len(known))


def _predicted(known: np.ndarray, own: float) -> tuple[float, float, float]:
    """Where a new day of standard error `own` is expected, with what standard error, of how many degrees of freedom."""
    values, variance = known[:, 0], known[:, 1] ** 2
    days = len(values)
    if variance.min() > 0:
        weight = 1 / variance
        mean = float(weight @ values / weight.sum())
        excess = float(weight @ (values - mean) ** 2) - (days - 1)
        between = max(0.0, excess / float(weight.sum() - (weight @ weight) / weight.sum()))
    else:  # a count has no noise of its own: all that days differ by is the days'
        between = max(0.0, float(values.var(ddof=1)) - float(variance.mean()))
    weight = 1 / np.maximum(variance + between, 1e-300)
    mean = float(weight @ values / weight.sum())
    of_mean = 1 / float(weight.sum())
    total = own**2 + between + of_mean
    freedom = math.inf if not between else (days - 1) * (total / (between + of_mean)) ** 2
    return mean, math.sqrt(total), freedom
