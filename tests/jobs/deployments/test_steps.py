"""What a release does next: the plan, and what each finding makes of it."""

from typing import Any

import pytest

from jobs.config import ReleaseSettings
from jobs.deployments.ledger import APPROVED, CANARY, LIVE, ROLLED_BACK, SHADOW
from jobs.deployments.steps import Found, Report, Step, name_of, next_step, plan, rank
from jobs.errors import UsageError

SETTINGS = ReleaseSettings(shadow_percent=50, canary_percent=(5, 25.5))
PATIENCE = 60.0
CHAMPION = {"candidate_id": "a", "step": LIVE}
PLANNED = plan(SETTINGS, CHAMPION)


def row(step: str, share: float = 0.0) -> dict[str, Any]:
    return {"step": step, "share": share, "number": 1}


def found(what: Found, seconds: float = 1.0) -> Report:
    return Report(what, "because", seconds)


def test_the_plan_is_the_settings_and_a_first_model_has_no_traffic_to_share() -> None:
    assert [step.name for step in PLANNED] == ["shadow", "canary-5", "canary-25.5", "live"]
    assert [step.share for step in PLANNED] == [0, 5, 25.5, 100]
    assert [step.name for step in plan(SETTINGS, None)] == ["live"]
    assert [step.name for step in plan(ReleaseSettings(), CHAMPION)] == ["live"]
    held = ReleaseSettings(canary_percent=(5,), holdout_percent=2)
    assert [(step.name, step.share) for step in plan(held, CHAMPION)] == [("canary-5", 5), ("live", 98)]
    assert [step.share for step in plan(held, None)] == [100], "the first has nothing before it"


@pytest.mark.parametrize(
    ("at", "after"),
    [
        (row(APPROVED), "shadow"),
        (row(SHADOW), "canary-5"),
        (row(CANARY, 5), "canary-25.5"),
        (row(CANARY, 7), "canary-25.5"),  # the settings were changed meanwhile
        (row(CANARY, 25.5), "live"),
        (row(CANARY, 90), "live"),
    ],
)
def test_what_passed_goes_on_and_nothing_else_does(at: dict[str, Any], after: str) -> None:
    """Silence, an error of the measurement and no report at all wait, and go back once patience is over."""
    step = next_step([row(LIVE), at], PLANNED, found(Found.PASSED), PATIENCE)
    assert step is not None
    assert step.name == after
    assert step.why == "because", "the ledger's row says what the watch found"
    if at["step"] == APPROVED:
        return
    assert next_step([at], PLANNED, None, PATIENCE) is None
    assert next_step([at], PLANNED, found(Found.FAILED), PATIENCE) == Step(ROLLED_BACK, 0.0, "because")
    for silent in (Found.INCONCLUSIVE, Found.ERROR):
        assert next_step([at], PLANNED, found(silent, 59.9), PATIENCE) is None
        back = next_step([at], PLANNED, found(silent, 60.0), PATIENCE)
        assert back == Step(ROLLED_BACK, 0.0, f"{silent} after 60 s: because")


def test_an_approval_needs_no_watch_and_an_ended_release_takes_no_step() -> None:
    assert next_step([row(APPROVED)], PLANNED, None, PATIENCE) == PLANNED[0]
    for history in ([], [row(LIVE, 100)], [row(APPROVED), row(ROLLED_BACK)]):
        for report in (None, found(Found.PASSED), found(Found.FAILED)):
            assert next_step(history, PLANNED, report, PATIENCE) is None


def test_names_are_read_as_they_are_written() -> None:
    """Their order is that of the shares; anything else is no step."""
    assert [rank(step.name) for step in PLANNED] == [step.share for step in PLANNED]
    assert name_of(row(CANARY, 5.0)) == "canary-5"
    for wrong in ("", "canary", "canary-", "canary-0", "canary-100", "canary--5", "canary-nan", "5", "approved"):
        with pytest.raises(UsageError, match="a step must be shadow, canary-PERCENT or live"):
            rank(wrong)
