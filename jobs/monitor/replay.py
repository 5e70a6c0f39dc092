"""`replay`: the answers of a day, shown or a shadow's, again offline: the share that differs, bundle by bundle.

Alarms are figures, as `monitor`'s, and are told in Slack: what a release is at, its watch holds to the same limits.
"""

from collections.abc import Iterable
from datetime import date
from functools import cache
from typing import Any

from jobs import bundle
from jobs.deployments import ledger
from jobs.lake.run import Run
from jobs.moment.replay import Replayed, replayed, together
from jobs.places import place
from jobs.serving import answered

AT_ONCE = 1 << 20
"""Candidates of answers that are in memory together; the features of their users are read for them."""


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
    most, rows = run.config.release.max_replay_difference, list(released)
    loaded = cache(lambda path, sha: bundle.load(place(path), sha))
    found: dict[int, Replayed] = {}
    for some in together(answered.of_day(run.config.endpoint, day), AT_ONCE):
        for number, row in enumerate(rows):
            mine = [one for one in some if one.answer.bundle_sha256 == row["bundle_sha256"]]
            if mine:
                again = replayed(run, loaded(row["bundle"], row["bundle_sha256"]), mine, most)
                found[number] = found.get(number, Replayed()) + again
    return [(rows[number]["candidate_id"], found[number]) for number in sorted(found)]
