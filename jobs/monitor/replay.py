"""`replay`: the answers of a day, shown or a shadow's, again offline: the share that differs, bundle by bundle.

Alarms are figures, as `monitor`'s, and are told in Slack: what a release is at, its watch holds to the same limits.
"""

from datetime import UTC, date, datetime
from typing import Any

from jobs import bundle
from jobs.deployments import ledger
from jobs.lake.run import Run
from jobs.moment.replay import Replayed, replayed
from jobs.places import place
from jobs.serving import captured
from jobs.serving.capture import CAPTURE, SHADOWS

EVER = datetime.min.replace(tzinfo=UTC)


def run(run: Run) -> dict[str, Any]:
    """What was found of each bundle that answered on the day, and which are over the limits."""
    found, alarmed = {}, []
    for row in ledger.released(run):
        again = of_bundle(run, row, run.day)
        if again is None:
            continue
        name = row["candidate_id"]
        found[name] = {"share": again.share, "largest": dict(again.largest), "why": again.why}
        run.say(f"{name}: {again.why}")
        if again.share > run.config.release.max_replay_share:
            alarmed.append(f"{name}: {again.why}")
    return {"replayed": found, "alarms": len(alarmed), "alarmed": {str(run.day): alarmed}}


def of_bundle(run: Run, row: ledger.Row, day: date) -> Replayed | None:
    """Of a bundle that was released; None where it gave no answer on the day. Raises `Refused` for other bytes."""
    settings = run.config
    said = [
        one
        for kind in (CAPTURE, SHADOWS)
        for one in captured.since(
            settings.endpoint.state / kind, settings.endpoint.name, EVER, row["bundle_sha256"], day
        )
    ]
    if not said:
        return None
    judged = bundle.load(place(row["bundle"]), row["bundle_sha256"])
    return replayed(run, judged, said, settings.release.max_replay_difference)
