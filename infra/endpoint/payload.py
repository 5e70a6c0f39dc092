"""What an operation's payload may hold: SageMaker's own types, and only what is really done here.

Anything else is refused, so that nobody believes it was done. Source of the wire shapes: the `sagemaker` service model
of botocore.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from infra.endpoint import shapes
from infra.endpoint.errors import Rejected

SHA256_VARIABLE = "TIDEGATE_BUNDLE_SHA256"
SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
PARAMETERS: dict[str, tuple[str, ...]] = {
    "CreateModel": ("ModelName", "PrimaryContainer", "ExecutionRoleArn", "Tags", "EnableNetworkIsolation"),
    "DescribeModel": ("ModelName",),
    "DeleteModel": ("ModelName",),
    "CreateEndpointConfig": (
        "EndpointConfigName",
        "ProductionVariants",
        "ShadowProductionVariants",
        "DataCaptureConfig",
        "Tags",
    ),
    "DescribeEndpointConfig": ("EndpointConfigName",),
    "DeleteEndpointConfig": ("EndpointConfigName",),
    "CreateEndpoint": ("EndpointName", "EndpointConfigName", "Tags"),
    "UpdateEndpoint": (
        "EndpointName",
        "EndpointConfigName",
        "DeploymentConfig",
        "RetainAllVariantProperties",
        "ExcludeRetainedVariantProperties",
        "RetainDeploymentConfig",
    ),
    "UpdateEndpointWeightsAndCapacities": ("EndpointName", "DesiredWeightsAndCapacities"),
    "DescribeEndpoint": ("EndpointName",),
    "ListEndpoints": ("NameContains", "StatusEquals", "SortBy", "SortOrder"),
    "DeleteEndpoint": ("EndpointName",),
    "CreateInferenceExperiment": (
        *("Name", "Type", "Schedule", "Description", "RoleArn", "EndpointName", "ModelVariants"),
        *("DataStorageConfig", "ShadowModeConfig", "Tags"),
    ),
    "DescribeInferenceExperiment": ("Name",),
    "StartInferenceExperiment": ("Name",),
    "StopInferenceExperiment": ("Name", "ModelVariantActions", "DesiredState", "Reason"),
    "ListInferenceExperiments": ("NameContains", "StatusEquals", "SortBy", "SortOrder"),
    "DeleteInferenceExperiment": ("Name",),
}
"""What each operation understands; anything else is refused, so that nobody believes it was done."""
QUOTA = 100
"""Instances of one endpoint."""


def check(operation: str, payload: Mapping[str, Any]) -> None:
    """Raises `Rejected` where the operation is none of ours, or the payload asks for more than is done."""
    if operation not in PARAMETERS:
        there = ", ".join(PARAMETERS)
        raise Rejected(f"the local endpoint does {there}; found {operation}", "UnknownOperationException", 404)
    unknown = sorted(set(payload) - set(PARAMETERS[operation]))
    if unknown:
        raise Rejected(f"{operation} on the local endpoint does not do {', '.join(unknown)} yet")
    shapes.check(operation, payload)


def check_quota(counts: Mapping[str, int]) -> None:
    """Raises `Rejected` as an account's quota does: a slip of a digit must not ask for a thousand instances."""
    if sum(counts.values()) > QUOTA:
        raise Rejected(
            f"an endpoint must have at most {QUOTA} instances; found {sum(counts.values())}", "ResourceLimitExceeded"
        )


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises `Rejected` for weights that share nothing out."""
    if any(w < 0 for w in weights.values()) or not 0 < sum(weights.values()) < math.inf:
        raise Rejected(f"variant weights must not be negative and not all zero; found {dict(weights)}")


def check_variants(config: Mapping[str, Any]) -> None:
    """Raises `Rejected` for variants that no config may have; SageMaker's own rule of shadows is one beside one."""
    shown, shadows = config.get("ProductionVariants") or [], shadows_of(config)
    names = [v.get("VariantName", "") for v in (*shown, *shadows)]
    if not shown or len(set(names)) != len(names) or not all(NAME.fullmatch(n) for n in names):
        raise Rejected(f"ProductionVariants needs distinct, valid VariantNames; found {names}")
    if shadows and (len(shown), len(shadows)) != (1, 1):
        raise Rejected(
            "ShadowProductionVariants needs one variant beside one of ProductionVariants; "
            f"found {len(shadows)} beside {len(shown)}"
        )
    check_weights(weights_of(config))
    if shadows and not 0 < shadow_share(config) <= 1:
        raise Rejected(f"a shadow's weight over the shown one's must be in (0, 1]; found {shadow_share(config)}")


def shadows_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A config's variants that answer to nobody."""
    return list(config.get("ShadowProductionVariants") or [])


def shadow_share(config: Mapping[str, Any]) -> float:
    """Of the requests that a config's shadow answers too: its weight over that of the shown variant."""
    [shadow], [shown] = shadows_of(config), weights_of(config).values()
    return float(shadow.get("InitialVariantWeight", 1.0)) / shown


def weights_of(config: Mapping[str, Any]) -> dict[str, float]:
    """A config's variants and their weights."""
    return {v["VariantName"]: float(v.get("InitialVariantWeight", 1.0)) for v in config["ProductionVariants"]}


def counts_of(config: Mapping[str, Any]) -> dict[str, int]:
    """A config's variants and their instances."""
    return {v["VariantName"]: int(v.get("InitialInstanceCount", 1)) for v in config["ProductionVariants"]}


def capture_of(config: Mapping[str, Any]) -> int:
    """The percentage of the requests that a config captures."""
    capture = config.get("DataCaptureConfig", {})
    return int(capture.get("InitialSamplingPercentage", 100)) if capture.get("EnableCapture") else 0


def models_of(config: Mapping[str, Any]) -> set[str]:
    """The models a config names."""
    return {v["ModelName"] for v in (*config["ProductionVariants"], *shadows_of(config))}


def sha256_of(model: Mapping[str, Any]) -> str:
    """The judged bundle's, of a model."""
    return str(model["PrimaryContainer"]["Environment"][SHA256_VARIABLE])


def new_name(payload: Mapping[str, Any], key: str, taken: Mapping[str, Any]) -> str:
    """A valid name that nothing has yet; raises `Rejected` otherwise."""
    name = payload.get(key)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Rejected(f"{key} must match {NAME.pattern}; found {name!r}")
    if name in taken:
        raise Rejected(f"Cannot create already existing {key.removesuffix('Name')} {name}")
    return name


def known(payload: Mapping[str, Any], key: str, names: Mapping[str, Any], kind: str) -> str:
    """The name of something there is; raises `Rejected` where there is none."""
    name = payload.get(key)
    if not isinstance(name, str) or name not in names:
        raise Rejected(f"Could not find {kind} {name!r}")
    return name
