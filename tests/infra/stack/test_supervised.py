"""A service that is killed is started again, what it had left is gone, and it is said once; `down` leaves nothing."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from infra.stack.processes import MARK, Component, Stack, StackError, records
from infra.stack.supervisor import Supervisor
from infra.stack.told import Deaths
from tests.slack_receiver import Receiver

WORKER = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], "
WORKER += "start_new_session=True); import time; time.sleep(300)"


def until(there: Callable[[], object]) -> None:
    """Waits as long as a slow machine may need."""
    deadline = time.monotonic() + 240
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_killed_comes_back_without_its_orphans_and_is_told(tmp_path: Path, receiver: Receiver) -> None:
    """MLflow's worker would hold the port that the next MLflow needs; a scheduler's, write beside the next one's."""
    pytest.importorskip("supervisor", reason="of requirements.lock; not in this environment yet")
    address = json.dumps({"conn_type": "slackwebhook", "password": f"http://127.0.0.1:{receiver.server_port}/x"})
    environ = {**os.environ, "AIRFLOW_CONN_SLACK": address, "AIRFLOW_HOME": str(tmp_path / "airflow")}
    stack = Stack.claim(tmp_path / "s")
    try:
        service = Component("mlflow", [sys.executable, "-c", WORKER], environ, lambda: True)
        later = Component("airflow-api", [sys.executable, "-c", "raise SystemExit('no port')"], environ, lambda: False)
        supervisor = Supervisor(stack.folder, stack.mark)
        stack.start(one := supervisor.component([service], [later], environ, settled_s=2))
        until(one.healthy)
        until(lambda: len(of_stack(stack, "time.sleep(300)")) == 2)
        [first], orphan = records(stack.folder), of_stack(stack, "time.sleep(300)")
        psutil.Process(first.pid).kill()
        until(lambda: receiver.got)
        [again] = records(stack.folder)
        assert (again.starts, again.alive, first.alive) == (2, True, False)
        assert not any(process.is_running() for process in orphan)
        text = receiver.got[0]["text"]
        assert "mlflow of stack s died at" in text
        assert "it runs since" in text
        supervisor.begin([later])
        with pytest.raises(StackError, match=r"airflow-api must keep running; it was started . times; its log: .*log"):
            stack.wait_healthy([later], 240)
        assert "no port" in stack.log("airflow-api").read_text()
    finally:
        assert stack.end() >= 3
    assert not of_stack(stack, "")


def of_stack(stack: Stack, words: str) -> list[psutil.Process]:
    """Its processes whose command has these words, but for the supervisor's and this one."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get(MARK) == stack.mark and process.status() != psutil.STATUS_ZOMBIE
            if mine and words in " ".join(process.cmdline()) and "infra.stack" not in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_what_dies_again_and_again_is_told_once_in_ten_minutes(tmp_path: Path) -> None:
    """But that it does not come back is told at once; every death is written down."""
    deaths = Deaths(tmp_path)
    assert deaths.heard("RUNNING", "mlflow", 0) is None, "its first start is no news"
    assert deaths.heard("EXITED", "mlflow", 100) is None
    assert "runs since 00:01:50" in (deaths.heard("RUNNING", "mlflow", 110) or "")
    deaths.heard("EXITED", "mlflow", 200)
    assert deaths.heard("RUNNING", "mlflow", 210) is None
    deaths.heard("EXITED", "mlflow", 300)
    deaths.heard("BACKOFF", "mlflow", 305)
    assert "does not come back" in (deaths.heard("FATAL", "mlflow", 320) or "")
    told = [json.loads(line) for line in (tmp_path / "deaths.jsonl").read_text().splitlines()]
    assert [(of["died"], of["back"]) for of in told] == [(100, 110), (200, 210), (300, None)]
