"""Every call and every answer against botocore's service model: shapes, required members, enums, ranges, errors.

The rig's client holds every answer of every test against it (`service_model.conforms`); here are those that no other
test sends, and all the ways in which a call can be wrong.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from infra.endpoint import shapes
from infra.endpoint.payload import PARAMETERS
from jobs.bundle import Bundle
from tests.infra.endpoint import rig, service_model
from tests.infra.endpoint.rig import Client, Direct

NAME = {"EndpointName": "tidegate"}
ROLE = rig.ROLE
VARIANT = {"VariantName": "v", "ModelName": "a", "InitialInstanceCount": 2, "InstanceType": "ml.m5.large"}
ALARMS = {"Alarms": [{"AlarmName": "x"}]}
BLUE_GREEN = {
    "TrafficRoutingConfiguration": {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 60,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
    },
    "TerminationWaitInSeconds": 60,
    "MaximumExecutionTimeoutInSeconds": 3600,
}
ROLLING = {
    "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 10},
    "WaitIntervalInSeconds": 60,
    "MaximumExecutionTimeoutInSeconds": 3600,
    "RollbackMaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
}
VALID: dict[str, list[dict[str, Any]]] = {
    "CreateModel": [
        {
            "ModelName": "m",
            "PrimaryContainer": {
                "Image": "x",
                "ModelDataUrl": "file:///none",
                "Environment": {"TIDEGATE_BUNDLE_SHA256": "0" * 64},
            },
            "ExecutionRoleArn": ROLE,
            "Tags": [{"Key": "team", "Value": "x"}],
            "EnableNetworkIsolation": True,
        }
    ],
    "CreateEndpointConfig": [
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [{**VARIANT, "InitialVariantWeight": 1.0}],
            "ShadowProductionVariants": [{**VARIANT, "VariantName": "s"}],
            "DataCaptureConfig": {
                "EnableCapture": True,
                "InitialSamplingPercentage": 10,
                "DestinationS3Uri": "s3://bucket/x",
                "CaptureOptions": [{"CaptureMode": "Input"}],
            },
            "Tags": [{"Key": "team", "Value": "x"}],
        }
    ],
    "CreateEndpoint": [{**NAME, "EndpointConfigName": "a", "Tags": [{"Key": "team", "Value": "x"}]}],
    "UpdateEndpoint": [
        {
            **NAME,
            "EndpointConfigName": "a",
            "RetainAllVariantProperties": True,
            "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}],
            "RetainDeploymentConfig": False,
            "DeploymentConfig": {name: policy, "AutoRollbackConfiguration": ALARMS},
        }
        for name, policy in (("BlueGreenUpdatePolicy", BLUE_GREEN), ("RollingUpdatePolicy", ROLLING))
    ],
    "UpdateEndpointWeightsAndCapacities": [
        {
            **NAME,
            "DesiredWeightsAndCapacities": [{"VariantName": "a", "DesiredWeight": 1.0, "DesiredInstanceCount": 1}],
        }
    ],
    "ListEndpoints": [
        {"NameContains": "t", "StatusEquals": "InService", "SortBy": "Name", "SortOrder": "Ascending"},
    ],
    "CreateInferenceExperiment": [
        {
            "Name": "e",
            "Type": "ShadowMode",
            "Schedule": {"StartTime": 2_000_000_000, "EndTime": 2_000_100_000},
            "Description": "x",
            "RoleArn": ROLE,
            **NAME,
            "ModelVariants": [
                {
                    "ModelName": name,
                    "VariantName": name,
                    "InfrastructureConfig": {
                        "InfrastructureType": "RealTimeInference",
                        "RealTimeInferenceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
                    },
                }
                for name in "ab"
            ],
            "DataStorageConfig": {"Destination": "s3://bucket/x"},
            "ShadowModeConfig": {
                "SourceModelVariantName": "a",
                "ShadowModelVariants": [{"ShadowModelVariantName": "b", "SamplingPercentage": 50}],
            },
            "Tags": [{"Key": "team", "Value": "x"}],
        }
    ],
    "StopInferenceExperiment": [
        {"Name": "e", "ModelVariantActions": {"a": "Retain"}, "DesiredState": "Completed", "Reason": "x"}
    ],
    "ListInferenceExperiments": [
        {"NameContains": "t", "StatusEquals": "Running", "SortBy": "Name", "SortOrder": "Ascending"},
    ],
    **{f"{verb}InferenceExperiment": [{"Name": "none"}] for verb in ("Describe", "Start", "Delete")},
    **{
        f"{verb}{kind}": [{f"{kind}Name": "none"}]
        for verb in ("Describe", "Delete")
        for kind in ("Model", "EndpointConfig", "Endpoint")
    },
}
"""Of every operation, calls with every member that is done here."""


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory, popular: Bundle) -> Iterator[Direct]:
    with rig.direct(rig.settings(tmp_path_factory.mktemp("model")), popular) as made:
        yield made


@pytest.mark.parametrize("operation", sorted(PARAMETERS))
def test_the_calls_here_have_every_member_that_is_done(operation: str) -> None:
    """So that no member is forgotten below, and none is claimed that SageMaker has not."""
    shape = shapes.service().operation_model(operation).input_shape
    assert {name for call in VALID[operation] for name in call} == set(PARAMETERS[operation]) <= set(shape.members)
    for call in VALID[operation]:
        assert not ParamValidator().validate(call, shape).has_errors()
        shapes.check(operation, call)


@pytest.mark.parametrize("operation", sorted(PARAMETERS))
def test_a_call_of_a_wrong_shape_is_sagemakers_own_error(direct: Direct, operation: str) -> None:
    """Every member of every call: another type, none where one is required, one too many, too long, out of its enum.

    What boto3 would not let out, a caller without it can send: 400, ValidationException, and the endpoint serves on.
    """
    model = shapes.service().operation_model(operation)
    seen = 0
    for call in VALID[operation]:
        for where, wrong in service_model.broken(model.input_shape, call):
            status, body = direct.ask("/", json.dumps(wrong).encode(), {"X-Amz-Target": f"SageMaker.{operation}"})
            said = json.loads(body)
            assert (status, said["__type"]) == (400, "ValidationException"), (where, said)
            assert "needs SageMaker's own types" in said["message"] or "validation error" in said["message"], where
            seen += 1
    assert seen >= len(PARAMETERS[operation])
    assert direct.invoke()["items"]


@pytest.mark.parametrize("operation", sorted(set(shapes.service().operation_names) - set(PARAMETERS))[::40])
def test_an_operation_that_is_not_done_is_unknown(direct: Direct, operation: str) -> None:
    status, body = direct.ask("/", b"{}", {"X-Amz-Target": f"SageMaker.{operation}"})
    assert (status, json.loads(body)["__type"]) == (404, "UnknownOperationException")


def test_every_operation_answers_in_its_shape(tmp_path: Path, popular: Bundle, boosted: Bundle) -> None:
    """A whole life through boto3: each answer held against the model, while an update is under way and after it."""
    with rig.running(rig.settings(tmp_path)) as client:
        sm = client.control
        client.serve(popular)
        client.config(client.model(boosted, "b"), b=1.0)
        routing = {**BLUE_GREEN["TrafficRoutingConfiguration"], "WaitIntervalInSeconds": 2}
        policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 1}
        sm.update_endpoint(**NAME, EndpointConfigName="b", DeploymentConfig={"BlueGreenUpdatePolicy": policy})
        found = sm.describe_endpoint(**NAME)
        assert found["PendingDeploymentSummary"]["EndpointConfigName"] == "b"
        [status] = found["PendingDeploymentSummary"]["ProductionVariants"][0]["VariantStatus"]
        assert status["Status"] in ("Creating", "ActivatingTraffic", "Baking")
        client.invoke()
        assert client.settled()["EndpointConfigName"] == "b"
        sm.update_endpoint_weights_and_capacities(
            **NAME, DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 2.0}]
        )
        sm.list_endpoints()
        shadowed = [{"VariantName": "s", "ModelName": "a", "InitialInstanceCount": 1, "InitialVariantWeight": 0.5}]
        shown = [{"VariantName": "v", "ModelName": "b", "InitialInstanceCount": 1}]
        sm.create_endpoint_config(EndpointConfigName="s", ProductionVariants=shown, ShadowProductionVariants=shadowed)
        sm.update_endpoint(**NAME, EndpointConfigName="s")
        assert client.settled()["ShadowProductionVariants"][0]["VariantName"] == "s"
        sm.describe_model(ModelName="a")
        sm.describe_endpoint_config(EndpointConfigName="s")
        sm.update_endpoint(**NAME, EndpointConfigName="a")
        client.settled()
        [experiment] = VALID["CreateInferenceExperiment"]
        sm.create_inference_experiment(**experiment)
        sm.start_inference_experiment(Name="e")
        until(client, "Running")
        assert client.invoke()["bundle_sha256"] == popular.sha256, "nobody sees the shadow"
        sm.list_inference_experiments(StatusEquals="Running")
        sm.stop_inference_experiment(Name="e", ModelVariantActions={"a": "Remove", "b": "Promote"})
        assert until(client, "Completed")["ModelVariants"][0]["Status"] == "Deleted"
        assert client.invoke()["bundle_sha256"] == boosted.sha256
        promoted = client.settled()["EndpointConfigName"]
        sm.delete_inference_experiment(Name="e")
        sm.delete_endpoint(**NAME)
        for name in ("a", "b", "s", promoted, promoted.removesuffix("-promoted")):
            sm.delete_endpoint_config(EndpointConfigName=name)
        for name in "ab":
            sm.delete_model(ModelName=name)
        assert {name for name, status in client.answered if status == 200} == {*PARAMETERS, "InvokeEndpoint"}


def until(client: Client, status: str) -> dict[str, Any]:
    """The experiment once it is so."""
    deadline = time.monotonic() + 60
    while (found := client.control.describe_inference_experiment(Name="e"))["Status"] != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return dict(found)


def test_every_error_is_in_its_shape(tmp_path: Path, popular: Bundle, boosted: Bundle) -> None:
    """The code, its status and its members: what `except client.exceptions.ResourceLimitExceeded` catches."""
    with rig.running(rig.settings(tmp_path)) as client:
        client.serve(popular)
        many = [{"VariantName": "v", "ModelName": "a", "InitialInstanceCount": 101}]
        with pytest.raises(client.control.exceptions.ResourceLimitExceeded):
            client.control.create_endpoint_config(EndpointConfigName="many", ProductionVariants=many)
        for name, call in unknown(client):
            with pytest.raises(ClientError) as caught:
                call()
            assert caught.value.response["Error"]["Code"] == "ValidationException", name
        [experiment] = VALID["CreateInferenceExperiment"]
        client.model(boosted, "b")
        client.control.create_inference_experiment(**experiment)
        errors = client.control.exceptions
        with pytest.raises(errors.ResourceInUse):
            client.control.create_inference_experiment(**experiment)
        with pytest.raises(errors.ConflictException):
            client.control.delete_inference_experiment(Name="e")
        for verb in ("describe", "start", "delete"):
            with pytest.raises(errors.ResourceNotFound):
                getattr(client.control, f"{verb}_inference_experiment")(Name="none")
        with pytest.raises(errors.ResourceNotFound):
            client.control.stop_inference_experiment(Name="none", ModelVariantActions={"a": "Retain"})
        with pytest.raises(ClientError) as caught:
            client.invoke(endpoint="none")
        assert caught.value.response["Error"]["Code"] == "ValidationError"
        with pytest.raises(client.runtime.exceptions.ModelError) as model_error:
            client.invoke(k=0)
        assert model_error.value.response["OriginalStatusCode"] == 400


def unknown(client: Client) -> Iterator[tuple[str, Any]]:
    """Calls about what there is not."""
    for kind in ("model", "endpoint_config", "endpoint"):
        key = {"model": "ModelName", "endpoint_config": "EndpointConfigName", "endpoint": "EndpointName"}[kind]
        for verb in ("describe", "delete"):
            method = getattr(client.control, f"{verb}_{kind}")
            yield f"{verb} {kind}", lambda method=method, key=key: method(**{key: "none"})
