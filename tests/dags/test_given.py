"""What a task is given where a team's Airflow has it to give: pools, queues, pods; nothing that no setting names."""

import json
import sys
from typing import Any

import pytest

from jobs.config import POOLS, ROOT
from jobs.errors import Misconfigured
from jobs.flow import STAGES
from jobs.orchestration import stage

pytestmark = pytest.mark.airflow

HEAVY = {"train": "training", "backtest": "training"} | dict.fromkeys(
    ("ingest", "validate", "attribute", "featurize", "assemble", "monitor", "experiment", "reevaluate"), "spark"
)


def parsed(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Any]:
    """Every DAG, read under these settings of `airflow`."""
    from airflow.dag_processing.dagbag import DagBag

    for name, value in settings.items():
        monkeypatch.setenv(f"TIDEGATE__AIRFLOW__{name.upper()}", json.dumps(value))
    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_an_airflow_without_pools_runs_every_task(dags: dict[str, Any]) -> None:
    """Airflow starts no task of a pool that it lacks, for ever: a team's own must not need what nobody told it."""
    for dag in dags.values():
        for task in dag.tasks:
            assert (task.pool, task.queue, task.executor_config) == ("default_pool", "default", {}), task.task_id


def test_who_may_open_spark_is_in_a_pool() -> None:
    """By what its own modules import: no slot counts the session of another. Trees of `train` are a training."""
    opens = "from jobs.spark import session", "from jobs.parcels.workers import"
    for name in STAGES:
        told = "".join(path.read_text() for path in (ROOT / "jobs" / name).glob("*.py"))
        found = any(line in told for line in opens)
        assert found == (name in POOLS["spark"]), name


def test_named_pools_hold_back_what_is_dear_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a training to answer a question, deploy, or count what was served."""
    assert {name for stages in POOLS.values() for name in stages} <= set(STAGES)
    for name, dag in parsed(monkeypatch, pools={"training": 1, "spark": 2}).items():
        for task in dag.tasks:
            expected = HEAVY.get(getattr(task, "stage", ""), "default_pool")
            assert task.pool == expected, f"{name}.{task.task_id}"
    assert stage("train").pool == "training"
    monkeypatch.setenv("TIDEGATE__AIRFLOW__POOLS", '{"spark": 2}')
    assert (stage("train").pool, stage("validate").pool) == ("default_pool", "spark"), "only the pools that are named"


def test_a_stage_goes_to_its_queue_wherever_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`deploy` includes the watch of a step and the note of a no: they need what it needs."""
    monkeypatch.setenv("TIDEGATE__RELEASE__CANARY_PERCENT", "[10]")
    found = parsed(monkeypatch, queues={"train": "large", "deploy": "near"})
    queues = {f"{name}.{task.task_id}": task.queue for name, dag in found.items() for task in dag.tasks}
    assert {task for task, queue in queues.items() if queue == "large"} == {
        "weekly_training.train",
        "daily_warm_start.train",
    }
    near = {task for task, queue in queues.items() if queue == "near"}
    assert near == {f"promotion.{task}" for task in ("deploy", "watch_canary_10", "live", "reject")}
    assert set(queues.values()) == {"large", "near", "default"}


def test_what_a_person_waits_for_goes_before_any_day(dags: dict[str, Any]) -> None:
    """A backfill of a year queues hundreds of tasks; by Airflow's default they would weigh more than a `deploy`."""
    weights = {name: {task.priority_weight for task in dag.tasks} for name, dag in dags.items()}
    assert all(len(found) == 1 for found in weights.values())
    ranked = sorted(weights, key=lambda name: -max(weights[name]))
    assert (ranked[0], ranked[-1]) == ("promotion", "weekly_training")
    assert max(weights["promotion"]) > max(weights[ranked[1]])
    for dag in dags.values():
        for task in dag.tasks:
            assert task.weight_rule == "absolute", task.task_id


def test_a_pod_is_asked_for_only_by_name_and_needs_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading DAGs loads it for nobody else; who lacks it is told which setting wants it."""
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert stage("train").executor_config == {}
    monkeypatch.setenv("TIDEGATE__AIRFLOW__PODS", '{"train": {"cpu": 8, "memory_mb": 32768}}')
    assert stage("backtest").executor_config == {}
    with pytest.raises(Misconfigured, match=r"airflow\.pods\.train needs the package kubernetes"):
        stage("train")


def test_a_pod_is_laid_over_the_container_that_runs_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is a promise both ways, so that a node is not filled with stages that grow."""
    models = pytest.importorskip("kubernetes.client.models", reason="of the image for Kubernetes, not of the lock")
    monkeypatch.setenv("TIDEGATE__AIRFLOW__PODS", '{"train": {"cpu": 8, "memory_mb": 32768}}')
    pod = stage("train").executor_config["pod_override"]
    assert isinstance(pod, models.V1Pod)
    [container] = pod.spec.containers
    assert container.name == "base"
    assert container.resources.requests == {"cpu": "8", "memory": "32768Mi"}
    assert container.resources.limits == {"memory": "32768Mi"}
