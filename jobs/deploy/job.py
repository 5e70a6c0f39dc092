"""`deploy`: the bundle that was judged and approved, and no other, answers at the endpoint; then it is champion.

Before anything is touched, verdict, evidence, bundle and champion must be the very ones the person said yes to, and the
champion must be what the ledger and the endpoint itself say serves now. Then *approved* goes into the ledger, and the
model takes the steps that the settings plan (`jobs.deployments.steps`), as far as `--step` says: a shadow, shares of
the traffic, *live*. Each is a change of the endpoint, one smoke request and a row of the ledger, and is taken only once
the one before has been seen to do well (`watch`); until then this is `NotReady`. What fails on the way puts the
champion back and is *rolled back* in the ledger. Killed anywhere, a rerun goes on or goes back, since the ledger knows
what served before. What is refused before it is a release is a row too (*refused*), and a tag on MLflow's version: it
changes nothing. Run again after it ended well it changes nothing, and puts right an endpoint or an alias that no
longer is what the ledger says.
"""

import json
from collections.abc import Sequence
from typing import Any

from jobs import bundle, tracking
from jobs.deploy import traffic, watch
from jobs.deployments import ledger, release
from jobs.deployments import steps as way
from jobs.deployments.ledger import APPROVED, LIVE, REFUSED, ROLLED_BACK, Row, moves
from jobs.deployments.release import Release
from jobs.errors import Refused, TidegateError
from jobs.lake.run import Run
from jobs.places import place
from jobs.serving.sagemaker import Endpoint


def run(run: Run) -> dict[str, Any]:
    """Deploy the day's and mode's approved candidate; returns the endpoint, its variant, the sha and who approved.

    Raises `NotReady` where a step must be watched on before the next may be taken.
    """
    target = way.rank(run.step or LIVE)
    endpoint = Endpoint(run.config.endpoint)
    steps = ledger.steps(run, endpoint.name)
    _check_approver(run, steps)
    begun = traffic.mine(run, ledger.under_way(steps))
    try:
        wanted = _allowed(run, endpoint, steps)
    except Refused as error:
        if begun is not None:
            _undo(run, endpoint, steps, error)
        else:
            _note(run, steps, error)
        raise
    champion = ledger.last_live(steps)
    if begun is not None and not _goes_on(begun, wanted):
        steps = traffic.go_back(run, endpoint, steps, f"{wanted.by} approved {wanted.candidate_id} anew")
        begun = None
    moved = {} if begun is not None else traffic.alias_moved(run, champion)
    if wanted.is_of(champion):
        traffic.put_live(run, endpoint, steps, wanted)
        return _report(endpoint, wanted, str(champion["by"]) if champion else wanted.by) | moved
    if moved:
        traffic.follow(run, champion)
    before = None if champion is None else str(champion["config"])
    if begun is None:
        steps = ledger.append(run, steps, wanted.step(APPROVED, before))
    taken = _forward(run, endpoint, steps, wanted, target)
    told = [f"{way.name_of(row)} ({row['why']})" if row["why"] else way.name_of(row) for row in taken]
    tell = f"{wanted.candidate_id}, approved by {wanted.by}, is at {', '.join(told)}"
    return _report(endpoint, wanted, wanted.by) | moved | ({"tell": tell} if taken else {})


def _forward(run: Run, endpoint: Endpoint, steps: list[Row], wanted: Release, target: float) -> list[Row]:
    """Every step up to `target`, each once it may be taken, and those of them; what fails on the way goes back."""
    first = len(steps)
    champion, settings = ledger.last_live(steps), run.config.release
    while way.rank_of(at := moves(steps)[-1]) < target:
        found = None if at["step"] == APPROVED else watch.report(run, endpoint, steps)
        step = way.next_step(steps, way.plan(settings, champion), found, settings.patience_seconds)
        if step is None:
            raise watch.waits(at, found)
        if step.step != ROLLED_BACK and way.rank(step.name) > target:
            break
        try:
            if step.step == ROLLED_BACK:
                raise Refused(f"{wanted.candidate_id} must pass its watch as {way.name_of(at)}; {step.why}")
            steps = traffic.take(run, endpoint, steps, wanted, step)
        except Exception as error:
            _undo(run, endpoint, steps, error)
            raise
    return steps[first:]


def _check_approver(run: Run, steps: list[Row]) -> None:
    """Raises `Refused`; a release that somebody else said yes to is left alone."""
    try:
        release.check_approver(run.approval, run.config.release.approver_ids)
    except Refused as error:
        _note(run, steps, error)
        raise


def _note(run: Run, steps: list[Row], error: Refused) -> None:
    """That it was refused, and why, where there is a verdict to refuse; what fails at that is noted on `error`."""
    verdict = ledger.decision(run, run.partition)
    if verdict is None:
        return
    said = release.unasked(verdict, run.approval.by.strip(), str(error))
    try:
        ledger.note(run, steps, said.step(REFUSED, None))
        tracking.tag(run.config, said.candidate_id, said.bundle_sha256, {REFUSED: f"{said.by or 'nobody'}: {error}"})
    except TidegateError as second:
        error.add_note(f"and noting it failed too: {second}")
        run.say(f"noting it failed too: {second}")


def _allowed(run: Run, endpoint: Endpoint, steps: Sequence[Row]) -> Release:
    """The release that verdict, person, ledger and endpoint allow; raises `Refused` with what does not fit."""
    evidence = run.read("evidence", where=run.partition).to_pylist()
    wanted = release.approved(ledger.decision(run, run.partition), evidence, run.approval)
    bundle.load(place(wanted.bundle), wanted.bundle_sha256)
    run.say(f"{wanted.candidate_id} is the bundle that was judged, approved by {wanted.by}")
    champion = ledger.last_live(steps)
    if wanted.is_of(champion):
        return wanted
    document = next(e["document"] for e in evidence if e["document_sha256"] == wanted.evidence_sha256)
    remedy = "run backtest and promote again, and approve what they find"
    release.check_opponent(json.loads(document), champion, remedy)
    _check_endpoint(endpoint, steps)
    return wanted


def _check_endpoint(endpoint: Endpoint, steps: Sequence[Row]) -> None:
    """Raises `Refused` where the endpoint serves anything but what the ledger says.

    One that is down or gone stands in nobody's way: what is sick must be replaceable.
    """
    serving, champion = endpoint.serving(), ledger.last_live(steps)
    if serving is None or serving in traffic.configs(steps):
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
