"""The statistical power of logs of this size: which lifts they could have shown."""

from statistics import NormalDist

from models.evaluation.estimate import Estimate, upper_tail

POWER = 0.8


def detectable_lift(difference: Estimate, champion: Estimate, confidence: float, power: float = POWER) -> float | None:
    """The smallest true lift, a share of the champion's value, that logs as noisy as these show with `power`.

    (z of the interval at `confidence` + z of `power`) x standard error / champion's value; the error is used as it is,
    whatever was found. None if the champion earns nothing.
    """
    if champion.value <= 0:
        return None
    normal = NormalDist()
    return (normal.inv_cdf(upper_tail(confidence)) + normal.inv_cdf(power)) * difference.stderr / champion.value


def days_needed(detectable: float, days: float, lift: float) -> float:
    """How many days of such logs would show `lift`, if `days` show `detectable`: errors fall with the square root."""
    return days * (detectable / lift) ** 2
