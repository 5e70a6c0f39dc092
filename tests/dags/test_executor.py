"""A task that goes on in a second process is not taken for dead when the first one ends."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.executors.local_executor import LocalExecutor as Airflows
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import CallbackState, TaskInstanceState

from jobs.orchestration.executor import LocalExecutor

pytestmark = pytest.mark.airflow

SUCCESS, FAILED = TaskInstanceState.SUCCESS, TaskInstanceState.FAILED


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> LocalExecutor:
    """Without its worker processes."""
    monkeypatch.setattr(Airflows, "start", lambda _: None)
    monkeypatch.setattr(Airflows, "_process_workloads", lambda _, __: None)
    made = LocalExecutor(parallelism=1)
    made.start()
    return made


def sent(executor: LocalExecutor, *keys: str) -> None:
    executor._process_workloads([SimpleNamespace(key=key) for key in keys])


@pytest.mark.parametrize("first", [SUCCESS, FAILED])
def test_only_the_last_process_of_a_task_tells_of_its_end(executor: LocalExecutor, first: TaskInstanceState) -> None:
    """The scheduler fails a running task of which it hears that its process has ended."""
    sent(executor, "approve", "train")
    sent(executor, "approve")  # answered, before the process that asked has ended
    executor.change_state("approve", first)
    assert executor.get_event_buffer() == {}
    executor.change_state("train", FAILED)
    executor.change_state("approve", SUCCESS)
    assert executor.get_event_buffer() == {"train": (FAILED, None), "approve": (SUCCESS, None)}


def test_one_after_the_other_both_tell(executor: LocalExecutor) -> None:
    """As do tasks of which this executor never heard, and what is no task's end."""
    for _ in range(2):
        sent(executor, "approve")
        executor.change_state("approve", SUCCESS)
        assert executor.get_event_buffer() == {"approve": (SUCCESS, None)}
    executor.change_state("adopted", FAILED)
    sent(executor, "callback")
    executor.change_state("callback", CallbackState.RUNNING)
    assert list(executor.get_event_buffer()) == ["adopted", "callback"]


def test_celery_s_executor_forgets_the_first_process_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is used as it is: the end that it asks for is that of the newest message of a task.

    Its results are in a database here, and what is sent goes to a broker in memory: no worker is asked.
    """
    from airflow.providers.celery.executors import celery_executor, celery_executor_utils
    from celery import Celery

    results = f"db+sqlite:///{tmp_path / 'results.db'}"
    app = Celery("airflow.providers.celery.executors.celery_executor", broker="memory://", backend=results)

    @app.task(name="execute_workload")  # type: ignore[untyped-decorator]
    def run(_: str) -> None:
        raise AssertionError("no worker is there")

    monkeypatch.setattr(celery_executor_utils, "create_celery_app", lambda _: app)
    monkeypatch.setattr(celery_executor_utils, "_get_celery_app_for_workload", lambda _: app)
    made = celery_executor.CeleryExecutor(parallelism=4)
    made._sync_parallelism = 1
    approve, train = (TaskInstanceKey("promotion", task, "run") for task in ("approve", "train"))
    for number, key in enumerate((approve, train, approve), 1):  # the third is the answer, come at once
        text = SimpleNamespace(ti=SimpleNamespace(external_executor_id=str(number)), model_dump_json=lambda: "{}")
        made._send_workloads([(key, text, "default", None)])
    assert made.get_event_buffer() == {
        approve: (TaskInstanceState.QUEUED, "3"),
        train: (TaskInstanceState.QUEUED, "2"),
    }
    for number in ("1", "2"):
        app.backend.mark_as_done(number, None)
    made.sync()
    assert made.get_event_buffer() == {train: (SUCCESS, None)}
    app.backend.mark_as_done("3", None)
    made.sync()
    assert made.get_event_buffer() == {approve: (SUCCESS, None)}
