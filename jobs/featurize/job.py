"""`featurize` publishes, for every day F, what was known of users and items at the midnight that ends F.

Reads the validated events of the trailing window and the snapshots, publishes `user_features` and `item_features` per
day, then puts the newest day's values into the online store. Days before the first published one just shorten the
window; a gap inside it is `NotReady`.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import NotReady
from jobs.featurize import core
from jobs.flow import FEATURES
from jobs.run import Run

COUNTED = ("impressions", "clicks", "purchases")
Data: TypeAlias = "pa.Table | Sequence[Path]"


def run(run: Run) -> dict[str, Any]:
    """Publish each of the run's days; returns the newest day's users and items, and the keys put online."""
    settings = run.config.features
    window = core.Window(run.days, settings.long_term_days, settings.prior_impressions)
    files = {table: _event_files(run, table, window) for table in COUNTED}
    snapshots = _item_snapshots(run, window)
    of_day = [snapshots[max(d for d in snapshots if d <= day)] for day in run.days]
    history = core.bucket_history(list(snapshots.items()))
    events = sum(pq.read_metadata(path).num_rows for paths in files.values() for path in paths)
    engine = in_one_process if events < run.config.spark.from_rows else on_spark
    run.say(f"{events} events in {sum(map(len, files.values()))} files, {len(of_day[-1])} items: {engine.__name__}")
    counts, users_of_day = engine(run, files, history, window)
    users = items = 0
    for day, item_table, user_data in zip(
        run.days, core.item_features(counts, of_day, window), users_of_day, strict=True
    ):
        items = run.publish("item_features", {"day": day.isoformat()}, item_table)
        users = run.publish("user_features", {"day": day.isoformat()}, user_data)
    run.say(f"published {run.days[0]}..{run.days[-1]}; newest day: {users} users, {items} items")
    return {"users": users, "items": items, "events": events, "online_keys": _put_online(run)}


def _put_online(run: Run) -> int:
    """The newest day's rows in the online store; returns the keys written."""
    if not run.config.features.online:
        return 0
    from jobs.featurize import online

    rows = {table: run.read(table, [run.day]) for table in FEATURES}
    known_users = any(day <= run.day for day in run.published_days("users"))
    users = run.newest("users", ["user_id", "attributes"]) if known_users else None
    items = run.newest("items", ["item_id", "attributes"])
    keys = online.publish(run.config, run.day, rows["user_features"], rows["item_features"], users, items)
    run.say(f"{keys} keys online in {run.config.features.online_store}")
    return keys


def in_one_process(
    run: Run, files: dict[str, list[str]], history: pa.Table, window: core.Window
) -> tuple[core.ItemCounts, list[Data]]:
    """All item counts, and the user rows of each day as one table."""
    from jobs.featurize import arrow

    events = arrow.known_events(files, window)
    counts = arrow.item_counts(events)
    run.say(f"{len(counts.n)} item counts")
    return counts, [*arrow.user_tables(events, history, core.overall(counts, window), window)]


def on_spark(
    run: Run, files: dict[str, list[str]], history: pa.Table, window: core.Window
) -> tuple[core.ItemCounts, list[Data]]:
    """All item counts, and the user rows of each day as part files."""
    from jobs.featurize import spark as distributed
    from jobs.spark import session

    folder, buckets = run.staging("user_features"), run.config.spark.partitions
    with session(run.config.spark, "featurize") as spark:
        counts = distributed.item_counts(spark, files, window)
        run.say(f"{len(counts.n)} item counts")
        prior = core.overall(counts, window)
        parts = distributed.user_parts(spark, files, history, prior, window, folder, buckets)
    return counts, [[part.path for part in parts if part.day == day] for day in window.days]


def _event_files(run: Run, table: str, window: core.Window) -> list[str]:
    """The part files of every day of the window since the table's first; raises `NotReady` for a gap."""
    published = run.published_days(table)
    if not published or published[0] > run.days[0]:
        first = published[0] if published else "never"
        raise NotReady(f"featurize needs {table} of {run.days[0]}; first published: {first}")
    days = [day for day in window.event_days if day >= published[0]]
    return [path for path, _ in run.files(table, days)]


def _item_snapshots(run: Run, window: core.Window) -> dict[date, pa.Table]:
    """Every snapshot of the window, and the newest before it; raises `NotReady` where the first day has none."""
    published = run.published_days("items")
    if not published or published[0] > run.days[0]:
        first = published[0] if published else "never"
        raise NotReady(f"featurize needs items at or before {run.days[0]}; first published: {first}")
    earlier = [day for day in published if day <= window.event_days[0]][-1:]
    wanted = earlier + [day for day in published if window.event_days[0] < day <= run.days[-1]]
    columns = ["item_id", "created_at", "category", "price"]
    return {day: run.read("items", [day], columns=columns) for day in wanted}
