"""A challenger with evidence is proposed for promotion in a run of its own; so is a full training that is due."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk.exceptions import AirflowSkipException

from jobs.orchestration.day import resolve

BACKTEST = "backtest"
CHALLENGER = "challenger"
"""Of `backtest`'s report: who was judged; null where nobody was."""
TRAIN, DUE = "train", "full_training"
"""Whose report says which kinds are due for a full training, and where."""
TRAINED = "trained"
"""Of it too: on which day that was trained."""


def _day(params: dict[str, str | None], partition_key: str | None) -> str:
    return resolve(params.get("day"), partition_key).isoformat()


class Proposal(TriggerDagRunOperator):
    """Starts `promotion` where the task `backtest` has judged a challenger; else there is nothing to propose.

    With `standing`, only one that was trained on an earlier day: whoever trains one on this day proposes it, and a
    proposal that is made twice would ask again what a person has answered.
    """

    def __init__(self, *, backtest: str, standing: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backtest = backtest
        self.standing = standing

    def execute(self, context: Any) -> Any:
        """Trigger; raises `AirflowSkipException` when nobody was judged."""
        report = context["ti"].xcom_pull(task_ids=self.backtest) or {}
        if CHALLENGER in report and report[CHALLENGER] is None:
            raise AirflowSkipException(f"{self.backtest} judged no challenger: none stands or was trained on this day")
        if self.standing and report.get(TRAINED) == self.conf["day"]:
            raise AirflowSkipException(f"{report[CHALLENGER]} was trained on this day: its own training proposes it")
        return super().execute(context)


def propose(mode: str, *, backtest: str = BACKTEST, standing: bool = False, task_id: str = "propose") -> Proposal:
    """Start `promotion` for this run's day; run again, it clears the earlier proposal instead of adding a second.

    `standing` as `Proposal`.
    """
    return Proposal(
        task_id=task_id,
        backtest=backtest,
        standing=standing,
        trigger_dag_id="promotion",
        trigger_run_id=f"{mode}-{{{{ day_of(params, dag_run.partition_key) }}}}",
        conf={"day": "{{ day_of(params, dag_run.partition_key) }}", "mode": mode},
        logical_date=None,
        reset_dag_run=True,
        retries=2,
        execution_timeout=timedelta(minutes=10),
        doc_md=f"Starts the DAG `promotion` for the challenger of this day and mode that `{backtest}` judged; skipped "
        "where it judged none.",
    )


class FullTraining(TriggerDagRunOperator):
    """Starts `weekly_training` where the task `train` says that a kind's warm starts keep losing; else it is skipped.

    Cleared, it starts no second one of the same day.
    """

    def execute(self, context: Any) -> Any:
        """Trigger; raises `AirflowSkipException` where no full training is due."""
        report = context["ti"].xcom_pull(task_ids=TRAIN) or {}
        if not report.get(DUE):
            raise AirflowSkipException(f"{TRAIN} asks for no full training: no warm start keeps losing")
        return super().execute(context)


def full_training() -> FullTraining:
    """Start `weekly_training` for this run's day, once, where `train` asks for it."""
    return FullTraining(
        task_id="full_training",
        trigger_dag_id="weekly_training",
        trigger_run_id="due-{{ day_of(params, dag_run.partition_key) }}",
        conf={"day": "{{ day_of(params, dag_run.partition_key) }}"},
        logical_date=None,
        skip_when_already_exists=True,
        retries=2,
        execution_timeout=timedelta(minutes=10),
        doc_md="Starts the DAG `weekly_training` for this day where warm starts keep losing to what they continue; "
        "skipped where none does.",
    )


MACROS = {"day_of": _day}
