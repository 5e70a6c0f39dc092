"""`featurize` publishes, for every day F, what was known of users, items and contexts at the midnight that ends F.

Reads the validated events of the trailing window and the snapshots, publishes the feature tables per day, then puts the
two newest days' values into the online store. Days before the first published one just shorten the window; a gap inside
it is `NotReady`. A day that comes online later than `features.available_after_hours` promises is an alarm of the run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import pyarrow as pa

from jobs import memory
from jobs.asof.clock import late_minutes
from jobs.errors import NotReady, Refused
from jobs.featurize.audit import Audit, audited_days
from jobs.featurize.core import FEEDBACK, Window
from jobs.featurize.sampled import Data
from jobs.flow import FEATURES
from jobs.lake.run import Run, now
from jobs.moment.known import feature_days
from jobs.places import footer

COUNTED = ("impressions", "clicks", "purchases")
SNAPSHOT = ["item_id", "created_at", "category", "price"]
ROWS_PER_BUCKET = 500_000
"""So many events of users in one call on Spark: a few hundred MB in one Python worker, however long the window."""
BYTES_A_ROW = 250
"""Of memory that one process takes for an event it reads."""
Days = Iterator[tuple[date, dict[str, Sequence[Data]]]]
"""Each day's rows of the feature tables, once they are audited: in one table or in part files."""


@dataclass(frozen=True)
class Given:
    """What the features of some days are made of, as part files."""

    events: Mapping[str, Sequence[str]]
    """By table."""
    snapshots: Mapping[date, Sequence[str]]
    """Of items, by their day: all of the window, and the newest before it."""
    window: Window

    @property
    def rows(self) -> int:
        """Events."""
        return sum(footer(path).num_rows for paths in self.events.values() for path in paths)

    def listed(self, day: date) -> date:
        """The day of the snapshot that holds for a day; raises ValueError where none does."""
        return max(of for of in self.snapshots if of <= day)

    @property
    def holds(self) -> dict[date, date]:
        """The same for each event day that has one."""
        return {day: self.listed(day) for day in self.window.event_days if min(self.snapshots) <= day}

    def audit(self) -> Audit:
        """Of these files."""
        held = {day: self.snapshots[of] for day, of in self.holds.items()}
        return Audit(self.events, held, self.window.settings, self.window.outcomes)


def run(run: Run) -> dict[str, Any]:
    """Publish each of the run's days; returns the newest day's users and items, the keys put online, and any alarm."""
    outcomes = run.config.outcomes
    window = Window(run.days, run.config.features, outcomes)
    tables = (*COUNTED, FEEDBACK) if outcomes else COUNTED
    files = {table: _event_files(run, table, window) for table in tables}
    given = Given(files, _item_snapshots(run, window), window)
    events, items = given.rows, sum(footer(path).num_rows for path in given.snapshots[given.listed(run.day)])
    distributed = run.config.spark.distributes(events, BYTES_A_ROW, memory.at_hand())
    engine = on_spark if distributed else in_one_process
    run.say(f"{events} events in {sum(map(len, files.values()))} files, {items} items: {engine.__name__}")
    users = items = 0
    for day, found in engine(run, given):
        rows = {name: run.publish(name, {"day": day.isoformat()}, _whole(found[name])) for name in FEATURES}
        users, items = rows["user_features"], rows["item_features"]
    run.say(f"published {run.days[0]}..{run.days[-1]}; newest day: {users} users, {items} items")
    counts = {"users": users, "items": items, "events": events}
    if not run.config.online:
        return {**counts, "online_keys": 0}
    keys, late = _put_online(run)
    run.say(f"{keys} keys online in {run.config.features.online_store}")
    if not late:
        return {**counts, "online_keys": keys}
    run.say(f"{run.day} is online {late} minutes later than promised; until now the day before was served")
    alarmed = {str(run.day): ["late_publication"]}
    return {**counts, "online_keys": keys, "late_minutes": late, "alarms": 1, "alarmed": alarmed}


ITEMS_ONLINE = ["item_id", "attributes", "removed"]
"""What the endpoint is told of the catalogue's snapshot."""


def _put_online(run: Run) -> tuple[int, int]:
    """The two newest days are in the online store; returns the keys written and the minutes the run's day came late."""
    from jobs.features import online

    there, keys = online.online_days(run.config), 0
    for day in reversed([day for day in feature_days(run) if day <= run.day][-2:]):
        if day in run.days or day not in there:
            rows = {table: run.read(table, [day]) for table in FEATURES}
            known_users = any(listed <= day for listed in run.published_days("users"))
            users = run.newest("users", ["user_id", "attributes"], day) if known_users else None
            keys += online.publish(run.config, day, rows, users, run.newest("items", ITEMS_ONLINE, day))
    # A day that was there is being corrected.
    return keys, 0 if run.day in there else late_minutes(run.day, now(), run.config.features)


def in_one_process(run: Run, given: Given) -> Days:
    """A table each."""
    from jobs.featurize import arrow
    from jobs.featurize.categories import category_history, in_order
    from jobs.featurize.encodings import encoded, encodings, overall_rate, totals
    from jobs.featurize.items import ItemCounts, item_features, overall

    window, audit, audited = given.window, given.audit(), audited_days(run.days)
    listed = {given.listed(day) for day in run.days}
    # Vectors are wide, and of the days before nobody asks for them.
    snapshots = {
        day: run.read("items", [day], columns=[*SNAPSHOT, "feature_vector"] if day in listed else SNAPSHOT)
        for day in given.snapshots
    }
    history = in_order(category_history(list(snapshots.items())))
    events = arrow.known_events(given.events, window)
    counts, contexts = arrow.item_counts(events), encoded(arrow.contexts(events, history))
    run.say(f"{len(counts.n)} item counts, {len(contexts)} context counts")
    prior, rate = overall(counts, window), overall_rate(ItemCounts.of(totals(contexts)), window)
    users = arrow.user_tables(events, history, prior, window)
    items = item_features(counts, [snapshots[given.listed(day)] for day in run.days], prior, window)
    for day, *tables in zip(run.days, users, items, encodings(contexts, rate, window), strict=True):
        found: dict[str, Sequence[Data]] = {name: [rows] for name, rows in zip(FEATURES, tables, strict=True)}
        if day in audited:
            audit.refuse_leaks(day, found)
        yield day, found


def on_spark(run: Run, given: Given) -> Days:
    """Part files, which workers write and audit."""
    from jobs.featurize import spark as distributed
    from jobs.parcels.spark import Steps
    from jobs.spark import session

    folders = {table: run.staging(table) for table in FEATURES}
    with session(run.config.spark, run.stage.name) as spark:
        run.say("Spark is up")
        buckets = run.config.spark.buckets(given.rows, ROWS_PER_BUCKET)
        steps = Steps(spark, buckets)
        snapshots = distributed.Snapshots(given.snapshots, given.holds)
        parts = distributed.write_features(steps, given.events, snapshots, given.window, folders)
        run.say(f"features are written in {len(parts)} part files")
        found: dict[date, dict[str, Sequence[Data]]] = {
            day: {table: [part.path for part in parts if part[:2] == (table, day)] for table in FEATURES}
            for day in run.days
        }
        audit = replace(given.audit(), over=distributed.OnWorkers(steps))
        leaks = audit.leaks({day: found[day] for day in audited_days(run.days)})
    for day, tables in found.items():
        if day in leaks:
            raise Refused(leaks[day])
        yield day, tables


def _whole(parts: Sequence[Data]) -> Any:
    """As `Run.publish` wants it."""
    return parts[0] if len(parts) == 1 and isinstance(parts[0], pa.Table) else parts


def _event_files(run: Run, table: str, window: Window) -> list[str]:
    """The part files of every day of the window since the table's first; raises `NotReady` for a gap."""
    published = run.published_days(table)
    if not published or published[0] > run.days[0]:
        first = published[0] if published else "never"
        raise NotReady(f"featurize needs {table} of {run.days[0]}; first published: {first}")
    days = [day for day in window.event_days if day >= published[0]]
    return [path for path, _ in run.files(table, days)]


def _item_snapshots(run: Run, window: Window) -> dict[date, list[str]]:
    """Every snapshot of the window, and the newest before it; raises `NotReady` where the first day has none."""
    published = run.published_days("items")
    if not published or published[0] > run.days[0]:
        first = published[0] if published else "never"
        raise NotReady(f"featurize needs items at or before {run.days[0]}; first published: {first}")
    earlier = [day for day in published if day <= window.event_days[0]][-1:]
    wanted = earlier + [day for day in published if window.event_days[0] < day <= run.days[-1]]
    return {day: [path for path, _ in run.files("items", [day])] for day in wanted}
