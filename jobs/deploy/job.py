"""`deploy`: the bundle that was judged and approved, and no other, answers at the endpoint; then it is champion.

Order: approval into the ledger, model and config created, endpoint switched, one smoke request, MLflow's alias, the
deployment into the ledger. Whatever fails after the switch puts the earlier config back; killed after the switch, the
approved bundle serves already, and alias and ledger follow when it is run again. Run again after it ended well, it
changes nothing. It does not shift traffic step by step yet: the switch is all at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs import bundle, tracking
from jobs.deployments import ledger
from jobs.deployments.release import approved, changed
from jobs.errors import TidegateError
from jobs.lake.run import Run, now
from jobs.lake.tables import LAKE
from jobs.serving.sagemaker import Endpoint


def run(run: Run) -> dict[str, Any]:
    """Deploy the day's and mode's approved candidate; returns the endpoint, its variant, the sha and who approved."""
    row = ledger.decision(run, run.partition)
    evidence = run.read("evidence", where=run.partition).to_pylist()
    release = approved(row, evidence, run.approved_by)
    bundle.load(Path(release.bundle), release.bundle_sha256)
    run.say(f"{release.candidate_id} is the bundle that was judged, approved by {release.approved_by}")
    endpoint = Endpoint(run.config.endpoint)
    before = endpoint.serving()
    rows = run.read("promotions", where=run.partition).to_pylist()
    settled = before == release.name and row is not None and row["deployed_at"] is not None
    if not settled:
        approval = {"approved_by": release.approved_by, "approved_at": now()}
        rows = _record(run, changed(rows, release.candidate_id, approval))
    with _undone_on_failure(run, endpoint, before):
        endpoint.prepare(release)
        endpoint.switch(release.name)
        endpoint.smoke(release)
        run.say(f"{endpoint.name} answers with {release.name}, before it {before or 'nothing'}")
        tracking.move_champion(run.config, release.candidate_id, release.bundle_sha256)
        if not settled:
            _record(run, changed(rows, release.candidate_id, {"endpoint": endpoint.name, "deployed_at": now()}))
    return {
        "endpoint": endpoint.name,
        "variant": release.variant,
        "bundle_sha256": release.bundle_sha256,
        "approved_by": release.approved_by,
    }


def _record(run: Run, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Publish the ledger's partition; raises `NotReady` where another writer decided anew meanwhile."""
    run.publish("promotions", run.partition, pa.Table.from_pylist(rows, LAKE["promotions"].schema))
    return rows


@contextmanager
def _undone_on_failure(run: Run, endpoint: Endpoint, before: str | None) -> Iterator[None]:
    """Endpoint and alias go back to what they were when anything inside fails; the failure itself is raised."""
    champion = tracking.champion(run.config)
    try:
        yield
    except Exception as error:
        run.say(f"back to {before or 'no endpoint'}: {error}")
        try:
            endpoint.roll_back(before)
            if champion is not None and tracking.champion(run.config) != champion:
                tracking.move_champion(run.config, champion)
        except TidegateError as second:
            error.add_note(f"and going back to {before or 'no endpoint'} failed too: {second}")
            run.say(f"going back failed too: {second}")
        raise
