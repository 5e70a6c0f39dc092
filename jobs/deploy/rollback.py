"""`rollback`: the candidate of a day and mode leaves the endpoint; what served before it serves again and is champion.

No new evidence is asked for, since that model was judged and has served; a person's name is. A release under way is
ended. Killed anywhere, a rerun completes it; run again after it ended well, it changes nothing, for the candidate is
no longer live.
"""

from typing import Any

from jobs.deploy import traffic
from jobs.deployments import ledger
from jobs.deployments.ledger import APPROVED, LIVE, ROLLED_BACK, Row
from jobs.deployments.release import of_step, said_by
from jobs.errors import Refused
from jobs.lake.run import Run
from jobs.serving.sagemaker import Endpoint


def newest(source: ledger.Reader, endpoint: str) -> Row | str:
    """A step of the release that one who names no day means, the newest; or why there is nothing to take back."""
    known = ledger.moves(ledger.steps(source, endpoint))
    begun = next((row for row in reversed(known) if row["step"] == APPROVED), None)
    if begun is None:
        return "nothing to roll back: no release was ever begun"
    if ledger.under_way(known) is not None:
        return begun
    live = ledger.last_live(known)
    if live is None or not of_step(begun).is_of(live):
        serves = "no model" if live is None else live["candidate_id"]
        return f"nothing to roll back: {begun['candidate_id']}, the newest release, has left already; {serves} serves"
    if ledger.before(known, live) is None:
        return f"nothing to roll back: nothing served before {live['candidate_id']}"
    return begun


def run(run: Run) -> dict[str, Any]:
    """The day's and mode's model leaves; returns the endpoint, what serves now (None: nothing) and who said so.

    With what to tell people of it, where anything was changed.
    """
    by = said_by(run.approval, "rollback")
    endpoint = Endpoint(run.config.endpoint)
    known = steps = ledger.steps(run, endpoint.name)
    why = run.approval.why.strip() or f"{by} went back"
    if traffic.mine(run, ledger.under_way(steps)) is not None:
        steps = traffic.go_back(run, endpoint, steps, why, by)
    else:
        steps = _back_from_live(run, endpoint, steps, by, why)
    champion = ledger.last_live(steps)
    traffic.follow(run, champion)
    serves = None if champion is None else champion["candidate_id"]
    tell = {"tell": _told(known, serves, by, run.approval.why.strip())} if len(steps) > len(known) else {}
    return {"endpoint": endpoint.name, "serves": serves, "approved_by": by, **tell}


def _told(known: list[Row], serves: str | None, by: str, why: str) -> str:
    """What left, by whom and why, and what serves now; `known` is the ledger before."""
    left, ended = ledger.moves(known)[-1]["candidate_id"], ledger.under_way(known) is not None
    who = f"{by}: {why}" if why else f"{by}, who gave no reason"
    what = f"the release of {left} was ended" if ended else f"{left} was rolled back"
    now = "nothing serves" if serves is None else f"{serves} serves {'as before' if ended else 'again'}"
    return f"{what} by {who}; {now}"


def _back_from_live(run: Run, endpoint: Endpoint, steps: list[Row], by: str, why: str) -> list[Row]:
    """The ledger once the live model has left; as it was where that one had left before."""
    live = ledger.last_live(steps)
    if live is None or not traffic.is_mine(run, live):
        if any(traffic.is_mine(run, row) and row["step"] == ROLLED_BACK for row in steps):
            run.say(f"{run.partition} is rolled back already")
            return steps
        found = "nothing" if live is None else f"{live['candidate_id']} of {live['day']}, {live['mode']}"
        raise Refused(f"rollback needs the model of {run.day}, {run.mode}, to be live; found {found}")
    target = ledger.before(steps, live)
    if target is None:
        raise Refused(f"rollback needs a model that served before {live['candidate_id']}; it is the first")
    earlier = of_step(target)
    try:
        traffic.answers_with(run, endpoint, earlier)
    except Exception:
        endpoint.prepare(of_step(live))  # a model that went live by growing shares has no config of its own
        endpoint.switch(live["config"])
        raise
    return ledger.append(
        run,
        steps,
        {**of_step(live).step(ROLLED_BACK, live["before"]), "by": by, "why": why},
        {**earlier.step(LIVE, target["before"], 100.0), "by": by, "why": why},
    )
