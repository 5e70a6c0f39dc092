"""Ship, stop, go on: each word where it belongs, and the day that is named."""

from datetime import date, timedelta
from typing import Any

import pytest

from models.evaluation.estimate import Estimate, Refusal
from models.experiments.compare import Difference
from models.experiments.rules import Rules
from models.experiments.sequences import at_any_look, evidence
from models.experiments.verdict import verdict

START = date(2026, 3, 1)
RULES = Rules(("goal", "second"), ("rail",), 0.05, 0.03, 0.95, "holm", START, 28)
MIDDLE, END = START + timedelta(days=9), RULES.ends


def told(value: float, stderr: float, before_p: float | None = 0.5) -> Difference:
    """A difference of so much per unit of control, whose level is 1."""
    fixed = Estimate(value, stderr, value - 1.96 * stderr, value + 1.96 * stderr, 1000, 1000.0)
    level = Estimate(1.0, 0.01, 0.98, 1.02, 500, 500.0)
    z = abs(value) / stderr
    p = 0.001 if z > 3 else 0.03 if z > 2 else 0.5
    always_p = min(1.0, 1 / evidence(value, stderr, 0.05))
    return Difference(level, level, fixed, at_any_look(fixed, 0.05, 0.95), p, always_p, 1.0, 0.0, before_p)


FLAT, UP, DOWN, VAGUE = told(0.0, 0.005), told(0.08, 0.01), told(-0.08, 0.01), told(0.02, 0.03)
UNKNOWN = Refusal("too few users")


@pytest.mark.parametrize(
    ("goal", "second", "rail", "today", "word", "why"),
    [
        (UP, FLAT, FLAT, MIDDLE, "ship", "goal rose and no guardrail fell"),
        (FLAT, UP, FLAT, MIDDLE, "ship", "second rose"),
        (UP, FLAT, DOWN, MIDDLE, "stop", "guardrail rail fell"),
        (UP, FLAT, VAGUE, MIDDLE, "go on", "goal rose; rail is open"),
        (UP, FLAT, UNKNOWN, MIDDLE, "go on", "goal rose; rail is open"),
        (DOWN, FLAT, FLAT, MIDDLE, "stop", "goal fell"),
        (UP, DOWN, FLAT, MIDDLE, "stop", "but second fell"),
        (FLAT, FLAT, FLAT, MIDDLE, "stop", "no goal can have risen by the 5.0%"),
        (VAGUE, VAGUE, FLAT, MIDDLE, "go on", "goal is open"),
        (VAGUE, VAGUE, FLAT, END, "stop", "the 28 days planned are over"),
        (UP, FLAT, VAGUE, END, "stop", "rail may have fallen"),
        (UP, FLAT, UNKNOWN, END, "go on", "rail is not known yet"),
        (told(0.026, 0.01), FLAT, FLAT, MIDDLE, "go on", "goal is open"),
        (told(0.035, 0.01), FLAT, FLAT, END, "ship", "goal rose"),
    ],
)
def test_the_word(goal: Any, second: Any, rail: Any, today: date, word: str, why: str) -> None:
    found = verdict({"goal": goal, "second": second, "rail": rail}, RULES, today, closes=END + timedelta(days=9))
    assert found.word == word, str(found)
    assert why in found.why
    assert (found.until is not None) == (word == "go on")
    assert str(found).startswith(word)


def test_until_when_is_when_the_interesting_lift_would_show() -> None:
    soon = verdict({"goal": told(0.02, 0.02), "second": FLAT, "rail": FLAT}, RULES, MIDDLE).until
    later = verdict({"goal": told(0.02, 0.021), "second": FLAT, "rail": FLAT}, RULES, MIDDLE).until
    never = verdict({"goal": told(0.02, 1.0), "second": FLAT, "rail": FLAT}, RULES, MIDDLE)
    assert soon is not None
    assert later is not None
    assert MIDDLE < soon <= later < END
    assert never.until == END
    assert "too short" in never.why


def test_arms_that_are_not_as_drawn_have_no_winner() -> None:
    found = {"goal": UP, "second": FLAT, "rail": FLAT}
    assert verdict(found, RULES, END, mismatch="bots").why.startswith("arms are not as they were drawn: bots")
    unlike = {**found, "rail": told(0.0, 0.005, before_p=1e-5)}
    assert verdict(unlike, RULES, END).why == "arms differed before the start in rail"


def test_a_goal_among_many_must_be_surer_and_a_guardrail_need_not() -> None:
    """Holm over goals: 0.03 is found alone, and not beside another; a guardrail is judged by its own interval."""
    edge = told(0.026, 0.01)
    alone = Rules(("goal",), (), 0.05, 0.03, 0.95, "holm", START, 28)
    assert verdict({"goal": edge}, alone, END).word == "ship"
    assert verdict({"goal": edge, "second": FLAT, "rail": FLAT}, RULES, END).word == "stop"
    assert verdict({"goal": FLAT, "second": FLAT, "rail": told(-0.06, 0.008)}, RULES, MIDDLE).word == "stop"
