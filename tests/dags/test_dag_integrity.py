"""What every DAG must have for whoever is on call, and that reading one costs next to nothing."""

import subprocess
import sys
from typing import Any

import pytest

from jobs.config import ROOT
from jobs.flow import STAGES

pytestmark = pytest.mark.airflow

EDGES = {
    "daily_data": {("ingest", "validate"), ("validate", "attribute"), ("validate", "featurize")},
    "weekly_training": {("assemble", "train"), ("train", "backtest"), ("backtest", "propose")},
    "daily_warm_start": {
        *{("assemble", "train"), ("train", "backtest"), ("backtest", "propose")},
        *{("assemble", "backtest_full"), ("backtest_full", "propose_full"), ("train", "full_training")},
    },
    "promotion": {("promote", "approve"), ("approve", "deploy"), ("approve", "reject")},
    "daily_monitoring": set(),
}
HEADINGS = ("## Reads and writes", "## A task is red: what it means on call", "## Clearing\nAlways safe", "## By hand")
HEAVY = ("numpy", "pandas", "torch", "pyspark", "mlflow", "xgboost", "great_expectations", "feast", "deltalake")


def test_the_graph_is_the_flow(dags: dict[str, Any]) -> None:
    """A lost arrow would let a stage start before its input is there."""
    assert set(dags) == set(EDGES)
    for name, edges in EDGES.items():
        found = {(task.task_id, below) for task in dags[name].tasks for below in task.downstream_task_ids}
        assert found == edges, name


def test_every_stage_has_a_task(dags: dict[str, Any]) -> None:
    """A stage that no DAG runs is a stage that silently does nothing; `export` has one where a database is named."""
    assert {task.task_id for dag in dags.values() for task in dag.tasks} >= set(STAGES) - {"export"}


@pytest.mark.parametrize("name", sorted(EDGES))
def test_on_call_finds_owner_runbook_and_alert(dags: dict[str, Any], name: str) -> None:
    """At 3 a.m. the runbook is on the DAG's page, and a red task has told somebody."""
    from jobs.orchestration.alert import alert

    dag = dags[name]
    assert all(heading in dag.doc_md for heading in HEADINGS)
    assert dag.description
    assert len(dag.description) <= 120
    assert dag.description[:-1] in " ".join(dag.doc_md.split())
    assert "tidegate" in dag.tags
    assert len(dag.tags) >= 2
    assert dag.catchup is False
    assert 1 <= dag.max_active_runs <= 4
    assert "day" in dag.params
    for task in dag.tasks:
        assert task.owner == "recommendations", task.task_id
        assert task.on_failure_callback == [alert], task.task_id


@pytest.mark.parametrize("name", sorted(EDGES))
def test_a_runbook_names_what_its_stages_touch(dags: dict[str, Any], name: str) -> None:
    """The table under the runbook comes from jobs.flow, so it cannot go stale."""
    for task in dags[name].tasks:
        if task.task_id in STAGES:
            stage = STAGES[task.task_id]
            assert f"| `{stage.name}` | {stage.doc} |" in dags[name].doc_md
            assert all(table in task.doc_md for table in stage.writes)


def test_every_task_is_retried(dags: dict[str, Any]) -> None:
    """Late logs resolve themselves, and a question whose process dies is asked again."""
    for dag in dags.values():
        for task in dag.tasks:
            assert task.retries > 0, task.task_id


def test_a_log_that_has_ended_is_never_scheduled_and_can_be_backfilled(dags: dict[str, Any]) -> None:
    """An unpaused DAG of the demo must not start a run for the real yesterday, a day its source does not have."""
    from datetime import UTC, datetime

    from airflow.timetables.base import TimeRestriction

    timetable = dags["daily_data"].timetable
    nothing = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=TimeRestriction(None, None, False))
    assert nothing is None
    first, end = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC)
    keys = [info.partition_key for info in timetable.iter_partition_dagrun_infos(earliest=first, latest=end)]
    assert keys == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert timetable.summary == "by hand: the logs have ended", "no hour at which nothing will ever start"


def test_a_living_log_is_scheduled_for_the_day_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run of the 21st, 02:00, is about the 20th; the run of Monday about the week before."""
    from datetime import UTC, datetime

    from airflow.timetables.trigger import CronPartitionTimetable as Core

    from jobs.orchestration import daily, weekly

    monkeypatch.setenv("TIDEGATE__SOURCE__NAME", "parquet")
    for schedule, tick, key in (
        (daily(2), datetime(2026, 1, 21, 2, tzinfo=UTC), "2026-01-20"),
        (weekly(4), datetime(2026, 1, 12, 4, tzinfo=UTC), "2026-W02"),
    ):
        assert type(schedule).__name__ == "CronPartitionTimetable"
        import pendulum

        core = Core(schedule.expression, timezone="UTC", run_offset=-1, key_format=schedule.key_format)
        assert core._get_partition_info(pendulum.instance(tick))[1] == key
    monkeypatch.setenv("TIDEGATE__SOURCE__LIVE", "false")  # a raw lake whose days have ended
    assert type(daily(2)).__name__ == "ByHand"


def test_a_database_is_told_once_all_else_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where one is named; a failure before it stays the run's, since it is the last task."""
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("TIDEGATE__EXPORT__URL", "duckdb:///told.duckdb")
    bag = DagBag(str(ROOT / "dags" / "daily_monitoring.py"))
    assert bag.import_errors == {}
    export = bag.dags["daily_monitoring"].task_dict["export"]
    assert export.upstream_task_ids == {"monitor", "experiment", "reevaluate"}
    assert export.trigger_rule == "all_success"
    assert not export.downstream_task_ids


def test_features_are_promised_for_when_the_daily_run_can_have_published_them(dags: dict[str, Any]) -> None:
    """The latest input it waits for, and an hour of work: a promise broken every night is an alarm every day."""
    from jobs.config import FeatureSettings
    from jobs.orchestration.operator import NOT_READY_DELAY, NOT_READY_TRIES

    minute, hour = map(int, dags["daily_data"].timetable._expression.split()[:2])
    waited = NOT_READY_DELAY.total_seconds() / 60 * NOT_READY_TRIES
    assert 60 * hour + minute + waited + 60 <= 60 * FeatureSettings().available_after_hours
    assert f"{FeatureSettings().available_after_hours:02d}:00" in dags["daily_data"].doc_md


def test_parsing_a_dag_loads_nothing_heavy() -> None:
    """The dag processor reads these files every few seconds, and every task reads one before it starts."""
    code = f"""
import sys, airflow.sdk
before = set(sys.modules)
import dags.daily_data, dags.weekly_training, dags.daily_warm_start, dags.promotion, dags.daily_monitoring
loaded = set(sys.modules)
print(sorted(name for name in {HEAVY!r} if name in loaded))
rooms = sorted(name for name in loaded - before if name.startswith('jobs.') and name.count('.') > 1)
print([name for name in rooms if not name.startswith(('jobs.orchestration.', 'jobs.config.'))])
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-2:] == ["[]", "[]"]
