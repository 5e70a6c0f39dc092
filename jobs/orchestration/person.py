"""A person's answer between a verdict and the endpoint, bound to what was shown: a yes, or a no that goes on record."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.hitl import HITLUser

from jobs import config
from jobs.orchestration.alert import send, wanted
from jobs.orchestration.given import given
from jobs.orchestration.operator import CRASH_DELAY, CRASH_TRIES, StageOperator

PROMOTE = "promote"
BOUND = ("evidence_sha256", "bundle_sha256", "champion_sha256")
"""Of `promote`'s report: what the question was about."""
ANSWER = "return_value"
"""Where Airflow keeps what a task returns."""
ASKED = "asked"
"""The XCom that keeps it while the question is open: `promote` may report something else by the time it is answered."""
FLAGS = ("approved-by", "why", "evidence-sha", "bundle-sha", "champion-sha")
APPROVAL = {flag: f"{{{{ answered(ti, '{flag}') }}}}" for flag in FLAGS}
"""Flags of `deploy`: who answered, why, and to what; empty (so deploy refuses to guess) where nobody did."""
REJECT = "reject"
NOBODY, SILENCE = "nobody", "no answer in time"
"""Who says no, and why, where the question's time is over."""


def answered(ti: Any, flag: str) -> str:
    """What the answer of the task `approve` says; empty where there is none. A macro of every DAG."""
    answer = ti.xcom_pull(task_ids="approve") or {}
    by, note = (answer.get("responded_by_user") or {}).get("name"), (answer.get("params_input") or {}).get("note")
    said = {
        "approved-by": by,
        "why": note,
        "rejected-by": by or NOBODY,
        "rejected-why": note if by else SILENCE,
        **{name.replace("_", "-").removesuffix("256"): answer.get(name) for name in BOUND},
    }
    return str(said[flag] or "")


class Approval(ApprovalOperator):
    """Asks only about a challenger the gate would promote; any other verdict skips the question and what follows.

    No answer is no: without a response nothing is deployed, and the question stays open until somebody answers, or
    `release.answer_hours` are over. A no runs the task `reject` alone. The answer carries what was asked about, so that
    `deploy` can refuse anything else. Slack is told that somebody is wanted, with the way to the question.
    """

    def execute(self, context: Any) -> Any:
        """Park until somebody answers; raises `AirflowSkipException` when there is nothing to approve."""
        found = context["ti"].xcom_pull(task_ids="promote") or {}
        if found.get("verdict") != PROMOTE:
            raise AirflowSkipException(f"the gate says {found.get('verdict')}: nobody is asked and nothing is deployed")
        context["ti"].xcom_push(key=ASKED, value={name: found.get(name) for name in BOUND})
        send(lambda: wanted(context, self.subject, found.get("told") or (), self._way(context["ti"])))
        return super().execute(context)

    def _way(self, ti: Any) -> str:
        """To the question; to the task where Airflow was not told its own address (`[api] base_url`)."""
        try:
            return str(self.generate_link_to_ui(task_instance=ti))
        except ValueError:
            return str(ti.log_url)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """The answer, with what it is an answer to, is the XCom; the task of the other answer is skipped.

        Raises `DownstreamTasksSkipped`, which is how Airflow skips: what is returned would reach nobody.
        """
        answer = HITLOperator.execute_complete(self, context, event)
        asked = context["ti"].xcom_pull(task_ids=self.task_id, key=ASKED)
        context["ti"].xcom_push(key=ANSWER, value={**answer, **(asked or {})})
        rejected = answer["chosen_options"] == [self.REJECT]
        following = context["task"].get_direct_relatives(upstream=False)
        self.skip(ti=context["ti"], tasks=[task for task in following if (task.task_id == REJECT) != rejected])


def approval() -> Approval:
    """The task `approve`: shows what `promote` found and waits for Approve or Reject."""
    settings = config.load().release
    hours = settings.answer_hours
    return Approval(
        assigned_users=[HITLUser(id=own, name=name) for name, own in settings.approver_ids.items()] or None,
        defaults=Approval.REJECT if hours else None,
        response_timeout=timedelta(hours=hours) if hours else None,
        task_id="approve",
        subject="Deploy {{ ti.xcom_pull(task_ids='promote').get('candidate_id', 'the challenger') }}?",
        body="{{ ti.xcom_pull(task_ids='promote').get('summary', 'promote gave no summary') }}",
        params={
            "note": Param(None, type=["null", "string"], title="Note", description="Why, for the record; may be empty.")
        },
        retries=CRASH_TRIES - 1,
        retry_delay=CRASH_DELAY,
        doc_md="Waits for a person. Approve deploys the very bundle that was judged, in place of the very model it was "
        "compared with; Reject deploys nothing.",
    )


def rejection(mode: str) -> StageOperator:
    """The task `reject`: a no, or nobody's answer in time, goes on record; it runs where the answer was no."""
    said = {
        "approved-by": "rejected-by",
        "why": "rejected-why",
        "evidence-sha": "evidence-sha",
        "bundle-sha": "bundle-sha",
    }
    return StageOperator(
        task_id=REJECT,
        stage=REJECT,
        of="deploy",
        mode=mode,
        approval={flag: f"{{{{ answered(ti, '{what}') }}}}" for flag, what in said.items()},
        doc_md="Notes in the ledger of releases and on MLflow's model version who said no, and why. What serves stays.",
        retries=CRASH_TRIES - 1,
        retry_delay=CRASH_DELAY,
        execution_timeout=timedelta(minutes=config.load().timeouts.deploy_minutes),
        **given("deploy"),
    )
