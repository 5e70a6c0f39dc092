"""A stage's process and its task: exit codes, output, the report, and that nothing outlives a killed task."""

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException

from jobs.config import ROOT
from jobs.errors import Misconfigured, NotReady, Refused, TidegateError, UsageError
from jobs.orchestration import operator as module
from jobs.orchestration.operator import NOT_READY_TRIES, StageOperator, stage
from jobs.orchestration.process import Command

pytestmark = pytest.mark.airflow

DAY = "2026-01-11"


class Marks(dict[Any, Any]):
    """Stands where Airflow keeps outlet events: remembers the partitions that were added."""

    def __missing__(self, asset: Any) -> Any:
        keys: list[str] = []
        self[asset] = type("Event", (), {"add_partitions": lambda _, key: keys.append(key), "keys": keys})()
        return self[asset]


def script(folder: Path, text: str) -> str:
    """An executable that stands in for the interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def runs(pid: int) -> bool:
    """Whether a process lives; one that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, waited: int = 0) -> Any:
    """Execute a stage task whose process is `text`."""
    monkeypatch.setattr(module, "python", lambda: script(folder, text))
    task = StageOperator(task_id="t", stage="ingest", day=DAY, partition_key="")
    return task.execute({"outlet_events": Marks(), "task_reschedule_count": waited})


@pytest.mark.parametrize("error", [UsageError, Refused, Misconfigured])
def test_what_a_retry_cannot_help_fails_at_once(
    error: type[TidegateError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused data stays refused; the sentence on stderr is the task's error."""
    with pytest.raises(AirflowFailException, match=r"^Refused: needed x, found y$"):
        run(monkeypatch, tmp_path, f"echo 'Refused: needed x, found y' >&2; exit {error.exit_code}")


def test_not_ready_is_waited_for_and_at_last_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """75 is no failure yet; the wait is Airflow's own, as of a sensor. How often it counts is `test_patience`'s."""
    late = f"echo 'NotReady: no day' >&2; exit {NotReady.exit_code}"
    for waited in range(NOT_READY_TRIES - 1):
        with pytest.raises(AirflowRescheduleException) as again:
            run(monkeypatch, tmp_path, late, waited)
        assert again.value.reschedule_date.tzinfo is not None
    with pytest.raises(AirflowFailException, match=r"^NotReady: no day \(asked 12 times in 1:50:00 h\)$"):
        run(monkeypatch, tmp_path, late, NOT_READY_TRIES - 1)


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        (
            "echo 'Refused: needed x, found y' >&2; echo 'WARN ShutdownHookManager: gone' >&2",
            65,
            "Refused: needed x, found y",
        ),
        ("echo '[t 0.1s] Refused: one of many' >&2; echo 'Misconfigured: no' >&2", 78, "Misconfigured: no"),
        ("echo 'no module named x' >&2", 1, "no module named x (exit code 1)"),
        ("true", 64, "ingest ended with exit code 64 and said nothing"),
        ("echo 'Crashed: a bug' >&2; echo '  schema: {' >&2", 70, "Crashed: a bug (exit code 70)"),
        ("echo working >&2; kill -9 $$", None, "ingest was ended: Killed, perhaps for memory; it last said: working"),
        ("kill -11 $$", None, "ingest was ended: Segmentation fault; it last said: nothing"),
    ],
)
def test_a_failure_quotes_the_sentence_that_matters(
    text: str, code: int | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JVM that shuts down, or a schema that is dumped, speaks after the stage has: Slack used to quote that."""
    with pytest.raises(AirflowException) as found:
        run(monkeypatch, tmp_path, text + ("" if code is None else f"; exit {code}"))
    assert str(found.value) == told


def test_the_report_is_the_last_line_and_the_output_is_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress on stderr does not disturb the report on stdout."""
    report = run(monkeypatch, tmp_path, "echo hello; echo '{\"rows\": 3}'; echo late >&2")
    assert report == {"rows": 3}
    shown = capsys.readouterr().out
    assert "hello" in shown
    assert "late" in shown


def test_success_without_a_report_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that says nothing has not said that it succeeded."""
    with pytest.raises(AirflowException, match="JSON report"):
        run(monkeypatch, tmp_path, "echo done")


def test_the_real_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module behind the command line, with its own exit codes: a setting that does not exist is never retried."""
    monkeypatch.setenv("TIDEGATE__NO_SUCH__SETTING", "1")
    task = StageOperator(task_id="t", stage="ingest", day=DAY, partition_key="")
    with pytest.raises(AirflowFailException, match=r"Misconfigured: .*no_such"):
        task.execute({"outlet_events": Marks()})


@pytest.mark.parametrize(("since", "keys"), [(None, [DAY]), ("2026-01-01", [])])
def test_only_a_single_day_starts_what_waits_for_it(
    since: str | None, keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bootstrap of 35 days must not start 35 warm starts."""
    marks = Marks()
    monkeypatch.setattr(module, "python", lambda: script(tmp_path, "echo '{}'"))
    task = stage("attribute", ranged=True, publishes=("labels",))
    task.day, task.partition_key, task.since = DAY, "", since
    task.execute({"outlet_events": marks})
    assert [key for event in marks.values() for key in event.keys] == keys


def test_a_stage_cannot_claim_another_stages_table() -> None:
    """Assets follow jobs.flow."""
    with pytest.raises(ValueError, match="attribute writes labels"):
        stage("attribute", publishes=("examples",))


def test_a_killed_task_takes_its_whole_process_group_along(tmp_path: Path) -> None:
    """A Spark driver's JVM that outlives its task would hold memory and write files nobody asked for."""
    pids = tmp_path / "pids"
    command = Command([script(tmp_path, f"sleep 300 & echo $! > {pids}; echo $$ >> {pids}; wait")], ROOT)
    worker = threading.Thread(target=command.run, args=(lambda line: None,))
    worker.start()
    deadline = time.monotonic() + 120
    while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    command.kill()
    worker.join(120)
    assert not worker.is_alive()
    started = [int(pid) for pid in pids.read_text().split()]
    while any(runs(pid) for pid in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(runs(pid) for pid in started)


def test_what_a_stage_leaves_behind_does_not_block_its_task(tmp_path: Path) -> None:
    """A daemon that keeps the pipe open is ended after a moment, not waited for until it ends by itself."""
    started = time.monotonic()
    command = Command([script(tmp_path, "sleep 300 & echo done; exit 0")], ROOT)
    assert command.run(lambda line: None) == 0
    assert command.last["stdout"] == "done"
    assert time.monotonic() - started < 60
