"""Limits of a sum of users' figures over another, where a few users weigh much or figures have a long tail.

The usual ones, value +- t x stderr by the delta method, miss too often there. They take the ratio for known while they
tell its error: a user with much of the denominator draws the ratio near the own one, and little error is left to see.
They take the variance for known as well as many like users tell it, which a few who are most of it do not. And they
take an arm's error for symmetric, which that of a mean of revenue is not before there are thousands of users; of the
difference of two arms it nearly is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    weights, which are no chance. Both have the degrees of freedom of `spread`.
    """
    y, x = np.asarray(numerators, float), np.asarray(denominators, float)
    n, value = len(y), float(y.sum() / x.sum())
    error = y - value * x
    size = float(np.abs(error).max())
    if not size:
        return value, value
    found = spread([error / size])
    if (x != x[0]).any():
        return of_rate(y, x, found.freedom, confidence)
    second, third = (float(((error / size) ** power).sum()) for power in (2, 3))
    stderr = size * n * found.stderr / float(x.sum())
    return unskewed_interval(value, stderr, third / second**1.5, float(stdtrit(found.freedom, upper_tail(confidence))))


@dataclass(frozen=True)
class Spread:
    """What users' errors say of the error of their mean, or of a sum of such means."""

    stderr: float
    freedom: float
    """Student's degrees, as users' kurtosis leaves them."""
    usual: float
    """As normal users would leave them: Welch's, or n - 1."""

    def reach(self, confidence: float) -> float:
        """How far limits are from the value."""
        return float(stdtrit(self.freedom, upper_tail(confidence))) * self.stderr if self.stderr else 0.0

    def told(self, confidence: float) -> float:
        """The standard error that limits are the usual quantile times of: read at any look, it holds what few tell."""
        return self.reach(confidence) / float(stdtrit(self.usual, upper_tail(confidence))) if self.stderr else 0.0


def spread(arms: Sequence[Floats]) -> Spread:
    """Of arms of independent users, (n,) errors each, n >= 2, whose means' errors add up.

    The variance of n users has min(n - 1, 2 n / (kurtosis - 1)) degrees of freedom (Satterthwaite 1946, Biometrics
    Bulletin 2, 110-114): a few that are large tell little of it. The kurtosis is that of all arms' users, each arm's of
    deviation one: a small arm seldom has those few, and would not know of them.
    """
    centred = [np.asarray(arm, float) - np.mean(arm) for arm in arms]
    sizes = [float(np.abs(arm).max()) for arm in centred]
    told = [(arm / size, size) for arm, size in zip(centred, sizes, strict=True) if size]
    if not told:
        return Spread(0.0, math.inf, math.inf)
    variances = np.array([size**2 * float(arm @ arm) / (len(arm) * (len(arm) - 1)) for arm, size in told])
    users = np.array([len(arm) for arm, _ in told], float)
    fourths = [len(arm) ** 2 * float((arm**4).sum()) / float(arm @ arm) ** 2 for arm, _ in told]
    kurtosis = sum(fourths) / users.sum()
    degrees = np.minimum(users - 1, np.maximum(1.0, 2 * users / (kurtosis - 1))) if kurtosis > 1 else users - 1
    share = variances / variances.sum()
    freedom, usual = (float(1 / (share**2 / of).sum()) for of in (degrees, users - 1))
    return Spread(math.sqrt(float(variances.sum())), freedom, usual)


def told_by_others(errors: Floats, leverage: Floats) -> Floats:
    """Each user's error (n,) from a ratio, or line, fitted without the user, who draws it near by a leverage in [0, 1].

    The jackknife's, as HC3 has it (MacKinnon & White 1985, J. Econometrics 29, 305-325). Of leverage 1 / n, which each
    of like users has in a mean, n - 1 in the variance knows.
    """
    n = len(errors)
    found: Floats = errors / np.maximum(1 + 1 / n - leverage, 1 / n)
    return found
