"""The alert reaches a real receiver, is silent without a connection, and never makes things worse."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from jobs.orchestration import operator
from jobs.orchestration.alert import alert
from jobs.orchestration.operator import StageOperator

pytestmark = pytest.mark.airflow

SECRET = "T000-B000-secret"


class Receiver(ThreadingHTTPServer):
    """Answers as Slack does and keeps what it got."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(server.status)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def connect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Define the connection the way a deployment does."""
    url = f"http://127.0.0.1:{port}/services/{SECRET}"
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps({"conn_type": "slackwebhook", "password": url}))


@pytest.fixture
def failure() -> dict[str, Any]:
    """What Airflow hands to a failure callback."""
    ti = SimpleNamespace(
        dag_id="daily_data",
        task_id="validate",
        task=SimpleNamespace(day="2026-01-11"),
        log_url="http://airflow/log",
    )
    error = AirflowFailException("Refused: impressions need an item_id; found 12 without")
    return {"ti": ti, "dag_run": SimpleNamespace(partition_key="2026-01-11"), "exception": error}


def test_it_says_what_failed_for_which_day_why_and_where(
    receiver: Receiver, failure: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough to decide, on a phone, whether to get up."""
    connect(monkeypatch, receiver.server_port)
    alert(failure)
    (message,) = receiver.got
    for part in ("daily_data.validate", "2026-01-11", "found 12 without", "http://airflow/log"):
        assert part in message["text"]


def test_without_a_connection_it_is_silent(receiver: Receiver, failure: dict[str, Any], database: None) -> None:
    """A laptop has no Slack."""
    alert(failure)
    assert receiver.got == []


@pytest.mark.parametrize("broken", ["refuses", "is gone"])
def test_a_receiver_that_fails_is_only_logged(
    broken: str,
    receiver: Receiver,
    failure: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The task has failed already; its callback must not fail too, nor print the webhook's address."""
    receiver.status = 500
    connect(monkeypatch, receiver.server_port if broken == "refuses" else 1)
    with caplog.at_level(logging.WARNING):
        alert(failure)
    assert "not delivered" in caplog.text
    assert SECRET not in "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("jobs"))


@pytest.mark.parametrize("alarmed", [{}, {"2026-01-11": ["skew_max", "fallback_share"], "2026-01-10": []}])
def test_a_green_task_that_raises_alarms_tells_them(
    alarmed: dict[str, list[str]],
    receiver: Receiver,
    failure: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An alarm fails nothing, so nobody would look: which figures of which day; a day without any is not named."""
    connect(monkeypatch, receiver.server_port)
    report = {"alarms": sum(map(len, alarmed.values())), "alarmed": alarmed}
    stands_in = tmp_path / "python"
    stands_in.write_text(f"#!/bin/sh\necho '{json.dumps(report)}'\n")
    stands_in.chmod(0o755)
    monkeypatch.setattr(operator, "python", lambda: str(stands_in))
    task = StageOperator(task_id="monitor", stage="monitor", day="2026-01-11", partition_key="")
    assert task.execute({"ti": failure["ti"], "outlet_events": {}}) == report
    told = [message["text"] for message in receiver.got]
    if not alarmed:
        assert told == []
        return
    (text,) = told
    assert "2026-01-11: skew_max, fallback_share" in text
    assert "2026-01-10" not in text
    assert "http://airflow/log" in text
