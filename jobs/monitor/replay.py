"""`replay`: the answers of a day, shown or a shadow's, again offline: the share that differs, bundle by bundle.

Alarms are figures, as `monitor`'s, and are told in Slack: what a release is at, its watch holds to the same limits.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cache, partial
from typing import Any

from jobs import bundle
from jobs.asof.wanted import Wanted
from jobs.deployments import ledger
from jobs.lake.run import Run
from jobs.moment.known import Publication, publications
from jobs.moment.replay import Replayed, Seen, replayed, together
from jobs.monitor.rows import BYTES_A_ROW, count
from jobs.parcels.workers import workers
from jobs.places import place
from jobs.serving import answered, captured
from models.settings import TaskSettings

AT_ONCE = 1 << 18
"""Candidates of answers that are in memory together."""


def run(run: Run) -> dict[str, Any]:
    """What was found of each bundle that answered on the day, and which are over the limits."""
    found, alarmed = {}, []
    shown = count(run, {run.day} & {*run.published_days("impressions")})
    with workers(run, shown, BYTES_A_ROW):
        told = of_day(run, run.day, ledger.released(run))
    for name, again in told:
        found[name] = {"share": again.share, "largest": dict(again.largest), "why": again.why}
        run.say(f"{name}: {again.why}")
        if again.share > run.config.release.max_replay_share:
            alarmed.append(f"{name}: {again.why}")
    return {"replayed": found, "alarms": len(alarmed), "alarmed": {str(run.day): alarmed}}


def of_day(run: Run, day: date, released: Iterable[ledger.Row]) -> list[tuple[str, Replayed]]:
    """Candidate and what was found of it, of each released bundle that gave an answer on the day.

    Raises `Refused` for other bytes than were judged.
    """
    rows = list(released)
    bundles = [(row["bundle"], row["bundle_sha256"]) for row in rows]
    most = run.config.release.max_replay_difference
    again = partial(_again, publications(run, day), run.config.tasks, bundles, most)
    found: dict[int, Replayed] = {}
    for some in run.each(again, answered.chunks(run.config.endpoint, day, shadows=True)):
        for number, one in some.items():
            found[number] = found.get(number, Replayed()) + one
    return [(rows[number]["candidate_id"], found[number]) for number in sorted(found)]


def _again(
    there: Mapping[str, Publication],
    tasks: TaskSettings,
    bundles: Sequence[tuple[str, str]],
    tolerated: float,
    chunk: answered.Chunk,
) -> dict[int, Replayed]:
    """What is found of a chunk of the answers, by the number of the bundle, of which each has its path and sha256."""
    loaded = cache(lambda number: bundle.load(place(bundles[number][0]), bundles[number][1]))
    seen = Seen(there, Wanted.of(captured.asking(chunk.lines())), tasks)
    found: dict[int, Replayed] = {}
    for some in together(chunk.said(), AT_ONCE):
        for number, (_, sha256) in enumerate(bundles):
            mine = [one for one in some if one.answer.bundle_sha256 == sha256]
            if mine:
                found[number] = found.get(number, Replayed()) + replayed(seen, loaded(number), mine, tolerated)
    return found
