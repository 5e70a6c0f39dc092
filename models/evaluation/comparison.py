"""Champion and challenger on the same rows with the same resamples, so that their difference is paired."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Finding, Refusal
from models.evaluation.lists import of_requests
from models.evaluation.ranking import row_losses, weighted_auc
from models.evaluation.resampling import Bootstrap
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
METRICS = ("auc", "log_loss", "ndcg_at_10")
SIDES = ("champion", "challenger", "difference")
Figures = Callable[[Floats], tuple[float, Floats]]
"""From a ranker's scores to a figure and the same in every resample."""


def compare(
    clicked: Floats,
    champion: Floats,
    challenger: Floats,
    requests: Ints,
    users: Ints,
    settings: GateSettings,
    seed: int,
) -> dict[str, dict[str, Finding]]:
    """AUC, log-loss (nats) and NDCG@10 of both rankers and of challenger minus champion, intervals by user.

    All (n,): `clicked` 0.0 or 1.0, `champion` and `challenger` p_click in [0, 1] for the same rows, `requests` and
    `users` integers (give rows of an unknown user their request as user). What the data cannot carry is a refusal with
    the reason. Raises ValueError for arrays of unequal length, labels other than 0 and 1, scores outside [0, 1].
    """
    arrays = [np.asarray(a, dtype=np.float64) for a in (clicked, champion, challenger)]
    labels, both = arrays[0], arrays[1:]
    n = len(labels)
    lengths = [len(a) for a in (*arrays, requests, users)]
    if len(set(lengths)) > 1:
        raise ValueError(f"a comparison needs arrays of one length; found {lengths}")
    if not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError("a comparison needs clicks that are 0 or 1 (drop rows whose click is unknown); found others")
    reason = _cannot_compare(labels, both)
    if reason:
        return {metric: {side: Refusal(reason, n) for side in SIDES} for metric in METRICS}

    rows = Bootstrap(users, settings.bootstrap_replicates, settings.confidence, seed)
    first, _ = of_requests("ndcg", labels, both[0], requests, 10)
    # Requests with a click are fewer rows than the rest: they get resamples of their own, shared by both rankers.
    clicks = Bootstrap(np.asarray(users)[first], settings.bootstrap_replicates, settings.confidence, seed)
    figures: dict[str, tuple[Bootstrap, int, tuple[float, float] | None, Figures]] = {
        "auc": (rows, n, (0.0, 1.0), lambda s: rows.each(weighted_auc(labels, s))),
        "log_loss": (rows, n, None, lambda s: rows.ratio(row_losses(labels, s), np.ones(n))),
        "ndcg_at_10": (
            clicks,
            len(first),
            (0.0, 1.0),
            lambda s: clicks.ratio(of_requests("ndcg", labels, s, requests, 10)[1], np.ones(len(first))),
        ),
    }
    return {name: _sides(*parts, both) for name, parts in figures.items()}


def _sides(
    bootstrap: Bootstrap, n: int, bounds: tuple[float, float] | None, figure: Figures, both: list[Floats]
) -> dict[str, Finding]:
    """The figure of both rankers, and of their difference draw by draw."""
    (before, before_draws), (after, after_draws) = (figure(scores) for scores in both)
    return {
        "champion": bootstrap.estimate(before, before_draws, n, bounds),
        "challenger": bootstrap.estimate(after, after_draws, n, bounds),
        "difference": bootstrap.estimate(after - before, after_draws - before_draws, n),
    }


def _cannot_compare(labels: Floats, both: list[Floats]) -> str | None:
    n, positive = len(labels), int(labels.sum())
    if positive in (0, n):
        return f"a comparison needs clicked and unclicked rows; found {positive} clicked of {n}"
    for side, scores in zip(SIDES, both, strict=False):
        missing = int((~np.isfinite(scores)).sum())
        if missing:
            return f"a comparison needs finite scores; found {missing} of {n} of the {side}'s that are not"
    return None


def findings(comparison: Mapping[str, Mapping[str, Finding]]) -> dict[str, dict[str, dict[str, object]]]:
    """A comparison as JSON-ready mappings, in its own shape."""
    return {metric: {side: found.as_dict() for side, found in sides.items()} for metric, sides in comparison.items()}
