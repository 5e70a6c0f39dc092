"""One rule of the gate: a figure compared with a bound, the outcome, and the reason in words.

A missing figure refuses: what was not measured passes no rule.
"""

import math
from dataclasses import dataclass
from typing import Literal

from models.evaluation.estimate import Estimate, Finding, Refusal

Outcome = Literal["pass", "hold", "refuse", "unknown"]
"""Unknown: the rule cannot be checked (yet); it prevents nothing, and says why."""
NO_FIGURE = "the evidence has no such figure"


@dataclass(frozen=True)
class Rule:
    """One thing a challenger must show: the figure, its bound, and the outcome."""

    name: str
    figure: float | None
    bound: float | None
    outcome: Outcome
    reason: str


def above(name: str, found: Finding | None, lift: float) -> Rule:
    """The challenger gains significantly more than `lift`."""
    estimate = usable(name, found, lift)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.low > lift
    reason = f"challenger - champion must be above {lift:g} for sure; found {interval(estimate)}"
    return Rule(name, estimate.low, lift, "pass" if passed else "hold", reason)


def below(name: str, found: Finding | None, bound: float) -> Rule:
    """The same for a figure that is better when lower: it is significantly below `bound`."""
    estimate = usable(name, found, bound)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.high < bound
    reason = f"challenger - champion must be below {bound:g} for sure; found {interval(estimate)}"
    return Rule(name, estimate.high, bound, "pass" if passed else "hold", reason)


def no_lower(name: str, found: Finding | None, margin: float) -> Rule:
    """Non-inferiority: the whole interval of challenger - champion is at least -`margin`."""
    estimate = usable(name, found, -margin)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.low >= -margin
    reason = f"the challenger may be lower by at most {margin:g}; challenger - champion is {interval(estimate)}"
    return Rule(name, estimate.low, -margin, "pass" if passed else "hold", reason)


def no_higher(name: str, found: Finding | None, margin: float) -> Rule:
    """The same for a figure that is better when lower: the whole interval is at most `margin`."""
    estimate = usable(name, found, margin)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.high <= margin
    reason = f"the challenger may be higher by at most {margin:g}; challenger - champion is {interval(estimate)}"
    return Rule(name, estimate.high, margin, "pass" if passed else "hold", reason)


def at_least(name: str, found: float | None, limit: float, what: str, otherwise: Outcome) -> Rule:
    """A figure without an interval is at least `limit`; `what` names it."""
    if found is None or not math.isfinite(found):
        return Rule(name, None, limit, "refuse", NO_FIGURE)
    return Rule(
        name, found, limit, "pass" if found >= limit else otherwise, f"needs at least {limit:g} {what}; found {found:g}"
    )


def at_most(name: str, found: float | None, limit: float, what: str, otherwise: Outcome) -> Rule:
    """A figure without an interval is at most `limit`."""
    if found is None or not math.isfinite(found):
        return Rule(name, None, limit, "refuse", NO_FIGURE)
    return Rule(
        name, found, limit, "pass" if found <= limit else otherwise, f"allows at most {limit:g} {what}; found {found:g}"
    )


def usable(name: str, found: Finding | None, bound: float | None) -> Estimate | Rule:
    """The estimate, or a refusing rule if there is none."""
    if found is None:
        return Rule(name, None, bound, "refuse", NO_FIGURE)
    if isinstance(found, Refusal):
        return Rule(name, None, bound, "refuse", found.reason)
    if not all(math.isfinite(x) for x in (found.value, found.low, found.high)):
        return Rule(name, None, bound, "refuse", f"needs finite figures; found {found}")
    return found


def interval(e: Estimate, sign: str = "+") -> str:
    """As reasons have it."""
    figures = f"{e.value:{sign}.5f} [{e.low:{sign}.5f}, {e.high:{sign}.5f}]"
    return f"{figures}, n {e.n}, effective n {e.effective_n:.0f}"
