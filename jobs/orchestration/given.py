"""What a team's Airflow gives the task of a stage: a pool, a queue of Celery's, a pod of its size. By settings alone.

Without them a task says nothing, and Airflow's own defaults hold. A pool must exist: tasks of one that does not are
never started, and only the scheduler's log and a warning on the DAG's page say so.
"""

from typing import Any

from jobs import config
from jobs.config import PodSettings
from jobs.errors import Misconfigured

CONTAINER = "base"
"""Of the pod template, by this name Airflow finds the one that runs the task."""


def given(stage: str) -> dict[str, Any]:
    """Arguments of the operator; raises `Misconfigured` where a pod is set and Kubernetes' package is missing."""
    settings = config.load().airflow
    found: dict[str, Any] = {"pool": settings.pool(stage), "queue": settings.queues.get(stage)}
    if pod := settings.pods.get(stage):
        found["executor_config"] = {"pod_override": _pod(stage, pod)}
    return {name: value for name, value in found.items() if value is not None}


def _pod(stage: str, settings: PodSettings) -> Any:
    """What Airflow lays over the pod template: as much as is asked for is all there is, memory at least."""
    try:
        from kubernetes.client import models as k8s  # heavy, and only a team on Kubernetes has it
    except ImportError as error:
        raise Misconfigured(
            f"airflow.pods.{stage} needs the package kubernetes where DAGs are read; {error}"
        ) from error
    memory = f"{settings.memory_mb}Mi"
    asked = k8s.V1ResourceRequirements(
        requests={"cpu": f"{settings.cpu:g}", "memory": memory}, limits={"memory": memory}
    )
    return k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(name=CONTAINER, resources=asked)]))
