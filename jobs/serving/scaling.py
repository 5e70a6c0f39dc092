"""How many instances answer: targets and policies of application autoscaling, one a variant that is in service."""

from collections.abc import Iterable
from typing import Any

from jobs.aws import client, named, reached
from jobs.config import EndpointSettings

SERVICE = "sagemaker"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
METRIC = "SageMakerVariantInvocationsPerInstance"


def follow(settings: EndpointSettings, variants: Iterable[str]) -> None:
    """These variants of the endpoint are scaled, and no others of it; safe to repeat."""
    aws, service = settings.aws, "application-autoscaling"
    autoscaling = client(service, settings.region, aws.autoscaling_url, "endpoint.aws.autoscaling_url")
    wanted = {f"{_prefix(settings.name)}{variant}" for variant in variants}
    with reached(named(service, aws.autoscaling_url)):
        for resource in sorted(_there(autoscaling, settings.name) - wanted):
            autoscaling.deregister_scalable_target(**_of(resource))
        for resource in sorted(wanted):
            autoscaling.register_scalable_target(
                **_of(resource), MinCapacity=aws.instances, MaxCapacity=aws.most_instances
            )
            autoscaling.put_scaling_policy(
                **_of(resource),
                PolicyName="tidegate-invocations",
                PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration={
                    "TargetValue": aws.invocations_per_instance,
                    "PredefinedMetricSpecification": {"PredefinedMetricType": METRIC},
                },
            )


def _there(autoscaling: Any, endpoint: str) -> set[str]:
    """The endpoint's targets."""
    pages = autoscaling.get_paginator("describe_scalable_targets").paginate(ServiceNamespace=SERVICE)
    found = {target["ResourceId"] for page in pages for target in page["ScalableTargets"]}
    return {resource for resource in found if resource.startswith(_prefix(endpoint))}


def _of(resource: str) -> dict[str, str]:
    return {"ServiceNamespace": SERVICE, "ResourceId": resource, "ScalableDimension": DIMENSION}


def _prefix(endpoint: str) -> str:
    return f"endpoint/{endpoint}/variant/"
