"""How well a further outcome is predicted: champion and challenger on the same closed rows, paired, by user."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from models.evaluation.choices import SIDES, Side
from models.evaluation.estimate import Finding, Refusal
from models.evaluation.linear import Linear
from models.evaluation.ranking import Floats, Ints, auc_influence, row_losses
from models.settings import OUTCOME_METRICS, GateSettings

Figure = Callable[[Floats], Linear]


def compare_outcome(
    kind: Literal["binary", "value"],
    came: Floats,
    said: Mapping[Side, Floats | None],
    users: Ints,
    settings: GateSettings,
) -> dict[str, dict[str, Finding]]:
    """Each of `OUTCOME_METRICS[kind]` of either side and of challenger minus champion.

    `came` (n,): 0 or 1, or a value >= 0; `said` (n,) the prediction of each side, None if it does not predict this
    outcome: that side is refused, and so is the difference. `users` (n,) integers. A value is judged by
    `auc_upper_half`, how often a row above the median value is scored above one that is not, and by
    `normalised_squared_error`, the mean squared error over the values' variance: 1 is no better than always the mean.
    """
    reasons = {side: _lacking(kind, side, of) for side, of in said.items()}
    plain = _constant(kind, came)
    found: dict[str, dict[str, Finding]] = {}
    for metric in OUTCOME_METRICS[kind]:
        bounds = (0.0, 1.0) if metric.startswith("auc") else None
        linear: dict[Side, Linear] = {}
        sides: dict[str, Finding] = {}
        for side in SIDES:
            reason, scores = plain or reasons[side], said[side]
            if reason or scores is None:
                sides[side] = Refusal(reason, len(came))
                continue
            linear[side] = _figure(metric, came)(scores)
            sides[side] = linear[side].estimate(settings.confidence, users, bounds)
        if len(linear) == len(SIDES):
            between = linear["challenger"] - linear["champion"]
            sides["difference"] = between.estimate(settings.confidence, users)
        else:
            sides["difference"] = Refusal(plain or next(filter(None, reasons.values())), len(came))
        found[metric] = sides
    return found


def ratio(came: Floats, said: Floats, users: Ints, settings: GateSettings) -> Finding:
    """Sum of predictions over sum of outcomes, (n,) each: 1.0 if the level is right. Refused without outcomes."""
    total = float(came.sum())
    if not total:
        return Refusal(f"a ratio needs something that came; found nothing in {len(came)} rows", len(came))
    value = float(said.sum()) / total
    return Linear(value, (said - value * came) / total, np.arange(len(came))).factor(settings.confidence, users)


def _figure(metric: str, came: Floats) -> Figure:
    if metric == "auc":
        return lambda said: auc_influence(came, said)
    if metric == "log_loss":
        return lambda said: Linear.mean(row_losses(came, said))
    if metric == "auc_upper_half":
        upper = _upper(came)
        return lambda said: auc_influence(upper, said)
    return lambda said: _normalised_squared_error(came, said)


def _normalised_squared_error(came: Floats, said: Floats) -> Linear:
    """Both the error and the variance move with the rows."""
    error, around = np.square(came - said), np.square(came - came.mean())
    value = float(error.mean() / around.mean())
    return Linear(value, (error - value * around) / float(around.sum()), np.arange(len(came)))


def _upper(came: Floats) -> Floats:
    """Which values are above the median."""
    return (came > np.median(came)).astype(np.float64)


def _constant(kind: str, came: Floats) -> str:
    """Why nothing can be compared: the rows are all alike."""
    upper = came if kind == "binary" else _upper(came)
    if len(came) and 0 < upper.sum() < len(came):
        return ""
    return (
        f"a comparison needs rows of both kinds; found {int(upper.sum())} of {len(came)} with it, or above the median"
    )


def _lacking(kind: str, side: Side, said: Floats | None) -> str:
    if said is None:
        return f"the {side} does not predict it"
    if not np.isfinite(said).all() or (said < 0).any() or (kind == "binary" and (said > 1).any()):
        return f"the {side} predicts what is no {'probability' if kind == 'binary' else 'value from 0 up'}"
    return ""
