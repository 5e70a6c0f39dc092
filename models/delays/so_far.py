"""Conversions per decision of two policies before their labels close, by the delay curve.

A conversion that was heard of at an age at which F of all are counts 1 / F: others like it are still to come. By the
law of total expectation that is right on average, as long as F is that of the decision's group, whatever rates and
policies are (a Horvitz-Thompson weight of censoring, as in `models.delays.methods.censoring_weights`, with the curve in
place of the ages' share). What is taken for granted: within a group, what is shown has no part in how long is waited;
and delays stay as they were. As far as the last days' may have moved the interval also holds a second reading, by the
curve with their reverse hazards in proportion (`drift`): that one is right where they have moved so, and wider.

The intervals know of the curve's own error (`DelayCurve.variance`), which moves both sides together.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.delays.curve import DRIFT_RISK, DelayCurve, Drift
from models.delays.observed import Floats, Mask
from models.evaluation.choices import SIDES, Choices
from models.evaluation.estimate import Estimate, Finding, Refusal, upper_tail
from models.evaluation.value import FIGURES, value_of
from models.settings import GateSettings

LEAST_SEEN = 0.1
"""A decision counts once this share of its conversions was to be heard of: a weight of at most ten."""
FIGURES_SO_FAR = (*FIGURES, "logging")


@dataclass(frozen=True)
class SoFar:
    """`findings` by side, `difference`, `against_logging` and `logging`; which decisions counted, (m,).

    `seen`: the mean share of the counted ones' conversions that was to be heard of; None where none counted. `drifted`:
    whether delays have moved for sure, so that the value itself is not to be believed, only the interval.
    """

    findings: Mapping[str, Finding]
    counted: Mask
    seen: float | None
    drifted: bool


def value_so_far(
    choices: Choices, age: Floats, group: NDArray[Any], curve: DelayCurve, drift: Drift | None, settings: GateSettings
) -> SoFar:
    """Of m decisions whose `reward` is 1.0 where their conversion has been heard of, and of their `age` at the cut.

    `age` (m,) in the curve's unit, one from the horizon on where the label is closed; `group` (m,) as the curve's.
    Refused where fewer than `settings.min_known_share` of the decisions have shown `LEAST_SEEN` of theirs: whether one
    counts must not depend on what came of it.
    """
    seen = curve.seen(age, group)
    counted = seen >= LEAST_SEEN
    drifted = drift is not None and drift.p_value < DRIFT_RISK
    if not counted.any() or counted.mean() < (settings.min_known_share or 0.0):
        reason = Refusal(
            f"conversions so far need decisions of which {LEAST_SEEN:.0%} was to be heard of, in at least"
            f" {settings.min_known_share or 0:.0%} of {len(choices)}; found {int(counted.sum())}",
            int(counted.sum()),
        )
        return SoFar(dict.fromkeys(FIGURES_SO_FAR, reason), counted, None, drifted)
    mine, age, group, seen = choices.where(counted), age[counted], group[counted], seen[counted]
    findings = _read(mine, seen, lambda effect: curve.variance(effect, age, group), settings)
    if drift is not None:
        power, error = math.exp(drift.longer.value), drift.longer.stderr
        then = seen**power

        def variance(effect: Floats) -> float:
            return power**2 * curve.variance(effect, age, group) + (error * float(effect @ np.log(then))) ** 2

        second = _read(mine, then, variance, settings)
        findings = {name: _both(found, second[name]) for name, found in findings.items()}
    return SoFar(findings, counted, float(seen.mean()), drifted)


def _read(
    choices: Choices, seen: Floats, variance: Callable[[Floats], float], settings: GateSettings
) -> dict[str, Finding]:
    """By one curve; `variance` of a figure that changes by an effect (m,) per unit of each decision's log F."""
    weighted = replace(choices, reward=choices.reward / seen)
    found = value_of(weighted, settings)
    findings = {**found.estimates[found.primary], "logging": found.logging}
    effects = _effects(weighted)
    return {name: _wider(finding, variance(effects[name]), settings) for name, finding in findings.items()}


def _effects(choices: Choices) -> dict[str, Floats]:
    """By how much each figure falls as log F of a decision rises, (m,): self-normalised weights times rewards."""
    falls = {"logging": -choices.reward / len(choices)}
    for side in SIDES:
        weight = choices.target(side) / choices.logged
        falls[side] = -weight * choices.reward / max(float(weight.sum()), 1e-300)
    falls["difference"] = falls["challenger"] - falls["champion"]
    falls["against_logging"] = falls["challenger"] - falls["logging"]
    return falls


def _wider(found: Finding, variance: float, settings: GateSettings) -> Finding:
    """With the curve's part: either end further away, as an independent error makes it."""
    if isinstance(found, Refusal):
        return found
    reach = NormalDist().inv_cdf(upper_tail(settings.confidence)) * math.sqrt(variance)
    below, above = (math.hypot(end - found.value, reach) for end in (found.low, found.high))
    stderr = math.hypot(found.stderr, math.sqrt(variance))
    return replace(found, stderr=stderr, low=found.value - below, high=found.value + above)


def _both(found: Finding, other: Finding) -> Finding:
    """An interval that holds both."""
    if not (isinstance(found, Estimate) and isinstance(other, Estimate)):
        return found
    return replace(found, low=min(found.low, other.low), high=max(found.high, other.high))
