"""A day whose events will never come is declared lost: published without rows, so that all that waits for it goes on.

Visible wherever the day counts: in the notes of its commits (why, by whom, when), as a warning on the evidence of every
model whose examples span it, in the data card, in `python -m jobs lose`. What happened on it counts as if it had not.
Undone by `validate`, should the events come after all: it replaces the day as it replaces any other, and so do the
stages after it. Of the snapshots (items, users) the newest before the day stands in.
"""

import getpass
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from jobs.errors import Refused, UsageError
from jobs.flow import SNAPSHOTS, VALIDATED
from jobs.lake import raw
from jobs.lake.run import Run, now
from jobs.lake.tables import LAKE

TABLES = tuple(sorted(VALIDATED, key=lambda table: table == "impressions"))
"""As `validate` commits them: the impressions last, since all that comes after waits for them."""
FOLLOWING = ("attribute", "featurize")
"""The stages that must then run for the day, so that datasets find its labels and features."""


def declare(run: Run, why: str, by: str | None) -> dict[str, str]:
    """Publish the day of a run of `validate` without events; returns what its commits say of it.

    Raises `UsageError` where the day has rows, or where the day before it is not published: history has no hole to
    fill there, or another day is to be declared first.
    """
    published = run.lineages("impressions", [run.day, run.day - timedelta(days=1)])
    before, found = published.get(run.day - timedelta(days=1)), published.get(run.day)
    if before is None:
        raise UsageError(
            f"a lost day needs impressions of the day before it, {run.day - timedelta(days=1)}; found none"
        )
    if found is not None and int(found["rows"]):
        raise UsageError(f"a lost day must have nothing published; found {found['rows']} impressions of {run.day}")
    told = {"lost": why, "lost_by": by or getpass.getuser(), "lost_at": now().isoformat(timespec="seconds")}
    warning = {
        "expectation": "day_is_not_lost",
        "needs": "the events of the day",
        "notes": f"Declared lost by {told['lost_by']} at {told['lost_at']}: {why}.",
        "rows": None,
        "found": None,
    }
    for table in TABLES:
        # A day that came and was refused is not taken for changed, by the runs of the days after it.
        raw_files = {"raw_files": fingerprint} if (fingerprint := _raw_files(run, table)) else {}
        warnings = {"warnings": json.dumps([warning])} if table == "impressions" else {}
        run.publish(table, {"day": run.day.isoformat()}, _rows(run, table), notes={**told, **raw_files, **warnings})
    return {"day": run.day.isoformat(), **told}


def _rows(run: Run, table: str) -> pa.Table:
    earlier = table in SNAPSHOTS and [day for day in run.published_days(table) if day < run.day]
    if earlier:
        return run.read(table, [earlier[-1]], columns=list(LAKE[table].columns)).drop_columns(["day"])
    return LAKE[table].schema.empty_table()


def _raw_files(run: Run, table: str) -> str | None:
    with suppress(Refused):
        if raw.arrived(run.config.lake.raw, run.day, run.config.source.daily):
            return raw.fingerprint(run.config.lake.raw, table, run.day)
    return None


def among(lineages: Mapping[date, Mapping[str, Any]]) -> dict[date, dict[str, str]]:
    """Of the impressions' lineage by day, the days that are lost, oldest first: `lost` (why), `lost_by`, `lost_at`."""
    notes = {day: json.loads(lineages[day]["notes"]) for day in sorted(lineages)}
    names = ("lost", "lost_by", "lost_at")
    return {day: {name: said[name] for name in names} for day, said in notes.items() if "lost" in said}
