"""A promotion's answer for real: Airflow's own task runner keeps it, and takes one of the two ways."""

from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.orchestration.person import Approval

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("choice", "taken", "skipped"), [("Approve", "deploy", "reject"), ("Reject", "reject", "deploy")]
)
def test_an_answer_takes_one_way_and_is_there_for_it(
    dags: dict[str, Any], database: None, choice: str, taken: str, skipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way is skipped by raising, and what is returned then reaches nobody: deploy would know no approver."""

    def answered(self: Approval, context: Any) -> Any:
        event = {
            **{"chosen_options": [choice], "params_input": {"note": "because"}},
            **{"responded_at": datetime(2026, 1, 12, tzinfo=UTC), "responded_by_user": {"id": "7", "name": "alice"}},
        }
        return self.execute_complete(context, event)

    monkeypatch.setattr(Approval, "execute", answered)
    monkeypatch.setattr(Approval, "template_fields", ())  # the question shows what `promote`, not run here, reports
    run = dags["promotion"].test(run_conf={"day": "2026-01-11"}, mark_success_pattern="promote|deploy|reject")
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states == {"promote": "success", "approve": "success", taken: "success", skipped: "skipped"}
    said = run.get_task_instance("approve").xcom_pull(task_ids="approve")
    assert (said["responded_by_user"]["name"], said["params_input"]["note"]) == ("alice", "because")
