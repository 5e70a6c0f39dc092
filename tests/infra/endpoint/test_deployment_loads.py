"""What an update loads: variants that came too late, were not wanted, or are tried again; the control plane alone."""

import errno
import time
from pathlib import Path
from typing import Any

import pytest

from infra.endpoint import updates
from infra.endpoint.errors import Rejected
from jobs.bundle import Bundle
from tests.infra.endpoint.control_plane import NAME, Plane, plane
from tests.infra.endpoint.test_shift import blue_green, percent

__all__ = ["plane"]


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
