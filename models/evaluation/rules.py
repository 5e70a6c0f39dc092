"""One rule of the gate: a figure held against a bound, what came of it, and why, in words.

A figure that is not there refuses: nothing is cleared by what nobody measured.
"""

import math
from dataclasses import dataclass
from typing import Literal

from models.evaluation.estimate import Estimate, Finding, Refusal

Outcome = Literal["pass", "hold", "refuse", "unknown"]
"""Unknown: there is nothing to be asked (yet); it stands in nobody's way, and says why."""
NO_FIGURE = "the evidence has no such figure"


@dataclass(frozen=True)
class Rule:
    """One thing a challenger must show: the figure found, the bound it is held against, what came of it."""

    name: str
    figure: float | None
    bound: float | None
    outcome: Outcome
    reason: str


def above(name: str, found: Finding | None, lift: float) -> Rule:
    """The challenger gains more than `lift` for sure."""
    estimate = usable(name, found, lift)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.low > lift
    reason = f"challenger - champion must be above {lift:g} for sure; found {interval(estimate)}"
    return Rule(name, estimate.low, lift, "pass" if passed else "hold", reason)


def below(name: str, found: Finding | None, bound: float) -> Rule:
    """The same of a figure that is better when lower: it falls below `bound` for sure."""
    estimate = usable(name, found, bound)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.high < bound
    reason = f"challenger - champion must be below {bound:g} for sure; found {interval(estimate)}"
    return Rule(name, estimate.high, bound, "pass" if passed else "hold", reason)


def no_lower(name: str, found: Finding | None, margin: float) -> Rule:
    """The challenger loses no more than `margin` for sure."""
    estimate = usable(name, found, -margin)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.low >= -margin
    reason = f"the challenger may be lower by at most {margin:g}; challenger - champion is {interval(estimate)}"
    return Rule(name, estimate.low, -margin, "pass" if passed else "hold", reason)


def no_higher(name: str, found: Finding | None, margin: float) -> Rule:
    """The same of a figure that is better when lower."""
    estimate = usable(name, found, margin)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.high <= margin
    reason = f"the challenger may be higher by at most {margin:g}; challenger - champion is {interval(estimate)}"
    return Rule(name, estimate.high, margin, "pass" if passed else "hold", reason)


def at_least(name: str, found: float | None, limit: float, what: str, otherwise: Outcome) -> Rule:
    """A figure without an interval reaches `limit`; `what` says of what it is."""
    if found is None or not math.isfinite(found):
        return Rule(name, None, limit, "refuse", NO_FIGURE)
    return Rule(
        name, found, limit, "pass" if found >= limit else otherwise, f"needs at least {limit:g} {what}; found {found:g}"
    )


def at_most(name: str, found: float | None, limit: float, what: str, otherwise: Outcome) -> Rule:
    """A figure without an interval is within `limit`."""
    if found is None or not math.isfinite(found):
        return Rule(name, None, limit, "refuse", NO_FIGURE)
    return Rule(
        name, found, limit, "pass" if found <= limit else otherwise, f"allows at most {limit:g} {what}; found {found:g}"
    )


def usable(name: str, found: Finding | None, bound: float | None) -> Estimate | Rule:
    """The estimate, or the rule that refuses for want of one."""
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
