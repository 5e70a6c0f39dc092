"""Whether a predicted probability means what it says: reliability per bin, and the expected calibration error (ECE).

A binned error is never zero: a bin's click rate strays from its mean prediction by chance even for a perfect model. So
the plain ECE is biased upwards, the more the smaller the log; `calibration_error` takes that part off.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from models.evaluation.estimate import Estimate, Finding, Refusal, upper_tail
from models.evaluation.linear import Linear
from models.evaluation.ranking import checked, interval
from models.probabilities import at_most_one
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bins = Literal["mass", "width"]


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
    z = float(norm.ppf(upper_tail(confidence)))
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
    """What `ece` would be in the mean for clicks that follow `scores` exactly, rows independent; NaN of no rows."""
    scores = np.asarray(scores, dtype=np.float64)
    _, scores = _checked(np.zeros(len(scores)), scores)
    if not len(scores):
        return float("nan")
    bin_of = _bins(scores, kind, bins)
    spread = np.sqrt(np.bincount(bin_of, weights=scores * (1 - scores)))
    return float(np.sqrt(2 / np.pi) * spread.sum() / len(scores))


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
    another. Their weighted mean is cut at 0 before the root. The interval is analytic: normal on the squared scale,
    with variance sum share^2 (4 distance^2 s^2 + 2 s^4), then rooted. Refused without rows, with scores that are not
    finite, or with fewer than two users.
    """
    labels, scores, refusal = checked(labels, scores)
    if refusal:
        return refusal
    labels, scores = _checked(labels, scores)
    n = len(labels)
    users = np.arange(n) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    if len(users) != n:
        raise ValueError(f"clusters need one entry per row; found {len(users)} for {n} rows")
    if users.max() == users.min():
        return Refusal("an interval needs at least 2 users; found 1", n)
    b = _Binned.of(labels, scores, kind, bins, users)
    square = float((b.share * (b.distance**2 - b.variance)).sum())
    true_square = np.maximum(0.0, b.distance**2 - b.variance)
    spread = float(np.sqrt((b.share**2 * (4 * true_square * b.variance + 2 * b.variance**2)).sum()))
    z = float(norm.ppf(upper_tail(settings.confidence)))
    value, low, high = (float(np.sqrt(max(0.0, square + reach * spread))) for reach in (0.0, -z, z))
    return Estimate(value, (high - low) / (2 * z), low, high, n, float(n))


@dataclass(frozen=True)
class _Binned:
    """Per non-empty bin: its share of the rows, click rate minus mean prediction, and the variance of that."""

    share: Floats
    distance: Floats
    variance: Floats

    @classmethod
    def of(cls, labels: Floats, scores: Floats, kind: Bins, bins: int, users: Ints) -> "_Binned":
        _, at = np.unique(_bins(scores, kind, bins), return_inverse=True)
        n = np.bincount(at).astype(np.float64)
        distance = np.bincount(at, weights=labels - scores) / n
        pair, member = np.unique(at * (users.max() + 1) + users, return_inverse=True)
        sums = np.bincount(member, weights=labels - scores - distance[at])
        of_bin = pair // (users.max() + 1)
        people = np.bincount(of_bin)
        variance = np.bincount(of_bin, weights=sums**2) / n**2 * people / np.maximum(people - 1, 1)
        # A bin where all did alike shows no variance: there the predictions' own stands in.
        alike = (people < 2) | (np.bincount(at, weights=labels) == 0)
        predicted = np.bincount(at, weights=scores * (1 - scores)) / n**2
        return cls(n / len(labels), distance, np.where(alike, predicted, variance))


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
