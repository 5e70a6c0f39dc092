"""A task that goes on in a second process is not taken for dead when the first one ends."""

from types import SimpleNamespace

import pytest
from airflow.executors.local_executor import LocalExecutor as Airflows
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
