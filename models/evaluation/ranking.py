"""How well scores separate clicked from unclicked rows: AUC, AUC-PR, log-loss, normalised entropy.

Intervals are analytic over users (`models.evaluation.linear`). `models.evaluation.lists` measures the order within a
request.
"""

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Finding, Refusal
from models.evaluation.linear import Linear
from models.probabilities import at_most_one
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CERTAIN = 1e-7
"""Probabilities are clipped this far from 0 and 1: one wrong certainty must not make the mean infinite."""


def auc(labels: Floats, scores: Floats, *, settings: GateSettings, clusters: Ints | None = None) -> Finding:
    """The probability that a clicked row scores above an unclicked one, ties counting half (Hanley & McNeil 1982).

    `labels`: (n,) 0.0 or 1.0. `scores`: (n,), any scale. `clusters`: (n,) whose rows count as one, usually users; by
    default every row is its own. Refused when a class is missing or a score is not finite.
    """
    labels, scores, refusal = checked(labels, scores, both_classes=True)
    return refusal or interval(auc_influence(labels, scores), settings, clusters, (0.0, 1.0))


def auc_pr(labels: Floats, scores: Floats, *, settings: GateSettings, clusters: Ints | None = None) -> Finding:
    """The area under the precision-recall curve as average precision: sum over scores of recall gained x precision.

    Arguments as for `auc`. Step-wise, without linear interpolation, which is too optimistic (Davis & Goadrich 2006);
    tied rows count as one step. A random ranker reaches the click rate, so figures of different days are not
    comparable. A clicked row is part of its own precision, so few clicks bias it upwards: by about 0.02 with 50 clicks.
    """
    labels, scores, refusal = checked(labels, scores, both_classes=True)
    if refusal:
        return refusal
    found, users = auc_pr_influence(labels, scores), by_row(clusters, len(labels))
    return found.share(settings.confidence, users)


def log_loss(labels: Floats, scores: Floats, *, settings: GateSettings, clusters: Ints | None = None) -> Finding:
    """The mean negative log-likelihood in nats, lower is better; arguments as for `auc`, scores in [0, 1].

    Raises ValueError for scores outside [0, 1]; refused when there are no rows or a score is not finite.
    """
    labels, scores, refusal = checked(labels, scores)
    return refusal or interval(Linear.mean(row_losses(labels, scores)), settings, clusters, None)


def normalised_entropy(
    labels: Floats, scores: Floats, *, settings: GateSettings, clusters: Ints | None = None
) -> Finding:
    """Log-loss over that of always predicting the click rate; 1 is no better, lower is better (He et al. 2014).

    Arguments as for `log_loss`. Unlike log-loss it is comparable across days and surfaces with different click rates.
    Refused when a class is missing: the click rate alone would then have no loss.
    """
    labels, scores, refusal = checked(labels, scores, both_classes=True)
    return refusal or interval(normalised(labels, row_losses(labels, scores)), settings, clusters, None)


def auc_influence(labels: Floats, scores: Floats) -> Linear:
    """AUC, and each row's influence: how often it is ordered correctly against the other class (DeLong et al. 1988)."""
    values, at = np.unique(scores, return_inverse=True)
    clicked, other = (np.bincount(at, weights=w, minlength=len(values)) for w in (labels, 1 - labels))
    positive, negative = clicked.sum(), other.sum()
    below = (np.cumsum(other) - other / 2) / negative
    above = (positive - np.cumsum(clicked) + clicked / 2) / positive
    right = np.where(labels > 0, below[at], above[at])
    value = float(right[labels > 0].mean())
    return Linear(value, (right - value) / np.where(labels > 0, positive, negative), np.arange(len(labels)))


def auc_pr_influence(labels: Floats, scores: Floats) -> Linear:
    """Average precision, and each row's influence: its own precision, and its effect on that of all rows below it.

    It is the derivative by the row's weight.
    """
    _, at = np.unique(-scores, return_inverse=True)
    gained, rows = np.bincount(at, weights=labels), np.bincount(at)
    seen, clicks = np.cumsum(rows), float(labels.sum())
    precision = np.cumsum(gained) / seen
    value = float(gained @ precision) / clicks
    # Steps at or below a row see it: a click there lifts their precision, any row dilutes it.
    lifted, diluted = (np.cumsum(step[::-1])[::-1] for step in (gained / seen, gained / seen * precision))
    influence = labels * (precision[at] - value + lifted[at]) - diluted[at]
    return Linear(value, influence / clicks, np.arange(len(labels)))


def normalised(labels: Floats, losses: Floats) -> Linear:
    """Mean loss over the entropy of the click rate, with the influence of the rows on both."""
    n, rate, loss = len(labels), float(labels.mean()), float(losses.mean())
    scale = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    slope = np.log1p(-rate) - np.log(rate)  # of the entropy, by the rate
    influence = ((losses - loss) - loss / scale * slope * (labels - rate)) / scale
    return Linear(float(loss / scale), influence / n, np.arange(n))


def row_losses(labels: Floats, scores: Floats) -> Floats:
    """Each row's negative log-likelihood in nats, (n,)."""
    scores = at_most_one(scores)
    if ((scores < 0) | (scores > 1)).any():
        raise ValueError(f"log-loss needs scores in [0, 1]; found {scores.min()} to {scores.max()}")
    p = np.clip(scores, CERTAIN, 1 - CERTAIN)
    losses: Floats = -np.where(labels > 0, np.log(p), np.log1p(-p))
    return losses


def interval(
    found: Linear, settings: GateSettings, clusters: Ints | None, bounds: tuple[float, float] | None
) -> Finding:
    """`found.estimate` of a figure of all rows; raises ValueError unless `clusters` (n,) has one entry for each."""
    return found.estimate(settings.confidence, by_row(clusters, len(found.rows)), bounds)


def by_row(clusters: Ints | None, n: int) -> Ints:
    """(n,) the cluster of each row, by default its own; raises ValueError unless there is one for each."""
    rows = np.arange(n) if clusters is None else np.asarray(clusters)
    if len(rows) != n:
        raise ValueError(f"clusters need one entry per row; found {len(rows)} for {n} rows")
    return rows


def checked(labels: Floats, scores: Floats, *, both_classes: bool = False) -> tuple[Floats, Floats, Refusal | None]:
    """Arrays as float64, and why the data support no figure, if so; raises ValueError for labels other than 0 and 1."""
    labels, scores = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(f"a metric needs labels and scores of one length; found {labels.shape} and {scores.shape}")
    if not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError("a metric needs labels that are 0 or 1 (drop rows whose label is unknown); found others")
    n, positive, missing = len(labels), int(labels.sum()), int((~np.isfinite(scores)).sum())
    refusal = None
    if not n:
        refusal = Refusal("a metric needs rows; found none")
    elif missing:
        refusal = Refusal(f"a metric needs finite scores; found {missing} of {n} that are not", n)
    elif both_classes and positive in (0, n):
        refusal = Refusal(f"AUC needs clicked and unclicked rows; found {positive} clicked of {n}", n)
    return labels, scores, refusal
