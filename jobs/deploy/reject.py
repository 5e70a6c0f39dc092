"""`reject`: a person's no to a candidate, or nobody's answer in time, is a row of the ledger and a tag in MLflow.

It changes nothing of what serves: a release that is under way, or live, is ended by `rollback`. Safe to repeat.
"""

from typing import Any

from jobs import tracking
from jobs.deployments import ledger
from jobs.deployments.ledger import REJECTED
from jobs.deployments.release import rejected
from jobs.lake.run import Run


def run(run: Run) -> dict[str, Any]:
    """Note that the day's and mode's candidate was rejected; returns which, by whom and why."""
    said = rejected(ledger.decision(run, run.partition), run.approval)
    ledger.note(run, ledger.steps(run, run.config.endpoint.name), said.step(REJECTED, None))
    words = f"{said.by}: {said.why}" if said.why else said.by
    tracking.tag(run.config, said.candidate_id, said.bundle_sha256, {REJECTED: words})
    tell = f"{said.candidate_id} was rejected by {words}"
    run.say(f"{tell}; what serves is as it was")
    return {"candidate_id": said.candidate_id, "rejected_by": said.by, "why": said.why, "tell": tell}
