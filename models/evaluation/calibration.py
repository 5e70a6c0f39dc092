"""Calibration of predicted probabilities: reliability per bin, and the expected calibration error (ECE).

A binned error is never zero: even for a perfect model, a bin's click rate differs from its mean prediction by chance.
So the plain ECE is biased upwards, more so for smaller logs; `calibration_error` subtracts that part.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.special import gammaincinv, ndtri

from models.evaluation.estimate import Estimate, Finding, Refusal, upper_tail
from models.evaluation.linear import Linear
from models.evaluation.moments import powers
from models.evaluation.ranking import by_row, checked, interval
from models.evaluation.sufficient import Influence
from models.probabilities import at_most_one
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bins = Literal["mass", "width"]
NORMAL = 1e10
"""A gamma distribution of at least this shape is normal to within float precision."""


@dataclass(frozen=True)
class Reliability:
    """One bin: the mean prediction, the click rate with its Wilson interval, and the rows in it."""

    predicted: float
    observed: float
    low: float
    high: float
    n: int


def reliability(
    labels: Floats, scores: Floats, *, kind: Bins = "mass", bins: int = 15, confidence: float = 0.95
) -> list[Reliability]:
    """The non-empty bins by ascending prediction; what a reliability diagram draws.

    `labels`: (n,) 0.0 or 1.0. `scores`: (n,) in [0, 1]. `mass` bins hold equally many rows, tied scores together;
    `width` bins are equally wide. The interval is Wilson's (1927) and takes rows as independent: it is for the eye.
    Raises ValueError for scores outside [0, 1], other labels, or fewer than 1 bin.
    """
    labels, scores = _checked(labels, scores)
    z = float(ndtri(upper_tail(confidence)))
    bin_of = _bins(scores, kind, bins)
    n, clicks, predicted = (np.bincount(bin_of, weights=w) for w in (np.ones(len(labels)), labels, scores))
    found = []
    for at in np.flatnonzero(n):
        rate, count = clicks[at] / n[at], n[at]
        centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
        reach = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
        low, high = max(0.0, float(centre - reach)), min(1.0, float(centre + reach))
        found.append(Reliability(float(predicted[at] / count), float(rate), low, high, int(count)))
    return found


def ece(
    labels: Floats,
    scores: Floats,
    *,
    kind: Bins = "mass",
    bins: int = 15,
    settings: GateSettings,
    clusters: Ints | None = None,
) -> Finding:
    """The usual ECE, the rows' mean |click rate - mean prediction| of their bin (Naeini, Cooper & Hauskrecht 2015).

    Arguments as for `calibration_error`. Biased upwards, by `ece_by_chance` for a perfect model: it is for comparison
    with other tools, `calibration_error` is for deciding. The interval is analytic (each row moves the figure by its
    own distance, with its bin's sign) and holds the biased figure, bins and their signs taken as given. Refused as
    `calibration_error`.
    """
    labels, scores, refusal = checked(labels, scores)
    if refusal:
        return refusal
    labels, scores = _checked(labels, scores)
    bin_of = _bins(scores, kind, bins)
    sign = np.sign(np.bincount(bin_of, weights=labels - scores))
    return interval(Linear.mean(sign[bin_of] * (labels - scores)), settings, clusters, (0.0, 1.0))


def ece_by_chance(scores: Floats, *, kind: Bins = "mass", bins: int = 15) -> float:
    """The expected `ece` of clicks that follow `scores` exactly, rows independent; NaN without rows."""
    scores = np.asarray(scores, dtype=np.float64)
    _, scores = _checked(np.zeros(len(scores)), scores)
    if not len(scores):
        return float("nan")
    bin_of = _bins(scores, kind, bins)
    spread = np.sqrt(np.bincount(bin_of, weights=scores * (1 - scores)))
    return float(np.sqrt(2 / np.pi) * spread.sum() / len(scores))


def calibration_ratio(
    labels: Floats, scores: Floats, *, settings: GateSettings, clusters: Ints | None = None
) -> Finding:
    """Predicted clicks over observed clicks, sum p / sum y: 1.0 if the level is right, 3.0 for three times too many.

    Arguments as for `calibration_error`. The interval is analytic over users (delta method), even on the log scale.
    Refused without clicks, with scores that are not finite, and with fewer than two users.
    """
    labels, scores, refusal = checked(labels, scores)
    if refusal:
        return refusal
    labels, scores = _checked(labels, scores)
    n, clicks, predicted = len(labels), float(labels.sum()), float(scores.sum())
    if not clicks:
        return Refusal(
            f"a calibration ratio needs clicks; found none of {n} rows, where {predicted:.1f} were predicted", n
        )
    ratio = predicted / clicks
    found = Linear(ratio, (scores - ratio * labels) / clicks, np.arange(n))
    return found.factor(settings.confidence, by_row(clusters, n))


def calibration_error(
    labels: Floats,
    scores: Floats,
    *,
    kind: Bins = "mass",
    bins: int = 15,
    settings: GateSettings,
    clusters: Ints | None = None,
) -> Finding:
    """The debiased root mean square, over rows, of the distance between their bin's click rate and mean prediction.

    Arguments as for `reliability` and `ranking.auc`. Each bin's squared distance, less the variance of that distance,
    is unbiased (Kumar, Liang & Ma 2019, section 4); the variance is taken over users, whose clicks resemble one
    another and fall into several bins. Their weighted mean is cut at 0 before the root. The interval inverts the
    distribution of the mean square, see `_Square`; in [0, 1], it holds a true 0 with more than its confidence. Refused
    without rows, with scores that are not finite, or with fewer than two users.
    """
    labels, scores, refusal = checked(labels, scores)
    if refusal:
        return refusal
    labels, scores = _checked(labels, scores)
    n = len(labels)
    users = np.unique(by_row(clusters, n), return_inverse=True)[1]
    if users.max() == users.min():
        return Refusal("an interval needs at least 2 users; found 1", n)
    square = _Square.of(labels, scores, _bins(scores, kind, bins), users)
    low, high = square.interval(settings.confidence)
    value, low, high = (float(np.sqrt(max(0.0, x))) for x in (square.debiased, low, high))
    z = float(ndtri(upper_tail(settings.confidence)))
    return Estimate(value, (high - low) / (2 * z), min(low, value), max(high, value), n, float(n))


@dataclass(frozen=True)
class _Square:
    """The observed mean square of the bins' distances: a quadratic form in k normal distances.

    `noise` (k, k): the distances' covariance over users, each times the square root of its bin's share. `along`: the
    noise along the true distances. `linear`: the users' first-order influence on `found`, about 0; rows that move
    between bins are included.
    """

    found: float
    noise: Floats
    along: float
    linear: Influence

    @classmethod
    def of(cls, labels: Floats, scores: Floats, bin_of: Ints, users: Ints) -> "_Square":
        """All (n,); users are numbered from 0, without a gap."""
        _, at = np.unique(bin_of, return_inverse=True)
        n, rows = len(labels), np.bincount(at).astype(np.float64)
        apart, root = labels - scores, np.sqrt(rows / n)
        distance = np.bincount(at, weights=apart) / rows
        found = float((root**2 * distance**2).sum())
        by_user = csr_array(((apart - distance[at]) / (n * root[at]), (users, at)))
        people = np.bincount(by_user.indices)
        few = np.sqrt(people / np.maximum(people - 1, 1))
        noise = (by_user.T @ by_user).toarray() * np.outer(few, few)
        # A bin where all did alike shows no variance: there the predictions' own stands in.
        alike = np.flatnonzero((people < 2) | np.isin(np.bincount(at, weights=labels) / rows, (0.0, 1.0)))
        noise[alike, alike] = (np.bincount(at, weights=scores * (1 - scores)) / rows)[alike] / n
        moved = 2 * (by_user @ (root * distance)) + np.bincount(users, weights=(distance**2)[at] - found) / n
        linear = Influence(0.0, len(moved), n, float(n), *powers(moved))
        # Which way the true distances point is hardly known: as those found, or in proportion to the predictions.
        usual = root * np.bincount(at, weights=scores) / rows
        usual /= np.linalg.norm(usual) or 1.0
        along = max(float(usual @ noise @ usual), linear.stderr**2 / (4 * found) if found else 0.0)
        return cls(found, noise, along, linear)

    @property
    def debiased(self) -> float:
        """Without the expected noise; below 0 if the distances are smaller than noise alone would make them."""
        return self.found - float(np.trace(self.noise))

    def interval(self, confidence: float) -> tuple[float, float]:
        """The true mean squares, in [0, 1], under which `found` is just not too large, and just not too small.

        Noise counts more if few users estimate it, and on the side to which `linear` is skewed. A `found` below the
        expected noise is raised to it: no sample shows that nothing is wrong.
        """
        below, error, few = upper_tail(confidence), self.linear.stderr, self.linear.quantile(confidence)
        reach = [max(few, abs(end) / error) if error else ndtri(below) for end in self.linear.interval(confidence)]
        down, up = (float(far / ndtri(below)) ** 2 for far in reach)
        usual = max(self.found, float(np.trace(self.noise)))
        return self._true(self.found, below, down), self._true(usual, 1 - below, up)

    def _true(self, found: float, probability: float, more: float) -> float:
        """The mean square in [0, 1] that makes `found` that quantile, noise counting `more`; 0 if none does.

        The distribution is Pearson's of type III with the first three cumulants of a quadratic form (Imhof 1961).
        """
        if not found:
            return 0.0
        mean, noise, along = np.trace(self.noise) / found, more * self.noise / found, more * self.along / found
        square = noise @ noise
        of_noise = 2 * float(np.trace(square)), 8 * float((square * noise).sum())

        def missed(true: float) -> float:
            second, third = of_noise[0] + 4 * true * along, of_noise[1] + 24 * true * along**2
            return float(true + mean + _third_type(probability, second, third) - 1)

        high = 1.0
        while missed(high) < 0 and high * found < 1:
            high *= 2
        if missed(0.0) >= 0 or missed(high) < 0:
            return 0.0 if missed(0.0) >= 0 else 1.0
        return min(1.0, found * float(brentq(missed, 0.0, high)))


def _third_type(probability: float, second: float, third: float) -> float:
    """The quantile of a gamma distribution moved to mean 0, by its second and third cumulant."""
    shape = min(NORMAL, 4 * second**3 / third**2) if third**2 else NORMAL
    return float(np.sqrt(second / shape) * (gammaincinv(shape, probability) - shape))


def _bins(scores: Floats, kind: Bins, bins: int) -> Ints:
    """(n,) the bin of each score."""
    if bins < 1:
        raise ValueError(f"calibration needs at least 1 bin; found {bins}")
    if kind == "width":
        return np.minimum((scores * bins).astype(np.int64), bins - 1)
    if kind != "mass":
        raise ValueError(f"bins need to be of equal mass or width; found {kind!r}")
    values, at, counts = np.unique(scores, return_inverse=True, return_counts=True)
    if not len(values):
        return np.zeros(0, np.int64)
    # A value belongs to the bin its middle row falls into, so that ties stay together.
    middle = np.cumsum(counts) - (counts + 1) / 2
    found: Ints = np.minimum((middle * bins / len(scores)).astype(np.int64), bins - 1)[at]
    return found


def _checked(labels: Floats, scores: Floats) -> tuple[Floats, Floats]:
    labels, scores, refusal = checked(labels, at_most_one(scores))
    if (refusal and len(labels)) or ((scores < 0) | (scores > 1)).any():
        raise ValueError(f"calibration needs finite scores in [0, 1]; found {scores.min()} to {scores.max()}")
    return labels, scores
