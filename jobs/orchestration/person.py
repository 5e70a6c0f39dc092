"""A person's yes between a verdict and the endpoint, bound to what that person was shown."""

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

PROMOTE = "promote"
BOUND = ("evidence_sha256", "bundle_sha256", "champion_sha256")
"""Of `promote`'s report: what the question was about."""
ASKED = "asked"
"""The XCom that keeps it while the question is open: `promote` may report something else by the time it is answered."""
FLAGS = ("approved-by", "why", "evidence-sha", "bundle-sha", "champion-sha")
APPROVAL = {flag: f"{{{{ answered(ti, '{flag}') }}}}" for flag in FLAGS}
"""Flags of `deploy`: who answered, why, and to what; empty (so deploy refuses to guess) where nobody did."""


def answered(ti: Any, flag: str) -> str:
    """What the answer of the task `approve` says; empty where there is none. A macro of every DAG."""
    answer = ti.xcom_pull(task_ids="approve") or {}
    said = {
        "approved-by": (answer.get("responded_by_user") or {}).get("name"),
        "why": (answer.get("params_input") or {}).get("note"),
        **{name.replace("_", "-").removesuffix("256"): answer.get(name) for name in BOUND},
    }
    return str(said[flag] or "")


class Approval(ApprovalOperator):
    """Asks only about a challenger the gate would promote; any other verdict skips the question and what follows.

    No answer is no: without a response nothing is deployed, and the question stays open until somebody answers. The
    answer carries what was asked about, so that `deploy` can refuse anything else.
    """

    def execute(self, context: Any) -> Any:
        """Park until somebody answers; raises `AirflowSkipException` when there is nothing to approve."""
        found = context["ti"].xcom_pull(task_ids="promote") or {}
        if found.get("verdict") != PROMOTE:
            raise AirflowSkipException(f"the gate says {found.get('verdict')}: nobody is asked and nothing is deployed")
        context["ti"].xcom_push(key=ASKED, value={name: found.get(name) for name in BOUND})
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """The answer, with what it is an answer to."""
        answer = super().execute_complete(context, event)
        asked = context["ti"].xcom_pull(task_ids=self.task_id, key=ASKED)
        return {**answer, **(asked or {})}


def approval() -> Approval:
    """The task `approve`: shows what `promote` found and waits for Approve or Reject."""
    return Approval(
        task_id="approve",
        subject="Deploy {{ ti.xcom_pull(task_ids='promote').get('candidate_id', 'the challenger') }}?",
        body="{{ ti.xcom_pull(task_ids='promote').get('summary', 'promote gave no summary') }}",
        params={"note": Param("", type="string", title="Note", description="Why, for the record.")},
        retries=0,
        doc_md="Waits for a person. Approve deploys the very bundle that was judged, in place of the very model it was "
        "compared with; Reject deploys nothing.",
    )
