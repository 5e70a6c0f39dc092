"""`status` tells on-call which service of a stack is dead, which one is silent, and that neither is well."""

import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.stack import __main__ as stack_command
from infra.stack.airflow_api import answers
from infra.stack.processes import Component, Stack, StackError, free_ports
from infra.stack.status import services

SLEEPS = "import time; time.sleep(300)"
SERVES = "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"  # noqa: E501


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """MLflow answers, the endpoint lives and listens nowhere, the scheduler has no address, the migration has ended."""
    monkeypatch.setattr(stack_command, "VAR", tmp_path)
    stack = Stack.claim(tmp_path / "s")
    port, silent = free_ports(2)
    stack.facts = {"urls": {"mlflow": f"http://127.0.0.1:{port}", "endpoint": f"http://127.0.0.1:{silent}"}}
    for name, code, *words in (
        ("mlflow", SERVES, str(port)),
        ("endpoint", SLEEPS),
        ("airflow-scheduler", SLEEPS),
        ("airflow-db", "pass"),
    ):
        stack.start(Component(name, [sys.executable, "-c", code, *words], dict(os.environ), lambda: True))
    stack._children["airflow-db"].wait(120)
    stack.wait_healthy([Component("mlflow", [], {}, lambda: answers(f"http://127.0.0.1:{port}"))], 120)
    yield stack
    stack.end()


def test_each_service_stands_as_it_does(stack: Stack) -> None:
    found = {one.name: one for one in services(stack, answers)}
    assert {name: (one.state, one.well) for name, one in found.items()} == {
        "mlflow": ("alive", True),
        "endpoint": ("SILENT", False),
        "airflow-scheduler": ("alive", True),
        "airflow-db": ("done", True),
    }, "and the launcher is no service"
    assert abs(found["mlflow"].since - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_exit_code_is_that_of_the_worst_and_the_dead_are_named(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """As cron or a person would ask; a process whose id somebody else has now is dead too."""
    stack._children["endpoint"].kill()
    stack._children["endpoint"].wait(120)
    stack.processes[3]["started"] -= 1000  # of the scheduler: its id was given to another
    stack.save()
    assert stack_command.main(["status"]) == StackError.exit_code
    said = capsys.readouterr().out
    [endpoint] = [line for line in said.splitlines() if line.startswith("endpoint")]
    assert "DEAD" in endpoint
    assert "see logs/endpoint.log" in endpoint
    [scheduler] = [line for line in said.splitlines() if line.startswith("airflow-scheduler")]
    assert "DEAD" in scheduler
    assert "1 of 4 processes live" in said


def test_a_stack_that_is_well_is_0_and_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_command, "VAR", tmp_path)
    assert stack_command.main(["status"]) == 0
    stack = Stack.claim(tmp_path / "s")
    try:
        stack.start(Component("airflow-triggerer", [sys.executable, "-c", SLEEPS], dict(os.environ), lambda: True))
        time.sleep(0.1)
        assert stack_command.main(["status", "--name", "s"]) == 0
    finally:
        stack.end()
