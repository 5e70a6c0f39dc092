"""A person's yes between a verdict and the endpoint."""

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

PROMOTE = "promote"
APPROVED_BY = "{{ (ti.xcom_pull(task_ids='approve') or {}).get('responded_by_user', {}).get('name', '') }}"
"""Who answered, for the ledger; empty (so deploy refuses to guess) where nobody did."""


class Approval(ApprovalOperator):
    """Asks only about a challenger the gate would promote; any other verdict skips the question and what follows.

    No answer is no: without a response nothing is deployed, and the question stays open until somebody answers.
    """

    def execute(self, context: Any) -> Any:
        """Park until somebody answers; raises `AirflowSkipException` when there is nothing to approve."""
        verdict = (context["ti"].xcom_pull(task_ids="promote") or {}).get("verdict")
        if verdict != PROMOTE:
            raise AirflowSkipException(f"the gate says {verdict}: nobody is asked and nothing is deployed")
        return super().execute(context)


def approval() -> Approval:
    """The task `approve`: shows what `promote` found and waits for Approve or Reject."""
    return Approval(
        task_id="approve",
        subject="Deploy {{ ti.xcom_pull(task_ids='promote').get('candidate_id', 'the challenger') }}?",
        body="{{ ti.xcom_pull(task_ids='promote').get('summary', 'promote gave no summary') }}",
        params={"note": Param("", type="string", title="Note", description="Why, for the record.")},
        retries=0,
        doc_md="Waits for a person. Approve deploys the very bundle that was judged; Reject deploys nothing.",
    )
