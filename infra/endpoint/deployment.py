"""What `UpdateEndpoint` asks for besides another config: how the traffic moves, and which properties stay."""

from collections.abc import Iterable, Mapping
from typing import Any

from infra.endpoint.errors import Rejected
from infra.endpoint.payload import capture_of, check_weights, counts_of, weights_of
from infra.endpoint.shift import MOST_SECONDS, ROUNDING, Plan
from infra.endpoint.state import Served

ALL_AT_ONCE, CANARY, LINEAR = "ALL_AT_ONCE", "CANARY", "LINEAR"
LIMITS = {"CanarySize": (0.0, 0.5), "LinearStepSize": (0.1, 0.5)}
BATCH, BACK_BATCH = (0.05, 0.5), (0.0, 1.0)
"""Of a variant's capacity, SageMaker's own bounds."""
RETAINED = frozenset({"DesiredInstanceCount", "DesiredWeight", "DataCaptureConfig"})
DEFAULT: Mapping[str, Any] = {
    "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": ALL_AT_ONCE, "WaitIntervalInSeconds": 0}}
}


def asked_of(payload: Mapping[str, Any], last: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The `DeploymentConfig` an update goes by: its own, the endpoint's last one, or all at once."""
    asked: Mapping[str, Any] | None = payload.get("DeploymentConfig")
    if not payload.get("RetainDeploymentConfig"):
        return asked or DEFAULT
    if asked is not None:
        raise Rejected("RetainDeploymentConfig needs no DeploymentConfig beside it; found both")
    return last or DEFAULT


def served_of(
    name: str, config: Mapping[str, Any], payload: Mapping[str, Any] | None = None, before: Served | None = None
) -> Served:
    """What a config brings into service; of what an update retains, variants known by name keep what they had."""
    weights, counts, capture = weights_of(config), counts_of(config), capture_of(config)
    retained = _retained(payload or {})
    if before is not None and "DesiredWeight" in retained:
        weights |= {name: before.weights[name] for name in weights.keys() & before.weights.keys()}
    if before is not None and "DesiredInstanceCount" in retained:
        counts |= {name: before.counts[name] for name in counts.keys() & before.counts.keys()}
    if before is not None and "DataCaptureConfig" in retained:
        capture = before.capture
    check_weights(weights)
    return Served(name, weights, counts, capture)


def _retained(payload: Mapping[str, Any]) -> frozenset[str]:
    excluded = [one["VariantPropertyType"] for one in payload.get("ExcludeRetainedVariantProperties") or []]
    if not payload.get("RetainAllVariantProperties"):
        if excluded:
            raise Rejected("ExcludeRetainedVariantProperties needs RetainAllVariantProperties to be true; it is not")
        return frozenset()
    return RETAINED - set(excluded)


def plan_of(asked: Mapping[str, Any], counts: Mapping[str, int]) -> Plan:
    """The plan of a `DeploymentConfig` for variants of so many instances; raises `Rejected` where it has none."""
    policies = [name for name in ("BlueGreenUpdatePolicy", "RollingUpdatePolicy") if asked.get(name)]
    if len(policies) == 2:
        raise Rejected("DeploymentConfig needs one update policy; found BlueGreenUpdatePolicy and RollingUpdatePolicy")
    alarms = tuple(one["AlarmName"] for one in asked.get("AutoRollbackConfiguration", {}).get("Alarms", []))
    if policies == ["RollingUpdatePolicy"]:
        plan = _rolling(asked["RollingUpdatePolicy"], counts, alarms)
    else:
        plan = _blue_green((asked if policies else DEFAULT)["BlueGreenUpdatePolicy"], counts, alarms)
    waits = len(plan.shares) * plan.wait_seconds + plan.kept_seconds
    if plan.limit_seconds <= waits:
        raise Rejected(
            f"MaximumExecutionTimeoutInSeconds must be above the sum of all waits, {waits:.0f} s; "
            f"found {plan.limit_seconds:.0f}"
        )
    return plan


def _blue_green(policy: Mapping[str, Any], counts: Mapping[str, int], alarms: tuple[str, ...]) -> Plan:
    routing = policy["TrafficRoutingConfiguration"]
    kind = routing["Type"]
    wanted = {CANARY: {"CanarySize"}, LINEAR: {"LinearStepSize"}}.get(kind, set())
    if (found := {name for name in LIMITS if routing.get(name)}) != wanted:
        raise Rejected(f"TrafficRoutingConfiguration of {kind} needs {_named(wanted)}; found {_named(found)}")
    shares: tuple[float, ...] = (1.0,)
    if kind == CANARY:
        shares = (_share("CanarySize", routing["CanarySize"], counts, LIMITS["CanarySize"]), 1.0)
    elif kind == LINEAR:
        shares = _steps(_share("LinearStepSize", routing["LinearStepSize"], counts, LIMITS["LinearStepSize"]))
    return Plan(
        shares,
        routing["WaitIntervalInSeconds"],
        policy.get("MaximumExecutionTimeoutInSeconds", MOST_SECONDS),
        policy.get("TerminationWaitInSeconds", 0),
        alarms,
    )


def _rolling(policy: Mapping[str, Any], counts: Mapping[str, int], alarms: tuple[str, ...]) -> Plan:
    back = policy.get("RollbackMaximumBatchSize")
    return Plan(
        _steps(_share("MaximumBatchSize", policy["MaximumBatchSize"], counts, BATCH)),
        policy["WaitIntervalInSeconds"],
        policy.get("MaximumExecutionTimeoutInSeconds", MOST_SECONDS),
        alarms=alarms,
        back_share=1.0 if back is None else _share("RollbackMaximumBatchSize", back, counts, BACK_BATCH),
    )


def _share(name: str, size: Mapping[str, Any], counts: Mapping[str, int], limits: tuple[float, float]) -> float:
    """A size as a part of the smallest variant's capacity, for that one must be able to give it up."""
    smallest = min(counts.values())
    found = size["Value"] / (100 if size["Type"] == "CAPACITY_PERCENT" else max(smallest, 1))
    least, most = limits
    if not least - ROUNDING <= found <= most + ROUNDING:
        of = f"; the smallest variant has {smallest} instances" if size["Type"] == "INSTANCE_COUNT" else ""
        raise Rejected(f"{name} must be {least:.0%} to {most:.0%} of a variant's capacity; found {found:.0%}{of}")
    return float(found)


def _steps(step: float) -> tuple[float, ...]:
    shares = [step]
    while shares[-1] < 1 - ROUNDING:
        shares.append(min(1.0, round(shares[-1] + step, 9)))
    return (*shares[:-1], 1.0)


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "no size"
