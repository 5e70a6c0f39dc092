"""Which of several estimates to believe: the least variable one that none of the less biased contradicts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from models.evaluation.estimate import Estimate, Finding, Refusal

SLACK = math.sqrt(6.0) - 1.0
"""How much of the less biased one's width is allowed for, beside all of one's own (Su et al. 2020, algorithm 1)."""


@dataclass(frozen=True)
class Selected:
    """The chosen estimator, which of the others it agreed with, and the finding to report."""

    name: str
    agreed: tuple[str, ...]
    finding: Finding


def slope(candidates: Mapping[str, Finding]) -> Selected:
    """The last candidate before intervals start to contradict: within a constant of the best in hindsight.

    `candidates`: name to finding, the least biased first (`dr`, `dros` with falling shrinkage, ..., `dm` last), all
    of one log and one confidence. Those that are refused, or no narrower than one before, are passed over: there the
    method's premise, error falling as bias rises, does not hold. The choice is the last i with |v_i - v_j| <= w_i +
    1.45 w_j for every kept j before it, w half widths (SLOPE; Su, Srinath & Krishnamurthy 2020).

    Its own guard: the first candidate is the measure of all bias, so where it is refused nothing is chosen and its
    reason stands. The interval reported is the hull of the chosen one's and the first one's, since an interval of a
    biased estimator, picked by looking, promises nothing by itself; its standard error stays the chosen one's own.
    Raises ValueError without candidates.
    """
    if not candidates:
        raise ValueError("a selection needs at least one candidate; found none")
    (first, measure), *others = candidates.items()
    if isinstance(measure, Refusal):
        reason = f"{first}, the least biased, is refused: {measure.reason}"
        return Selected(first, (), Refusal(reason, measure.n, measure.effective_n))
    kept: dict[str, Estimate] = {first: measure}
    for name, found in others:
        if isinstance(found, Refusal) or _width(found) >= min(_width(e) for e in kept.values()):
            continue
        if any(abs(found.value - e.value) > _width(found) + SLACK * _width(e) for e in kept.values()):
            break
        kept[name] = found
    chosen = next(reversed(kept))
    best = kept[chosen]
    low, high = min(best.low, measure.low), max(best.high, measure.high)
    finding = Estimate(best.value, best.stderr, low, high, best.n, best.effective_n)
    return Selected(chosen, tuple(name for name in kept if name != chosen), finding)


def _width(found: Estimate) -> float:
    """Half the interval."""
    return (found.high - found.low) / 2.0
