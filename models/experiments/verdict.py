"""What to do about an experiment, in words: ship, stop, or go on and until when.

A guardrail is judged at its own risk: to correct it away for being one of many would hide the harm it is there to see.
A goal is, for of many goals one rises by chance. Only intervals that may be read at any time count, but on the last day
of the plan: there the fixed one does, which was planned for one look.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np

from models.evaluation.estimate import Refusal
from models.experiments.compare import Difference
from models.experiments.correction import adjusted
from models.experiments.plan import days_left
from models.experiments.rules import Rules

Word = Literal["ship", "stop", "go on"]
Found = Mapping[str, Difference | Refusal]
MISDRAWN = "arms are not as they were drawn"


@dataclass(frozen=True)
class Verdict:
    """The word, why, and for *go on* until which day; None where nobody can tell."""

    word: Word
    why: str
    until: date | None = None

    def __str__(self) -> str:
        until = f" until {self.until}" if self.until is not None else ""
        return f"{self.word}{until if self.word == 'go on' else ''}: {self.why}"


def verdict(found: Found, rules: Rules, today: date, *, closes: date | None = None, mismatch: str = "") -> Verdict:
    """Of the differences of a day. `mismatch`: why the arms are no random halves; then no figure is believed.

    `closes`: the day on which the labels of today's conversions close; a *ship* on figures that are not closed waits
    for it only where a guardrail or goal that waits for conversions is still open.
    """
    if mismatch:
        return Verdict("stop", f"{MISDRAWN}: {mismatch}; no figure of this experiment counts")
    unlike = [name for name, one in found.items() if isinstance(one, Difference) and not one.sound]
    if unlike:
        return Verdict("stop", f"arms differed before the start in {', '.join(sorted(unlike))}")
    last = today == rules.ends
    harmed = [name for name in rules.guardrails if _fell(found.get(name), rules, last)]
    if harmed:
        return Verdict("stop", f"guardrail {', '.join(harmed)} fell by more than {rules.margin:.1%}")
    won, lost = _goals(found, rules, last)
    if lost and not won:
        return Verdict("stop", f"{', '.join(lost)} fell")
    open_rails = [name for name in rules.guardrails if not _safe(found.get(name), rules, last)]
    if won and not open_rails:
        also = f"; but {', '.join(lost)} fell" if lost else ""
        return Verdict("stop" if lost else "ship", f"{', '.join(won)} rose and no guardrail fell{also}")
    if today >= rules.ends:
        return _at_the_end(won, open_rails, found, rules, today, closes)
    if not won and (hopeless := _hopeless(found, rules)):
        return Verdict("stop", hopeless)
    return _go_on(won, open_rails, found, rules, today, closes)


def _limits(one: Difference, last: bool) -> tuple[float, float]:
    return (one.fixed.low, one.fixed.high) if last else one.always


def _fell(one: Difference | Refusal | None, rules: Rules, last: bool) -> bool:
    return isinstance(one, Difference) and _limits(one, last)[1] < -rules.margin * abs(one.control.value)


def _safe(one: Difference | Refusal | None, rules: Rules, last: bool) -> bool:
    return isinstance(one, Difference) and _limits(one, last)[0] > -rules.margin * abs(one.control.value)


def _goals(found: Found, rules: Rules, last: bool) -> tuple[list[str], list[str]]:
    """Goals that rose and that fell, at one risk for all of them."""
    told = [(name, one) for name in rules.goals if isinstance(one := found.get(name), Difference)]
    p = adjusted(np.array([one.p_value if last else one.always_p for _, one in told]), rules.correction)
    sure = [(name, one.fixed.value) for (name, one), of in zip(told, p, strict=True) if of <= 1 - rules.confidence]
    return [name for name, value in sure if value > 0], [name for name, value in sure if value < 0]


def _hopeless(found: Found, rules: Rules) -> str:
    """Why no goal can still be worth having: every interval ends below what is interesting."""
    told = [one for name in rules.goals if isinstance(one := found.get(name), Difference)]
    if len(told) == len(rules.goals) and all(
        one.always[1] < rules.interesting * abs(one.control.value) for one in told
    ):
        return f"no goal can have risen by the {rules.interesting:.1%} that would be worth it"
    return ""


def _at_the_end(
    won: Sequence[str], rails: Sequence[str], found: Found, rules: Rules, today: date, closes: date | None
) -> Verdict:
    unknown = [name for name in rails if not isinstance(found.get(name), Difference)]
    if won and unknown and closes is not None and closes > today:
        return Verdict("go on", f"{', '.join(won)} rose; {', '.join(unknown)} is not known yet", closes)
    if won:
        return Verdict("stop", f"{', '.join(won)} rose, but {', '.join(rails)} may have fallen by {rules.margin:.1%}")
    return Verdict("stop", f"the {rules.planned_days} days planned are over and no goal rose")


def _go_on(
    won: Sequence[str], rails: Sequence[str], found: Found, rules: Rules, today: date, closes: date | None
) -> Verdict:
    waiting = list(rails) if won else [rules.goals[0]]
    size = rules.margin if won else rules.interesting
    days = (today - rules.start).days + 1
    needed = [
        days_left(one.fixed, days, size * abs(one.control.value), rules.confidence, size * abs(one.control.value))
        if isinstance(one, Difference) else 0.0
        for one in (found.get(name) for name in waiting)
    ]  # fmt: skip
    left = max(needed, default=0.0)
    end = max([rules.ends, *([closes] if closes is not None and any(_unknown(found, waiting)) else [])])
    soon = math.ceil(max(1.0, min(left, float((end - today).days))))
    until = min(end, today + timedelta(days=soon))
    said = f"{', '.join(won)} rose; " if won else ""
    short = f" (the plan is too short to show {size:.1%} of it)" if left > (end - today).days else ""
    return Verdict("go on", f"{said}{', '.join(waiting)} is open{short}", until)


def _unknown(found: Found, names: Sequence[str]) -> list[str]:
    return [name for name in names if not isinstance(found.get(name), Difference)]
