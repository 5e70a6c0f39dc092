"""A person is asked about one evidence, and the answer is about that one, whatever is found meanwhile."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped, TaskAwaitingInput

from jobs.orchestration.person import answered, approval

pytestmark = pytest.mark.airflow

PROMOTED = {
    **{"verdict": "promote", "candidate_id": "xgboost-full-2026-01-11", "summary": "**Promote**: all is well"},
    **{"evidence_sha256": "e" * 64, "bundle_sha256": "b" * 64, "champion_sha256": "c" * 64},
}
READ = {name: PROMOTED[name] for name in ("evidence_sha256", "bundle_sha256", "champion_sha256")}


class Instance:
    """A task instance's XComs, as far as an approval goes."""

    id = "01890000-0000-7000-8000-000000000000"
    map_index = -1

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


def answer(
    dags: dict[str, Any], instance: Instance, note: str = "", choice: str = "Approve", by: str | None = "alice"
) -> list[str]:
    """The same task in a process of its own, hours later; the tasks that it skips."""
    task = dags["promotion"].get_task("approve").prepare_for_execution()
    event = {
        "chosen_options": [choice],
        "params_input": {"note": note},
        "responded_at": datetime(2026, 1, 12, tzinfo=UTC),
        "responded_by_user": by and {"id": "7", "name": by},
    }
    context = {"ti": instance, "task": task}
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        task.execute_complete(context, event)
    return list(skipped.value.tasks)


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


def test_a_no_and_nobodys_answer_go_on_record_instead(dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the two ways is skipped, so that the run shows which was taken; silence is a no in nobody's name."""
    instance = Instance(PROMOTED)
    ask(dags, instance, monkeypatch)
    assert answer(dags, instance) == ["reject"]
    assert answer(dags, instance, "too many cats", "Reject", "bob") == ["deploy"]
    assert [answered(instance, flag) for flag in ("rejected-by", "rejected-why")] == ["bob", "too many cats"]
    assert answered(instance, "evidence-sha") == READ["evidence_sha256"]
    assert answer(dags, instance, choice="Reject", by=None) == ["deploy"]
    assert [answered(instance, flag) for flag in ("rejected-by", "rejected-why")] == ["nobody", "no answer in time"]
    assert answered(instance, "approved-by") == ""


def test_a_question_has_the_time_that_settings_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And then its answer is no; by default it stays open."""
    assert (approval().defaults, approval().response_timeout) == (None, None)
    monkeypatch.setenv("TIDEGATE__RELEASE__ANSWER_HOURS", "48")
    asked = approval()
    assert (asked.defaults, asked.response_timeout) == (["Reject"], timedelta(hours=48))


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
