"""A person is asked about one evidence, and the answer is about that one, whatever is found meanwhile."""

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from jobs.orchestration.person import answered

pytestmark = pytest.mark.airflow

PROMOTED = {
    **{"verdict": "promote", "candidate_id": "xgboost-full-2026-01-11", "summary": "**Promote**: all is well"},
    **{"evidence_sha256": "e" * 64, "bundle_sha256": "b" * 64, "champion_sha256": "c" * 64},
}
READ = {name: PROMOTED[name] for name in ("evidence_sha256", "bundle_sha256", "champion_sha256")}


class Instance:
    """A task instance's XComs, as far as an approval goes."""

    id = "01890000-0000-7000-8000-000000000000"

    def __init__(self, found: dict[str, Any]) -> None:
        self.values: dict[tuple[str, str], Any] = {("promote", "return_value"): found}

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.values.get((task_ids, key))

    def xcom_push(self, key: str, value: Any) -> None:
        self.values["approve", key] = value


def ask(dags: dict[str, Any], instance: Instance, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Park the task; returns what the person is shown."""
    shown: dict[str, Any] = {}
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", shown.update)
    task = dags["promotion"].get_task("approve").prepare_for_execution()
    context = {"ti": instance, "task_instance": instance, "params": {}}
    task.render_template_fields(context, dags["promotion"].get_template_env())
    with pytest.raises(TaskAwaitingInput):
        task.execute(context)
    return shown


def answer(dags: dict[str, Any], instance: Instance, note: str = "") -> None:
    """The same task in a process of its own, hours later."""
    task = dags["promotion"].get_task("approve").prepare_for_execution()
    event = {
        "chosen_options": ["Approve"],
        "params_input": {"note": note},
        "responded_at": datetime(2026, 1, 12, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "alice"},
    }
    context = {"ti": instance, "task": task}
    instance.xcom_push("return_value", task.execute_complete(context, event))


def test_the_answer_is_to_what_was_asked_not_to_what_was_found_since(
    dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`promote` was cleared and ran again on other evidence before anybody answered."""
    instance = Instance(PROMOTED)
    shown = ask(dags, instance, monkeypatch)
    assert shown["body"] == PROMOTED["summary"]
    assert list(shown["params"]) == ["note"], "a person types no sha256"
    instance.values["promote", "return_value"] = {**PROMOTED, "evidence_sha256": "f" * 64}
    answer(dags, instance, "why not")
    found = {flag: answered(instance, flag) for flag in ("approved-by", "why", *map(_flag, READ))}
    assert found == {"approved-by": "alice", "why": "why not", **{_flag(name): sha for name, sha in READ.items()}}


def _flag(name: str) -> str:
    return name.replace("_", "-").removesuffix("256")


@pytest.mark.parametrize("verdict", ["hold", "refuse", None])
def test_nobody_is_asked_about_anything_but_a_promotion(
    dags: dict[str, Any], verdict: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no way to force it."""
    task = dags["promotion"].get_task("approve").prepare_for_execution()
    instance = Instance({**PROMOTED, "verdict": verdict})
    with pytest.raises(AirflowSkipException, match=f"the gate says {verdict}"):
        task.execute({"ti": instance, "task_instance": instance})
    assert instance.xcom_pull("approve", "asked") is None
