"""What a policy ranks by: probabilities of outcomes, weighed against each other in one place for choice, replay and
serving.
"""

from models.rankers.protocol import Floats, Predictions
from models.settings import PolicySettings


def score(said: Predictions, settings: PolicySettings) -> Floats:
    """(n,) in [0, 1]: the mean of an impression's probabilities of the outcomes of `score_weights`, by weight.

    Of a value its quantile counts. An outcome that the ranker has not learned, or as a value alone, has no say; where
    none is left it is p_click.
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
