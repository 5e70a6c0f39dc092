"""Conversions per decision of two policies before their labels close, estimated with the delay curve.

If a share F of all conversions is heard of by a decision's age, a conversion heard of so far counts 1 / F, for the ones
still to come. By the law of total expectation this is right on average for any rates and policies, if F is the curve of
the decision's group (a Horvitz-Thompson weight for censoring, as in `models.delays.methods.censoring_weights`, with the
curve in place of the share of ages). Assumptions: within a group, delays do not depend on what is shown, and delays do
not change. As far as the last days' delays may have changed, the interval also covers a second estimate, with the
curve's reverse hazards scaled accordingly (`drift`); that estimate is right for such a change, and wider.

The intervals include the curve's own error (`DelayCurve.variance`), which moves both sides together.
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
"""A decision counts once this share of its conversions is expected to be heard of, so a weight is at most ten."""
FIGURES_SO_FAR = (*FIGURES, "logging")


@dataclass(frozen=True)
class SoFar:
    """`findings` by side, `difference`, `against_logging` and `logging`; which decisions counted, (m,).

    `seen`: the mean expected share of their conversions heard of so far, over counted decisions; None without any.
    `drifted`: whether delays have significantly changed, so that only the interval can be trusted, not the value.
    """

    findings: Mapping[str, Finding]
    counted: Mask
    seen: float | None
    drifted: bool


def value_so_far(
    choices: Choices, age: Floats, group: NDArray[Any], curve: DelayCurve, drift: Drift | None, settings: GateSettings
) -> SoFar:
    """The estimates for m decisions, whose `reward` is 1.0 if their conversion has been heard of.

    `age` (m,) at the cut, in the curve's unit, at least the horizon if the label is closed; `group` (m,) as in the
    curve. Refused if fewer than `settings.min_known_share` of the decisions are old enough for `LEAST_SEEN`: whether a
    decision counts must not depend on its outcome.
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
