"""What going live and going back have in common: endpoint and MLflow's alias become what the ledger says."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jobs import tracking
from jobs.deployments import alias, ledger
from jobs.deployments.ledger import CANARY, LIVE, ROLLED_BACK, SHADOW, Row
from jobs.deployments.release import Release, of_step
from jobs.deployments.steps import ALL, Step
from jobs.errors import NotReady
from jobs.lake.run import Run
from jobs.serving.sagemaker import Endpoint


def mine(run: Run, begun: Row | None) -> Row | None:
    """A release under way of this run's day and mode; None without one, raises `NotReady` while another's is."""
    if begun is None or is_mine(run, begun):
        return begun
    of = f"--day {begun['day']} --mode {begun['mode']}"
    raise NotReady(
        f"{begun['candidate_id']}, approved by {begun['by']} at {begun['at']:%Y-%m-%d %H:%M:%S} UTC, must go live or "
        f"back first: its release has not ended; if none of its tasks runs, end it with deploy or rollback {of}"
    )


def is_mine(run: Run, step: Row) -> bool:
    """Whether a row of the ledger is about this run's day and mode."""
    return {name: step[name] for name in run.partition} == run.partition


def answers_with(run: Run, endpoint: Endpoint, wanted: Release, guarded: bool = False) -> None:
    """The endpoint serves a release, and one request was answered by it; safe to repeat.

    `guarded`: alarms of its own may take it back; not on the way back, which must not wait.
    """
    endpoint.prepare(wanted)
    endpoint.switch(wanted.config, guarded)
    endpoint.smoke(wanted)
    run.say(f"{endpoint.name} answers with {wanted.config}")


def configs(steps: Sequence[Row]) -> set[str]:
    """Of the endpoint, with which it may be found by the ledger: the champion's, and all of a release under way.

    The champion's own, or the one that holds users out: until the next release takes a step, that is.
    """
    found = {row["config"] for row in (ledger.last_live(steps), ledger.under_way(steps)) if row is not None}
    if ledger.under_way(steps) is not None:
        release = of_step(ledger.moves(steps)[-1])
        found |= {release.shared(step, ledger.begun(steps)) for step in (SHADOW, CANARY)}
    live = ledger.last_live(steps)
    if live is not None and 0 < live["share"] < ALL:
        then = [row for row in steps if row["number"] <= live["number"]]
        found.add(of_step(live).shared(CANARY, ledger.begun(then)))
    return found


def held_out(steps: Sequence[Row]) -> tuple[Row, Row] | None:
    """The live row, and that of the model which some users stay with; None where nobody does.

    The next release ends it, whatever becomes of that.
    """
    live = ledger.last_live(steps)
    if live is None or not 0 < live["share"] < ALL or ledger.begun(steps) > live["number"]:
        return None
    stayed = ledger.before(steps, live)
    return None if stayed is None else (live, stayed)


def take(run: Run, endpoint: Endpoint, steps: Sequence[Row], wanted: Release, step: Step) -> list[Row]:
    """The endpoint does what a step says, and the ledger says so too; safe to repeat. Returns the ledger."""
    champion, number = ledger.last_live(steps), ledger.begun(steps)
    if champion is None or step.share == ALL:
        answers_with(run, endpoint, wanted, guarded=True)
    elif step.step == SHADOW:
        shadow = wanted.shared(SHADOW, number)
        endpoint.shadow(of_step(champion), wanted, shadow, run.config.release.shadow_percent)
    else:  # live with some held out is a larger share of the canary's config: who had it keeps it
        endpoint.share(of_step(champion), wanted, wanted.shared(CANARY, number), step.share)
    if step.step == LIVE:
        tracking.move_champion(run.config, wanted.candidate_id, wanted.bundle_sha256)
    run.say(f"{wanted.candidate_id} is at {step.name}")
    row = wanted.step(step.step, ledger.moves(steps)[-1]["before"], step.share)
    return ledger.append(run, steps, {**row, "why": step.why or wanted.why})


def put_live(run: Run, endpoint: Endpoint, steps: Sequence[Row], wanted: Release) -> None:
    """The endpoint answers with the champion as the ledger says, and the alias names it; safe to repeat."""
    held = held_out(steps)
    if held is None:
        answers_with(run, endpoint, wanted, guarded=True)
    else:
        live, stayed = held
        endpoint.share(of_step(stayed), wanted, wanted.shared(CANARY, ledger.begun(steps)), live["share"])
    tracking.move_champion(run.config, wanted.candidate_id, wanted.bundle_sha256)


def go_back(run: Run, endpoint: Endpoint, steps: Sequence[Row], why: str, by: str | None = None) -> list[Row]:
    """Endpoint and alias are the champion's again, and the release under way has ended; returns the ledger.

    `by`: the person who ends it; where a watch does, the row names who had approved it.
    Raises `NotReady`, and touches nothing, where another run has written the ledger since: that one has taken over.
    """
    begun = ledger.moves(steps)[-1]
    if ledger.moves(ledger.steps(replace(run, inputs={}), endpoint.name))[-1]["number"] != begun["number"]:
        raise NotReady(f"one run must continue the release of {begun['candidate_id']}; another run has gone on with it")
    champion = ledger.last_live(steps)
    run.say(f"back to {champion['config'] if champion else 'no endpoint'}: {why}")
    if champion is None:
        endpoint.remove()
    else:
        endpoint.prepare(of_step(champion))
        endpoint.switch(champion["config"])
    follow(run, champion)
    row = of_step(begun).step(ROLLED_BACK, begun["before"])
    return ledger.append(run, steps, {**row, "by": by or begun["by"], "why": why})


def alias_moved(run: Run, champion: Row | None) -> dict[str, Any]:
    """What a report says where MLflow's alias names another than the ledger's champion; nothing where it does not.

    Whoever moved it by hand changed nothing of what serves.
    """
    told = alias.moved(run.config, champion)
    if told is None:
        return {}
    run.say(told)
    return {"alarms": 1, "alarmed": {run.day.isoformat(): [told]}}


def follow(run: Run, champion: Row | None) -> None:
    """MLflow's alias names the ledger's champion, or nothing."""
    if champion is None:
        tracking.remove_champion(run.config)
    elif tracking.champion(run.config) != champion["candidate_id"]:
        tracking.move_champion(run.config, champion["candidate_id"], champion["bundle_sha256"])
