"""`featurize` publishes, for every day F, what was known of users, items and contexts at the midnight that ends F.

Reads the validated events of the trailing window and the snapshots, publishes the feature tables per day, then puts the
two newest days' values into the online store. Days before the first published one just shorten the window; a gap inside
it is `NotReady`. A day that comes online later than `features.available_after_hours` promises is an alarm of the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

import pyarrow as pa

from jobs import memory
from jobs.asof.clock import late_minutes
from jobs.errors import NotReady
from jobs.featurize.audit import Audit, audited_days
from jobs.featurize.categories import category_history, in_order
from jobs.featurize.core import FEEDBACK, Window
from jobs.featurize.encodings import encodings
from jobs.featurize.items import ItemCounts, item_features, overall
from jobs.flow import FEATURES
from jobs.lake.run import Run, now
from jobs.moment.known import feature_days
from jobs.places import Place, footer

COUNTED = ("impressions", "clicks", "purchases")
ROWS_PER_BUCKET = 500_000
"""So many events of users in one call on Spark: a few hundred MB in one Python worker, however long the window."""
BYTES_A_ROW = 250
"""Of memory that one process takes for an event it reads."""
Data: TypeAlias = "pa.Table | Sequence[Place]"


@dataclass(frozen=True)
class Counted:
    """What an engine makes of the events: small counts, and the user rows of each day."""

    items: ItemCounts
    contexts: pa.Table
    users_of_day: list[Data]


def run(run: Run) -> dict[str, Any]:
    """Publish each of the run's days; returns the newest day's users and items, the keys put online, and any alarm."""
    outcomes = run.config.outcomes
    window = Window(run.days, run.config.features, outcomes)
    counted_tables = (*COUNTED, FEEDBACK) if outcomes else COUNTED
    files = {table: _event_files(run, table, window) for table in counted_tables}
    snapshots = _item_snapshots(run, window)
    listed = [snapshots[max(d for d in snapshots if d <= day)] for day in run.days]
    history = in_order(category_history(list(snapshots.items())))
    events = sum(footer(path).num_rows for paths in files.values() for path in paths)
    distributed = run.config.spark.distributes(events, BYTES_A_ROW, memory.at_hand())
    engine = on_spark if distributed else in_one_process
    run.say(f"{events} events in {sum(map(len, files.values()))} files, {len(listed[-1])} items: {engine.__name__}")
    counted = engine(run, files, history, window)
    item_tables, encoding_tables = item_features(counted.items, listed, window), encodings(counted.contexts, window)
    audit, audited = Audit(files, snapshots, run.config.features, outcomes), audited_days(run.days)
    users = items = 0
    for day, *tables in zip(run.days, counted.users_of_day, item_tables, encoding_tables, strict=True):
        of_day: dict[str, Data] = dict(zip(FEATURES, tables, strict=True))
        if day in audited:
            audit.refuse_leaks(day, of_day)
        rows = {name: run.publish(name, {"day": day.isoformat()}, table) for name, table in of_day.items()}
        users, items = rows["user_features"], rows["item_features"]
    run.say(f"published {run.days[0]}..{run.days[-1]}; newest day: {users} users, {items} items")
    counts = {"users": users, "items": items, "events": events}
    if not run.config.online:
        return {**counts, "online_keys": 0}
    keys, late = _put_online(run, distributed)
    run.say(f"{keys} keys online in {run.config.features.online_store}")
    if not late:
        return {**counts, "online_keys": keys}
    run.say(f"{run.day} is online {late} minutes later than promised; until now the day before was served")
    alarmed = {str(run.day): ["late_publication"]}
    return {**counts, "online_keys": keys, "late_minutes": late, "alarms": 1, "alarmed": alarmed}


ITEMS_ONLINE = ["item_id", "attributes", "removed"]
"""What the endpoint is told of the catalogue's snapshot."""


def _put_online(run: Run, on_spark: bool) -> tuple[int, int]:
    """The two newest days are in the online store; returns the keys written and the minutes the run's day came late."""
    from jobs.features import online
    from jobs.features.publish import publish
    from jobs.features.rows import Parts

    there, keys = online.online_days(run.config), 0
    for day in reversed([day for day in feature_days(run) if day <= run.day][-2:]):
        if day in run.days or day not in there:
            rows = {table: Parts(table, [path for path, _ in run.files(table, [day])]) for table in FEATURES}
            listed = [of for of in run.published_days("users") if of <= day][-1:]
            users = Parts("users", [path for path, _ in run.files("users", listed)]) if listed else None
            items = run.newest("items", ITEMS_ONLINE, day)
            keys += publish(run.config, day, rows, users, items, on_spark)
    # A day that was there is being corrected.
    return keys, 0 if run.day in there else late_minutes(run.day, now(), run.config.features)


def in_one_process(run: Run, files: dict[str, list[str]], history: pa.Table, window: Window) -> Counted:
    """The user rows of each day as one table."""
    from jobs.featurize import arrow

    events = arrow.known_events(files, window)
    items, contexts = arrow.item_counts(events), arrow.context_counts(events, history)
    run.say(f"{len(items.n)} item counts, {len(contexts)} context counts")
    return Counted(items, contexts, [*arrow.user_tables(events, history, overall(items, window), window)])


def on_spark(run: Run, files: dict[str, list[str]], history: pa.Table, window: Window) -> Counted:
    """The user rows of each day as part files."""
    from jobs.featurize import spark as distributed
    from jobs.spark import session

    folder = run.staging("user_features")
    rows = sum(footer(path).num_rows for table in files for path in files[table])
    buckets = run.config.spark.buckets(rows, ROWS_PER_BUCKET)
    with session(run.config.spark, "featurize") as spark:
        items = distributed.item_counts(spark, files, window)
        contexts = distributed.context_counts(spark, files, history, window)
        run.say(f"{len(items.n)} item counts, {len(contexts)} context counts")
        parts = distributed.user_parts(spark, files, history, overall(items, window), window, folder, buckets)
    return Counted(items, contexts, [[part.path for part in parts if part.day == day] for day in window.days])


def _event_files(run: Run, table: str, window: Window) -> list[str]:
    """The part files of every day of the window since the table's first; raises `NotReady` for a gap."""
    published = run.published_days(table)
    if not published or published[0] > run.days[0]:
        first = published[0] if published else "never"
        raise NotReady(f"featurize needs {table} of {run.days[0]}; first published: {first}")
    days = [day for day in window.event_days if day >= published[0]]
    return [path for path, _ in run.files(table, days)]


def _item_snapshots(run: Run, window: Window) -> dict[date, pa.Table]:
    """Every snapshot of the window, and the newest before it; raises `NotReady` where the first day has none."""
    published = run.published_days("items")
    if not published or published[0] > run.days[0]:
        first = published[0] if published else "never"
        raise NotReady(f"featurize needs items at or before {run.days[0]}; first published: {first}")
    earlier = [day for day in published if day <= window.event_days[0]][-1:]
    wanted = earlier + [day for day in published if window.event_days[0] < day <= run.days[-1]]
    columns = ["item_id", "created_at", "category", "price"]
    listed = {max(d for d in wanted if d <= day) for day in run.days}
    # Vectors are wide, and of the days before nobody asks for them.
    return {d: run.read("items", [d], columns=[*columns, "feature_vector"] if d in listed else columns) for d in wanted}
