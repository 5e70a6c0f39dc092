"""The gate: promote, hold or refuse, one rule at a time, each with a reason a person can read at 3 a.m.

`refuse`: the evidence cannot carry a verdict. `hold`: it can, and the challenger does not clear every rule. `promote`:
every rule is cleared. A person is asked only after a promote. It judges one pair on one day; it does not correct for
having judged yesterday as well.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.settings import GateSettings

Outcome = Literal["pass", "hold", "refuse"]


@dataclass(frozen=True)
class Rule:
    """One thing a challenger must show: the figure found, the bound it is held against, what came of it."""

    name: str
    figure: float | None
    bound: float | None
    outcome: Outcome
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {
            "name": self.name,
            "figure": self.figure,
            "bound": self.bound,
            "outcome": self.outcome,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Verdict:
    """The verdict and every rule behind it, the passed ones too."""

    verdict: Literal["promote", "hold", "refuse"]
    rules: tuple[Rule, ...]

    @property
    def reasons(self) -> list[str]:
        """What stands in the way, one sentence a rule; for a promote, what was shown."""
        against = [f"{r.name}: {r.reason}" for r in self.rules if r.outcome == self.verdict]
        return against or [f"{r.name}: {r.reason}" for r in self.rules]

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {"verdict": self.verdict, "reasons": self.reasons, "rules": [r.as_dict() for r in self.rules]}


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at.

    `comparison`: metric to champion, challenger, difference, as `comparison.compare` returns it. `value`: the same
    three for the counterfactual value per decision. `test_rows`: impressions the comparison rests on.
    `same_candidate`: champion and challenger are one and the same model.
    """

    comparison: Mapping[str, Mapping[str, Finding]]
    value: Mapping[str, Finding]
    test_rows: int
    same_candidate: bool = False

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping for `from_dict`."""
        return {
            "comparison": {m: {s: f.as_dict() for s, f in sides.items()} for m, sides in self.comparison.items()},
            "value": {side: found.as_dict() for side, found in self.value.items()},
            "test_rows": self.test_rows,
            "same_candidate": self.same_candidate,
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """The evidence `as_dict` wrote; a finding that is not sound (NaN, a missing figure) becomes a refusal."""
        comparison = {m: {s: _finding(f) for s, f in sides.items()} for m, sides in tree["comparison"].items()}
        value = {side: _finding(found) for side, found in tree["value"].items()}
        return cls(comparison, value, int(tree["test_rows"]), bool(tree["same_candidate"]))


def judge(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The verdict on the evidence: refuse if any rule refuses, else hold if any holds, else promote.

    Every rule looks at the unfavourable end of an interval, so wide intervals hold and never promote. The value must be
    better by more than `min_lift`; log-loss, AUC and NDCG@10 must not be worse by more than their margins.
    """
    value = evidence.value.get("difference")
    metric = {name: sides.get("difference") for name, sides in evidence.comparison.items()}
    rules = (
        _enough_rows(evidence.test_rows, settings.min_test_rows),
        _another_model(evidence.same_candidate),
        _better("value", value, settings.min_lift),
        _no_higher("log_loss", metric.get("log_loss"), settings.log_loss_margin),
        _no_lower("auc", metric.get("auc"), settings.auc_margin),
        _no_lower("ndcg_at_10", metric.get("ndcg_at_10"), settings.ndcg_margin),
    )
    outcomes = {rule.outcome for rule in rules}
    if "refuse" in outcomes:
        return Verdict("refuse", rules)
    return Verdict("hold" if "hold" in outcomes else "promote", rules)


def _enough_rows(found: int, needed: int) -> Rule:
    enough = found >= needed
    return Rule(
        "test_rows", found, needed, "pass" if enough else "refuse", f"needs at least {needed} test rows; found {found}"
    )


def _another_model(same: bool) -> Rule:
    reason = "the challenger is the champion itself" if same else "challenger and champion are different models"
    return Rule("different_model", None, None, "hold" if same else "pass", reason)


def _better(name: str, found: Finding | None, lift: float) -> Rule:
    estimate = _usable(name, found, lift)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.low > lift
    reason = f"challenger - champion must be above {lift:g} for sure; found {_interval(estimate)}"
    return Rule(name, estimate.low, lift, "pass" if passed else "hold", reason)


def _no_lower(name: str, found: Finding | None, margin: float) -> Rule:
    estimate = _usable(name, found, -margin)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.low >= -margin
    reason = f"the challenger may be lower by at most {margin:g}; challenger - champion is {_interval(estimate)}"
    return Rule(name, estimate.low, -margin, "pass" if passed else "hold", reason)


def _no_higher(name: str, found: Finding | None, margin: float) -> Rule:
    estimate = _usable(name, found, margin)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.high <= margin
    reason = f"the challenger may be higher by at most {margin:g}; challenger - champion is {_interval(estimate)}"
    return Rule(name, estimate.high, margin, "pass" if passed else "hold", reason)


def _usable(name: str, found: Finding | None, bound: float) -> Estimate | Rule:
    """The estimate, or the rule that refuses for want of one."""
    if found is None:
        return Rule(name, None, bound, "refuse", "the evidence has no such figure")
    if isinstance(found, Refusal):
        return Rule(name, None, bound, "refuse", found.reason)
    if not all(math.isfinite(x) for x in (found.value, found.low, found.high)):
        return Rule(name, None, bound, "refuse", f"needs finite figures; found {found}")
    return found


def _interval(e: Estimate) -> str:
    return f"{e.value:+.5f} [{e.low:+.5f}, {e.high:+.5f}], n {e.n}, effective n {e.effective_n:.0f}"


def _finding(tree: Mapping[str, Any]) -> Finding:
    if "refused" in tree:
        return Refusal(str(tree["refused"]), int(tree.get("n", 0)), float(tree.get("effective_n", 0.0)))
    try:
        return Estimate(**tree)
    except (TypeError, ValueError) as error:
        return Refusal(f"the figure is not sound: {error}")
