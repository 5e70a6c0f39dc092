"""How well scores tell clicked from unclicked, row by row: AUC, AUC-PR, log-loss, normalised entropy.

Each with an interval by user-clustered bootstrap. `models.evaluation.lists` looks at the order within a request.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Finding, Refusal
from models.evaluation.resampling import Bootstrap
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Curve = Callable[[Floats], float]
"""From row weights (n,) to a figure."""
CERTAIN = 1e-7
"""Probabilities are kept this far from 0 and 1: one wrong certainty must not make the mean infinite."""


def auc(labels: Floats, scores: Floats, *, settings: GateSettings, seed: int, clusters: Ints | None = None) -> Finding:
    """The probability that a clicked row scores above an unclicked one, ties counting half (Hanley & McNeil 1982).

    `labels`: (n,) 0.0 or 1.0. `scores`: (n,), any scale. `clusters`: (n,) whose rows are resampled together, usually
    users; by default every row is its own. Refused when a class is missing or a score is NaN.
    """
    labels, scores, refusal = checked(labels, scores, both_classes=True)
    if refusal:
        return refusal
    bootstrap = bootstrap_of(clusters, len(labels), settings, seed)
    return bootstrap.estimate(*bootstrap.each(weighted_auc(labels, scores)), len(labels), (0.0, 1.0))


def auc_pr(
    labels: Floats, scores: Floats, *, settings: GateSettings, seed: int, clusters: Ints | None = None
) -> Finding:
    """The area under the precision-recall curve as average precision: sum over scores of recall gained x precision.

    Arguments as for `auc`. Step-wise, without linear interpolation, which is too optimistic (Davis & Goadrich 2006);
    tied rows count as one step. A random ranker reaches the click rate, so figures of different days do not compare.
    """
    labels, scores, refusal = checked(labels, scores, both_classes=True)
    if refusal:
        return refusal
    bootstrap = bootstrap_of(clusters, len(labels), settings, seed)
    return bootstrap.estimate(*bootstrap.each(weighted_auc_pr(labels, scores)), len(labels), (0.0, 1.0))


def log_loss(
    labels: Floats, scores: Floats, *, settings: GateSettings, seed: int, clusters: Ints | None = None
) -> Finding:
    """The mean negative log-likelihood in nats, lower is better; arguments as for `auc`, scores in [0, 1].

    Raises ValueError for scores outside [0, 1]; refused when there are no rows or a score is NaN.
    """
    labels, scores, refusal = checked(labels, scores)
    if refusal:
        return refusal
    bootstrap = bootstrap_of(clusters, len(labels), settings, seed)
    return bootstrap.estimate(*bootstrap.ratio(row_losses(labels, scores), np.ones(len(labels))), len(labels))


def normalised_entropy(
    labels: Floats, scores: Floats, *, settings: GateSettings, seed: int, clusters: Ints | None = None
) -> Finding:
    """Log-loss over that of always saying the click rate, 1 = no better than that, lower is better (He et al. 2014).

    Arguments as for `log_loss`. Unlike log-loss it compares across days and surfaces with different click rates.
    Refused when a class is missing: the click rate alone would then be without error.
    """
    labels, scores, refusal = checked(labels, scores, both_classes=True)
    if refusal:
        return refusal
    n = len(labels)
    bootstrap = bootstrap_of(clusters, n, settings, seed)
    loss, losses = bootstrap.ratio(row_losses(labels, scores), np.ones(n))
    rate, rates = bootstrap.ratio(labels, np.ones(n))
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = losses / entropy(rates)
    return bootstrap.estimate(loss / float(entropy(np.array(rate))), draws, n)


def weighted_auc(labels: Floats, scores: Floats) -> Curve:
    """AUC as a function of row weights (n,), the sort done once; NaN where a class has no weight."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    positive = labels[order]

    def curve(weights: Floats) -> float:
        w = weights[order]
        above = np.add.reduceat(w * positive, starts)
        below = np.add.reduceat(w, starts) - above
        pairs = above.sum() * below.sum()
        return float((above * (np.cumsum(below) - below / 2)).sum() / pairs) if pairs else float("nan")

    return curve


def weighted_auc_pr(labels: Floats, scores: Floats) -> Curve:
    """Average precision as a function of row weights (n,), the sort done once; NaN where no click has weight."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    positive = labels[order]

    def curve(weights: Floats) -> float:
        w = weights[order]
        gained, rows = np.add.reduceat(w * positive, starts), np.add.reduceat(w, starts)
        clicks, seen = np.cumsum(gained), np.cumsum(rows)
        precision = np.divide(clicks, seen, out=np.zeros(len(seen)), where=seen > 0)
        return float((gained * precision).sum() / clicks[-1]) if clicks[-1] else float("nan")

    return curve


def entropy(rate: Floats) -> Floats:
    """The log-loss in nats of always predicting `rate`, NaN at 0 and 1."""
    found: Floats = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return found


def row_losses(labels: Floats, scores: Floats) -> Floats:
    """Each row's negative log-likelihood in nats, (n,)."""
    if ((scores < 0) | (scores > 1)).any():
        raise ValueError(f"log-loss needs scores in [0, 1]; found {scores.min()} to {scores.max()}")
    p = np.clip(scores, CERTAIN, 1 - CERTAIN)
    losses: Floats = -np.where(labels > 0, np.log(p), np.log1p(-p))
    return losses


def bootstrap_of(clusters: Ints | None, n: int, settings: GateSettings, seed: int) -> Bootstrap:
    rows = np.arange(n) if clusters is None else clusters
    if len(rows) != n:
        raise ValueError(f"clusters need one entry per row; found {len(rows)} for {n} rows")
    return Bootstrap(rows, settings.bootstrap_replicates, settings.confidence, seed)


def checked(labels: Floats, scores: Floats, *, both_classes: bool = False) -> tuple[Floats, Floats, Refusal | None]:
    """Arrays as float64, and why the data cannot carry a figure; raises ValueError for labels other than 0 and 1."""
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
