"""The alert reaches a real receiver, is silent without a connection, and never makes things worse."""

import json
import logging
import socket
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.orchestration import operator
from jobs.orchestration.alert import MOST, alarm, alert, message, overdue, send, wanted
from jobs.orchestration.operator import StageOperator
from jobs.orchestration.schedule import standing_orders
from tests.slack_receiver import Receiver

pytestmark = pytest.mark.airflow

SECRET = "T000-B000-secret"


def connect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Define the connection the way a deployment does."""
    url = f"http://127.0.0.1:{port}/services/{SECRET}"
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps({"conn_type": "slackwebhook", "password": url}))


def failed(error: object) -> dict[str, Any]:
    """What Airflow hands to a failure callback."""
    ti = SimpleNamespace(
        dag_id="daily_data",
        task_id="validate",
        task=SimpleNamespace(day="2026-01-11"),
        log_url="http://airflow/log",
    )
    return {"ti": ti, "dag_run": SimpleNamespace(partition_key="2026-01-11"), "exception": error}


@pytest.fixture
def failure() -> dict[str, Any]:
    """A stage that refused its data."""
    return failed(AirflowFailException("Refused: impressions need an item_id; found 12 without"))


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


def answers(said: bytes) -> int:
    """The port of something that is no Slack: it says this to the first who comes, and hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(said)
        connection.close()
        listening.close()

    threading.Thread(target=serve, daemon=True).start()
    return int(listening.getsockname()[1])


BROKEN = {
    "refuses": b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno",
    "forbids": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    "talks garbage": b"garbage\r\n\r\n",
    "stops half-way": b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nok",
    "hangs up": b"",
    "turns round": b"HTTP/1.1 302 Found\r\nLocation: ftp://nowhere\r\n\r\n",
}


@pytest.mark.parametrize("said", [*BROKEN.values(), None], ids=[*BROKEN, "is gone"])
def test_a_receiver_that_fails_is_only_logged(
    said: bytes | None, failure: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The task has failed already; its callback must not fail too, nor print the webhook's address."""
    connect(monkeypatch, 1 if said is None else answers(said))
    with caplog.at_level(logging.WARNING):
        alert(failure)
    assert "not delivered" in caplog.text
    assert SECRET not in "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("jobs"))


@pytest.mark.parametrize(
    "connection",
    [
        {"conn_type": "slackwebhook", "password": f"http://127.0.0.1:1/services/ {SECRET}"},
        {"conn_type": "slackwebhook", "password": f"nonsense {SECRET}"},
        {"conn_type": "slackwebhook"},
        {"conn_type": "slackwebhook", "password": f"http://[::1/{SECRET}", "extra": "{not json"},
        "not json {",
        [],
    ],
    ids=str,
)
def test_a_connection_that_is_wrong_is_only_logged(
    connection: Any, failure: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever mistyped the secret learns it from the log of the next task that fails, not from tasks that fail."""
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", connection if isinstance(connection, str) else json.dumps(connection))
    with caplog.at_level(logging.WARNING):
        alert(failure)
    told = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("jobs"))
    assert "alert" in told
    assert SECRET not in told


@pytest.mark.parametrize(
    "report",
    [
        {"alarms": 1},
        {"alarms": 1, "alarmed": None},
        {"alarms": 1, "alarmed": {"d": [1]}},
        {"incidents": None},
        {"incidents": [{"state": "unheard of"}, "text"]},
    ],
)
def test_a_report_nobody_expected_fails_no_stage(
    report: dict[str, Any], receiver: Receiver, failure: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day is published; what is told of it comes second."""
    connect(monkeypatch, receiver.server_port)
    assert monitored(report, failure, tmp_path, monkeypatch) == report


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            AirflowFailException("Refused: rows need ids; found 12 without"),
            "failed for 2026-01-11: Refused: rows need ids",
        ),
        (AssertionError(), "failed for 2026-01-11: AssertionError"),
        (KeyboardInterrupt(), "failed for 2026-01-11: KeyboardInterrupt"),
        (AirflowException("  "), "failed for 2026-01-11: AirflowException"),
        (
            ValueError("first\nFor further information visit https://errors"),
            "2026-01-11: ValueError: first For further",
        ),
        (None, "failed for 2026-01-11: no exception was recorded"),
        ("it was killed", "failed for 2026-01-11: it was killed"),
    ],
)
def test_it_quotes_the_sentence_that_matters(error: object, told: str) -> None:
    """An error without words used to raise where the alert was made; of many lines the last says least."""
    assert told in message(failed(error))


@settings(deadline=None)  # the first call imports
@given(st.text(max_size=4_000), st.lists(st.text(max_size=60), max_size=80))
def test_whatever_an_error_says_slack_is_told_and_nobody_is_called(text: str, figures: list[str]) -> None:
    """Control characters, lone surrogates and markup come with data: `<!channel>` in a name must stay a name."""
    for error in (text, text * 9, "<!channel> & <@U1>" * 99):
        told = [message(failed(ValueError(error))), alarm(failed(None), {"2026-01-11": figures, text: [error]})]
        for said in told:
            first, link = said.split("\n")
            assert link == "<http://airflow/log|log>"
            assert first.isprintable()
            assert not {"<", ">"} & set(first)
            assert len(said) < MOST + 100
            json.dumps({"text": said}).encode()


def test_a_task_that_was_never_rendered_has_the_runs_day(failure: dict[str, Any]) -> None:
    """The scheduler tells of a killed worker from the DAG file, where the day is a template still."""
    failure["ti"].task.day = "{{ params.day or '' }}"
    assert "failed for 2026-01-11:" in message(failure)
    assert "failed for 2026-01-02:" in message({**failure, "params": {"day": "2026-01-02"}})


def test_a_step_and_a_question_are_told_with_the_way_to_them(
    receiver: Receiver, failure: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message each; a stage that took no step tells nothing."""
    connect(monkeypatch, receiver.server_port)
    monitored(
        {"tell": "m, approved by alice, is at canary-5 (of <900> answers 0 failed)"}, failure, tmp_path, monkeypatch
    )
    monitored({"endpoint": "tidegate"}, failure, tmp_path, monkeypatch)
    why = ["Promote: it earns <more>", "AUC: 0.61 → 0.66 (+0.05)"]
    send(lambda: wanted(failure, "Deploy m?", why, "http://airflow/dags/p/required_actions?map_index=-1&x=1"))
    step, question = [message["text"] for message in receiver.got]
    assert "m, approved by alice, is at canary-5 (of &lt;900&gt; answers 0 failed)" in step
    assert step.endswith("<http://airflow/log|log>")
    assert question.startswith(
        ":raised_hand: Deploy m? (2026-01-11)\n• Promote: it earns &lt;more&gt;\n• AUC: 0.61 → 0.66 (+0.05)\n"
    )
    assert question.endswith("<http://airflow/dags/p/required_actions?map_index=-1&amp;x=1|answer>")


def test_a_run_that_waits_for_a_person_is_a_reminder(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way to the question; any other run that is late has the way to itself."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow")
    run = {"dag_id": "promotion", "dag_run_id": "full-2026-01-11", "conf": {"day": "2026-01-11"}, "state": "running"}
    reminder = overdue({"dag_run": run}, hours=2.5, asks=True)
    assert (
        "promotion is not done for 2026-01-11, 2.5 h after it was queued: it is running; a question may wait"
        in reminder
    )
    assert reminder.endswith("<http://airflow/dags/promotion/runs/full-2026-01-11/required_actions|answer>")
    late = overdue({"dag_run": run | {"dag_id": "daily_data"}}, hours=6, asks=False)
    assert late.endswith("it is running\n<http://airflow/dags/daily_data/runs/full-2026-01-11|run>")


def test_half_the_time_for_an_answer_is_the_time_of_the_reminder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day by default; never later than the answer that silence is."""
    asked = {"doc": "# A\n\nB.", "stages": (), "tags": ()}
    assert standing_orders(**asked, asks=True)["deadline"].interval == timedelta(hours=24)
    monkeypatch.setenv("TIDEGATE__RELEASE__ANSWER_HOURS", "5")
    assert standing_orders(**asked, asks=True)["deadline"].interval == timedelta(hours=2.5)
    assert standing_orders(**asked)["deadline"].interval == timedelta(hours=24)


def monitored(report: dict[str, Any], failure: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the task of a stage that reports this returns."""
    stands_in = folder / "python"
    stands_in.write_text(f"#!/bin/sh\necho '{json.dumps(report)}'\n")
    stands_in.chmod(0o755)
    monkeypatch.setattr(operator, "python", lambda: str(stands_in))
    task = StageOperator(task_id="monitor", stage="monitor", day="2026-01-11", partition_key="")
    return task.execute({"ti": failure["ti"], "outlet_events": {}})


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
    assert monitored(report, failure, tmp_path, monkeypatch) == report
    told = [message["text"] for message in receiver.got]
    if not alarmed:
        assert told == []
        return
    (text,) = told
    assert "2026-01-11: skew_max, fallback_share" in text
    assert "2026-01-10" not in text
    assert "http://airflow/log" in text


def test_every_incident_is_a_message_of_its_own(
    receiver: Receiver, failure: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened, still open, closed: told apart at a glance, with the page; the list of figures is not told besides."""
    connect(monkeypatch, receiver.server_port)
    said = {"opened": "features, <d>: drift.x is 2", "open": "clicks: still open", "closed": "traffic: closed"}
    incidents = [{"state": state, "text": text} for state, text in said.items()]
    report = {"alarms": 2, "alarmed": {"2026-01-11": ["drift.x"]}, "incidents": incidents, "page": "var/r/1.html"}
    assert monitored(report, failure, tmp_path, monkeypatch) == report
    texts = [message["text"] for message in receiver.got]
    assert [text.split()[0] for text in texts] == [":red_circle:", ":large_orange_circle:", ":large_green_circle:"]
    assert "features, &lt;d&gt;: drift.x is 2 Page: var/r/1.html" in texts[0]
    assert all("http://airflow/log" in text for text in texts)


def test_an_incident_says_where_to_click(
    receiver: Receiver, failure: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that a browser finds is a link of its own beside the log's, whatever the incident's text is cut to."""
    connect(monkeypatch, receiver.server_port)
    page = "http://mlflow/#/experiments/1/runs/2/artifacts/evidence/reports/2026-01-11.html"
    incidents = [{"state": "opened", "text": "features: " + "x" * MOST}]
    monitored({"alarms": 1, "alarmed": {}, "incidents": incidents, "page": page}, failure, tmp_path, monkeypatch)
    [text] = [message["text"] for message in receiver.got]
    assert text.endswith(f"\n<{page}|report> <http://airflow/log|log>")


def test_a_quiet_day_is_told_to_nobody(
    receiver: Receiver, failure: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, receiver.server_port)
    monitored({"alarms": 0, "alarmed": {}, "incidents": []}, failure, tmp_path, monkeypatch)
    assert receiver.got == []
