"""Airflow's LocalExecutor, under which a person may answer a question in the second in which it is asked."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from airflow.executors.local_executor import LocalExecutor as Airflows
from airflow.utils.state import TaskInstanceState

ENDED = (TaskInstanceState.SUCCESS, TaskInstanceState.FAILED)


class LocalExecutor(Airflows):
    """Says nothing of the end of a process whose task already goes on in another one.

    The process that asked lives on for some seconds. Once the answer is in, the task runs again under the same key, and
    Airflow 3.3.2 takes the end of the first process for the death of the second (apache/airflow#72716): it fails the
    task, and the answer is lost.
    """

    def start(self) -> None:
        """With nothing under way."""
        self._under_way: Counter[Any] = Counter()
        super().start()

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        self._under_way.update(workload.key for workload in workload_list)
        super()._process_workloads(workload_list)

    def change_state(self, key: Any, state: Any, info: Any = None, remove_running: bool = True) -> None:
        """As Airflow's, but for an end while another process of the task is under way."""
        if state in ENDED:
            self._under_way[key] -= 1
            if self._under_way[key] > 0:
                return
            del self._under_way[key]
        super().change_state(key, state, info, remove_running)
