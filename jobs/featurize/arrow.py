"""Arrow's part of featurize: one process does all users at once, for windows that fit in its memory.

The same rows as `jobs.featurize.spark` for a fraction of its start-up time; tests hold the two together.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.featurize import core

EVENT_COLUMNS = ["item_id", "user_id", "event_time", "ingested_at"]


def known_events(files: dict[str, list[str]], window: core.Window) -> dict[str, pa.Table]:
    """Per table the events that count for some feature day: item_id, user_id, event_us, event_day, start_day."""
    return {table: _known(paths, window) for table, paths in files.items()}


def item_counts(events: dict[str, pa.Table]) -> core.ItemCounts:
    """How many events of each kind per item, event day and day known."""
    keys = ["item_id", "event_day", "start_day"]
    grouped = []
    for kind, table in events.items():
        counted = table.group_by(keys).aggregate([([], "count_all")]).rename_columns([*keys, "n"])
        grouped.append(counted.append_column("kind", pa.repeat(kind, len(counted))))
    return core.ItemCounts.of(pa.concat_tables(grouped))


def user_tables(
    events: dict[str, pa.Table], history: pa.Table, prior: core.Overall, window: core.Window
) -> list[pa.Table]:
    """One `user_features` table per feature day, sorted by user."""
    parts = []
    for kind, clicked in (("impressions", False), ("clicks", True)):
        table = events[kind].filter(pc.is_valid(events[kind]["user_id"]))
        slots = core.slots_of(table["item_id"], table["event_day"].to_numpy().astype(np.int64), history)
        item_id = table["item_id"] if clicked else pa.nulls(len(table), pa.string())
        columns = {"user_id": table["user_id"], "item_id": item_id, "clicked": np.full(len(table), clicked)}
        parts.append(
            pa.table({**columns, "slot": slots, "event_us": table["event_us"], "start_day": table["start_day"]})
        )
    return core.user_features(core.UserEvents.of(pa.concat_tables(parts)), prior, window)


def _known(paths: Sequence[str], window: core.Window) -> pa.Table:
    table = pa.concat_tables([pq.ParquetFile(path).read(columns=EVENT_COLUMNS) for path in paths])
    event_us, known_us = (table[name].cast(pa.int64()).to_numpy() for name in ("event_time", "ingested_at"))
    event_day = event_us // core.DAY_US
    start_day = np.maximum(event_day, known_us // core.DAY_US)
    last = core.day_number(window.days[-1])
    rows = np.flatnonzero((start_day <= last) & (event_day > window.first - window.long_term_days))
    ids = table.select(["item_id", "user_id"]).take(pa.array(rows))
    columns = {"event_us": event_us[rows], "event_day": event_day[rows], "start_day": start_day[rows]}
    return pa.table({"item_id": ids["item_id"], "user_id": ids["user_id"], **columns})
