"""`watch`: whether the step that a release is at has been seen to do well; an alarm, or patience at its end, goes back.

It reads the endpoint's data capture, on AWS from S3: every answer of the candidate since the step was taken, shown or
(a shadow's) not, and the champion's in the same time; of a canary also who clicked, as far as the raw log has come. Its
rules are `jobs.deploy.rules`. Safe to repeat, and to kill anywhere.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jobs import bundle
from jobs.asof.wanted import Wanted
from jobs.config import Config
from jobs.deploy import traffic
from jobs.deploy.rules import Rules, of_canary, of_shadow
from jobs.deployments import ledger, steps
from jobs.deployments.ledger import APPROVED, ROLLED_BACK, SHADOW, Row
from jobs.deployments.release import of_step
from jobs.deployments.steps import Found, Report
from jobs.errors import NotReady, Refused
from jobs.lake.run import Run, now
from jobs.moment.known import publications
from jobs.moment.replay import Seen, replayed
from jobs.places import S3Path, place
from jobs.serving import answered, clicks
from jobs.serving.capture import CAPTURE, SHADOWS
from jobs.serving.captured import Said
from jobs.serving.files import Files, RawLake, files
from jobs.serving.sagemaker import Endpoint


def run(run: Run) -> dict[str, Any]:
    """What was found of the step, once it has passed or is behind; raises `NotReady` while it must be waited for.

    Raises `Refused` where the release has gone back, now or before.
    """
    endpoint = Endpoint(run.config.endpoint)
    history = ledger.steps(run, endpoint.name)
    begun = traffic.mine(run, ledger.under_way(history))
    if begun is None or begun["step"] == APPROVED or not _is_at(run, begun):
        return _behind(run, history, begun)
    found = report(run, endpoint, history)
    champion = ledger.last_live(history)
    step = steps.next_step(
        history, steps.plan(run.config.release, champion), found, run.config.release.patience_seconds
    )
    name = steps.name_of(begun)
    if step is None:
        raise waits(begun, found)
    if step.step == ROLLED_BACK:
        traffic.go_back(run, endpoint, history, str(step.why))
        raise Refused(f"{name} of {begun['candidate_id']} was rolled back: {step.why}")
    run.say(f"{name} passed: {found.why}")
    moved = traffic.alias_moved(run, champion)
    return {"endpoint": endpoint.name, "step": name, "found": found.found, "why": found.why, **moved}


def waits(begun: Row, found: Report | None) -> NotReady:
    """Why the step that a release is at must be watched on."""
    why = "nothing was found yet" if found is None else f"{found.found} after {found.seconds:.0f} s: {found.why}"
    return NotReady(f"{begun['candidate_id']} as {steps.name_of(begun)} must be watched on; {why}")


def report(run: Run, endpoint: Endpoint, history: Sequence[Row]) -> Report:
    """Of the last step, which is a shadow or a canary: each step's rules share an equal part of the release's risk."""
    row, settings = ledger.moves(history)[-1], run.config.release
    seconds = (now() - row["at"]).total_seconds()
    config = of_step(row).shared(row["step"], ledger.begun(history))
    if (serving := endpoint.serving()) != config:
        return Report(Found.ERROR, f"the endpoint must serve {config}; found {serving}", seconds)
    rules, said = _judged(run, history, row)
    if rules.found is not Found.PASSED:
        return Report(rules.found, rules.why, seconds)
    if seconds < settings.watch_seconds:
        return Report(Found.INCONCLUSIVE, f"{rules.why}; watched for {settings.watch_seconds} s at least", seconds)
    return Report(*_served_as_judged(run, row, said, rules), seconds)


def _judged(run: Run, history: Sequence[Row], row: Row) -> tuple[Rules, Sequence[Said]]:
    """By the rules; and the candidate's answers since the step."""
    settings, endpoint, until = run.config.release, run.config.endpoint, now()
    champion = ledger.last_live(history)
    risk = settings.risk / max(1, len(steps.plan(settings, champion)) - 1)
    theirs: Sequence[Said] = ()
    if champion is not None:
        theirs = answered.since(endpoint, CAPTURE, row["at"], champion["bundle_sha256"], until)
    kind = SHADOWS if row["step"] == SHADOW else CAPTURE
    said = answered.since(endpoint, kind, row["at"], row["bundle_sha256"], until)
    if row["step"] == SHADOW:
        return of_shadow(said, theirs, settings, risk), said
    of_clicks = clicks.of(click_log(run.config), said, theirs, settings.click_minutes)
    return of_canary(said, theirs, of_clicks, settings, risk), said


def click_log(config: Config) -> Files:
    """Where impressions and clicks come by the hour; a loggers' bucket may be sooner than what `ingest` reads."""
    if config.release.click_log is None and isinstance(config.lake.raw, S3Path):
        return RawLake(config.lake.raw)
    return files(config.release.click_log or str(config.lake.raw), config.endpoint)


def _served_as_judged(run: Run, row: Row, said: Sequence[Said], rules: Rules) -> tuple[Found, str]:
    """Passed, unless the newest answers are not what the bundle says offline to the same requests.

    Asked only of a step that would pass: it takes a day's feature tables.
    """
    settings = run.config.release
    newest = said[-settings.replay_answers :] if settings.replay_answers else ()
    if not newest:
        return rules.found, rules.why
    judged = bundle.load(place(row["bundle"]), row["bundle_sha256"])
    users = pa.array([one.user_id for one in newest], pa.string())
    seen = Seen(publications(run), Wanted.of(users), run.config.tasks)
    again = replayed(seen, judged, newest, settings.max_replay_difference)
    if again.share > settings.max_replay_share:
        return Found.FAILED, f"it must serve what was judged; {again.why}; {rules.why}"
    return rules.found, f"{rules.why}; {again.why}"


def _is_at(run: Run, begun: Row) -> bool:
    return run.step is None or run.step == steps.name_of(begun)


def _behind(run: Run, history: Sequence[Row], begun: Row | None) -> dict[str, Any]:
    """Nothing to watch: the release is at another step, went live, or was taken back, which is said again."""
    mine = [row for row in ledger.moves(history) if traffic.is_mine(run, row)]
    if begun is None and mine and mine[-1]["step"] == ROLLED_BACK:
        raise Refused(f"{mine[-1]['candidate_id']} was rolled back: {mine[-1]['why']}")
    at = steps.name_of(mine[-1]) if mine else "no step"
    run.say(f"nothing to watch: the release is at {at}")
    return {"endpoint": run.config.endpoint.name, "step": at, "found": None, "why": ""}
