"""Intervals and p-values of a difference that may be read after every day, for as long as anybody likes.

A mixture of normal likelihood ratios (Robbins 1970; Johari et al. 2022, mSPRT) over the effect, whose scale is told
before the start: under no effect it is a nonnegative martingale of the information 1 / stderr², so that it ever reaches
1 / risk has at most probability `risk` (Ville). With an estimated standard error it is an asymptotic confidence
sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, theorem 2.2): right once there are enough users for the
central limit theorem, `compare.LEAST_USERS`, and no exact statement before. What makes it a martingale is that later
looks add to earlier ones: the same users, and whoever joined since.
"""

import math

from models.evaluation.estimate import Estimate, upper_tail


def half_width(stderr: float, scale: float, confidence: float) -> float:
    """How far an interval that holds at all looks at once reaches to either side of the difference.

    `scale` > 0 is the size of an effect worth finding, in the metric's units: near it the interval is tightest, and
    whatever it is, the confidence holds. Raises ValueError for a scale that is not above 0.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"needs a scale above 0, the effect worth finding; found {scale}")
    risk = 2 * (1 - upper_tail(confidence))
    seen, expected = stderr**2, scale**2
    if not seen:
        return 0.0
    return math.sqrt(seen * (seen + expected) / expected * (math.log1p(expected / seen) - 2 * math.log(risk)))


def evidence(value: float, stderr: float, scale: float) -> float:
    """The mixture's likelihood ratio of an effect against none, at this look: an e-value, mean at most 1 under none."""
    seen, expected = stderr**2, scale**2
    if not seen:
        return 1.0
    power = value**2 * expected / (2 * seen * (seen + expected)) - 0.5 * math.log1p(expected / seen)
    return math.exp(min(power, 700.0))


def at_any_look(difference: Estimate, scale: float, confidence: float) -> tuple[float, float]:
    """The limits of the difference; over all looks together they miss the truth in at most 1 - confidence of tests."""
    reach = half_width(difference.stderr, scale, confidence)
    return difference.value - reach, difference.value + reach
