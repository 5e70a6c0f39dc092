"""A planned release as tasks: a step waits for the watch of the one before, which takes no worker between its looks."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from jobs.__main__ import _parser
from jobs.config import ROOT
from jobs.errors import NotReady, Refused
from jobs.orchestration import operator as module
from jobs.orchestration.operator import NOT_READY_TRIES
from tests.dags.test_rendered_commands import ANSWER, DAY, rendered
from tests.dags.test_stage_operator import Marks, script

pytestmark = pytest.mark.airflow

WAY = [
    "promote",
    "approve",
    "deploy",
    "watch_shadow",
    "canary_5",
    "watch_canary_5",
    "canary_25",
    "watch_canary_25",
    "live",
]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The DAG `promotion` where the settings plan a shadow and two canaries."""
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("TIDEGATE__RELEASE", '{"shadow_percent": 50, "canary_percent": [5, 25], "poll_seconds": 7}')
    bag = DagBag(str(ROOT / "dags" / "promotion.py"))
    assert bag.import_errors == {}
    return bag.dags["promotion"]


def test_every_step_is_watched_before_the_next(planned: Any) -> None:
    found = {(task.task_id, below) for task in planned.tasks for below in task.downstream_task_ids}
    assert found == {*pairwise(WAY), ("approve", "reject")}
    assert {task.trigger_rule for task in planned.tasks} == {"all_success"}, "no step after a watch that failed"


def test_tasks_are_commands_that_say_how_far_to_go(planned: Any) -> None:
    """Each carries the very approval: it is asked about at every step."""
    tasks = rendered(planned, None, ANSWER, day=DAY, mode="warm")
    yes = f"--approved-by=alice '--why=--it is better' --evidence-sha={'e' * 64} --bundle-sha={'b' * 64}"
    assert {name: task.command for name, task in tasks.items() if name not in ("promote", "reject")} == {
        **{
            task: f"python -m jobs deploy --day {DAY} --mode warm --step {step} {yes} --champion-sha=none"
            for task, step in (
                ("deploy", "shadow"),
                ("canary_5", "canary-5"),
                ("canary_25", "canary-25"),
                ("live", "live"),
            )
        },
        **{
            f"watch_{step.replace('-', '_')}": f"python -m jobs watch --day {DAY} --mode warm --step {step}"
            for step in ("shadow", "canary-5", "canary-25")
        },
    }
    for task in tasks.values():
        _parser().parse_args(task.argv()[2:])


def test_a_watch_looks_as_often_as_the_settings_say_for_as_long_as_it_must(
    planned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its patience is the stage's own; a step is rescheduled too, and gives up as any stage does."""
    code = NotReady.exit_code
    monkeypatch.setattr(module, "python", lambda: script(tmp_path, f"echo 'NotReady: of 3 answers' >&2; exit {code}"))
    tasks = rendered(planned, None, ANSWER, day=DAY, mode="warm")
    many = {"outlet_events": Marks(), "task_reschedule_count": 10 * NOT_READY_TRIES}
    with pytest.raises(AirflowRescheduleException) as again:
        tasks["watch_canary_5"].execute(many)
    assert again.value.reschedule_date - datetime.now(UTC) <= timedelta(seconds=7)
    with pytest.raises(AirflowFailException, match=r"of 3 answers \(asked"):
        tasks["canary_5"].execute(many)
    monkeypatch.setattr(
        module, "python", lambda: script(tmp_path, f"echo 'Refused: back' >&2; exit {Refused.exit_code}")
    )
    with pytest.raises(AirflowFailException, match="Refused: back"):
        tasks["watch_canary_5"].execute(many)
