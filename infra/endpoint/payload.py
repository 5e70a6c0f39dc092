"""What an operation's payload may hold: SageMaker's own types, and only what is really done here.

Anything else is refused, so that nobody believes it was done. Source of the wire shapes: the `sagemaker` service model
of botocore.
"""

import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

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
    "UpdateEndpoint": ("EndpointName", "EndpointConfigName"),
    "UpdateEndpointWeightsAndCapacities": ("EndpointName", "DesiredWeightsAndCapacities"),
    "DescribeEndpoint": ("EndpointName",),
    "ListEndpoints": ("NameContains", "StatusEquals", "SortBy", "SortOrder"),
    "DeleteEndpoint": ("EndpointName",),
}
"""What each operation understands; anything else is refused, so that nobody believes it was done."""
ALL_AT_ONCE = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE"}}}


def check(operation: str, payload: Mapping[str, Any]) -> None:
    """Raises `Rejected` where the operation is none of ours, or the payload asks for more than is done."""
    if operation not in PARAMETERS:
        raise Rejected(f"the local endpoint does {', '.join(PARAMETERS)}; found {operation}", "UnknownOperation")
    allowed = set(PARAMETERS[operation])
    if operation == "UpdateEndpoint":
        allowed |= {"DeploymentConfig", "RetainAllVariantProperties"}
    unknown = sorted(set(payload) - allowed)
    if unknown:
        raise Rejected(f"{operation} on the local endpoint does not do {', '.join(unknown)} yet")
    _check_types(operation, payload)
    if operation == "UpdateEndpoint":
        _check_deployment(payload)


def _check_deployment(payload: Mapping[str, Any]) -> None:
    """Only an all-at-once swap exists here; a config that asks for more must not look done."""
    if payload.get("RetainAllVariantProperties"):
        raise Rejected("UpdateEndpoint on the local endpoint does not do RetainAllVariantProperties yet")
    asked = payload.get("DeploymentConfig", {})
    routing = asked.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {}).get("Type", "ALL_AT_ONCE")
    if routing != "ALL_AT_ONCE" or set(asked) - {"BlueGreenUpdatePolicy"}:
        raise Rejected(f"UpdateEndpoint on the local endpoint does only {ALL_AT_ONCE} so far; found {asked}")


@cache
def _shapes() -> Any:
    """SageMaker's own service model; reading it takes a third of a second, so the first operation does it."""
    from botocore.session import get_session

    return get_session().get_service_model("sagemaker")


def _check_types(operation: str, payload: Mapping[str, Any]) -> None:
    """As boto3 checks what it sends: a caller without it is told the same."""
    from botocore.validate import ParamValidator

    found = ParamValidator().validate(dict(payload), _shapes().operation_model(operation).input_shape)
    if found.has_errors():
        raise Rejected(f"{operation} needs SageMaker's own types; {' '.join(found.generate_report().split())[:1000]}")


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


def models_of(config: Mapping[str, Any]) -> set[str]:
    """The models a config names."""
    return {v["ModelName"] for v in (*config["ProductionVariants"], *shadows_of(config))}


def sha256_of(model: Mapping[str, Any]) -> str:
    """The judged bundle's, of a model."""
    return str(model["PrimaryContainer"]["Environment"][SHA256_VARIABLE])


def folder_of(url: object) -> Path:
    """The folder that a `ModelDataUrl` names; raises `Rejected` where it is none."""
    try:
        parts = urlparse(url if isinstance(url, str) else "")
    except ValueError:  # an address that is none
        parts = urlparse("")
    if parts.scheme != "file" or not parts.path:
        raise Rejected(f"ModelDataUrl must be file:///path/of/a/bundle here (S3 only on AWS); found {url!r}")
    return Path(unquote(parts.path))


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
