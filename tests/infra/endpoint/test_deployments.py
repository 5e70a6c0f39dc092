"""Updates by SageMaker's policies, on the control plane alone: steps, alarms, the way back, failures, restarts."""

from typing import Any

import pytest

from infra.endpoint import updates
from infra.endpoint.errors import Rejected
from jobs.bundle import Bundle
from tests.infra.endpoint.control_plane import CANARY, NAME, Plane, moved, plane
from tests.infra.endpoint.test_shift import alarmed, blue_green, instances, percent, rolling

__all__ = ["plane"]


def test_a_canary_from_its_first_request_to_the_old_fleets_end(plane: Plane, popular: Bundle) -> None:
    """Updating, ActivatingTraffic, Baking, ...; EndpointConfigName is the old one until the end, as in SageMaker."""
    plane.loads.waiting = []
    plane.update("b", DeploymentConfig=CANARY)
    assert (plane.status(), plane.phase(), plane.share()) == (("Updating", "a"), "Creating", 0)
    started = plane.described()["PendingDeploymentSummary"]["StartTime"]
    plane.now += 5
    plane.loads.load()
    assert (plane.status(), plane.phase()) == (("Updating", "a"), "ActivatingTraffic")
    assert plane.share() == pytest.approx(0.25, abs=0.03)
    canaries = plane.control.serving["tidegate"]
    plane.after(1)
    assert plane.phase() == "Baking"
    plane.after(58)
    assert plane.share() == pytest.approx(0.25, abs=0.03)
    assert moved(canaries, plane.control.serving["tidegate"]) == set(), "the same callers are the canary meanwhile"
    plane.after(1)
    assert (plane.phase(), plane.share()) == ("ActivatingTraffic", 1)
    assert (plane.status()[1], started) == ("a", plane.described()["PendingDeploymentSummary"]["StartTime"])
    plane.after(60)
    assert (plane.status(), plane.phase()) == (("InService", "b"), None)
    assert "FailureReason" not in plane.described()
    assert plane.described()["LastDeploymentConfig"] == CANARY
    plane.after(299)
    plane.after(0)
    assert plane.closed == []
    plane.after(1)
    plane.after(0)
    assert plane.closed == [popular.sha256], "the old fleet is terminated after its wait, not before"


@pytest.mark.parametrize(
    ("asked", "shares"),
    [
        (blue_green("ALL_AT_ONCE", 60), [1.0]),
        (blue_green("LINEAR", 60, LinearStepSize=percent(40)), [0.4, 0.8, 1.0]),
        (blue_green("LINEAR", 60, LinearStepSize=instances(2)), [0.5, 1.0]),
        (rolling(instances(1), 60), [0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_every_policys_traffic_moves_by_its_steps(plane: Plane, asked: dict[str, Any], shares: list[float]) -> None:
    """Who has moved stays moved: a larger share has all callers of the smaller one."""
    plane.update("b", DeploymentConfig=asked)
    for share in shares:
        assert plane.status() == ("Updating", "a")
        assert plane.share() == pytest.approx(share, abs=0.04)
        before = plane.control.serving["tidegate"]
        plane.after(60)
        after = plane.control.serving["tidegate"]
        assert all(after.of(f"u{n}").config == "b" for n in range(500) if before.of(f"u{n}").config == "b")
    assert plane.status() == ("InService", "b")


def test_other_callers_are_the_next_updates_canary(plane: Plane) -> None:
    """The same people once were the canary of every deployment."""
    found = []
    for config in ("b", "a", "b"):
        plane.update(config, DeploymentConfig=CANARY)
        serving = plane.control.serving["tidegate"]
        found.append({n for n in range(400) if serving.of(f"u{n}").config == config})
        plane.after(60)
        plane.after(60)
    assert len(found[0] & found[2]) < len(found[0]) * 0.5


@pytest.mark.parametrize("steps", [0, 1])
def test_an_alarm_takes_it_all_back_in_any_bake(plane: Plane, boosted: Bundle, steps: int) -> None:
    """RollingBack, then InService with the OLD config and a reason: who only waits for InService sees no failure."""
    plane.says["x"] = "OK"
    plane.update("b", DeploymentConfig={**CANARY, **alarmed("x")})
    for _ in range(steps):
        plane.after(60)
    assert plane.share() > 0
    plane.says["x"] = "ALARM"
    plane.after(1)
    assert (plane.status(), plane.phase(), plane.share()) == (("RollingBack", "a"), "Deleting", 0)
    with pytest.raises(Rejected, match="Cannot update in-progress"):
        plane.update("b")
    plane.after(1)
    assert plane.status() == ("InService", "a")
    assert "x is in ALARM" in plane.described()["FailureReason"]
    plane.after(1)
    assert plane.closed == [boosted.sha256]


def test_an_alarm_after_the_last_bake_is_too_late(plane: Plane) -> None:
    """As SageMaker's: they are watched while it bakes. The old config is still loaded then, to go back by hand."""
    plane.says["x"] = "OK"
    plane.update("b", DeploymentConfig={**CANARY, **alarmed("x")})
    plane.after(60)
    plane.after(60)
    plane.says["x"] = "ALARM"
    plane.after(1)
    assert plane.status() == ("InService", "b")


@pytest.mark.parametrize("says", [{}, {"x": "INSUFFICIENT_DATA"}])
def test_a_canary_nobody_asks_anything_is_never_promoted(plane: Plane, says: dict[str, str]) -> None:
    """The sample's TreatMissingData=notBreaching passes a canary at night; here it bakes on, and goes back at last."""
    plane.says = says
    asked = {**blue_green("CANARY", 60, CanarySize=percent(25), MaximumExecutionTimeoutInSeconds=3600), **alarmed("x")}
    plane.update("b", DeploymentConfig=asked)
    for _ in range(35):
        plane.after(100)
        assert (plane.status(), plane.phase()) == (("Updating", "a"), "Baking")
        assert plane.share() == pytest.approx(0.25, abs=0.03)
    plane.after(100)
    plane.after(1)
    assert plane.status() == ("InService", "a")
    assert "within 3600 s; its alarms were INSUFFICIENT_DATA then" in plane.described()["FailureReason"]


def test_a_rolling_update_goes_back_in_batches_where_it_says_so(plane: Plane) -> None:
    plane.says["x"] = "OK"
    asked = {**rolling(percent(50), 60, RollbackMaximumBatchSize=percent(40)), **alarmed("x")}
    plane.update("b", DeploymentConfig=asked)
    plane.after(60)
    assert plane.share() == 1
    plane.says["x"] = "ALARM"
    for share in (0.6, 0.2, 0):
        plane.after(60)
        assert plane.status() == ("RollingBack", "a")
        assert plane.share() == pytest.approx(share, abs=0.03)
    plane.after(1)
    assert plane.status() == ("InService", "a")


# -- the way back by hand ---------------------------------------------------------------------------------------------
def test_the_old_config_is_had_back_without_loading_while_it_is_kept(plane: Plane, popular: Bundle) -> None:
    """After promotion others have no instant way back: here it is one assignment, its variants never left."""
    before = plane.control.serving["tidegate"].variants["v"]
    plane.update("b", DeploymentConfig=CANARY)
    plane.after(60)
    plane.after(60)
    plane.broken.add(popular.sha256)  # it could not be loaded again
    plane.update("a")
    assert plane.status() == ("InService", "a")
    assert plane.control.serving["tidegate"].variants["v"] is before
    plane.after(1000)
    plane.after(0)
    assert popular.sha256 not in plane.closed, "what answers is not closed with what was kept"


def test_an_update_under_way_is_left_alone_and_what_is_not_there_is_not_undone(plane: Plane) -> None:
    """Re-applying the old version in mid-canary once sent all traffic to it undersized (Argo #3020)."""
    plane.update("b", DeploymentConfig=CANARY)
    for _ in range(2):
        share = plane.share()
        for refused in (
            lambda: plane.update("a"),
            lambda: plane.call("DeleteEndpoint", **NAME),
            lambda: plane.call("DeleteEndpointConfig", EndpointConfigName="b"),
            lambda: plane.call("DeleteEndpointConfig", EndpointConfigName="a"),
            lambda: plane.call(
                "UpdateEndpointWeightsAndCapacities",
                **NAME,
                DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredWeight": 2.0}],
            ),
        ):
            with pytest.raises(Rejected):
                refused()
        assert plane.share() == share
        plane.after(60)


# -- what fails on the way --------------------------------------------------------------------------------------------
def test_a_config_that_does_not_answer_is_never_sent_to(plane: Plane, boosted: Bundle) -> None:
    plane.broken.add(boosted.sha256)
    plane.update("b", DeploymentConfig=CANARY)
    assert (plane.status(), plane.share()) == (("InService", "a"), 0)
    assert "it does not answer" in plane.described()["FailureReason"]


def test_a_load_that_hangs_is_given_up_at_the_limit(plane: Plane) -> None:
    """And what it brings afterwards is nobody's."""
    plane.loads.waiting = []
    plane.update("b", DeploymentConfig=blue_green("ALL_AT_ONCE", 0, MaximumExecutionTimeoutInSeconds=600))
    plane.after(599)
    assert plane.status() == ("Updating", "a")
    plane.after(1)
    plane.after(0)
    assert plane.status() == ("InService", "a")
    plane.loads.load()
    plane.after(0)
    assert (plane.status(), plane.share()) == (("InService", "a"), 0)


@pytest.mark.parametrize("step", range(3))
def test_a_step_that_cannot_be_written_down_waits_and_the_way_back_does_not(plane: Plane, step: int) -> None:
    """The file knows a step before anybody meets it; a full disk keeps nobody with a bad config."""
    plane.says["x"] = "OK"
    plane.update("b", DeploymentConfig={**CANARY, **alarmed("x")})
    for _ in range(step):
        plane.after(30)
    before = (plane.status(), plane.share())
    draft = plane.folder / "state.tmp"
    draft.mkdir()
    for _ in range(3):
        plane.after(60)
        assert (plane.status(), plane.share()) == before
    plane.says["x"] = "ALARM"
    plane.after(1)
    assert plane.share() == 0
    draft.rmdir()
    plane.after(1)
    assert plane.status() == ("InService", "a")
    plane.restart()
    assert plane.status() == ("InService", "a")


# -- restarts ---------------------------------------------------------------------------------------------------------
def test_a_restart_goes_on_at_its_step_and_bakes_it_anew(plane: Plane) -> None:
    """What nobody watched was not baked; the limit counts from the beginning."""
    plane.update("b", DeploymentConfig=CANARY)
    canaries = plane.control.serving["tidegate"]
    plane.after(59)
    plane.restart()
    assert (plane.status(), plane.phase()) == (("Updating", "a"), "Baking")
    assert moved(canaries, plane.control.serving["tidegate"]) == set()
    plane.after(59)
    assert plane.share() < 1
    plane.after(1)
    plane.restart()
    assert plane.share() == 1
    plane.after(60)
    assert plane.status() == ("InService", "b")
    plane.restart()
    assert plane.status() == ("InService", "b")


def test_a_restart_long_after_the_limit_goes_back(plane: Plane) -> None:
    plane.update("b", DeploymentConfig=CANARY)
    plane.now += 28_800
    plane.restart()
    plane.after(0)
    plane.after(0)
    assert plane.status() == ("InService", "a")


def test_a_server_that_is_restarted_again_and_again_takes_the_update_for_the_reason(plane: Plane) -> None:
    """A config that kills the server would else come back with it for ever."""
    plane.update("b", DeploymentConfig=CANARY)
    for _ in range(updates.MOST_RESTARTS):
        plane.restart()
        assert plane.status() == ("Updating", "a")
    plane.restart()
    assert (plane.status(), plane.share()) == (("InService", "a"), 0)
    assert "restarted 3 times during it" in plane.described()["FailureReason"]


def test_a_restart_while_it_goes_back_is_back(plane: Plane) -> None:
    plane.says["x"] = "OK"
    plane.update("b", DeploymentConfig={**CANARY, **alarmed("x")})
    plane.says["x"] = "ALARM"
    plane.after(1)
    plane.says["x"] = "OK"
    plane.restart()
    assert plane.status() == ("InService", "a")
    assert "x is in ALARM" in plane.described()["FailureReason"]


def test_a_restart_keeps_what_is_kept(plane: Plane, popular: Bundle) -> None:
    plane.update("b", DeploymentConfig=CANARY)
    plane.after(60)
    plane.after(60)
    plane.restart()
    plane.broken.add(popular.sha256)
    plane.update("a")
    assert plane.status() == ("InService", "a")


@pytest.mark.parametrize("ringing", [False, True])
def test_a_rollback_that_cannot_be_done_says_so_and_something_answers(
    plane: Plane, popular: Bundle, boosted: Bundle, ringing: bool
) -> None:
    """UpdateRollbackFailed: the old config is gone. The next config still comes up: the sick must be replaceable."""
    plane.says["x"] = "OK"
    plane.update("b", DeploymentConfig={**CANARY, **alarmed("x")})
    if ringing:
        plane.says["x"] = "ALARM"
        plane.after(1)
    plane.broken.add(popular.sha256)
    plane.restart()
    found = plane.described()
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("UpdateRollbackFailed", "b")
    assert "it does not answer" in found["FailureReason"]
    assert plane.control.serving["tidegate"].of("u").variants["v"].bundle.sha256 == boosted.sha256
    plane.broken.clear()
    plane.restart()
    assert plane.status() == ("UpdateRollbackFailed", "b")
    plane.update("a")
    assert plane.status() == ("InService", "a")


def test_with_nothing_left_to_serve_it_is_failed_and_the_next_config_comes_at_once(
    plane: Plane, popular: Bundle, boosted: Bundle
) -> None:
    """A sick champion must not hold up the cure: there is no traffic to move, so no step to bake."""
    plane.broken.add(popular.sha256)
    plane.restart()
    assert plane.status() == ("Failed", "a")
    plane.update("b", DeploymentConfig=CANARY)
    assert plane.status() == ("InService", "b")
