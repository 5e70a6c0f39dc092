"""One DAG run for real: Airflow's own task runner and the stage's own process, on a world of one small day."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.airflow

DAY = "2026-01-01"


def test_the_forms_day_reaches_the_stage(
    dags: dict[str, Any], database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the trigger form to files in the raw lake and a report in XCom; later stages have tests of their own."""
    monkeypatch.setenv("TIDEGATE_ENV", "test")
    monkeypatch.setenv("TIDEGATE__WORLD__REQUESTS_PER_DAY", "50")
    monkeypatch.setenv("TIDEGATE__LAKE__RAW", str(tmp_path / "raw"))
    monkeypatch.setenv("TIDEGATE__LAKE__ROOT", str(tmp_path / "lake"))
    rest = "validate|attribute|featurize"
    run = dags["daily_data"].test(run_conf={"day": DAY}, mark_success_pattern=rest)
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states == dict.fromkeys(("ingest", *rest.split("|")), "success")
    assert list((tmp_path / "raw" / "impressions" / f"date={DAY}").rglob("*.parquet"))
    report = run.get_task_instance("ingest").xcom_pull(task_ids="ingest")
    assert report["stage"] == "ingest"
    assert report["day"] == DAY
    assert report["rows"] > 0
