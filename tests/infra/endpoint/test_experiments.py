"""Shadow tests as SageMaker's inference experiments: begun, ended, promoted, and what comes in between."""

from typing import Any

import pytest

from infra.endpoint.errors import Rejected
from jobs.bundle import Bundle
from tests.infra.endpoint.control_plane import NAME, Plane, plane

__all__ = ["plane"]
DAY = 86_400


def asked(**changes: Any) -> dict[str, Any]:
    """A shadow test of model b beside a, on half of the requests."""
    runs_on = {"InstanceType": "ml.m5.large", "InstanceCount": 1}
    infrastructure = {"InfrastructureType": "RealTimeInference", "RealTimeInferenceConfig": runs_on}
    return {
        "Name": "e",
        "Type": "ShadowMode",
        "RoleArn": "arn:aws:iam::000000000000:role/tidegate",
        **NAME,
        "ModelVariants": [
            {"ModelName": model, "VariantName": name, "InfrastructureConfig": infrastructure}
            for model, name in (("a", "v"), ("b", "s"))
        ],
        "ShadowModeConfig": {
            "SourceModelVariantName": "v",
            "ShadowModelVariants": [{"ShadowModelVariantName": "s", "SamplingPercentage": 50}],
        },
        **changes,
    }


def described(plane: Plane) -> dict[str, Any]:
    return plane.call("DescribeInferenceExperiment", Name="e")


def status(plane: Plane) -> str:
    return str(described(plane)["Status"])


def run(plane: Plane) -> None:
    """Begun, and running."""
    plane.call("CreateInferenceExperiment", **asked())
    plane.after(0)
    assert status(plane) == "Starting"
    plane.after(0)
    assert status(plane) == "Running"


def test_it_runs_and_reverts(plane: Plane, boosted: Bundle) -> None:
    """Half of the requests are answered by the shadow too; at its end the endpoint is what it was."""
    run(plane)
    serving = plane.control.serving["tidegate"]
    assert serving.shadow is not None
    assert (serving.shadow.variant.bundle.sha256, serving.shadow.share) == (boosted.sha256, 0.5)
    assert list(serving.variants) == ["v"]
    assert described(plane)["EndpointMetadata"]["EndpointConfigName"] == plane.status()[1] != "a"
    actions = {"v": "Retain", "s": "Remove"}
    plane.call("StopInferenceExperiment", Name="e", ModelVariantActions=actions, Reason="enough")
    plane.after(0)
    assert (status(plane), described(plane)["StatusReason"]) == ("Completed", "enough")
    assert plane.status() == ("InService", "a")
    assert plane.control.serving["tidegate"].shadow is None


def test_it_ends_by_its_schedule(plane: Plane) -> None:
    """A week, where nothing is said."""
    run(plane)
    plane.after(7 * DAY - 1)
    assert status(plane) == "Running"
    plane.after(1)
    plane.after(0)
    assert (status(plane), plane.status()) == ("Completed", ("InService", "a"))


def test_it_begins_by_its_schedule_or_when_it_is_started(plane: Plane) -> None:
    start = plane.now + DAY
    plane.call("CreateInferenceExperiment", **asked(Schedule={"StartTime": start, "EndTime": start + DAY}))
    plane.after(DAY - 1)
    assert (status(plane), plane.status()) == ("Created", ("InService", "a"))
    plane.call("StartInferenceExperiment", Name="e")
    plane.after(0)
    plane.after(0)
    assert status(plane) == "Running"
    with pytest.raises(Rejected, match="must be Created to be started; it is Running"):
        plane.call("StartInferenceExperiment", Name="e")


def test_a_promoted_shadow_answers_alone(plane: Plane, boosted: Bundle) -> None:
    run(plane)
    plane.call("StopInferenceExperiment", Name="e", ModelVariantActions={"v": "Remove", "s": "Promote"})
    plane.after(0)
    assert status(plane) == "Completed"
    serving = plane.control.serving["tidegate"]
    assert {name: variant.bundle.sha256 for name, variant in serving.variants.items()} == {"s": boosted.sha256}
    plane.restart()
    assert plane.status()[0] == "InService"


def test_both_may_stay(plane: Plane) -> None:
    run(plane)
    before = plane.status()
    plane.call("StopInferenceExperiment", Name="e", ModelVariantActions={"v": "Retain", "s": "Retain"})
    plane.after(0)
    assert (status(plane), plane.status()) == ("Completed", before)
    assert plane.control.serving["tidegate"].shadow is not None


def test_a_restart_in_every_status_goes_on(plane: Plane) -> None:
    """As the update it rests on does."""
    plane.call("CreateInferenceExperiment", **asked(Schedule={"StartTime": plane.now + 60}))
    plane.restart()
    assert status(plane) == "Created"
    plane.after(60)
    assert status(plane) == "Starting"
    plane.restart()
    plane.after(0)
    assert status(plane) == "Running"
    plane.restart()
    assert plane.control.serving["tidegate"].shadow is not None
    plane.call("StopInferenceExperiment", Name="e", ModelVariantActions={"v": "Retain", "s": "Remove"})
    plane.restart()
    plane.after(0)
    assert (status(plane), plane.status()) == ("Completed", ("InService", "a"))


def test_a_shadow_that_cannot_be_loaded_ends_it(plane: Plane, boosted: Bundle) -> None:
    plane.broken.add(boosted.sha256)
    plane.call("CreateInferenceExperiment", **asked())
    plane.after(0)
    plane.after(0)
    assert (status(plane), plane.status()) == ("Cancelled", ("InService", "a"))
    assert "it does not answer" in described(plane)["StatusReason"]


def test_what_somebody_else_put_there_is_left_alone(plane: Plane) -> None:
    run(plane)
    plane.update("b")
    plane.after(0)
    assert (status(plane), plane.status()) == ("Cancelled", ("InService", "b"))
    assert described(plane)["StatusReason"] == "its endpoint was updated to b"


def test_an_endpoint_that_is_gone_ends_it(plane: Plane) -> None:
    run(plane)
    with pytest.raises(Rejected, match="found in an inference experiment"):
        plane.call("DeleteEndpointConfig", EndpointConfigName="a")
    plane.call("DeleteEndpoint", **NAME)
    plane.after(0)
    assert status(plane) == "Cancelled"
    plane.call("DeleteInferenceExperiment", Name="e")
    assert plane.call("ListInferenceExperiments")["InferenceExperiments"] == []


def test_one_that_never_ran_is_cancelled_and_changes_nothing(plane: Plane) -> None:
    plane.call("CreateInferenceExperiment", **asked(Schedule={"StartTime": plane.now + 60}))
    plane.call("StopInferenceExperiment", Name="e", ModelVariantActions={"v": "Retain", "s": "Remove"})
    plane.after(120)
    assert (status(plane), plane.status()) == ("Cancelled", ("InService", "a"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"EndpointName": "none"}, "Could not find endpoint 'none'"),
        ({"Schedule": {"StartTime": 10.0, "EndTime": 5.0}}, "must end after its start"),
        ({"Schedule": {"EndTime": 1_000_000.0 + 31 * DAY}}, "within 30 days"),
        ({"ModelVariants": asked()["ModelVariants"][:1]}, "must be the source and its shadow; found v"),
        ({"ModelVariants": [{**v, "ModelName": "b"} for v in asked()["ModelVariants"]]}, "one variant, the source"),
        (
            {"ModelVariants": [asked()["ModelVariants"][0], {**asked()["ModelVariants"][1], "ModelName": "z"}]},
            "Could not find model 'z'",
        ),
        (
            {
                "ShadowModeConfig": {
                    "SourceModelVariantName": "v",
                    "ShadowModelVariants": [{"ShadowModelVariantName": "s", "SamplingPercentage": 0}],
                }
            },
            "weight over the shown one's must be in",
        ),
    ],
)
def test_a_shadow_that_cannot_be_is_refused(plane: Plane, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        plane.call("CreateInferenceExperiment", **asked(**changes))
    assert plane.call("ListInferenceExperiments")["InferenceExperiments"] == []


@pytest.mark.parametrize("actions", [{"v": "Remove", "s": "Remove"}, {"v": "Retain"}, {"v": "Promote", "s": "Retain"}])
def test_actions_that_leave_nothing_sensible_are_refused(plane: Plane, actions: dict[str, str]) -> None:
    run(plane)
    with pytest.raises(Rejected, match="ModelVariantActions must retain v and remove"):
        plane.call("StopInferenceExperiment", Name="e", ModelVariantActions=actions)
    assert status(plane) == "Running"
