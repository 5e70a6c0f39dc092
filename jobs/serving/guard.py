"""CloudWatch's alarms that take an update back by themselves, made for one endpoint config: its answers, no others'.

AWS's own sample averages a canary's errors with the healthy fleet's (no EndpointConfigName), calls "1 %" what is 100 %
(`Average >= 1` of a metric that is 0 or 1 a request), and takes silence for health (`notBreaching`). Here an alarm is
of the new config alone, its threshold is the share, and without requests it has INSUFFICIENT_DATA.
"""

from collections.abc import Iterable
from typing import Any

from jobs.aws import client, named, reached
from jobs.config import EndpointSettings

NAMESPACE = "AWS/SageMaker"
ERRORS, SLOW = "errors", "slow"
MOST = 10
"""Alarms that one update may name."""
PROVISION_SECONDS = 1200
"""What an update may take beside its waits, until its instances run."""
A_PAGE = 100


def alarms(settings: EndpointSettings, config: str, variants: Iterable[str]) -> list[dict[str, Any]]:
    """`PutMetricAlarm`s of a config: answers of status 5xx, and the 99th percentile of the model's time."""
    aws = settings.aws
    found = []
    for variant in variants:
        of = {"EndpointName": settings.name, "VariantName": variant, "EndpointConfigName": config}
        common = {
            "Namespace": NAMESPACE,
            "Dimensions": [{"Name": name, "Value": value} for name, value in of.items()],
            "Period": aws.alarm_seconds,
            "EvaluationPeriods": 1,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "missing",
        }
        errors = {"MetricName": "Invocation5XXErrors", "Statistic": "Average", "Threshold": aws.alarming_errors}
        slow = {"MetricName": "ModelLatency", "ExtendedStatistic": "p99", "Threshold": 1000.0 * aws.alarming_p99_ms}
        for kind, rule in ((ERRORS, errors), (SLOW, slow)):
            name = f"{_prefix(settings.name)}{config}/{variant}/{kind}"
            found.append({"AlarmName": name, **common, **rule})
    return found[:MOST]


def deployment(settings: EndpointSettings, config: str, variants: Iterable[str]) -> dict[str, Any]:
    """The `DeploymentConfig` of an update to a config, once its alarms are there."""
    aws = settings.aws
    wanted = alarms(settings, config, variants)
    cloudwatch = client("cloudwatch", settings.region, aws.cloudwatch_url, "endpoint.aws.cloudwatch_url")
    with reached(named("cloudwatch", aws.cloudwatch_url)):
        for alarm in wanted:
            cloudwatch.put_metric_alarm(**alarm)
    waits = aws.bake_seconds + aws.kept_seconds
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": aws.bake_seconds},
            "TerminationWaitInSeconds": aws.kept_seconds,
            "MaximumExecutionTimeoutInSeconds": waits + PROVISION_SECONDS,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm["AlarmName"]} for alarm in wanted]},
    }


def sweep(settings: EndpointSettings, config: str) -> None:
    """No alarm is left of a config that no longer serves: its silence would be on every dashboard."""
    url = settings.aws.cloudwatch_url
    cloudwatch = client("cloudwatch", settings.region, url, "endpoint.aws.cloudwatch_url")
    with reached(named("cloudwatch", url)):
        pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=_prefix(settings.name))
        names = [alarm["AlarmName"] for page in pages for alarm in page.get("MetricAlarms", [])]
        old = [name for name in names if not name.startswith(f"{_prefix(settings.name)}{config}/")]
        for first in range(0, len(old), A_PAGE):
            cloudwatch.delete_alarms(AlarmNames=old[first : first + A_PAGE])


def _prefix(endpoint: str) -> str:
    return f"tidegate/{endpoint}/"
