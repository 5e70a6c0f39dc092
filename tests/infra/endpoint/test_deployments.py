"""Updates by SageMaker's policies, on the control plane alone: the test turns the clock, and says what alarms say."""

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.endpoint import loading, updates
from infra.endpoint.control import Control
from infra.endpoint.errors import Rejected
from infra.endpoint.serving import Serving
from infra.endpoint.state import Registry
from jobs.bundle import Bundle
from tests.infra.endpoint.test_shift import alarmed, blue_green, instances, percent, rolling

CANARY = blue_green("CANARY", 60, CanarySize=percent(25), TerminationWaitInSeconds=300)
NAME = {"EndpointName": "tidegate"}


class Now(Executor):
    """Loads at once, or when told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] | None = None

    def submit(self, work: Any, /, *given: Any, **named: Any) -> "Future[Any]":
        if self.waiting is None:
            work(*given, **named)
        else:
            self.waiting.append(lambda: work(*given, **named))
        return Future()

    def load(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        for work in waiting:
            work()


class Plane:
    """A control plane in a folder, with variants that can be closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1_000_000.0
        self.says: dict[str, str] = {}
        self.broken: set[str] = set()
        self.closed: list[str] = []
        self.start()

    def start(self) -> None:
        self.registry, self.loads = Registry(self.folder), Now()
        self.control = Control(
            *(self.registry, "here", self.loads, self.ready, lambda: True),
            alarms=self.states,
            clock=lambda: self.now,
            looks=False,
        )

    def restart(self) -> None:
        """As after kill -9: nothing but the file is left."""
        self.registry.close()
        self.start()
        self.control.resume()

    def ready(self, judged: Bundle, instances: int) -> Any:
        if judged.sha256 in self.broken:
            raise RuntimeError("it does not answer")
        close, found = lambda: self.closed.append(judged.sha256), SimpleNamespace(bundle=judged, up=1)
        found.close, found.instances, found.scale = close, instances, lambda to: setattr(found, "instances", to)
        return found

    def states(self, names: Sequence[str]) -> Mapping[str, str]:
        return {name: self.says[name] for name in names if name in self.says}

    def call(self, operation: str, **payload: Any) -> dict[str, Any]:
        return self.control.call(operation, payload)

    def model(self, name: str, judged: Bundle) -> None:
        environment = {"TIDEGATE_BUNDLE_SHA256": judged.sha256}
        container = {"Image": "x", "ModelDataUrl": judged.path.as_uri(), "Environment": environment}
        self.call("CreateModel", ModelName=name, PrimaryContainer=container)

    def config(self, name: str, variants: Mapping[str, Mapping[str, Any]], capture: int | None = None) -> None:
        shown = [
            {"VariantName": variant, "ModelName": name, "InitialInstanceCount": 4, **more}
            for variant, more in variants.items()
        ]
        extra: dict[str, Any] = {}
        if capture is not None:
            extra["DataCaptureConfig"] = {
                "EnableCapture": True,
                "InitialSamplingPercentage": capture,
                "DestinationS3Uri": "s3://b/c",
                "CaptureOptions": [{"CaptureMode": "Output"}],
            }
        self.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=shown, **extra)

    def update(self, config: str, **more: Any) -> None:
        self.call("UpdateEndpoint", **NAME, EndpointConfigName=config, **more)

    def described(self) -> dict[str, Any]:
        return self.call("DescribeEndpoint", **NAME)

    def status(self) -> tuple[str, str]:
        found = self.described()
        return found["EndpointStatus"], found["EndpointConfigName"]

    def phase(self) -> str | None:
        """Of the variants that come in."""
        pending = self.described().get("PendingDeploymentSummary")
        return None if pending is None else str(pending["ProductionVariants"][0]["VariantStatus"][0]["Status"])

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.control.look()

    def share(self, config: str = "b", callers: int = 2000) -> float:
        """Of the callers, whom this config answers."""
        serving = self.control.serving["tidegate"]
        return sum(serving.of(f"u{n}").config == config for n in range(callers)) / callers


@pytest.fixture
def plane(tmp_path: Path, popular: Bundle, boosted: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    """The endpoint serves config a (model a, one variant v); config b has model b under the same variant's name."""
    monkeypatch.setattr(loading, "GRACE_SECONDS", 0.0)
    made = Plane(tmp_path / "state")
    for name, judged in (("a", popular), ("b", boosted)):
        made.model(name, judged)
        made.config(name, {"v": {}})
    made.call("CreateEndpoint", **NAME, EndpointConfigName="a")
    yield made
    made.registry.close()


def moved(before: Serving, after: Serving, callers: int = 500) -> set[str]:
    return {u for u in (f"u{n}" for n in range(callers)) if before.of(u).config != after.of(u).config}


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


# -- what an update retains -------------------------------------------------------------------------------------------
def properties(plane: Plane) -> dict[str, Any]:
    found = plane.described()
    return {v["VariantName"]: (v["CurrentWeight"], v["DesiredInstanceCount"]) for v in found["ProductionVariants"]} | {
        "capture": found["DataCaptureConfig"]["CurrentSamplingPercentage"]
    }


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"v": (1.0, 2), "w": (3.0, 2), "capture": 50}),
        ({"RetainAllVariantProperties": False}, {"v": (1.0, 2), "w": (3.0, 2), "capture": 50}),
        ({"RetainAllVariantProperties": True}, {"v": (5.0, 7), "w": (3.0, 2), "capture": 0}),
        (("DesiredWeight",), {"v": (1.0, 7), "w": (3.0, 2), "capture": 0}),
        (("DesiredInstanceCount",), {"v": (5.0, 2), "w": (3.0, 2), "capture": 0}),
        (("DataCaptureConfig",), {"v": (5.0, 7), "w": (3.0, 2), "capture": 50}),
        (("DesiredWeight", "DesiredInstanceCount", "DataCaptureConfig"), {"v": (1.0, 2), "w": (3.0, 2), "capture": 50}),
    ],
)
def test_an_update_resets_weights_and_counts_unless_they_are_retained(
    plane: Plane, asked: Any, expected: dict[str, Any]
) -> None:
    """By default the new config's own: what others took for a bug (terraform #48990) is what the flag is for."""
    change = {"VariantName": "v", "DesiredWeight": 5.0, "DesiredInstanceCount": 7}
    plane.call("UpdateEndpointWeightsAndCapacities", **NAME, DesiredWeightsAndCapacities=[change])
    plane.call("CreateEndpointConfig", EndpointConfigName="two", **two(capture=50))
    if isinstance(asked, tuple):
        excluded = [{"VariantPropertyType": name} for name in asked]
        asked = {"RetainAllVariantProperties": True, "ExcludeRetainedVariantProperties": excluded}
    plane.update("two", **asked)
    assert properties(plane) == expected
    plane.restart()
    assert properties(plane) == expected


def two(capture: int) -> dict[str, Any]:
    variants = [
        {"VariantName": name, "ModelName": "b", "InitialInstanceCount": 2, "InitialVariantWeight": weight}
        for name, weight in (("v", 1.0), ("w", 3.0))
    ]
    captured = {"EnableCapture": True, "InitialSamplingPercentage": capture, "DestinationS3Uri": "s3://b/c"}
    return {
        "ProductionVariants": variants,
        "DataCaptureConfig": {**captured, "CaptureOptions": [{"CaptureMode": "Output"}]},
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}]},
            "needs RetainAllVariantProperties to be true",
        ),
        ({"RetainDeploymentConfig": True, "DeploymentConfig": CANARY}, "needs no DeploymentConfig beside it"),
    ],
)
def test_what_contradicts_itself_is_refused(plane: Plane, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        plane.update("b", **asked)
    assert plane.status() == ("InService", "a")


def test_the_last_deployment_config_is_used_again_where_it_is_retained(plane: Plane) -> None:
    plane.update("b", DeploymentConfig=CANARY)
    plane.after(60)
    plane.after(60)
    plane.update("a", RetainDeploymentConfig=True)
    assert plane.share("a") == pytest.approx(0.25, abs=0.03)
    plane.after(60)
    plane.after(60)
    plane.update("b")
    assert plane.status() == ("InService", "b"), "without the flag it is all at once"
    assert plane.described()["LastDeploymentConfig"] == CANARY


def test_alarms_without_a_cloudwatch_are_refused(plane: Plane) -> None:
    """Nobody may believe that somebody watches."""
    plane.control._alarms = None
    with pytest.raises(Rejected, match=r"needs a CloudWatch to ask; found no endpoint\.alarms_url"):
        plane.update("b", DeploymentConfig=alarmed("x"))


# -- what is loaded and not wanted any more ---------------------------------------------------------------------------
def test_what_was_loaded_too_late_is_closed(plane: Plane, boosted: Bundle) -> None:
    """The limit came while it was still loading: its processes once stayed for ever, beside those that serve."""

    def slowly(judged: Bundle, instances: int) -> Any:
        plane.after(601)
        plane.after(1)
        assert plane.status() == ("InService", "a")
        return plane.ready(judged, instances)

    plane.control._updates._loading._ready = slowly
    plane.loads.waiting = []
    plane.update("b", DeploymentConfig=blue_green("ALL_AT_ONCE", 0, MaximumExecutionTimeoutInSeconds=600))
    plane.loads.load()
    plane.after(1)
    assert plane.status() == ("InService", "a")
    assert plane.closed == [boosted.sha256]


def test_two_variants_of_the_same_bytes_are_as_many_as_the_larger(plane: Plane) -> None:
    """An A/A test against what serves: both are its processes, and neither's count may take the other's away."""
    variants = [{"VariantName": v, "ModelName": "a", "InitialInstanceCount": n} for v, n in (("v", 3), ("w", 1))]
    plane.call("CreateEndpointConfig", EndpointConfigName="aa", ProductionVariants=variants)
    plane.update("aa")
    found = plane.described()["ProductionVariants"]
    counts = [(v["CurrentInstanceCount"], v["DesiredInstanceCount"]) for v in found]
    assert counts == [(3, 3), (1, 1)]
    there = plane.control.serving["tidegate"].variants
    assert there["v"] is there["w"]
    assert there["v"].instances == 3


def test_what_cannot_be_written_down_is_closed(plane: Plane, boosted: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that is Failed for a full disk leaves no process."""
    plane.loads.waiting = []
    plane.call("CreateEndpoint", EndpointName="other", EndpointConfigName="b")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(plane.registry, "save", lambda: (_ for _ in ()).throw(full))
    plane.loads.load()
    plane.after(1)
    found = plane.call("DescribeEndpoint", EndpointName="other")
    assert found["EndpointStatus"] == "Failed"
    assert "No space left" in found["FailureReason"]
    assert plane.closed == [boosted.sha256]


def test_what_served_before_a_restart_is_tried_again(
    plane: Plane, popular: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed, since the machine could not begin it just then; nobody had to ask for it to serve again. Once somebody
    has asked for another config it is not brought back.
    """
    monkeypatch.setattr(updates, "AGAIN_SECONDS", 0.0)
    plane.broken.add(popular.sha256)
    plane.restart()
    plane.after(1)
    assert plane.status() == ("Failed", "a")
    plane.broken.clear()
    plane.after(1)
    assert plane.status() == ("InService", "a")
    assert "FailureReason" not in plane.described()
    plane.broken.add(popular.sha256)
    plane.restart()
    plane.update("b")
    plane.broken.clear()
    plane.after(1)
    assert plane.status() == ("InService", "b")
    assert not plane.control._updates._again


def test_a_quota_is_a_quota(plane: Plane) -> None:
    """ResourceLimitExceeded, as the model has it."""
    change = {"VariantName": "v", "DesiredInstanceCount": 101}
    with pytest.raises(Rejected, match="at most 100 instances; found 101") as caught:
        plane.call("UpdateEndpointWeightsAndCapacities", **NAME, DesiredWeightsAndCapacities=[change])
    assert caught.value.code == "ResourceLimitExceeded"


def test_looks_are_taken_without_being_asked_for(tmp_path: Path, popular: Bundle, boosted: Bundle) -> None:
    """The real thread, on the real clock."""
    plane = Plane(tmp_path / "state")
    plane.control._updates._looks = True
    plane.control._updates._clock = time.time
    for name, judged in (("a", popular), ("b", boosted)):
        plane.model(name, judged)
        plane.config(name, {"v": {}})
    plane.call("CreateEndpoint", **NAME, EndpointConfigName="a")
    plane.control._clock = time.time
    plane.update("b", DeploymentConfig=blue_green("CANARY", 1, CanarySize=percent(25)))
    deadline = time.monotonic() + 120
    while plane.status() != ("InService", "b"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    plane.control.close()
    plane.registry.close()
