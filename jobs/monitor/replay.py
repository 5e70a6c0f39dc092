"""`replay`: the answers of a day, shown or a shadow's, again offline: the share that differs, bundle by bundle.

Alarms are figures, as `monitor`'s, and are told in Slack: what a release is at, its watch holds to the same limits.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from jobs import bundle
from jobs.deployments import ledger
from jobs.lake.run import Run
from jobs.moment.replay import Replayed, replayed
from jobs.places import place
from jobs.serving import answered


def run(run: Run) -> dict[str, Any]:
    """What was found of each bundle that answered on the day, and which are over the limits."""
    found, alarmed = {}, []
    for name, again in of_day(run, run.day, ledger.released(run)):
        found[name] = {"share": again.share, "largest": dict(again.largest), "why": again.why}
        run.say(f"{name}: {again.why}")
        if again.share > run.config.release.max_replay_share:
            alarmed.append(f"{name}: {again.why}")
    return {"replayed": found, "alarms": len(alarmed), "alarmed": {str(run.day): alarmed}}


def of_day(run: Run, day: date, released: Iterable[ledger.Row]) -> list[tuple[str, Replayed]]:
    """Candidate and what was found of it, of each released bundle that gave an answer on the day.

    Raises `Refused` for other bytes than were judged.
    """
    said, most = answered.of_day(run.config.endpoint, day), run.config.release.max_replay_difference
    mine = [(row, of) for row in released if (of := said.get(row["bundle_sha256"]))]
    return [
        (row["candidate_id"], replayed(run, bundle.load(place(row["bundle"]), row["bundle_sha256"]), of, most))
        for row, of in mine
    ]
