"""What a model's own probabilities promise of a day, before any label is in; and by how much the labels fell short.

Confidence-based performance estimation: if every predicted probability is right, P(click | p) = p, then the expected
AUC, log-loss and click rate follow from the predictions alone. The assumption is that of no concept drift: a model that
has grown stale promises as much as before, so the promise by itself raises no alarm. Labels that fall short of it do.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Finding
from models.evaluation.linear import Linear
from models.evaluation.ranking import CERTAIN, auc_influence, by_row, checked, row_losses

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Expected:
    """What predictions promise, intervals by user: over which users come, not over whether the promise holds."""

    auc: Finding
    log_loss: Finding
    click_rate: Finding


def expected(
    p_click: Floats, confidence: float, clusters: Ints | None = None, scores: Floats | None = None
) -> Expected:
    """From predictions (n,) in [0, 1]; `scores` (n,) is what rows are ordered by, by default the predictions.

    Ties in the scores count half, as in `models.evaluation.ranking.auc`: of a ranker of few values all is ties.
    """
    p = np.asarray(p_click, dtype=np.float64)
    _, p, refusal = checked(np.zeros(len(p)), p)
    if refusal:
        return Expected(refusal, refusal, refusal)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"predictions in [0, 1] are needed; found {p.min()} to {p.max()}")
    users = by_row(clusters, len(p))
    sure = np.clip(p, CERTAIN, 1 - CERTAIN)
    losses = -(p * np.log(sure) + (1 - p) * np.log1p(-sure))
    return Expected(
        expected_auc(p, p if scores is None else scores).estimate(confidence, users, (0.0, 1.0)),
        Linear.mean(losses).estimate(confidence, users),
        Linear.mean(p).estimate(confidence, users, (0.0, 1.0)),
    )


def expected_auc(p: Floats, scores: Floats) -> Linear:
    """E[clicked pairs in order] / E[pairs], labels independent and right: each row is clicked by p, not clicked by 1-p.

    A row is no pair with itself. Of n rows it is the expected AUC up to O(1/n).
    """
    _, at = np.unique(scores, return_inverse=True)
    clicked, other = np.bincount(at, weights=p), np.bincount(at, weights=1 - p)
    positive, negative, itself = float(p.sum()), float((1 - p).sum()), float((p * (1 - p)).sum())
    below = (np.cumsum(other) - other / 2)[at]
    above = (positive - np.cumsum(clicked) + clicked / 2)[at]
    pairs = positive * negative - itself
    if pairs <= 0:
        return Linear(float("nan"), np.zeros(0), np.zeros(0, np.int64), "an expected AUC needs both classes possible")
    value = (float(p @ below) - itself / 2) / pairs
    right = p * below + (1 - p) * above - p * (1 - p)
    of_pairs = p * negative + (1 - p) * positive - 2 * p * (1 - p)
    return Linear(value, (right - value * of_pairs) / pairs, np.arange(len(p)))


def shortfall(
    labels: Floats, p_click: Floats, confidence: float, clusters: Ints | None = None, scores: Floats | None = None
) -> dict[str, Finding]:
    """AUC and log-loss as they came, less what was promised of the same rows: 0 where the probabilities are right.

    Paired by row, so what the day's rows are like cancels; refused as `models.evaluation.ranking.auc`.
    """
    labels, p, refusal = checked(labels, p_click, both_classes=True)
    if refusal:
        return {"auc": refusal, "log_loss": refusal}
    users, by = by_row(clusters, len(p)), p if scores is None else np.asarray(scores, dtype=np.float64)
    sure = np.clip(p, CERTAIN, 1 - CERTAIN)
    promised = -(p * np.log(sure) + (1 - p) * np.log1p(-sure))
    return {
        "auc": (auc_influence(labels, by) - expected_auc(p, by)).estimate(confidence, users),
        "log_loss": Linear.mean(row_losses(labels, p) - promised).estimate(confidence, users),
    }
