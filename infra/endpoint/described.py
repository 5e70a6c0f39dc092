"""Parts of `DescribeEndpoint`, in SageMaker's shapes."""

from collections.abc import Mapping
from typing import Any

from infra.endpoint.deployment import served_of
from infra.endpoint.payload import shadows_of
from infra.endpoint.serving import Serving
from infra.endpoint.shift import Phase
from infra.endpoint.state import Deployment, Endpoint, Served


def variants(served: Served, serving: Serving) -> dict[str, Any]:
    """What answers, and what its shadow is; instances as they are, and as they were asked for."""
    body: dict[str, Any] = {
        "ProductionVariants": [
            {
                **_summary(name, weight, served.counts[name]),
                "CurrentInstanceCount": min(served.counts[name], serving.variants[name].instances),
            }
            for name, weight in served.weights.items()
        ]
    }
    if serving.shadow is not None:
        weight = serving.shadow.share * sum(serving.weights.values())
        body["ShadowProductionVariants"] = [_summary(serving.shadow.name, weight, 1)]
    return body


def capture(serving: Serving, folder: str, can_write: bool) -> dict[str, Any]:
    """The data capture as it is: stopped where it has no room."""
    percentage = serving.capture_percentage
    return {
        "EnableCapture": percentage > 0,
        "CaptureStatus": "Started" if percentage > 0 and can_write else "Stopped",
        "CurrentSamplingPercentage": percentage,
        "DestinationS3Uri": folder,
        "KmsKeyId": "",
    }


def deployments(endpoint: Endpoint, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is under way, the newest `DeploymentConfig` a caller gave, and why the last one failed where it did."""
    body: dict[str, Any] = {}
    if endpoint.failure:
        body["FailureReason"] = endpoint.failure
    if endpoint.last_deployment is not None:
        body["LastDeploymentConfig"] = endpoint.last_deployment
    under_way = endpoint.deployment
    if endpoint.status == "Creating":
        under_way = Deployment(served_of(endpoint.served.config, configs[endpoint.served.config]), {}, endpoint.created)
    if under_way is not None:
        body["PendingDeploymentSummary"] = _pending(under_way, configs[under_way.served.config])
    return body


def _pending(deployment: Deployment, config: Mapping[str, Any]) -> dict[str, Any]:
    served, phase = deployment.served, deployment.phase
    status: dict[str, Any] = {
        "Status": "Deleting" if phase == Phase.ROLLING_BACK else phase,
        "StartTime": deployment.started + deployment.since,
        "StatusMessage": deployment.why or f"{deployment.share:.0%} of the traffic",
    }
    types = {v["VariantName"]: v["InstanceType"] for v in config["ProductionVariants"] if "InstanceType" in v}
    shown = [
        {
            **_summary(name, weight, served.counts[name]),
            **({"InstanceType": types[name]} if name in types else {}),
            "VariantStatus": [status],
        }
        for name, weight in served.weights.items()
    ]
    shadows = [
        {**_summary(v["VariantName"], float(v.get("InitialVariantWeight", 1.0)), 1), "VariantStatus": [status]}
        for v in shadows_of(config)
    ]
    return {
        "EndpointConfigName": served.config,
        "StartTime": deployment.started,
        "ProductionVariants": shown,
        **({"ShadowProductionVariants": shadows} if shadows else {}),
    }


def _summary(name: str, weight: float, count: int) -> dict[str, Any]:
    return {
        "VariantName": name,
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
    }
