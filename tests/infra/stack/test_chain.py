"""How a chain names the runs it starts, and answers what they ask."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.stack.chain import Chain


class Answering:
    """An Airflow in which every run asks once, and again after its second try."""

    url, user = "http://airflow", "anna"

    def __init__(self, *taken: str) -> None:
        self.taken = list(taken)
        self.said: list[Any] = []
        self.looks = 0

    def runs(self, _: str) -> list[dict[str, Any]]:
        return [{"dag_run_id": name} for name in self.taken]

    def trigger(self, _: str, conf: Mapping[str, Any], partition_key: str | None, run_id: str) -> str:
        self.said.append((dict(conf), partition_key, run_id))
        return run_id

    def run(self, *_: str) -> dict[str, Any]:
        self.looks += 1
        return {"state": "success" if self.looks == 4 else "running"}

    def tasks(self, *_: str) -> list[dict[str, Any]]:
        state = "awaiting_input" if self.looks < 4 else "skipped"
        return [{"task_id": "approve", "id": f"try {self.looks // 3}", "state": state, "end_date": None}]

    def answer(self, dag: str, run_id: str, task: str, choice: str, _: str) -> None:
        self.said.append((dag, run_id, task, choice))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.stack.chain.POLL_SECONDS", 0)
    monkeypatch.setattr("infra.stack.chain._seconds", lambda _: 0.0)


@pytest.mark.parametrize(
    ("conf", "key", "taken", "name"),
    [
        ({"day": "2026-01-11"}, None, [], "2026-01-11"),
        ({"day": "2026-01-11", "since": "2026-01-01"}, None, ["2026-01-11"], "2026-01-01_to_2026-01-11"),
        ({}, "2026-01-12", ["2026-01-12", "2026-01-12_2"], "2026-01-12_3"),
    ],
)
def test_a_run_is_called_by_its_days(conf: dict[str, str], key: str | None, taken: list[str], name: str) -> None:
    """Airflow's own names say the second in which somebody pressed a button."""
    airflow: Any = Answering(*taken)
    Chain(airflow, Path(), lambda _: None, lambda: None).trigger("daily_data", conf, key)
    assert airflow.said[0] == (conf, key, name)


@pytest.mark.parametrize("answers", [True, False])
def test_a_question_is_answered_once_and_at_once(answers: bool) -> None:
    """Asked again, it is answered again; left to a person it is only said."""
    airflow: Any = Answering()
    told: list[str] = []
    Chain(airflow, Path(), told.append, lambda: None, answers).follow("promotion", "full-2026-01-11")
    assert airflow.said == [("promotion", "full-2026-01-11", "approve", "Approve")] * (2 if answers else 0)
    asked = [line for line in told if line.startswith("  approve    ") and "skipped" not in line]
    says = "answered by anna" if answers else "waits for a person: http://airflow/required_actions"
    assert asked == [f"  approve    {says}"] * 2
