"""`deploy`: the bundle that was judged and approved, and no other, answers at the endpoint; then it is champion.

Before anything is touched, verdict, evidence, bundle and champion must be the very ones the person said yes to, and the
champion must be what the ledger and the endpoint itself say serves now. Then: *approved* into the ledger, model and
config created, endpoint switched, one smoke request, MLflow's alias, *live* into the ledger. What fails on the way puts
the champion back and is *rolled back* in the ledger. Killed anywhere, a rerun goes on or goes back, since the ledger
knows what served before. Run again after it ended well it changes nothing, and puts right an endpoint or an alias that
no longer is what the ledger says. It does not shift traffic step by step yet: the switch is all at once.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs import bundle
from jobs.deploy import traffic
from jobs.deployments import ledger, release
from jobs.deployments.ledger import APPROVED, LIVE, Row
from jobs.deployments.release import Release
from jobs.errors import Refused, TidegateError
from jobs.lake.run import Run
from jobs.serving.sagemaker import Endpoint


def run(run: Run) -> dict[str, Any]:
    """Deploy the day's and mode's approved candidate; returns the endpoint, its variant, the sha and who approved."""
    endpoint = Endpoint(run.config.endpoint)
    steps = ledger.steps(run, endpoint.name)
    begun = traffic.mine(run, ledger.under_way(steps))
    try:
        wanted = _allowed(run, endpoint, steps)
    except Refused as error:
        if begun is not None:
            _undo(run, endpoint, steps, error)
        raise
    champion = ledger.last_live(steps)
    if begun is not None and not _goes_on(begun, wanted):
        steps = traffic.go_back(run, endpoint, steps, f"{wanted.by} approved {wanted.candidate_id} anew")
        begun = None
    if wanted.is_of(champion):
        traffic.put_live(run, endpoint, wanted)
        return _report(endpoint, wanted, str(champion["by"]) if champion else wanted.by)
    before = None if champion is None else str(champion["config"])
    if begun is None:
        steps = ledger.append(run, steps, wanted.step(APPROVED, before))
    try:
        traffic.put_live(run, endpoint, wanted)
        ledger.append(run, steps, wanted.step(LIVE, before))
    except Exception as error:
        _undo(run, endpoint, steps, error)
        raise
    return _report(endpoint, wanted, wanted.by)


def _allowed(run: Run, endpoint: Endpoint, steps: Sequence[Row]) -> Release:
    """The release that verdict, person, ledger and endpoint allow; raises `Refused` with what does not fit."""
    evidence = run.read("evidence", where=run.partition).to_pylist()
    wanted = release.approved(ledger.decision(run, run.partition), evidence, run.approval)
    bundle.load(Path(wanted.bundle), wanted.bundle_sha256)
    run.say(f"{wanted.candidate_id} is the bundle that was judged, approved by {wanted.by}")
    champion, begun = ledger.last_live(steps), ledger.under_way(steps)
    if wanted.is_of(champion):
        return wanted
    document = next(e["document"] for e in evidence if e["document_sha256"] == wanted.evidence_sha256)
    remedy = "run backtest and promote again, and approve what they find"
    release.check_opponent(json.loads(document), champion, remedy)
    _check_endpoint(endpoint, champion, begun)
    return wanted


def _check_endpoint(endpoint: Endpoint, champion: Row | None, begun: Row | None) -> None:
    """Raises `Refused` where the endpoint serves anything but what the ledger says.

    One that is down or gone stands in nobody's way: what is sick must be replaceable.
    """
    serving, known = endpoint.serving(), {row["config"] for row in (champion, begun) if row is not None}
    if serving is None or serving in known:
        return
    recorded, remedy = "nothing", "delete that endpoint, or name another in endpoint.name"
    if champion is not None:
        recorded = str(champion["config"])
        remedy = f"switch it back, or deploy {champion['candidate_id']} again"
    raise Refused(
        f"endpoint {endpoint.name} must serve {recorded}, as the ledger of releases says; it serves {serving}: {remedy}"
    )


def _goes_on(begun: Row, wanted: Release) -> bool:
    """Whether a release under way is this one, on the same evidence."""
    return wanted.is_of(begun) and bool(begun["evidence_sha256"] == wanted.evidence_sha256)


def _undo(run: Run, endpoint: Endpoint, steps: Sequence[Row], error: Exception) -> None:
    """Go back; what fails at that is noted on `error`, and left to the next run."""
    try:
        traffic.go_back(run, endpoint, steps, str(error))
    except TidegateError as second:
        error.add_note(f"and going back failed too: {second}")
        run.say(f"going back failed too: {second}")


def _report(endpoint: Endpoint, wanted: Release, by: str) -> dict[str, Any]:
    return {
        "endpoint": endpoint.name,
        "variant": wanted.variant,
        "bundle_sha256": wanted.bundle_sha256,
        "approved_by": by,
    }
