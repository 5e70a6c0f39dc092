"""Limits of a sum of users' figures over another, where a few users weigh much or figures have a long tail.

The usual ones, value +- t x stderr by the delta method, miss too often there. They take the ratio for known while they
tell its error: a user with much of the denominator draws the ratio near the own one, and little error is left to see.
And they take its error for symmetric, which that of a mean of revenue is not before there are thousands of users.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from models.evaluation.estimate import upper_tail
from models.evaluation.sufficient import unskewed_interval

Floats = NDArray[np.float64]


def of_rate(numerators: Floats, denominators: Floats, freedom: float, confidence: float) -> tuple[float, float]:
    """All ratios R at which Student's test does not tell the mean of numerators - R x denominators from none.

    (n,) of n >= 2 users, `denominators` at least 0 and their sum above (Fieller 1954, J. R. Stat. Soc. B 16, 175-185).
    Where users weigh alike it is value +- t x stderr; infinite limits where so few weigh so much that no ratio is too
    far away.
    """
    y, x = np.asarray(numerators, float), np.asarray(denominators, float)
    n, total = len(y), float(x.sum())
    value = float(y.sum()) / total
    weight, error = x / total, (y - value * x) / total
    # As a bound of T² over squares about none, where Student's t² has them about their mean.
    square = float(stdtrit(freedom, upper_tail(confidence))) ** 2
    bound = square * n / (n - 1 + square)
    bend, tilt = 1 - bound * float(weight @ weight), bound * float(weight @ error)
    if bend <= 0:
        return -math.inf, math.inf
    reach = math.sqrt(tilt**2 + bend * bound * float(error @ error))
    return value - (reach + tilt) / bend, value + (reach - tilt) / bend


def of_level(numerators: Floats, denominators: Floats, confidence: float) -> tuple[float, float]:
    """Of a figure of one arm: a mean per user, where denominators are all alike, or a rate, as `of_rate`.

    Of a mean the skewness is taken out (Hall 1992, J. R. Stat. Soc. B 54, 221-228); of a rate it is that of users'
    weights, which are no chance. Both have the degrees of freedom that the kurtosis of users leaves of n - 1
    (Satterthwaite 1946, Biometrics Bulletin 2, 110-114): a few that are large tell little of a variance.
    """
    y, x = np.asarray(numerators, float), np.asarray(denominators, float)
    n, value = len(y), float(y.sum() / x.sum())
    error = y - value * x
    size = float(np.abs(error).max())
    if not size:
        return value, value
    second, third, fourth = (float(((error / size) ** power).sum()) for power in (2, 3, 4))
    kurtosis = n * fourth / second**2
    freedom = min(n - 1.0, 2 * n / (kurtosis - 1)) if kurtosis > 1 else n - 1.0
    if (x != x[0]).any():
        return of_rate(y, x, freedom, confidence)
    stderr = size * math.sqrt(second * n / (n - 1)) / float(x.sum())
    return unskewed_interval(value, stderr, third / second**1.5, float(stdtrit(freedom, upper_tail(confidence))))
