"""Runs of Airflow followed from outside: one line per finished task, the first failure raised with its log's path."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from infra.stack.airflow_api import Airflow
from infra.stack.processes import StackError

POLL_SECONDS = 1.0
APPEAR_SECONDS = 300.0
RUN_SECONDS = 1800.0
FAILED = {"failed", "upstream_failed"}
TRIED_AGAIN = {"up_for_retry", "up_for_reschedule"}
"""Whoever watches should not wait ten minutes for a retry or an input that is late: it counts as failed."""

WATCH = "watch_"
"""Begins the name of a task that looks at a release until it has seen enough."""


class ChainFailed(StackError):
    """A task failed; the sentence names it and its log."""


@dataclass(frozen=True)
class Finished:
    """A task that is done: what it reported and how long it took, the start of its process included."""

    dag: str
    task: str
    state: str
    day: str | None
    since: str | None
    mode: str | None
    rows: int | None
    seconds: float
    report: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For `summary.json`."""
        known = {"stage", "day", "since", "mode", "rows", "seconds"}
        figures = asdict(self)
        counts = {key: value for key, value in figures.pop("report").items() if key not in known}
        return {"stage": figures.pop("task"), **figures, "counts": counts}

    def line(self) -> str:
        """What a person reads while it goes."""
        if self.state == "skipped":
            return f"{self.task:<10} skipped"
        days = self.day or ""
        if self.since and self.since != self.day:
            days = f"{self.since}..{self.day}"
        rows = "" if self.rows is None else f"{self.rows:,} rows"
        return f"{self.task:<10} {days:<22} {self.mode or '':<5} {rows:>16} {self.seconds:>7.1f} s"


@dataclass
class Chain:
    """Everything that ran so far; `check` is asked on every poll whether the stack still stands."""

    airflow: Airflow
    logs: Path
    say: Callable[[str], None]
    check: Callable[[], None]
    answers: bool = True
    """Somebody watches: approve as the session's user, and end with the first failure. Otherwise the approval is left
    to a person, and tasks are tried again as Airflow does."""
    finished: list[Finished] = field(default_factory=list)

    def trigger(self, dag: str, conf: Mapping[str, Any], partition_key: str | None = None) -> None:
        """Start a run, which is called by its days, and follow it to its end."""
        days = "_to_".join(filter(None, (conf.get("since"), conf.get("day", partition_key))))
        taken = {run["dag_run_id"] for run in self.airflow.runs(dag)}
        name = next(name for n in count(1) if (name := days if n == 1 else f"{days}_{n}") not in taken)
        self.follow(dag, self.airflow.trigger(dag, conf, partition_key, name))

    def triggered_by_tables(self, dag: str, partition_key: str) -> None:
        """Follow the run Airflow itself starts once the tables of `partition_key` are published."""

        def started() -> str | None:
            keyed = [r for r in self.airflow.runs(dag) if r["partition_key"] == partition_key]
            return str(keyed[-1]["dag_run_id"]) if keyed else None

        self.follow(dag, self._appear(started, f"a run of {dag} for {partition_key}"))

    def proposed(self, mode: str, day: str) -> None:
        """Follow the promotion a training has proposed."""
        wanted = f"{mode}-{day}"

        def started() -> str | None:
            return wanted if wanted in {r["dag_run_id"] for r in self.airflow.runs("promotion")} else None

        self.follow("promotion", self._appear(started, f"the promotion {wanted}"))

    def follow(self, dag: str, run_id: str) -> None:
        """Say each task as it finishes; raises `ChainFailed` on the first that fails."""
        self.say(f"[{dag}] {run_id}")
        seen: set[str] = set()
        asked: set[str] = set()
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            self.check()
            state = self.airflow.run(dag, run_id)["state"]  # before its tasks: none can finish unseen in between
            for task in sorted(self.airflow.tasks(dag, run_id), key=lambda t: t["end_date"] or ""):
                if self._has_failed(task):
                    raise ChainFailed(self._failure(dag, run_id, task))
                if task["state"] == "awaiting_input" and task["id"] not in asked:
                    asked.add(task["id"])  # another try asks anew
                    self._answer(dag, run_id, task["task_id"])
                if task["state"] in ("success", "skipped") and task["task_id"] not in seen:
                    seen.add(task["task_id"])
                    self._note(dag, run_id, task)
            if state == "success":
                return
            if state == "failed" or time.monotonic() > deadline:
                raise ChainFailed(f"{dag} must succeed within {RUN_SECONDS:.0f} s; {run_id} is {state}: {self.logs}")
            time.sleep(POLL_SECONDS)

    def _has_failed(self, task: Mapping[str, Any]) -> bool:
        """With nobody watching a task may be tried again; a watch waits for what it is there to wait for."""
        waits = task["state"] == "up_for_reschedule" and task["task_id"].startswith(WATCH)
        return task["state"] in FAILED or (self.answers and task["state"] in TRIED_AGAIN and not waits)

    def _note(self, dag: str, run_id: str, task: Mapping[str, Any]) -> None:
        name, state = task["task_id"], task["state"]
        report = self.airflow.report(dag, run_id, name) if state == "success" else {}
        done = Finished(
            dag=dag,
            task=name,
            state=state,
            day=report.get("day"),
            since=report.get("since"),
            mode=report.get("mode"),
            rows=report.get("rows"),
            seconds=round(_seconds(task), 1),
            report=report,
        )
        self.finished.append(done)
        self.say(f"  {done.line()}")
        if "chosen" in report:
            self.say(f"  {'':<10} {report['why']}")
        for verdict in report.get("told", ())[:1]:
            self.say(f"  {'':<10} {verdict}")

    def _answer(self, dag: str, run_id: str, task: str) -> None:
        if not self.answers:
            self.say(f"  approve    waits for a person: {self.airflow.url}/required_actions")
            return
        self.airflow.answer(dag, run_id, task, "Approve", "The demo approves what the gate would promote.")
        self.say(f"  approve    answered by {self.airflow.user}")

    def _appear(self, look: Callable[[], str | None], what: str) -> str:
        deadline = time.monotonic() + APPEAR_SECONDS
        while time.monotonic() < deadline:
            self.check()
            if found := look():
                return found
            time.sleep(POLL_SECONDS)
        raise ChainFailed(f"Airflow must start {what} within {APPEAR_SECONDS:.0f} s; found none: {self.logs}")

    def _failure(self, dag: str, run_id: str, task: Mapping[str, Any]) -> str:
        folder = self.logs / f"dag_id={dag}" / f"run_id={run_id}" / f"task_id={task['task_id']}"
        tries = sorted(folder.glob("attempt=*.log"))
        why = sentence(tries[-1]) if tries else "it left no log"
        return f"{dag}.{task['task_id']} failed ({task['state']}): {why}; its log: {tries[-1] if tries else folder}"


def sentence(log: Path) -> str:
    """The error's own words: the last exception in a task's log of JSON lines."""
    why = "no exception was logged"
    for line in log.read_text(errors="replace").splitlines():
        with suppress(json.JSONDecodeError, KeyError, IndexError, TypeError):
            why = str(json.loads(line)["error_detail"][0]["exc_value"])
    return why


def _seconds(task: Mapping[str, Any]) -> float:
    if task.get("duration") is not None:
        return float(task["duration"])
    if not task["start_date"] or not task["end_date"]:
        return 0.0
    start, end = (datetime.fromisoformat(task[key]) for key in ("start_date", "end_date"))
    return (end - start).total_seconds()
