"""A day that `validate` refuses: nothing is published, yesterday stays, the task fails at once and somebody is told."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from airflow.sdk.exceptions import AirflowFailException

from jobs.config import Config, LakeSettings
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.lake.tables import RAW
from jobs.orchestration.alert import alert
from jobs.orchestration.operator import StageOperator
from jobs.validate import job
from tests.dags.test_alert import connect
from tests.dags.test_stage_operator import Marks
from tests.jobs.validate.raw_days import FIRST, N, retyped, tables_of, write
from tests.slack_receiver import Receiver

pytestmark = pytest.mark.airflow
NEXT = FIRST + timedelta(days=1)


def test_a_refused_day_publishes_nothing_and_alerts(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real stage in the real operator, to the message a person reads."""
    config = Config(lake=LakeSettings(root=tmp_path / "lake", raw=tmp_path / "raw"))
    write(config.lake.raw, FIRST, tables_of(FIRST))
    job.run(Run(STAGES["validate"], config, FIRST))
    tables = tables_of(NEXT)
    tables["clicks"] = retyped(tables["clicks"], "impression_id", pa.array(["x"] * N))
    write(config.lake.raw, NEXT, tables)
    monkeypatch.setenv("TIDEGATE__LAKE__ROOT", str(config.lake.root))
    monkeypatch.setenv("TIDEGATE__LAKE__RAW", str(config.lake.raw))
    task = StageOperator(task_id="validate", stage="validate", day=NEXT.isoformat(), partition_key="")
    with pytest.raises(AirflowFailException, match=f"Refused: raw clicks of {NEXT} needs ") as caught:
        task.execute({"outlet_events": Marks()})
    lake = Lake(config.lake.root)
    assert {table: lake.days(table) for table in RAW} == {table: [FIRST] for table in RAW}

    connect(monkeypatch, receiver.server_port)
    ti = SimpleNamespace(dag_id="daily_data", task_id="validate", task=task, log_url="http://airflow/log")
    alert({"ti": ti, "dag_run": SimpleNamespace(partition_key=None), "exception": caught.value})
    (message,) = receiver.got
    assert f"daily_data.validate failed for {NEXT}: Refused: raw clicks" in message["text"]
    assert "found known_impression_share 0; nothing of" in message["text"]
