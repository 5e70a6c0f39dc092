"""How traffic moves: the rule against a model that reads the whole history of looks, and what each policy asks for."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.endpoint.deployment import plan_of
from infra.endpoint.errors import Rejected
from infra.endpoint.shift import Alarms, Phase, Plan, Shift, moved, together

Look = tuple[float, Alarms]
COUNTS = {"a": 4}


def blue_green(kind: str, wait: int = 10, **more: Any) -> dict[str, Any]:
    sizes = {name: more.pop(name) for name in ("CanarySize", "LinearStepSize") if name in more}
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": kind, "WaitIntervalInSeconds": wait, **sizes},
            **more,
        }
    }


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def rolling(size: dict[str, Any], wait: int = 10, **more: Any) -> dict[str, Any]:
    return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": wait, **more}}


# -- against a model --------------------------------------------------------------------------------------------------
plans = st.builds(
    lambda steps, wait, limit, alarms, back: Plan(
        (*sorted(steps), 1.0), wait, limit, alarms=("x",) if alarms else (), back_share=back
    ),
    st.sets(st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.75]), max_size=4),
    st.sampled_from([0.0, 1.0, 7.0, 30.0]),
    st.sampled_from([20.0, 200.0, 10_000.0]),
    st.booleans(),
    st.sampled_from([1.0, 0.3, 0.1]),
)
looks = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 1.0, 6.9, 7.0, 40.0]), st.sampled_from([*Alarms, *[Alarms.OK] * 5])),
    min_size=1,
    max_size=60,
)
"""Seconds since the look before, and what the alarms said."""


def timed(plan: Plan, gaps: list[tuple[float, Alarms]]) -> list[Look]:
    """Looks at their times; a plan without alarms is told OK."""
    at, found = 0.0, []
    for gap, said in gaps:
        at += gap
        found.append((at, said if plan.alarms else Alarms.OK))
    return found


def walked(plan: Plan, history: list[Look]) -> list[Shift]:
    at, found = Shift(), []
    for seconds, alarms in history:
        at = moved(plan, at, seconds, alarms)
        found.append(at)
    return found


def steps_taken(plan: Plan, history: list[Look]) -> list[int]:
    """The look that takes each step, and last the one that ends it, had nothing gone wrong: searched, not walked."""
    if plan.at_once:
        return [0]
    taken = [0]
    for _ in plan.shares:
        since = history[taken[-1]][0]
        may = (n for n, (t, a) in enumerate(history) if n > taken[-1] and t - since >= plan.wait_seconds and a == "OK")
        if (found := next(may, None)) is None:
            break
        taken.append(found)
    return taken


@settings(deadline=None, max_examples=500)
@given(plans, looks)
def test_it_is_where_the_whole_history_says(plan: Plan, gaps: list[tuple[float, Alarms]]) -> None:
    history = timed(plan, gaps)
    taken = steps_taken(plan, history)
    ends = 0 if plan.at_once else (taken[-1] if len(taken) > len(plan.shares) else len(history))
    fails = next(
        (n for n, (t, a) in enumerate(history) if n <= ends and (a == "ALARM" or t >= plan.limit_seconds)), None
    )
    for n, at in enumerate(walked(plan, history)):
        if fails is not None and n >= fails:
            assert at.phase in (Phase.ROLLING_BACK, Phase.BACK)
        elif n >= ends:
            assert (at.phase, at.share) == (Phase.DONE, 1.0)
        else:
            number = max(k for k, look in enumerate(taken) if look <= n)
            assert at.share == plan.shares[number]
            assert at.phase == (Phase.ACTIVATING if n == taken[number] else Phase.BAKING)


@settings(deadline=None, max_examples=300)
@given(plans, looks)
def test_what_goes_back_only_loses_and_never_returns(plan: Plan, gaps: list[tuple[float, Alarms]]) -> None:
    """All at once by default; else a part each wait, and what is back is over."""
    found = [Shift(), *walked(plan, timed(plan, gaps))]
    for before, after in pairwise(found):
        if before.phase is Phase.ROLLING_BACK:
            assert after.phase in (Phase.ROLLING_BACK, Phase.BACK)
            assert after.share <= before.share
            assert after.share >= before.share - plan.back_share - 1e-9
        elif after.phase is Phase.ROLLING_BACK:
            assert after.share == pytest.approx(max(0.0, before.share - plan.back_share))
        else:
            assert after.share >= before.share
        if before.ended:
            assert after == before
        if after.phase is Phase.BACK:
            assert after.share == 0


@settings(deadline=None)
@given(plans.filter(lambda plan: bool(plan.alarms)), st.lists(st.floats(0, 50), min_size=1, max_size=200))
def test_silence_never_passes(plan: Plan, gaps: list[float]) -> None:
    """A canary at night: it bakes until the limit and goes back, whatever the waits are."""
    history = timed(plan, [(gap, Alarms.SILENT) for gap in gaps])
    for (seconds, _), at in zip(history, walked(plan, history), strict=True):
        assert (at.phase in (Phase.ROLLING_BACK, Phase.BACK)) == (seconds >= plan.limit_seconds)
        assert at.share <= plan.shares[0]
        assert at.phase is not Phase.DONE


def test_an_alarm_that_rings_before_the_first_request_lets_none_through() -> None:
    """ECS does not look at an alarm that is in ALARM when the deployment begins; here it ends it."""
    plan = plan_of({**blue_green("CANARY", CanarySize=percent(10)), **alarmed("x")}, COUNTS)
    at = moved(plan, Shift(), 3.0, Alarms.ALARM)
    assert (at.phase, at.share) == (Phase.ROLLING_BACK, 0.0)
    assert moved(plan, at, 3.0, Alarms.OK).phase is Phase.BACK


def test_a_step_rings_after_its_last_wait_is_over() -> None:
    """The last look of a bake counts: it is not over before it has been looked at."""
    plan = plan_of({**blue_green("ALL_AT_ONCE", wait=10), **alarmed("x")}, COUNTS)
    at = moved(plan, Shift(), 0.0, Alarms.SILENT)
    assert (at.phase, at.share) == (Phase.ACTIVATING, 1.0)
    assert moved(plan, at, 10.0, Alarms.ALARM).phase is Phase.ROLLING_BACK
    assert moved(plan, at, 10.0, Alarms.OK).phase is Phase.DONE
    assert moved(plan, at, 9.9, Alarms.OK).phase is Phase.BAKING


def test_a_clock_that_is_set_back_only_waits_longer() -> None:
    plan = plan_of(blue_green("CANARY", CanarySize=percent(10)), COUNTS)
    at = moved(plan, Shift(), 100.0, Alarms.OK)
    assert moved(plan, at, 5.0, Alarms.OK).share == 0.1


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ({"x": "OK", "y": "OK"}, Alarms.OK),
        ({"x": "OK", "y": "ALARM"}, Alarms.ALARM),
        ({"x": "INSUFFICIENT_DATA", "y": "ALARM"}, Alarms.ALARM),
        ({"x": "OK", "y": "INSUFFICIENT_DATA"}, Alarms.SILENT),
        ({"x": "OK"}, Alarms.SILENT),
        ({}, Alarms.SILENT),
    ],
)
def test_alarms_together(states: dict[str, str], word: Alarms) -> None:
    """One that is gone, or cannot be asked, is no OK."""
    assert together(("x", "y"), states) is word
    assert together((), states) is Alarms.OK


# -- what a DeploymentConfig means ------------------------------------------------------------------------------------
def alarmed(*names: str) -> dict[str, Any]:
    return {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in names]}}


@pytest.mark.parametrize(
    ("asked", "shares"),
    [
        ({}, (1.0,)),
        (alarmed("x"), (1.0,)),
        (blue_green("ALL_AT_ONCE"), (1.0,)),
        (blue_green("CANARY", CanarySize=percent(5)), (0.05, 1.0)),
        (blue_green("CANARY", CanarySize=instances(1)), (0.25, 1.0)),
        (blue_green("LINEAR", LinearStepSize=percent(30)), (0.3, 0.6, 0.9, 1.0)),
        (blue_green("LINEAR", LinearStepSize=percent(33)), (0.33, 0.66, 0.99, 1.0)),
        (blue_green("LINEAR", LinearStepSize=instances(2)), (0.5, 1.0)),
        (rolling(percent(50)), (0.5, 1.0)),
        (rolling(instances(1)), (0.25, 0.5, 0.75, 1.0)),
    ],
)
def test_a_policy_is_its_shares(asked: dict[str, Any], shares: tuple[float, ...]) -> None:
    found = plan_of(asked, COUNTS)
    assert found.shares == shares
    assert found.alarms == (("x",) if asked == alarmed("x") else ())
    assert found.limit_seconds == 28_800


def test_a_policys_waits_and_limits() -> None:
    found = plan_of(
        {
            **blue_green("ALL_AT_ONCE", 60, TerminationWaitInSeconds=300, MaximumExecutionTimeoutInSeconds=600),
            **alarmed("x", "y"),
        },
        COUNTS,
    )
    assert found == Plan((1.0,), 60, 600, 300, ("x", "y"))
    assert not found.at_once
    assert plan_of({}, COUNTS).at_once
    assert plan_of(rolling(percent(50)), COUNTS).back_share == 1
    assert plan_of(rolling(percent(50), RollbackMaximumBatchSize=percent(20)), COUNTS).back_share == 0.2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({**blue_green("ALL_AT_ONCE"), **rolling(percent(50))}, "needs one update policy"),
        (blue_green("CANARY"), "CANARY needs CanarySize; found no size"),
        (blue_green("CANARY", LinearStepSize=percent(10)), "needs CanarySize; found LinearStepSize"),
        (blue_green("ALL_AT_ONCE", CanarySize=percent(10)), "ALL_AT_ONCE needs no size; found CanarySize"),
        (
            blue_green("LINEAR", CanarySize=percent(10), LinearStepSize=percent(10)),
            "found CanarySize, LinearStepSize",
        ),
        (blue_green("CANARY", CanarySize=percent(51)), "CanarySize must be 0% to 50% .* found 51%"),
        (blue_green("CANARY", CanarySize=instances(3)), "found 75%; the smallest variant has 4 instances"),
        (blue_green("LINEAR", LinearStepSize=percent(9)), "LinearStepSize must be 10% to 50%"),
        (rolling(percent(4)), "MaximumBatchSize must be 5% to 50%"),
        (rolling(percent(60)), "MaximumBatchSize must be 5% to 50%"),
        (
            blue_green("CANARY", 300, CanarySize=percent(5), MaximumExecutionTimeoutInSeconds=600),
            "must be above the sum of all waits, 600 s; found 600",
        ),
        (
            blue_green("ALL_AT_ONCE", 300, TerminationWaitInSeconds=300, MaximumExecutionTimeoutInSeconds=600),
            "must be above the sum of all waits",
        ),
    ],
)
def test_a_policy_that_cannot_be(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        plan_of(asked, COUNTS)
