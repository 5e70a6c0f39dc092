"""A promotion's question for real: Airflow's API takes an approver's answer alone, and its task runner goes one way."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from infra.stack import people
from jobs.orchestration import notes
from jobs.orchestration.operator import StageOperator
from jobs.orchestration.person import Approval, approval

pytestmark = pytest.mark.airflow

PATIENCE_SECONDS = 300
PROMOTED = {
    **{"verdict": "promote", "candidate_id": "xgboost-full-2026-01-11", "summary": "**Promote**: all is well"},
    **{"evidence_sha256": "e" * 64, "bundle_sha256": "b" * 64, "champion_sha256": "c" * 64},
}
Session = Callable[[str], TestClient]


@pytest.fixture(scope="module")
def log_in(database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Airflow's routes for questions behind its auth manager with the people of `make up`, each with a session."""
    from airflow.api_fastapi.app import create_dag_bag, init_auth_manager
    from airflow.api_fastapi.core_api.routes.public.hitl import task_instances_hitl_router

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(people.USERS, people.users(["alice"]))
        patch.setenv(people.PASSWORDS, str(tmp_path_factory.mktemp("people") / "passwords.json"))
        passwords = {one.name: one.password for one in people.accounts(os.environ)}
        served = FastAPI()
        served.state.dag_bag = create_dag_bag()
        init_auth_manager(served)
        served.include_router(task_instances_hitl_router)

        def session(name: str) -> TestClient:
            client = TestClient(served, base_url="http://127.0.0.1")
            known = {"username": name, "password": passwords[name]}
            token = client.post("/auth/token", json=known).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            return client

        yield session


def answered(sessions: list[TestClient], asked: "Queue[str]", choice: str, note: dict[str, str]) -> list[int]:
    """All answer in the second in which the question is there; their statuses."""
    at = f"/dags/promotion/dagRuns/{asked.get(timeout=PATIENCE_SECONDS)}/taskInstances/approve/-1/hitlDetails"
    said = {"chosen_options": [choice], "params_input": note}
    return [session.patch(at, json=said).status_code for session in sessions]


@pytest.mark.parametrize(
    ("choice", "note", "taken", "skipped", "told"),
    [
        ("Approve", {"note": "because"}, "deploy", "reject", "approved by alice: because"),
        ("Reject", {}, "reject", "deploy", "rejected by alice"),
    ],
)
def test_only_an_approver_answers_and_the_answer_takes_one_way(
    dags: dict[str, Any],
    log_in: Session,
    choice: str,
    note: dict[str, str],
    taken: str,
    skipped: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A viewer's role and an engineer's name are refused; a note is not needed; the run's note says who said what."""
    asked: Queue[str] = Queue()
    ask = Approval.execute

    def asking(self: Approval, context: Any) -> Any:
        try:
            return ask(self, context)
        finally:
            asked.put(context["ti"].run_id)

    monkeypatch.setattr(Approval, "execute", asking)
    monkeypatch.setattr(StageOperator, "execute", lambda self, context: PROMOTED)
    monkeypatch.setenv("TIDEGATE__RELEASE__APPROVERS", '["alice"]')
    monkeypatch.setattr(dags["promotion"].get_task("approve"), "assigned_users", approval().assigned_users)
    sessions = [log_in(name) for name in (people.VIEWER, people.ENGINEER, "alice")]
    with ThreadPoolExecutor(1) as person:
        answer = person.submit(answered, sessions, asked, choice, note)
        run = dags["promotion"].test(
            run_conf={"day": "2026-01-11", "mode": "full"}, mark_success_pattern="deploy|reject"
        )
        assert answer.result() == [403, 403, 200]
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states == {"promote": "success", "approve": "success", taken: "success", skipped: "skipped"}
    said = run.get_task_instance("approve").xcom_pull(task_ids="approve")
    assert (said["responded_by_user"]["name"], said["evidence_sha256"]) == ("alice", "e" * 64)
    assert note_of(run) == f"2026-01-11 full: {told}"


@pytest.mark.parametrize(
    ("conf", "key", "note"),
    [
        ({"day": "2026-01-11", "since": "2026-01-09"}, None, "2026-01-09..2026-01-11"),
        ({"day": "2026-01-11", "since": "2026-01-11"}, None, "2026-01-11"),
        ({"day": "2026-01-11", "since": None, "mode": "warm"}, None, "2026-01-11 warm"),
        (None, "2026-01-11", "2026-01-11"),
    ],
)
def test_a_note_says_a_day_once(conf: dict[str, str] | None, key: str | None, note: str) -> None:
    assert notes.day_of(SimpleNamespace(conf=conf, partition_key=key)) == note


def note_of(run: Any) -> str:
    """What the listener makes of a run's note, and of a person's own."""
    from airflow.utils.session import create_session

    with create_session() as session:
        stored = session.merge(run)
        stored.dag = SimpleNamespace(tags={"tidegate"}, has_task=lambda _: True)
        stored.note = None
        notes.on_dag_run_running(stored)
        assert stored.note == "2026-01-11 full"
        notes.on_dag_run_success(stored)
        noted = str(stored.note)
        stored.note = "Anna asked for it"
        notes.on_dag_run_running(stored)
        notes.on_dag_run_success(stored)
        assert stored.note == f"{noted}\n\nAnna asked for it"
        stored.dag = SimpleNamespace(tags={"somebody else's"})
        stored.note = None
        notes.on_dag_run_success(stored)
        assert stored.note is None
        session.rollback()
        return noted
