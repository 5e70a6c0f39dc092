"""How well scores tell clicked from unclicked: AUC, log-loss and NDCG, each with a user-clustered interval."""

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
    labels, scores, refusal = _checked(labels, scores, both_classes=True)
    if refusal:
        return refusal
    bootstrap = _bootstrap(clusters, len(labels), settings, seed)
    return bootstrap.estimate(*bootstrap.each(weighted_auc(labels, scores)), len(labels), (0.0, 1.0))


def log_loss(
    labels: Floats, scores: Floats, *, settings: GateSettings, seed: int, clusters: Ints | None = None
) -> Finding:
    """The mean negative log-likelihood in nats, lower is better; arguments as for `auc`, scores in [0, 1].

    Raises ValueError for scores outside [0, 1]; refused when there are no rows or a score is NaN.
    """
    labels, scores, refusal = _checked(labels, scores)
    if refusal:
        return refusal
    bootstrap = _bootstrap(clusters, len(labels), settings, seed)
    return bootstrap.estimate(*bootstrap.ratio(row_losses(labels, scores), np.ones(len(labels))), len(labels))


def ndcg(
    labels: Floats,
    scores: Floats,
    groups: Ints,
    k: int = 10,
    *,
    settings: GateSettings,
    seed: int,
    clusters: Ints | None = None,
) -> Finding:
    """Mean NDCG@k over groups (requests) with a click, in [0, 1]; gain 1 per click (Järvelin & Kekäläinen 2002).

    `groups`: (n,) integers; a group's rows must share one cluster. Tied scores earn the mean over their orders
    (McSherry & Najork 2008), so the order of the rows means nothing. `n` of the result counts the groups used.
    Refused when no group has a click or a score is NaN; raises ValueError for k < 1.
    """
    labels, scores, refusal = _checked(labels, scores)
    if refusal:
        return refusal
    first, gain = group_ndcg(labels, scores, groups, k)
    if not len(first):
        return Refusal(f"NDCG needs at least one group with a click; found none in {len(labels)} rows", len(labels))
    rows = np.arange(len(labels)) if clusters is None else np.asarray(clusters)
    bootstrap = _bootstrap(rows[first], len(first), settings, seed)
    return bootstrap.estimate(*bootstrap.ratio(gain, np.ones(len(first))), len(first), (0.0, 1.0))


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


def row_losses(labels: Floats, scores: Floats) -> Floats:
    """Each row's negative log-likelihood in nats, (n,)."""
    if ((scores < 0) | (scores > 1)).any():
        raise ValueError(f"log-loss needs scores in [0, 1]; found {scores.min()} to {scores.max()}")
    p = np.clip(scores, CERTAIN, 1 - CERTAIN)
    losses: Floats = -np.where(labels > 0, np.log(p), np.log1p(-p))
    return losses


def group_ndcg(labels: Floats, scores: Floats, groups: Ints, k: int) -> tuple[Ints, Floats]:
    """For each group with a click: the number of one of its rows, and its NDCG@k; groups in ascending order."""
    if k < 1:
        raise ValueError(f"NDCG needs k >= 1; found {k}")
    order = np.lexsort((-scores, groups))
    group, score, gain = np.asarray(groups)[order], scores[order], labels[order]
    starts = _run_starts(group[1:] != group[:-1])
    sizes = np.diff(np.append(starts, len(group)))
    place = np.arange(len(group)) - np.repeat(starts, sizes)
    discount = np.where(place < k, 1.0 / np.log2(place + 2.0), 0.0)
    ties = _run_starts((group[1:] != group[:-1]) | (score[1:] != score[:-1]))
    tied = np.diff(np.append(ties, len(group)))
    expected = np.repeat(np.add.reduceat(discount, ties) / tied, tied)
    clicks = np.add.reduceat(gain, starts).astype(np.int64)
    reached = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])
    clicked = clicks > 0
    earned = np.add.reduceat(gain * expected, starts)[clicked]
    return order[starts[clicked]], np.minimum(1.0, earned / reached[np.minimum(clicks[clicked], k)])


def _run_starts(changes: NDArray[np.bool_]) -> Ints:
    """Where runs begin, given whether each element but the first differs from the one before."""
    return np.flatnonzero(np.concatenate([[True], changes]))


def _bootstrap(clusters: Ints | None, n: int, settings: GateSettings, seed: int) -> Bootstrap:
    rows = np.arange(n) if clusters is None else clusters
    if len(rows) != n:
        raise ValueError(f"clusters need one entry per row; found {len(rows)} for {n} rows")
    return Bootstrap(rows, settings.bootstrap_replicates, settings.confidence, seed)


def _checked(labels: Floats, scores: Floats, *, both_classes: bool = False) -> tuple[Floats, Floats, Refusal | None]:
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
