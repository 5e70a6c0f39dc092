"""The note that Airflow shows in a run's header: its day and, of a promotion, what was answered.

Runs that tables start, and those from the trigger form, have an id that says no day, and Airflow lets nobody choose it.
A listener: Airflow's scheduler calls it, by way of `plugins/`. A person's own note stays below the line.
"""

from typing import Any

from airflow.listeners import hookimpl
from airflow.models.hitl import HITLDetail
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select
from sqlalchemy.orm import object_session

from jobs.errors import one_line

TAG = "tidegate"
"""Of every DAG of ours: what else runs in a team's Airflow is let alone."""
ASKS = "approve"


@hookimpl  # type: ignore[untyped-decorator]
def on_dag_run_running(dag_run: Any) -> None:
    """The day, from its start."""
    _write(dag_run, day_of(dag_run))


@hookimpl  # type: ignore[untyped-decorator]
def on_dag_run_success(dag_run: Any) -> None:
    """The answer too: a no ends a run as well as a yes."""
    if TAG in dag_run.dag.tags and dag_run.dag.has_task(ASKS):
        _write(dag_run, f"{day_of(dag_run)}: {answer_of(dag_run)}")


def day_of(dag_run: Any) -> str:
    """The day or the days it is about, with the mode if it has one; empty where it says none."""
    asked = dag_run.conf or {}
    day, since = asked.get("day") or dag_run.partition_key or "", asked.get("since")
    days = f"{since}..{day}" if since and since != day else day
    return " ".join(filter(None, (days, asked.get("mode"))))


def answer_of(dag_run: Any) -> str:
    """Who answered what, and why, of a promotion that is over."""
    session: Any = object_session(dag_run)
    asked = dag_run.get_task_instance(ASKS, session=session)
    if asked.state == TaskInstanceState.SKIPPED:
        return "nobody was asked"
    answer: Any = session.scalar(select(HITLDetail).where(HITLDetail.ti_id == asked.id))
    said = {"Approve": "approved"}.get((answer.chosen_options or [""])[0], "rejected")
    by = answer.responded_by_user_name or "nobody, no answer in time"
    why = one_line((answer.params_input or {}).get("note") or "")
    return f"{said} by {by}" + (f": {why}" if why else "")


def _write(dag_run: Any, line: str) -> None:
    """The first line of the note, in place of what was said of the day before; other lines are a person's."""
    if TAG not in dag_run.dag.tags or not line:
        return
    ours, _, theirs = (dag_run.note or "").partition("\n")
    if ours and not ours.startswith(day_of(dag_run)):
        theirs = dag_run.note
    dag_run.note = "\n\n".join(filter(None, (line, theirs.strip())))
