"""A schedule that only says which days there are: for logs that have ended, which have no yesterday."""

from typing import Any

from airflow.timetables.trigger import CronPartitionTimetable


class ByHand(CronPartitionTimetable):
    """Backfills and triggers by partition key as the schedule it stands for; the calendar alone starts nothing.

    Without it an unpaused DAG would at once start a run for the real yesterday, a day the source does not have. A DAG's
    `start_date` or `end_date` cannot say this: a run triggered by hand with a logical date would have no tasks.
    """

    @property
    def summary(self) -> str:
        """Shown as the DAG's schedule."""
        return "by hand: the logs have ended"

    def next_dagrun_info_v2(self, *, last_dagrun_info: Any, restriction: Any) -> None:
        """Never."""
