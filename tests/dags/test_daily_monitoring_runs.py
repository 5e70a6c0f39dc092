"""`reevaluate` for real in its DAG: Airflow's own task runner, the stage's own process, a lake where nothing closes.

Beside it a `monitor` that only says where its page is.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.orchestration import operator
from jobs.orchestration.process import python
from tests.jobs.small_lake import DAY, LINEAGE

pytestmark = pytest.mark.airflow

PAGE = "http://127.0.0.1:5000/#/experiments/1/runs/2/artifacts/evidence/reports/2026-01-10.html"


def test_a_day_on_which_nothing_closes_is_green_and_published(
    dags: dict[str, Any], database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the trigger form to an empty day of `reevaluations` and a report in XCom, alarms told as `monitor` does."""
    monkeypatch.setenv("TIDEGATE_ENV", "test")
    monkeypatch.setenv("TIDEGATE__LAKE__ROOT", str(tmp_path / "lake"))
    lake = Lake(tmp_path / "lake")
    lake.publish("labels", {"day": str(DAY)}, LAKE["labels"].schema.empty_table(), LINEAGE)
    interpreter = tmp_path / "python"
    said = json.dumps({"alarms": 0, "alarmed": {}, "incidents": [], "page": PAGE})
    interpreter.write_text(f"#!/bin/sh\n[ \"$3\" = monitor ] && echo '{said}' || exec '{python()}' \"$@\"\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(operator, "python", lambda: str(interpreter))
    run = dags["daily_monitoring"].test(run_conf={"day": str(DAY)}, mark_success_pattern="experiment")
    assert {ti.task_id: str(ti.state) for ti in run.get_task_instances()} == dict.fromkeys(
        ("monitor", "experiment", "reevaluate", "maintain"), "success"
    )
    assert lake.days("reevaluations") == [DAY]
    report = run.get_task_instance("reevaluate").xcom_pull(task_ids="reevaluate")
    assert (report["rows"], report["reevaluated"]) == (0, {str(DAY): 0})
    assert (report["alarms"], report["alarmed"]) == (0, {str(DAY): []})
    kept = run.get_task_instance("maintain").xcom_pull(task_ids="maintain")
    assert (kept["tables"], kept["part_files"]) == ({}, 0)
    assert shown(run) == {"monitor": {"Report": PAGE}, "reevaluate": {"Report": ""}}


def shown(run: Any) -> dict[str, dict[str, Any]]:
    """The buttons that Airflow's server finds for each task that ran, an empty one being none."""
    from airflow.models.serialized_dag import SerializedDagModel

    dag = SerializedDagModel.get_dag("daily_monitoring")
    found = {}
    for name in ("monitor", "reevaluate"):
        task, ti = dag.get_task(name), run.get_task_instance(name)
        found[name] = {link: task.get_extra_links(ti, link) for link in task.extra_links}
    return found
