"""A trained challenger is proposed for promotion in a run of its own."""

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from jobs.orchestration.day import resolve


def _day(params: dict[str, str | None], partition_key: str | None) -> str:
    return resolve(params.get("day"), partition_key).isoformat()


def propose(mode: str) -> TriggerDagRunOperator:
    """Start `promotion` for this run's day; run again, it clears the earlier proposal instead of adding a second."""
    return TriggerDagRunOperator(
        task_id="propose",
        trigger_dag_id="promotion",
        trigger_run_id=f"{mode}-{{{{ day_of(params, dag_run.partition_key) }}}}",
        conf={"day": "{{ day_of(params, dag_run.partition_key) }}", "mode": mode},
        logical_date=None,
        reset_dag_run=True,
        retries=2,
        execution_timeout=timedelta(minutes=10),
        doc_md="Starts the DAG `promotion` for the challenger of this day and mode.",
    )


MACROS = {"day_of": _day}
