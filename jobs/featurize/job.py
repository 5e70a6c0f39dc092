"""`featurize` publishes, for every day F, what was known of users and items at the midnight that ends F.

Reads the validated events of the trailing window and the snapshots, publishes `user_features` and `item_features` per
day, then puts the newest day's values into the online store. Days before the first published one just shorten the
window; a gap inside it is `NotReady`.
"""

from datetime import date
from typing import Any

import pyarrow as pa

from jobs.errors import NotReady
from jobs.featurize import core
from jobs.run import Run

COUNTED = ("impressions", "clicks", "purchases")


def run(run: Run) -> dict[str, Any]:
    """Publish each of the run's days; returns the newest day's users and items, and the keys put online."""
    from jobs.featurize import spark as distributed
    from jobs.spark import session

    settings = run.config.features
    window = core.Window(run.days, settings.long_term_days, settings.prior_impressions)
    files = {table: _event_files(run, table, window) for table in COUNTED}
    snapshots = _item_snapshots(run, window)
    of_day = [snapshots[max(d for d in snapshots if d <= day)] for day in run.days]
    history = core.bucket_history(list(snapshots.items()))
    run.say(f"{sum(map(len, files.values()))} event files, {len(of_day[-1])} items; starting Spark")
    with session(run.config.spark, "featurize") as spark:
        counts = distributed.item_counts(spark, files, window)
        run.say(f"{len(counts.n)} item counts")
        parts = distributed.user_parts(
            spark,
            files,
            history,
            core.overall(counts, window),
            window,
            run.staging("user_features"),
            run.config.spark.partitions,
        )
        run.say(f"{sum(part.rows for part in parts)} user rows in {len(parts)} files")
    users = items = 0
    for day, table in zip(run.days, core.item_features(counts, of_day, window), strict=True):
        partition = {"day": day.isoformat()}
        items = run.publish("item_features", partition, table)
        users = run.publish("user_features", partition, [part.path for part in parts if part.day == day])
    run.say(f"published {run.days[0]}..{run.days[-1]}; newest day: {users} users, {items} items")
    return {"users": users, "items": items}


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
    published = [day for day in run.published_days("items") if day <= run.days[-1]]
    if not published or published[0] > run.days[0]:
        raise NotReady(
            f"featurize needs a snapshot of items at or before {run.days[0]}; found {published[:1] or 'none'}"
        )
    earlier = [day for day in published if day <= window.event_days[0]][-1:]
    wanted = earlier + [day for day in published if day > window.event_days[0]]
    columns = ["item_id", "created_at", "category", "price"]
    return {day: run.read("items", [day], columns=columns) for day in wanted}
