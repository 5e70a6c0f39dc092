"""`labels`: what came of every impression, for the run's days and the earlier days that changed since."""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pyarrow.parquet as pq

from jobs.attribute.core import COLUMNS
from jobs.config import AttributionSettings
from jobs.run import Run

DIGEST = "rows_digest"
"""The note in a commit that is equal where the rows are."""
REPORTED = ("clicked", "converted", "attributed", "unattributed", "duplicates", "late")

Parts = dict[date, list[str]]
"""Part files by day."""


def run(run: Run) -> dict[str, Any]:
    """Publish the labels of the run's days, and of the earlier days whose labels events known since have changed.

    A purchase on day D can reach back to the impressions of D - window - click window: those days are computed again
    together with D, and published only if their rows differ. Days before the first published one are simply absent;
    events of days after D, where a rerun finds them published, count as well.
    """
    from jobs.attribute.spark import Events, write_labels
    from jobs.spark import session

    parts = {table: _parts(run, table) for table in COLUMNS}
    days = [day for day in _computed(run) if day in parts["impressions"]]
    run.say(f"labels of {len(days)} days to compute, {days[0]}..{days[-1]}")
    events = Events(**{table: sorted(sum(found.values(), [])) for table, found in parts.items()})
    staging = run.staging("labels")
    with session(run.config.spark, run.stage.name) as spark:
        run.say("Spark is up")
        names = [day.isoformat() for day in days]
        facts = write_labels(spark, events, names, run.config.attribution, run.config.spark.partitions, staging)
        run.say("labels are computed")
    published = _published_digests(run)
    totals, republished = dict.fromkeys(REPORTED, 0), []
    for day in days:
        counts = dict(facts[day.isoformat()])
        digest = str(counts.pop("digest"))
        if day not in run.days and published.get(day.isoformat()) == digest:
            continue
        counts["duplicates"] = _copies(parts, day, counts)
        files = sorted((staging / f"day={day}").glob("*.parquet"))
        run.publish("labels", {"day": day.isoformat()}, files, counts, {DIGEST: digest})
        if day in run.days:
            totals = {name: total + counts[name] for name, total in totals.items()}
        else:
            republished.append(day.isoformat())
    run.say(f"published {len(run.days)} days, and {len(republished)} earlier ones that changed")
    return {**totals, "republished": republished}


def _computed(run: Run) -> list[date]:
    first = run.days[0] - timedelta(days=_reach_days(run.config.attribution))
    return [first + timedelta(days=n) for n in range((run.day - first).days + 1)]


def _reach_days(settings: AttributionSettings) -> int:
    """From an impression to the last purchase it can earn."""
    return settings.click_window_days + settings.window_days


def _parts(run: Run, table: str) -> Parts:
    """The part files the computed days depend on; raises `NotReady` where one of the run's own days is missing."""
    run.files(table, run.days)
    settings = run.config.attribution
    before = {"impressions": settings.click_window_days, "clicks": settings.window_days, "purchases": 0}[table]
    first = _computed(run)[0] - timedelta(days=before)
    last = run.day + timedelta(days=_reach_days(settings))
    found: Parts = {}
    for path, partition in run.files(table):
        day = date.fromisoformat(partition["day"])
        if first <= day <= last:
            found.setdefault(day, []).append(path)
    return found


def _copies(parts: Mapping[str, Parts], day: date, counts: Mapping[str, int]) -> int:
    """How many rows of a day's events were further copies of one already counted."""
    rows = sum(pq.read_metadata(path).num_rows for found in parts.values() for path in found.get(day, []))
    return rows - sum(counts[name] for name in ("impressions", "clicks", "attributed", "unattributed"))


def _published_digests(run: Run) -> dict[str, str]:
    """Day to the digest of the rows published for it."""
    digests: dict[str, str] = {}
    for commit in run.lake.history("labels"):
        notes = json.loads(commit.get("tidegate.notes", "{}"))
        day = json.loads(commit.get("tidegate.partition", "{}")).get("day")
        if day is not None:
            digests.setdefault(day, notes.get(DIGEST, ""))
    return digests
