"""Logs of tasks on S3: what Airflow finds by its setting, and what that does. With Airflow's own processes:
tests/infra/stack/test_team.py.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow._shared.logging.factory import resolve_remote_task_log
from airflow._shared.module_loading import import_string

from jobs.orchestration import logs
from jobs.places import S3Path
from tests.moto_server import serving

pytestmark = pytest.mark.airflow

PATH = "dag_id=daily_data/run_id=scheduled__2026-01-11T02:00:00+00:00/task_id=ingest/attempt=1.log"
AT = S3Path("team", "airflow/logs")


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What Airflow finds beside `logging_config_class`, with a bucket behind it; `tmp_path` is the folder of logs."""
    with serving() as moto:
        for name, value in moto.bucket("team").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TIDEGATE__AIRFLOW__LOGS", str(AT))
        monkeypatch.setattr(logs, "conf", SimpleNamespace(get=lambda *_: str(tmp_path)))
        monkeypatch.setattr(logs, "REMOTE_TASK_LOG", logs._remote())
        said = SimpleNamespace(get=lambda *_, **__: "jobs.orchestration.logs.LOGGING")
        yield resolve_remote_task_log(conf=said, providers_manager=None, import_string=import_string)[0]  # type: ignore[arg-type]


def worker(folder: Path, text: str) -> None:
    """What a worker's own disk has of the log."""
    path = folder / PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_log_is_read_where_no_worker_s_disk_is(found: Any, tmp_path: Path) -> None:
    """Before its end there is none, and the page says why."""
    sources, said = found.read(PATH, None)
    assert said == []
    assert "a log is put when its task ends" in sources[0]
    worker(tmp_path, "one\n")
    found.upload(PATH)
    assert found.read(PATH, None) == ([f"s3://team/airflow/logs/{PATH}"], ["one\n"])


def test_a_log_that_goes_on_elsewhere_keeps_its_beginning(found: Any, tmp_path: Path) -> None:
    """A stage that waits for its input is asked again every ten minutes, by whichever worker is free, in one log."""
    worker(tmp_path, "asked\n")
    found.upload(PATH)
    worker(tmp_path, "asked\nagain\n")
    found.upload(PATH)
    worker(tmp_path, "on another\n")
    found.upload(PATH)
    assert found.read(PATH, None)[1] == ["asked\nagain\non another\n"]


def test_a_store_that_is_gone_fails_no_page(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow shows the rest of what it knows, and what became of the log."""
    gone = logs.Logs(S3Path("nowhere", "logs"), Path())
    sources, said = gone.read(PATH, None)
    assert said == []
    assert "NoSuchBucket" in sources[0]


def test_nothing_is_put_where_no_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """`LOGGING` alone is Airflow's own."""
    monkeypatch.delenv("TIDEGATE__AIRFLOW__LOGS", raising=False)
    assert logs._remote() is None
    assert logs.LOGGING["handlers"]["task"]["class"].endswith("FileTaskHandler")
