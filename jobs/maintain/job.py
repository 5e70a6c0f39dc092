"""`maintain`: the lake stays small and quick to open, whatever its age; no row of any table changes.

Of each table small part files become one (`jobs.lake.small_files`), its log is cut to the versions of the last
`lake.retain_days` and those that a model rests on which serves, may serve or is judged (`jobs.lake.expiry`), and part
files that no version names any more go (`jobs.lake.vacuum`). Stages may read and write meanwhile. Killed anywhere it
leaves every kept version readable, and the next one goes on.
"""

from datetime import timedelta
from typing import Any

from jobs.lake import expiry, small_files
from jobs.lake.run import Run, now
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.lake.vacuum import vacuum
from jobs.maintain import core


def run(run: Run) -> dict[str, Any]:
    """Maintain every table; returns what was done, by table where anything was."""
    config, at = run.config, now()
    lake = Lake(config.lake.root)
    days = config.lake.retain_days
    pins = {} if days is None else _pins(lake, config.endpoint.name)
    done: dict[str, dict[str, int]] = {}
    for table in LAKE:
        if lake.version(table) is None:
            continue
        found = {"partitions_compacted": small_files.compact(lake, table, at)}
        if days is not None:
            since = at - timedelta(days=days)
            found["entries_cut"] = expiry.expire(lake, table, pins.get(table, ()), since, at)
        done[table] = {name: n for name, n in found.items() if n}
        run.say(f"{table}: {', '.join(f'{name} {n}' for name, n in done[table].items()) or 'nothing to do'}")
    return {"tables": {table: found for table, found in done.items() if found}, "pinned": _told(pins), **vacuum(config)}


def _pins(lake: Lake, endpoint: str) -> dict[str, set[int]]:
    evidence = lake.read("evidence", columns=["candidate_id", "document_sha256"]).to_pylist()
    judged = lake.read("reevaluations", columns=["candidate_id", "evidence_sha256"]).to_pylist()
    return core.pinned(lake, core.standing(lake, endpoint) | core.unsettled(evidence, judged))


def _told(pins: dict[str, set[int]]) -> dict[str, int]:
    return {table: len(versions) for table, versions in sorted(pins.items())}
