"""Which of a few policies to offer instead of the present one, by the estimated value of each on logged pages.

An arm is a policy that differs in what is applied on top of a ranker: weights of heuristics, a temperature. A log of
pages with exact propensities shows the value of every arm that the logging policy could have drawn (off-policy policy
selection; Dudik et al. 2014, section 2), so no arm has to be shown first. Estimator and guard are those of the gate for
whole pages (`models.evaluation.page_values`), since caps and diversity act below the first place.

The arms share one risk (Bonferroni): if none is better than the present one, an arm is chosen in at most
(1 - confidence) / 2 of cases, like an error of the gate at one look, and a worse one less often. Each further day is a
new test: the chosen arm is only offered, and the gate judges the bundle that contains it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.page_values import Depth, PageStatistics
from models.evaluation.thompson import chances
from models.evaluation.weighting import Floats
from models.settings import GateSettings

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Tuned:
    """The arm to offer, why, and each arm against the present one on as many places as its weights support.

    `chances`: arm (or the present one) to the probability that it is the best (`models.evaluation.thompson`).
    """

    chosen: str
    why: str
    arms: Mapping[str, Depth]
    chances: Mapping[str, float]


def tuned(
    *,
    slate: Ints,
    position: Ints,
    reward: Floats,
    logged: Floats,
    arms: Mapping[str, Floats],
    present: str,
    clusters: Ints,
    places: int,
    settings: GateSettings,
) -> Tuned:
    """The arm with the highest lower bound over the present one, if that is a significant gain; else the present one.

    Placements (n,) as `PageStatistics.of` takes them; `arms`: by name, each policy's probability (n,) of the placement
    given everything above it, including the `present` one's. A gain counts from `settings.min_lift` of what the present
    one earns. Raises ValueError if there is no other arm, and as `PageStatistics.of`.
    """
    others = [name for name in arms if name != present]
    if present not in arms or not others:
        raise ValueError(f"tuning needs the present policy, {present}, and another; found {', '.join(arms) or 'none'}")
    shared = settings.at((1 - settings.confidence) / len(others))
    found = {}
    for name in others:
        statistics = PageStatistics.of(
            slate=slate,
            position=position,
            reward=reward,
            logged=logged,
            champion=arms[present],
            challenger=arms[name],
            clusters=clusters,
            places=places,
        )
        depths = statistics.depths(shared)
        found[name] = next((of for of in reversed(depths) if isinstance(of.difference, Estimate)), depths[0])
    lows = {name: low for name, of in found.items() if (low := _sure_gain(of, settings)) is not None}
    likely = chances({name: of.difference for name, of in found.items()}, present)
    if lows:
        best = max(lows, key=lows.__getitem__)
        return Tuned(best, f"{best} earns more than {present} for sure, {_told(found[best])}", found, likely)
    return Tuned(present, f"no arm earns more than {present} for sure: {_each(found)}", found, likely)


def _sure_gain(of: Depth, settings: GateSettings) -> float | None:
    """How much is gained at least; None where that is nothing, or nobody knows, or it is not worth having."""
    gain, now = of.difference, of.champion
    if not isinstance(gain, Estimate) or not isinstance(now, Estimate):
        return None
    return gain.low if gain.low > 0 and gain.value >= settings.min_lift * now.value else None


def _each(found: Mapping[str, Depth]) -> str:
    return "; ".join(f"{name} {_told(of)}" for name, of in found.items())


def _told(of: Depth) -> str:
    gain = of.difference
    if isinstance(gain, Refusal):
        return f"is refused: {gain.reason}"
    return f"by {gain.value:+.5f} [{gain.low:+.5f}, {gain.high:+.5f}] a page of {of.places}"
