"""`validate`: a day's raw tables are held against their suites, all six before any is published.

Rows that break a critical expectation go to `quarantine` with its name, the reason and their content; a day whose
columns, figures or share of bad rows break one is refused whole. Days are taken oldest first, and the first refused day
ends the run. Earlier days whose raw files changed since (late arrivals) are taken again.

Not done yet: ids are unique within a day, not across days; ranges are fixed, not learned from earlier days.
"""

import json
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from jobs.run import Run
from jobs.tables import LAKE, RAW
from jobs.validate import raw
from jobs.validate.batch import SHOWN, Rules, Verdict, verdicts
from jobs.validate.suites import Suites

BATCH_DAYS = 18
"""So many days go through Great Expectations together: its cost is per batch, memory is per day (about 40 MB)."""


def run(run: Run) -> dict[str, Any]:
    """Publish the validated tables of `run.days`, and again those of earlier days that changed; returns counts."""
    lake = run.config.lake.raw
    for day in run.days:
        for table in RAW:
            raw.files(lake, table, day)  # a day that has not come is said before any work
    again = _changed(run)
    days = [*again, *run.days]
    rules = Rules(
        Suites(tuple(RAW)), run.config.validation.max_quarantine_share, run.config.attribution.click_window_days
    )
    shown = _Shown(run)
    has_aside = {(p["day"], p["table"]) for p in run.lake.partitions("quarantine")}
    totals: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for start in range(0, len(days), BATCH_DAYS):
        batch = days[start : start + BATCH_DAYS]
        run.say(f"{batch[0]}..{batch[-1]}: days through the suites: {len(batch)}")
        for day, tables in verdicts(rules, batch, lambda table, day: raw.read(lake, table, day), shown.of):
            for table, verdict in tables.items():
                _publish(run, table, day, verdict, (day.isoformat(), table) in has_aside)
                totals.update(verdict.counts())
                failed.update({f"{table}.{name}": n for name, n in verdict.failed().items()})
            shown.keep(day, tables["impressions"].judged.good)
            run.say(_line(day, tables))
    return {
        "days": len(run.days),
        "revisited": [day.isoformat() for day in again],
        **totals,
        "failed": dict(sorted(failed.items())),
    }


def _changed(run: Run) -> list[date]:
    """Published days just before the run's own whose raw files are not those they were published from."""
    first = run.days[0]
    before = [first - timedelta(days=n) for n in range(run.config.attribution.late_days, 0, -1)]
    published = set(run.lake.days("impressions"))
    lake = run.config.lake.raw
    return [
        day
        for day in before
        if day in published
        and raw.arrived(lake, day)
        and any(raw.fingerprint(lake, table, day) != _published_from(run, table, day) for table in RAW)
    ]


def _published_from(run: Run, table: str, day: date) -> str | None:
    """The fingerprint of the raw files a table of a day was last published from."""
    lineage = run.lake.lineage(table, {"day": day.isoformat()})
    return None if lineage is None else json.loads(lineage["notes"]).get("raw_files")


def _publish(run: Run, table: str, day: date, verdict: Verdict, has_aside: bool) -> None:
    """The rows set aside, then the good ones: a reader of the day never misses rows without finding them there."""
    counts = verdict.counts()
    notes = {"raw_files": verdict.raw_files, "failed": json.dumps(verdict.failed(), sort_keys=True)}
    aside = {"day": day.isoformat(), "table": table}
    if len(verdict.judged.aside) or has_aside:
        run.publish("quarantine", aside, verdict.judged.aside, counts, notes)
    run.publish(table, {"day": day.isoformat()}, verdict.judged.good, counts, notes)


def _line(day: date, tables: dict[str, Verdict]) -> str:
    good = ", ".join(f"{table} {len(verdict.judged.good)}" for table, verdict in tables.items())
    aside = sum(len(verdict.judged.aside) for verdict in tables.values())
    failed = sorted(f"{table}.{name}" for table, verdict in tables.items() for name in verdict.failed())
    return f"{day}: {good}; set aside {aside}; failed: {', '.join(failed) or 'none'}"


class _Shown:
    """Impressions clicks may refer to: those this run published, else those of an earlier one."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._published = set(run.published_days("impressions"))
        self._kept: dict[date, pa.Table] = {}

    def keep(self, day: date, impressions: pa.Table) -> None:
        """Remember a day, and only as many as a click may look back."""
        self._kept[day] = impressions.select(SHOWN)
        while len(self._kept) > self._run.config.attribution.click_window_days:
            self._kept.pop(min(self._kept))

    def of(self, day: date) -> pa.Table:
        """The `SHOWN` columns of a day, no rows where it was never published."""
        if day in self._kept:
            return self._kept[day]
        if day in self._published:
            return self._run.read("impressions", [day], columns=SHOWN).select(SHOWN)
        schema = LAKE["impressions"].schema
        return pa.schema([schema.field(name) for name in SHOWN]).empty_table()
