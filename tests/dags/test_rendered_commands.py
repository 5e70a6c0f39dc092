"""What a task runs is what one would type: every command, rendered, against a golden list."""

from types import SimpleNamespace
from typing import Any

import pytest

from jobs.__main__ import _parser
from jobs.orchestration.operator import StageOperator

pytestmark = pytest.mark.airflow

DAY, WEEK = "2026-01-11", "2026-W02"
GOLDEN = {
    ("daily_data", DAY): {
        "ingest": f"python -m jobs ingest --day {DAY}",
        "validate": f"python -m jobs validate --day {DAY}",
        "attribute": f"python -m jobs attribute --day {DAY}",
        "featurize": f"python -m jobs featurize --day {DAY}",
    },
    ("weekly_training", WEEK): {
        "assemble": f"python -m jobs assemble --day {DAY} --mode full",
        "train": f"python -m jobs train --day {DAY} --mode full",
        "backtest": f"python -m jobs backtest --day {DAY} --mode full",
    },
    ("daily_warm_start", DAY): {
        "assemble": f"python -m jobs assemble --day {DAY} --mode warm",
        "train": f"python -m jobs train --day {DAY} --mode warm",
        "backtest": f"python -m jobs backtest --day {DAY} --mode warm",
        "backtest_full": f"python -m jobs backtest --day {DAY} --mode full",
    },
    ("promotion", None): {
        "promote": f"python -m jobs promote --day {DAY} --mode warm",
        "deploy": f"python -m jobs deploy --day {DAY} --mode warm --approved-by=alice '--why=--it is better' "
        f"--evidence-sha={'e' * 64} --bundle-sha={'b' * 64} --champion-sha=none",
        "reject": f"python -m jobs reject --day {DAY} --mode warm --approved-by=alice '--why=--it is better' "
        f"--evidence-sha={'e' * 64} --bundle-sha={'b' * 64}",
    },
    ("daily_monitoring", DAY): {
        "monitor": f"python -m jobs monitor --day {DAY}",
        "experiment": f"python -m jobs experiment --day {DAY}",
        "reevaluate": f"python -m jobs reevaluate --day {DAY}",
        "maintain": f"python -m jobs maintain --day {DAY}",
    },
}
READ = {"evidence_sha256": "e" * 64, "bundle_sha256": "b" * 64, "champion_sha256": "none"}
ANSWER = {
    "approve": {
        "chosen_options": ["Approve"],
        "responded_by_user": {"id": "7", "name": "alice"},
        "params_input": {"note": "--it is better"},
        **READ,
    },
    "promote": {"evidence_sha256": "of a later evidence, which nobody has read"},
}


def rendered(dag: Any, key: str | None, xcom: dict[str, Any] | None = None, **params: str) -> dict[str, Any]:
    """The DAG's stage tasks after Airflow's own rendering."""
    given = {**{name: dag.params[name] for name in dag.params}, **params}
    found = {}
    for task in dag.tasks:
        if isinstance(task, StageOperator):
            copy = task.prepare_for_execution()
            context = {
                "params": given,
                "dag_run": SimpleNamespace(partition_key=key),
                "ti": SimpleNamespace(xcom_pull=lambda task_ids: (xcom or {}).get(task_ids)),
            }
            copy.render_template_fields(context, dag.get_template_env())
            found[task.task_id] = copy
    return found


@pytest.mark.parametrize(("name", "key"), GOLDEN)
def test_commands(dags: dict[str, Any], name: str, key: str | None) -> None:
    """A week's key means its Sunday; promotion knows day, mode and who said yes."""
    params = {"day": DAY, "mode": "warm"} if name == "promotion" else {}
    tasks = rendered(dags[name], key, ANSWER, **params)
    assert {task_id: task.command for task_id, task in tasks.items()} == GOLDEN[name, key]
    for task in tasks.values():
        _parser().parse_args(task.argv()[2:])


def test_a_range_is_one_run(dags: dict[str, Any]) -> None:
    """Since, from the form, reaches every stage of the day's data."""
    tasks = rendered(dags["daily_data"], None, day=DAY, since="2026-01-01")
    assert all(task.command.endswith(f"--day {DAY} --since 2026-01-01") for task in tasks.values())


def test_the_form_wins_over_the_partition_key(dags: dict[str, Any]) -> None:
    """Who types a day means that day."""
    assert rendered(dags["daily_data"], "2026-01-03", day=DAY)["ingest"].command.endswith(f"--day {DAY}")


@pytest.mark.parametrize(
    "answer", [{}, {"approve": {"chosen_options": ["Approve"], "responded_by_user": None, "params_input": None}}]
)
def test_without_an_answer_nobody_is_named(dags: dict[str, Any], answer: dict[str, Any]) -> None:
    """deploy then refuses by itself: it never runs on a name nobody gave, nor in the name of `None`."""
    command = rendered(dags["promotion"], None, answer, day=DAY, mode="full")["deploy"].command
    assert command == f"python -m jobs deploy --day {DAY} --mode full"


def test_without_a_day_the_task_fails_for_good(dags: dict[str, Any]) -> None:
    """No clock decides which day is meant."""
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="needs a day"):
        rendered(dags["daily_data"], None)["ingest"].argv()


PROPOSALS = [
    ("full", "weekly_training", "propose"),
    ("warm", "daily_warm_start", "propose"),
    ("full", "daily_warm_start", "propose_full"),
]


@pytest.mark.parametrize(("mode", "name", "task_id"), PROPOSALS)
def test_a_proposal_carries_day_and_mode(dags: dict[str, Any], mode: str, name: str, task_id: str) -> None:
    """One promotion per day and mode, whatever started the training."""
    task = dags[name].get_task(task_id).prepare_for_execution()
    context = {"params": {"day": None}, "dag_run": SimpleNamespace(partition_key=WEEK)}
    context |= dags[name].user_defined_macros
    task.render_template_fields(context, dags[name].get_template_env())
    assert task.conf == {"day": DAY, "mode": mode}
    assert task.trigger_run_id == f"{mode}-{DAY}"


@pytest.mark.parametrize(("mode", "name", "task_id"), PROPOSALS)
def test_who_was_not_judged_is_not_proposed(
    dags: dict[str, Any], mode: str, name: str, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of the backtest above it decides, and of no other; a day without a challenger is skipped, not red.

    The daily look at full trainings proposes only one that stands: asked twice, a person's answer would be cleared.
    """
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
    from airflow.sdk.exceptions import AirflowSkipException

    triggered = []
    monkeypatch.setattr(TriggerDagRunOperator, "execute", lambda self, context: triggered.append(self.task_id))
    task = dags[name].get_task(task_id)
    [backtest] = task.upstream_task_ids
    assert dags[name].get_task(backtest).mode == mode
    task.conf = {"day": DAY, "mode": mode}
    of_the_day = {"challenger": "c", "trained": DAY}
    reports = [
        ({"challenger": "c", "trained": "2026-01-01"}, None),
        ({"challenger": None}, "judged no challenger"),
        (of_the_day, "its own training proposes it" if task_id == "propose_full" else None),
    ]
    for report, skipped in reports:
        of = {backtest: report}
        context = {"ti": SimpleNamespace(xcom_pull=lambda task_ids, of=of: of.get(task_ids, {"challenger": "o"}))}
        triggered.clear()
        if skipped:
            with pytest.raises(AirflowSkipException, match=skipped):
                task.execute(context)
        else:
            task.execute(context)
        assert bool(triggered) is (skipped is None)


def test_a_full_training_is_started_only_where_one_is_due(
    dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the report of the day's own `train`, for the same day, under one name: cleared, it starts no second."""
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
    from airflow.sdk.exceptions import AirflowSkipException

    triggered = []
    monkeypatch.setattr(TriggerDagRunOperator, "execute", lambda self, context: triggered.append(self.trigger_dag_id))
    dag = dags["daily_warm_start"]
    task = dag.get_task("full_training").prepare_for_execution()
    context = {"params": {"day": None}, "dag_run": SimpleNamespace(partition_key=DAY)} | dag.user_defined_macros
    task.render_template_fields(context, dag.get_template_env())
    assert (task.conf, task.trigger_run_id) == ({"day": DAY}, f"due-{DAY}")
    assert task.skip_when_already_exists
    for report in ({"full_training": {}}, {}, None):
        with pytest.raises(AirflowSkipException, match="no warm start keeps losing"):
            task.execute({"ti": SimpleNamespace(xcom_pull=lambda task_ids, report=report: report)})
    due = {"full_training": {"xgboost": "2 warm starts in a row lost"}}
    task.execute({"ti": SimpleNamespace(xcom_pull=lambda task_ids: due if task_ids == "train" else None)})
    assert triggered == ["weekly_training"]
