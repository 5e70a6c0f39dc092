"""`reevaluate` for real in its DAG: Airflow's own task runner, the stage's own process, a lake where nothing closes."""

from pathlib import Path
from typing import Any

import pytest

from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from tests.jobs.small_lake import DAY, LINEAGE

pytestmark = pytest.mark.airflow


def test_a_day_on_which_nothing_closes_is_green_and_published(
    dags: dict[str, Any], database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the trigger form to an empty day of `reevaluations` and a report in XCom, alarms told as `monitor` does."""
    monkeypatch.setenv("TIDEGATE_ENV", "test")
    monkeypatch.setenv("TIDEGATE__LAKE__ROOT", str(tmp_path / "lake"))
    lake = Lake(tmp_path / "lake")
    lake.publish("labels", {"day": str(DAY)}, LAKE["labels"].schema.empty_table(), LINEAGE)
    run = dags["daily_monitoring"].test(run_conf={"day": str(DAY)}, mark_success_pattern="monitor|experiment")
    assert {ti.task_id: str(ti.state) for ti in run.get_task_instances()} == dict.fromkeys(
        ("monitor", "experiment", "reevaluate"), "success"
    )
    assert lake.days("reevaluations") == [DAY]
    report = run.get_task_instance("reevaluate").xcom_pull(task_ids="reevaluate")
    assert (report["rows"], report["reevaluated"]) == (0, {str(DAY): 0})
    assert (report["alarms"], report["alarmed"]) == (0, {str(DAY): []})
