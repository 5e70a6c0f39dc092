"""What the lake says of itself: how fresh its tables are, what serves, what waits for a person, what alarms.

All of it is in the tables' commits and ledgers; a table whose log cannot be read is one figure, and hides no other.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from infra.endpoint.metrics import BUCKETS
from jobs import runs
from jobs.config import Config
from jobs.deployments import ledger
from jobs.errors import TidegateError
from jobs.flow import STAGES
from jobs.lake.store import Lake, midnight
from jobs.lake.tables import LAKE
from jobs.monitor import incidents
from jobs.monitor.past import OPEN

PROMOTE = "promote"
COMPARED = (
    *("release.slow_ms", "release.tolerated_slow", "release.tolerated_failed", "release.alarming_fallback"),
    "lake.stale_hours",
)
"""Settings that rules compare with: a bound is written once, in the settings."""
DAILY = sorted(
    {table for stage in STAGES.values() if stage.per == "day" for table in stage.writes} & set(LAKE) - {"reevaluations"}
)
"""Tables of which every day is published, if only as an empty one."""


@dataclass(frozen=True)
class Newest:
    """The newest day of a table, as its commits tell."""

    day: date
    rows: int
    stage: str
    published: float
    """When the last of its partitions was committed, seconds since 1970."""


class Pipeline:
    """A collector of the lake, the runs and the settings of one configuration."""

    def __init__(self, settings: Config) -> None:
        self._settings = settings
        self._lake = Lake(settings.lake.root)
        self._newest: dict[str, tuple[int, Newest | None]] = {}
        """By table, with the version it was read at: most scrapes find nothing new."""

    def collect(self) -> Iterable[Metric]:
        """The families, as they are now."""
        yield from settings_of(self._settings)
        yield from runs.read(self._settings.lake.runs)
        yield from self._tables()
        for figures in (self._releases, self._report):
            # What cannot be read is told by `tidegate_table_readable`; a vacuum may overtake a reader.
            with suppress(TidegateError, OSError):
                yield from list(figures())

    def _tables(self) -> Iterator[Metric]:
        prefix, by = "tidegate_table_", ["table"]
        readable = GaugeMetricFamily(f"{prefix}readable", "Whether a table's log can be read.", labels=by)
        end = GaugeMetricFamily(f"{prefix}day_end_timestamp_seconds", "End of a table's newest day.", labels=by)
        published = GaugeMetricFamily(f"{prefix}published_timestamp_seconds", "When it was published.", labels=by)
        rows = GaugeMetricFamily(f"{prefix}rows", "Rows of a table's newest day.", labels=["table", "stage"])
        daily = GaugeMetricFamily(f"{prefix}daily", "Tables that have every day.", labels=by)
        for table in LAKE:
            try:
                found = self._of(table)
            except TidegateError:
                readable.add_metric([table], 0)
                continue
            readable.add_metric([table], 1)
            if found is not None:
                end.add_metric([table], midnight(found.day + timedelta(days=1)).timestamp())
                published.add_metric([table], found.published)
                rows.add_metric([table, found.stage], found.rows)
        for table in DAILY:
            daily.add_metric([table], 1)
        yield from (readable, end, published, rows, daily)

    def _of(self, table: str) -> Newest | None:
        version = self._lake.version(table)
        if version is None or "day" not in LAKE[table].partition:
            return None
        if self._newest.get(table, (None,))[0] != version:
            self._newest[table] = (version, newest(self._lake.history(table)))
        return self._newest[table][1]

    def _releases(self) -> Iterator[Metric]:
        """What serves, what is on its way and what waits for a person."""
        steps = ledger.steps(self._lake, self._settings.endpoint.name)
        live = ledger.last_live(steps)
        if live is not None:
            champion = InfoMetricFamily("tidegate_champion", "What serves, by the ledger.")
            champion.add_metric([], {"bundle": live["candidate_id"], "sha256": live["bundle_sha256"]})
            yield champion
            yield _gauge("tidegate_champion_live_timestamp_seconds", "Since when it serves.", live["at"].timestamp())
        under_way = ledger.under_way(steps)
        text = "Releases that have neither gone live nor been rolled back."
        yield _gauge("tidegate_release_under_way", text, float(under_way is not None))
        asked = waiting(self._lake.read("promotions").to_pylist(), steps)
        yield _gauge("tidegate_promotions_waiting", "Verdicts `promote` that nobody has answered yet.", len(asked))
        if asked:
            since = min(row["decided_at"] for row in asked).timestamp()
            yield _gauge("tidegate_promotion_waits_since_timestamp_seconds", "Since when the first waits.", since)

    def _report(self) -> Iterator[Metric]:
        """The newest day's figures, and which incidents are open by its own account."""
        if self._lake.version("serving_reports") is None:
            return
        days = self._lake.days("serving_reports")
        rows = self._lake.read("serving_reports", days[-1:]).to_pylist()
        by = ["metric", "surface", "cause"]
        for name in ("value", "low", "high", "bound_low", "bound_high", "alarm"):
            text = f"The newest daily serving report: {name} of a figure."
            family = GaugeMetricFamily(f"tidegate_report_{name}", text, labels=by)
            for row in rows:
                if row[name] is not None:
                    labels = [row["metric"], row["surface"], incidents.cause_of(row["metric"]).name]
                    family.add_metric(labels, float(row[name]))
            yield family
        found = {one.cause.name: one for one in incidents.incidents(rows, str(days[-1]))}
        text = "Whether an incident of this cause is open by the newest report."
        family = GaugeMetricFamily("tidegate_incident_open", text, labels=["cause"])
        for cause in incidents.CAUSES:
            family.add_metric([cause.name], float(cause.name in found and found[cause.name].state in OPEN))
        yield family


def newest(history: Sequence[dict[str, Any]]) -> Newest | None:
    """The newest day among commits (newest first) with the rows of all its partitions; None where none is of a day.

    A commit of another engine, which compacted or repaired, tells of no partition and is passed over.
    """
    last: dict[str, dict[str, Any]] = {}
    for commit in history:
        partition = commit.get("tidegate.partition", "")
        if partition and "day" in json.loads(partition):
            last.setdefault(partition, commit)
    if not last:
        return None
    day = max(json.loads(partition)["day"] for partition in last)
    of_day = [commit for partition, commit in last.items() if json.loads(partition)["day"] == day]
    published = max(of_day, key=lambda commit: int(commit["timestamp"]))
    return Newest(
        date.fromisoformat(day),
        sum(int(commit["tidegate.rows"]) for commit in of_day),
        str(published["tidegate.stage"]),
        int(published["timestamp"]) / 1000,
    )


def waiting(promotions: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Verdicts `promote`, the newest of each mode, without an answer in the ledger and not overtaken by a release."""
    answered = {(step["bundle_sha256"], step["evidence_sha256"]) for step in steps}
    moved: datetime | None = max((step["at"] for step in ledger.moves(steps)), default=None)
    newest_of: dict[str, dict[str, Any]] = {}
    for row in sorted(promotions, key=lambda row: row["decided_at"]):
        newest_of[row["mode"]] = row
    return [
        row
        for row in newest_of.values()
        if row["verdict"] == PROMOTE
        and (row["bundle_sha256"], row["evidence_sha256"]) not in answered
        and (moved is None or row["decided_at"] > moved)
    ]


def settings_of(settings: Config) -> Iterator[Metric]:
    """The bounds that rules compare with, the time a stage has, and the endpoint's bucket of what is in time."""
    bounds = GaugeMetricFamily("tidegate_setting", "A setting that rules compare with.", labels=["setting"])
    for name in COMPARED:
        group, _, field = name.partition(".")
        value = getattr(getattr(settings, group), field)
        if value is not None:
            bounds.add_metric([name], float(value))
    yield bounds
    text = "Seconds of one try of a stage."
    timeouts = GaugeMetricFamily("tidegate_run_timeout_seconds", text, labels=["stage"])
    for stage in STAGES:
        timeouts.add_metric([stage], 60.0 * settings.timeouts.of(stage))
    yield timeouts
    slow = next((edge for edge in BUCKETS if edge * 1000 >= settings.release.slow_ms), None)
    if slow is not None:
        text = "The endpoint's first bucket that holds every answer in time (release.slow_ms)."
        in_time = GaugeMetricFamily("tidegate_in_time_bucket", text, labels=["le"])
        in_time.add_metric([str(slow)], 1)
        yield in_time


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
