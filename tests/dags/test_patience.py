"""How long is waited, in Airflow's own machinery: for an input that is late, after a crash, for a stage that hangs, for
a run that nothing ends.
"""

import asyncio
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.config import ROOT, Config
from jobs.flow import STAGES
from jobs.orchestration import operator
from jobs.orchestration.operator import CRASH_TRIES, NOT_READY_TRIES
from jobs.orchestration.process import Command
from tests.dags.test_alert import connect
from tests.slack_receiver import Receiver

pytestmark = pytest.mark.airflow

DAY = "2026-01-01"


def script(folder: Path, text: str) -> str:
    """An executable that stands in for the interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def ran(
    dags: dict[str, Any], database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[int]], tuple[str, int]]:
    """Runs `ingest` for real, its process ending with these codes one after another; its state and how often it ran."""

    def run(codes: list[int]) -> tuple[str, int]:
        (tmp_path / "codes").write_text(" ".join(map(str, codes)))
        text = f"""
cd {tmp_path}; read code rest < codes; echo "$rest" > codes; echo x >> ran
echo "NotReady or crashed: $code" >&2; echo '{{}}'; exit $code"""
        monkeypatch.setattr(operator, "python", lambda: script(tmp_path, text))
        monkeypatch.setattr(operator, "NOT_READY_DELAY", timedelta(0))
        monkeypatch.setattr(dags["daily_data"].get_task("ingest"), "retry_delay", timedelta(0))
        done = dags["daily_data"].test(run_conf={"day": DAY}, mark_success_pattern="validate|attribute|featurize")
        states = {ti.task_id: str(ti.state) for ti in done.get_task_instances()}
        return states["ingest"], len((tmp_path / "ran").read_text().split())

    return run


@pytest.mark.parametrize(
    ("codes", "state", "times"),
    [
        ([75] * 5 + [70] + [75] * 2 + [70] + [75] + [0], "success", 11),
        ([70] * 9, "failed", CRASH_TRIES),
        ([75] * 5 + [70] * 9, "failed", 5 + CRASH_TRIES),
        ([75] * 99, "failed", NOT_READY_TRIES),
        ([75, 65, 0], "failed", 2),
    ],
    ids=["late and unlucky", "crashes", "late, then crashes", "never comes", "late, then refused"],
)
def test_waiting_for_an_input_costs_no_try(
    codes: list[int], state: str, times: int, ran: Callable[[list[int]], tuple[str, int]]
) -> None:
    """One counter for both used to fail a task at its first crash, once its input had been two waits late."""
    assert ran(codes) == (state, times)


def test_waiting_is_not_silence(
    ran: Callable[[list[int]], tuple[str, int]], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hours of grey squares used to tell nobody; said once, and not of an input that is a few minutes late."""
    connect(monkeypatch, receiver.server_port)
    assert ran([75, 0])[0] == "success"
    assert receiver.got == []
    assert ran([75] * 4 + [0])[0] == "success"
    (message,) = receiver.got
    said = f"daily_data.ingest waits for {DAY}: NotReady or crashed: 75 (asked again every 0 minutes, 10 times)"
    assert message["text"].startswith(f":hourglass: {said}\n<http")


def ended(pids: list[int]) -> bool:
    """Whether none of these processes lives."""
    alive = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    return not alive


def test_a_stage_that_hangs_is_ended_with_all_it_started_and_tried_again(
    dags: dict[str, Any], database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's own timeout: the block around the child used to wait for it, so that nothing ever ended it."""
    hangs = f"""
trap '' TERM; echo x >> {tmp_path}/ran; echo "reading for ever" >&2
(trap '' TERM; echo $$ >> {tmp_path}/pids; sleep 300) & echo $! >> {tmp_path}/pids; wait"""
    monkeypatch.setattr(operator, "python", lambda: script(tmp_path, hangs))
    monkeypatch.setattr("jobs.orchestration.process.GRACE_SECONDS", 0.2)
    task = dags["daily_data"].get_task("ingest")
    monkeypatch.setattr(task, "retry_delay", timedelta(0))
    monkeypatch.setattr(task, "execution_timeout", timedelta(seconds=1))
    told = []
    monkeypatch.setattr(task, "on_failure_callback", [lambda context: told.append(str(context["exception"]))])
    done = dags["daily_data"].test(run_conf={"day": DAY}, mark_success_pattern="validate|attribute|featurize")
    assert str(done.get_task_instance("ingest").state) == "failed"
    assert len((tmp_path / "ran").read_text().split()) == CRASH_TRIES
    assert ended([int(pid) for pid in (tmp_path / "pids").read_text().split()])
    (said,) = told
    assert said.startswith("ingest must end within 0:00:01 (timeouts.ingest_minutes) and was ended")
    assert said.endswith("it last said: reading for ever")


def test_whatever_interrupts_a_command_ends_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler that raises, as Airflow's timeout and Ctrl-C do."""
    monkeypatch.setattr("jobs.orchestration.process.GRACE_SECONDS", 0.2)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        command = Command([script(tmp_path, f"echo $$ > {tmp_path}/pids; sleep 300")], ROOT)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            command.run(lambda line: None)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended([int((tmp_path / "pids").read_text())])


def test_every_task_has_an_end_and_every_run_a_deadline(dags: dict[str, Any]) -> None:
    """A stage's by its setting; only a person may take as long as they like, and then the run's deadline tells."""
    minutes = Config().timeouts
    assert {f"{name}_minutes" for name in STAGES} == set(type(minutes).model_fields)
    for dag in dags.values():
        for task in dag.tasks:
            if task.task_id in STAGES:
                assert task.execution_timeout == timedelta(minutes=minutes.of(task.task_id))
            else:
                assert (task.execution_timeout is None) == (task.task_id == "approve"), task.task_id
        (deadline,) = dag.deadline
        assert timedelta(hours=1) <= deadline.interval <= timedelta(days=1)
        assert deadline.callback.kwargs["hours"] == deadline.interval / timedelta(hours=1)


def test_a_setting_gives_a_stage_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A team whose training outgrows the default raises it; no code changes."""
    monkeypatch.setenv("TIDEGATE__TIMEOUTS__TRAIN_MINUTES", "999")
    assert operator.stage("train").execution_timeout == timedelta(minutes=999)


def test_a_run_that_misses_its_deadline_is_told(
    dags: dict[str, Any], database: None, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the DAG file through Airflow's tables to Slack, by the steps the scheduler and the triggerer take."""
    from airflow.models.deadline import Deadline
    from airflow.models.trigger import Trigger
    from airflow.triggers.callback import CallbackTrigger
    from airflow.utils.session import create_session
    from sqlalchemy import select

    connect(monkeypatch, receiver.server_port)
    dags["daily_data"].test(run_conf={"day": DAY}, mark_success_pattern=".*")  # writes the DAG down
    run_id = queued()
    with create_session() as session:
        (missed,) = [deadline for deadline in session.scalars(select(Deadline)) if deadline.dagrun.run_id == run_id]
        assert missed.deadline_time - missed.dagrun.queued_at == timedelta(hours=6)
        missed.handle_miss(session)
        session.flush()
        trigger = session.get(Trigger, missed.callback.trigger_id)
        kwargs = trigger.kwargs

    async def triggerer() -> list[Any]:
        return [event.payload["state"] async for event in CallbackTrigger(**kwargs).run()]

    assert asyncio.run(triggerer())[-1] == "success"
    (message,) = receiver.got
    first, _, link = message["text"].partition("\n")
    assert first == f":hourglass: daily_data is not done for {DAY}, 6 h after it was queued: it is queued"
    assert link == f"</dags/daily_data/runs/{run_id}|run>"


def queued() -> str:
    """A run of `daily_data` that nobody starts."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with create_session() as session:
        run = SerializedDagModel.get_dag("daily_data").create_dagrun(
            run_id="nobody-starts-it",
            run_after=datetime.now(UTC),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.QUEUED,
            partition_key=DAY,
            session=session,
        )
        return str(run.run_id)
