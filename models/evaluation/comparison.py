"""Champion and challenger on the same rows: differences are paired, so errors that both share cancel."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Finding, Refusal
from models.evaluation.linear import Linear
from models.evaluation.lists import FIGURES, of_requests
from models.evaluation.ranking import auc_influence, auc_pr_influence, normalised, row_losses
from models.evaluation.resampling import MIN_CLUSTERS
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SIDES = ("champion", "challenger", "difference")
METRICS = (
    *("auc", "auc_pr", "log_loss", "normalised_entropy"),
    *("ndcg_at_10", "mrr_at_10", "map_at_10", "recall_at_1", "precision_at_3", "hit_rate_at_3"),
)
"""The default metrics of a comparison; a list metric is `<name>_at_<k>`."""
LOWER_IS_BETTER = ("log_loss", "normalised_entropy", "normalised_squared_error")


def lower_is_better(metric: str) -> bool:
    """Whether lower is better; also for a metric of a further outcome, such as `like.log_loss`."""
    return metric.rpartition(".")[2] in LOWER_IS_BETTER


def compare(
    clicked: Floats,
    champion: Floats,
    challenger: Floats,
    requests: Ints,
    users: Ints,
    settings: GateSettings,
    metrics: Sequence[str] = METRICS,
) -> dict[str, dict[str, Finding]]:
    """Each metric of both rankers and of challenger minus champion, intervals by user.

    All (n,): `clicked` 0.0 or 1.0, `champion` and `challenger` p_click in [0, 1] for the same rows, `requests` and
    `users` integers (give rows of an unknown user their request as user). What the data cannot carry is a refusal with
    the reason. Raises ValueError for arrays of unequal length, labels other than 0 and 1, scores outside [0, 1], and
    metrics that do not exist.
    """
    arrays = [np.asarray(a, dtype=np.float64) for a in (clicked, champion, challenger)]
    labels, both = arrays[0], arrays[1:]
    lengths = [len(a) for a in (*arrays, requests, users)]
    if len(set(lengths)) > 1:
        raise ValueError(f"a comparison needs arrays of one length; found {lengths}")
    if not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError("a comparison needs clicks that are 0 or 1 (drop rows whose click is unknown); found others")
    users, requests = np.asarray(users), np.asarray(requests)
    reason = _cannot_compare(labels, both, users)
    if reason:
        return {metric: dict.fromkeys(SIDES, Refusal(reason, len(labels))) for metric in metrics}
    found: dict[str, dict[str, Finding]] = {}
    for metric in metrics:
        figure = figure_of(metric, labels, requests)
        before, after = (figure(scores) for scores in both)
        found[metric] = {
            "champion": _alone(metric, before, users, settings),
            "challenger": _alone(metric, after, users, settings),
            "difference": (after - before).estimate(settings.metrics_confidence, users),
        }
    return found


def figure_of(metric: str, labels: Floats, requests: Ints) -> Callable[[Floats], Linear]:
    """The function from scores (n,) to the metric and every row's influence; ValueError for an unknown metric."""
    name, _, k = metric.partition("_at_")
    if metric == "auc":
        return lambda scores: auc_influence(labels, scores)
    if metric == "auc_pr":
        return lambda scores: auc_pr_influence(labels, scores)
    if metric == "log_loss":
        return lambda scores: Linear.mean(row_losses(labels, scores))
    if metric == "normalised_entropy":
        return lambda scores: normalised(labels, row_losses(labels, scores))
    if name in FIGURES and k.isdecimal():

        def of_lists(scores: Floats) -> Linear:
            found = of_requests(name, labels, scores, requests, int(k))  # type: ignore[arg-type]
            return found.mean()

        return of_lists
    known = ("auc", "auc_pr", "log_loss", "normalised_entropy", *(f"{figure}_at_<k>" for figure in FIGURES))
    raise ValueError(f"a comparison knows the metrics {', '.join(known)}; found {metric!r}")


def _alone(metric: str, found: Linear, users: Ints, settings: GateSettings) -> Finding:
    if metric == "auc_pr":
        return found.share(settings.confidence, users)
    return found.estimate(settings.confidence, users, None if metric in LOWER_IS_BETTER else (0.0, 1.0))


def _cannot_compare(labels: Floats, both: Sequence[Floats], users: Ints) -> str | None:
    n, positive = len(labels), int(labels.sum())
    if positive in (0, n):
        return f"a comparison needs clicked and unclicked rows; found {positive} clicked of {n}"
    for side, scores in zip(SIDES, both, strict=False):
        missing = int((~np.isfinite(scores)).sum())
        if missing:
            return f"a comparison needs finite scores; found {missing} of {n} of the {side}'s that are not"
    if len(np.unique(users)) < MIN_CLUSTERS:
        return f"an interval needs at least {MIN_CLUSTERS} users; found 1"
    return None
