"""What an experiment can find before it starts, and how much longer it must run for it once it does."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from models.evaluation.estimate import Estimate, upper_tail
from models.evaluation.power import POWER
from models.experiments.sequences import half_width

LONGEST_TIMES = 1e6
"""Nothing so many times as long is worth a number."""


def detectable(stderr: float, confidence: float, power: float = POWER, *, scale: float | None = None) -> float:
    """The least true difference, in the metric's units, that an error this large shows with `power`.

    Of one look at the end; with `scale`, of a look that is one of many (`sequences.half_width`).
    """
    normal = NormalDist()
    reach = normal.inv_cdf(upper_tail(confidence)) * stderr if scale is None else half_width(stderr, scale, confidence)
    return reach + normal.inv_cdf(power) * stderr


def power_of(effect: float, stderr: float, confidence: float, *, scale: float | None = None) -> float:
    """How often a true difference is shown, on its own side of zero; in [0, 1]."""
    normal = NormalDist()
    reach = normal.inv_cdf(upper_tail(confidence)) * stderr if scale is None else half_width(stderr, scale, confidence)
    return normal.cdf((abs(effect) - reach) / stderr)


@dataclass(frozen=True)
class Design:
    """An experiment not yet begun: a user's figure, and how users are divided."""

    mean: float
    deviation: float
    """Of a user's (linearised) figure over the whole time, as past days show it."""
    shares: tuple[float, float]
    """Of all users, those in control and in the treated arm."""

    def stderr(self, users: float) -> float:
        """Of the difference once so many users have come in all."""
        return self.deviation * math.sqrt(sum(1 / (share * users) for share in self.shares))

    def users_needed(self, lift: float, confidence: float, power: float = POWER, *, sequential: bool = True) -> float:
        """Users in all, both arms and none, to show a relative lift; infinite for a mean of 0."""
        effect = abs(lift * self.mean)
        if not effect:
            return math.inf
        unit = self.stderr(1.0)
        return least_times(unit, effect, confidence, power, scale=effect if sequential else None)


def least_times(
    stderr: float, effect: float, confidence: float, power: float = POWER, *, scale: float | None = None
) -> float:
    """How many times as much data shows `effect` > 0 with `power`, errors falling as its root; infinite past reason."""
    low, high = 1e-12, 1.0
    while power_of(effect, stderr / math.sqrt(high), confidence, scale=scale) < power:
        low, high = high, 4 * high
        if high > 1e24:
            return math.inf
    for _ in range(80):
        middle = math.sqrt(low * high)
        short = power_of(effect, stderr / math.sqrt(middle), confidence, scale=scale) < power
        low, high = (middle, high) if short else (low, middle)
    return high


def days_left(difference: Estimate, days: int, effect: float, confidence: float, scale: float) -> float:
    """So many more days of such traffic would show `effect` at any look, given these `days`; 0 where they already do.

    Errors are taken to fall as the root of time, which they do while new users come as before.
    """
    if not effect or not difference.stderr:
        return 0.0
    times = least_times(difference.stderr, effect, confidence, scale=scale)
    return max(0.0, (times - 1) * days) if times < LONGEST_TIMES else math.inf
