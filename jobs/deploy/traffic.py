"""What going live and going back have in common: endpoint and MLflow's alias become what the ledger says."""

from collections.abc import Sequence
from dataclasses import replace

from jobs import tracking
from jobs.deployments import ledger
from jobs.deployments.ledger import CANARY, LIVE, ROLLED_BACK, SHADOW, Row
from jobs.deployments.release import Release, of_step
from jobs.deployments.steps import Step
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
        f"back first: its release has not ended; where nothing runs any more, end it with deploy or rollback {of}"
    )


def is_mine(run: Run, step: Row) -> bool:
    """Whether a row of the ledger is about this run's day and mode."""
    return {name: step[name] for name in run.partition} == run.partition


def answers_with(run: Run, endpoint: Endpoint, wanted: Release) -> None:
    """The endpoint serves a release, and one request was answered by it; safe to repeat."""
    endpoint.prepare(wanted)
    endpoint.switch(wanted.config)
    endpoint.smoke(wanted)
    run.say(f"{endpoint.name} answers with {wanted.config}")


def configs(steps: Sequence[Row]) -> set[str]:
    """Of the endpoint, with which it may be found by the ledger: the champion's, and all of a release under way."""
    found = {row["config"] for row in (ledger.last_live(steps), ledger.under_way(steps)) if row is not None}
    if ledger.under_way(steps) is not None:
        release = of_step(ledger.moves(steps)[-1])
        found |= {release.shared(step, ledger.begun(steps)) for step in (SHADOW, CANARY)}
    return found


def take(run: Run, endpoint: Endpoint, steps: Sequence[Row], wanted: Release, step: Step) -> list[Row]:
    """The endpoint does what a step says, and the ledger says so too; safe to repeat. Returns the ledger."""
    champion, config = ledger.last_live(steps), wanted.shared(step.step, ledger.begun(steps))
    if step.step == LIVE or champion is None:
        put_live(run, endpoint, wanted)
    elif step.step == SHADOW:
        endpoint.shadow(of_step(champion), wanted, config, run.config.release.shadow_percent)
    else:
        endpoint.share(of_step(champion), wanted, config, step.share)
    run.say(f"{wanted.candidate_id} is at {step.name}")
    row = wanted.step(step.step, ledger.moves(steps)[-1]["before"], step.share)
    return ledger.append(run, steps, {**row, "why": step.why or wanted.why})


def put_live(run: Run, endpoint: Endpoint, wanted: Release) -> None:
    """The endpoint answers with a release, and the alias names it; safe to repeat."""
    answers_with(run, endpoint, wanted)
    tracking.move_champion(run.config, wanted.candidate_id, wanted.bundle_sha256)


def go_back(run: Run, endpoint: Endpoint, steps: Sequence[Row], why: str) -> list[Row]:
    """Endpoint and alias are the champion's again, and the release under way has ended; returns the ledger.

    Raises `NotReady`, and touches nothing, where another run has written the ledger since: that one has taken over.
    """
    begun = ledger.moves(steps)[-1]
    if ledger.moves(ledger.steps(replace(run, inputs={}), endpoint.name))[-1]["number"] != begun["number"]:
        raise NotReady(f"the release of {begun['candidate_id']} must be ours to end; another run has gone on with it")
    champion = ledger.last_live(steps)
    run.say(f"back to {champion['config'] if champion else 'no endpoint'}: {why}")
    if champion is None:
        endpoint.remove()
    else:
        endpoint.prepare(of_step(champion))
        endpoint.switch(champion["config"])
    follow(run, champion)
    return ledger.append(run, steps, {**of_step(begun).step(ROLLED_BACK, begun["before"]), "why": why})


def follow(run: Run, champion: Row | None) -> None:
    """MLflow's alias names the ledger's champion, or nothing."""
    if champion is None:
        tracking.remove_champion(run.config)
    elif tracking.champion(run.config) != champion["candidate_id"]:
        tracking.move_champion(run.config, champion["candidate_id"], champion["bundle_sha256"])
