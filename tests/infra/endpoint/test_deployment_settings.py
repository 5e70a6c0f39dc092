"""What an update retains of the one before, and which updates are refused, on the control plane alone."""

from typing import Any

import pytest

from infra.endpoint.errors import Rejected
from tests.infra.endpoint.control_plane import CANARY, NAME, Plane, plane
from tests.infra.endpoint.test_shift import alarmed

__all__ = ["plane"]


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
