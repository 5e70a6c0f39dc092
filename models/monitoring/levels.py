"""A figure of a day against the same figure of the days before, with the noise that days have of their own.

Days differ by more than their samples: weekdays, campaigns, weather. How much by is read off the days themselves
(DerSimonian & Laird 1986), and a new day is expected where a day like them would fall.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.monitoring.alarms import p_beyond

Floats = NDArray[np.float64]
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
    known = np.array([(one.value, one.stderr, one.n) for one in before if not isinstance(one, Refusal)]).reshape(-1, 3)
    if relative:
        known = known[known[:, 0] > 0]
        if today.value < 0 or not len(known):
            return Refusal("a relative change needs figures above 0", today.n)
    if len(known) < MIN_DAYS:
        return Refusal(f"a level needs at least {MIN_DAYS} days before; found {len(known)}", today.n)
    if relative:
        return _relative(today, known, bound)
    expected, of_days, freedom = _predicted(known[:, 0], known[:, 1])
    distance, stderr = today.value - expected, math.hypot(today.stderr, of_days)
    p = p_beyond(distance, stderr, bound, freedom * (stderr / of_days) ** 4 if of_days else math.inf)
    return Level(expected, expected - bound, expected + bound, distance, stderr, p, len(known))


def _relative(today: Estimate, known: Floats, bound: float) -> Level:
    """On the log scale, the day's own noise being that of a day at the bound: a day of few says little of its noise.

    A rate's variance goes with the rate, so a day is worth a count of value² / variance. The p-value is not below that
    of a Poisson count either: of few, the logarithm is far from normal.
    """
    value, stderr, n = known.T
    expected, of_days, freedom = _predicted(np.log(value), stderr / value)
    noise = float((stderr**2 * n).sum() / value.sum())  # n x variance / rate: 1 of rare independent events
    # A day of nothing is further off than any bound; half an event is what a logarithm can be taken of.
    seen = max(today.value, 0.5 * max(noise, 1.0) / max(1, today.n))
    distance = math.log(seen) - expected
    edge = math.exp(expected + math.copysign(bound, distance))
    count = edge * today.n / noise if noise else math.inf
    total = math.hypot(1 / math.sqrt(count) if noise else today.stderr / seen, of_days)
    p = p_beyond(distance, total, bound, freedom * (total / of_days) ** 4 if of_days else math.inf)
    if noise and abs(distance) > bound:
        found = today.value * today.n / noise
        # P(X <= found) and P(X >= found), of counts that need not be whole.
        p = max(p, float(gammaincc(found + 1, count) if distance < 0 else gammainc(max(found, 1e-9), count)))
    low, middle, high = (math.exp(expected + step) for step in (-bound, 0.0, bound))
    return Level(middle, low, high, distance, total, p, len(known))


def _predicted(values: Floats, stderr: Floats) -> tuple[float, float, float]:
    """Where a day is expected, how far days stray from there of their own, and the degrees of freedom behind that."""
    variance, days = stderr**2, len(values)
    if variance.min() > 0:
        weight = 1 / variance
        mean = float(weight @ values / weight.sum())
        excess = float(weight @ (values - mean) ** 2) - (days - 1)
        between = max(0.0, excess / float(weight.sum() - (weight @ weight) / weight.sum()))
    else:  # a count has no noise of its own: all that days differ by is the days'
        between = max(0.0, float(values.var(ddof=1)) - float(variance.mean()))
    weight = 1 / np.maximum(variance + between, 1e-300)
    mean = float(weight @ values / weight.sum())
    freedom = math.inf if not between else float(days - 1)
    return mean, math.sqrt(between + 1 / float(weight.sum())), freedom
