"""The score a policy ranks by: a weighted mean of outcome probabilities, the same for choice, replay and serving."""

from models.rankers.protocol import Floats, Predictions
from models.settings import PolicySettings


def score(said: Predictions, settings: PolicySettings) -> Floats:
    """(n,) in [0, 1]: the mean of an impression's outcome probabilities, weighted by `score_weights`.

    A value counts by its quantile. An outcome that the ranker has not learned, or has learned only as a value, is
    ignored; if none is left, the score is p_click.
    """
    if {name for name, weight in settings.score_weights.items() if weight > 0} <= {"click"}:
        return said.p_click
    told = {"click": said.p_click, "conversion": said.p_conversion, **said.outcomes, **said.quantiles}
    known = {name: of for name, of in told.items() if of is not None}
    weights = {name: weight for name, weight in settings.score_weights.items() if weight > 0 and name in known}
    if set(weights) <= {"click"}:
        return said.p_click
    total: Floats = sum((weight * known[name] for name, weight in weights.items()), start=0.0 * said.p_click)
    return total / sum(weights.values())
