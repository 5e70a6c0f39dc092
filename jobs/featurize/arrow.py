"""Arrow's part of featurize: one process does all users at once, for windows that fit in its memory.

The same rows as `jobs.featurize.spark` for a fraction of its start-up time; tests hold the two together.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.featurize.categories import NO_SLOT, categories_of, slots_of
from jobs.featurize.core import DAY_US, FEEDBACK, HOUR_US, PARTS, Window, day_number
from jobs.featurize.encodings import CLICK_DAY, KEYS
from jobs.featurize.events import FED, UserEvents
from jobs.featurize.items import ItemCounts, Overall
from jobs.featurize.users import user_features
from jobs.lake.parts import read_part

IDS = ("item_id", "user_id")
MORE = {
    "impressions": ("impression_id", "surface", "query", "source_item_id"),
    "clicks": ("impression_id",),
    FEEDBACK: ("outcome", "value"),
}
"""What a table's events have beside ids and times."""
Events = dict[str, pa.Table]


def known_events(files: dict[str, list[str]], window: Window) -> Events:
    """Per table the events that count for some feature day: ids and context, event_us, event_day, start_day."""
    events = {table: _known(table, paths, [*IDS, *MORE.get(table, ())], window) for table, paths in files.items()}
    if FEEDBACK in events:
        events[FEEDBACK] = _in_parts(events[FEEDBACK], window)
    return events


def item_counts(events: Events) -> ItemCounts:
    """How many events of each kind per item, event day, day known, and whether in that day's last hour."""
    keys = ["item_id", "event_day", "start_day", "last_hour"]
    grouped = []
    for kind, table in events.items():
        last_hour = table["event_us"].to_numpy() % DAY_US >= DAY_US - HOUR_US
        table = table.append_column("last_hour", pa.array(last_hour))
        if kind == FEEDBACK:
            counted = table.group_by([*keys, "outcome"]).aggregate([("parts", "sum")])
            kinds = pc.binary_join_element_wise(kind, counted["outcome"], ".")
            counted = counted.drop_columns(["outcome"])
        else:
            counted = table.group_by(keys).aggregate([([], "count_all")])
            kinds = pa.repeat(kind, len(counted))
        grouped.append(counted.rename_columns([*keys, "n"]).append_column("kind", kinds))
    return ItemCounts.of(pa.concat_tables(grouped))


def user_tables(events: Events, history: pa.Table, prior: Overall, window: Window) -> list[pa.Table]:
    """One `user_features` table per feature day, sorted by user."""
    parts = []
    for kind, clicked in (("impressions", False), ("clicks", True)):
        table = events[kind].filter(pc.is_valid(events[kind]["user_id"]))
        slots = slots_of(table["item_id"], table["event_day"].to_numpy().astype(np.int64), history)
        item_id = table["item_id"] if clicked else pa.nulls(len(table), pa.string())
        columns = {"user_id": table["user_id"], "item_id": item_id, "clicked": np.full(len(table), clicked)}
        parts.append(
            pa.table({**columns, "slot": slots, "event_us": table["event_us"], "start_day": table["start_day"]})
        )
    if FEEDBACK in events:
        fed = events[FEEDBACK].filter(pc.is_valid(events[FEEDBACK]["user_id"]))
        columns = {name: fed[name] for name in ("user_id", "event_us", "start_day", *FED)}
        n = len(fed)
        parts.append(pa.table({**columns, "clicked": np.full(n, False), "slot": np.full(n, NO_SLOT, np.int64)}))
    return user_features(UserEvents.of(pa.concat_tables(parts, promote_options="default")), prior, window)


def context_counts(events: Events, history: pa.Table) -> pa.Table:
    """What `encodings` counts: impressions whose item had a category, by context, days and when a click was known."""
    shown, clicks = events["impressions"], events["clicks"]
    named = clicks.filter(pc.is_valid(clicks["impression_id"]))
    first = named.group_by("impression_id").aggregate([("start_day", "min")]).combine_chunks()
    clicked = pc.index_in(shown["impression_id"], first["impression_id"].combine_chunks()).combine_chunks()
    event_day = shown["event_day"].to_numpy().astype(np.int64)
    table = pa.table(
        {
            **{name: shown[name].combine_chunks().dictionary_encode() for name in ("surface", "query")},
            "source_category": categories_of(shown["source_item_id"], event_day, history),
            "item_category": categories_of(shown["item_id"], event_day, history),
            "event_day": shown["event_day"],
            "start_day": shown["start_day"],
            CLICK_DAY: first["start_day_min"].combine_chunks().take(clicked),
        }
    )
    counted = table.filter(table["item_category"].is_valid()).group_by(list(KEYS)).aggregate([([], "count_all")])
    return counted.rename_columns([*KEYS, "n"])


def _in_parts(feedback: pa.Table, window: Window) -> pa.Table:
    """Events of declared outcomes, with `parts` for `value`: how much each counts, in thousandths."""
    feedback = feedback.filter(pc.is_in(feedback["outcome"], pa.array([*window.outcomes], pa.string())))
    value = pc.fill_null(feedback["value"], 0.0).to_numpy()
    summed = pc.is_in(feedback["outcome"], pa.array(window.values, pa.string())).to_numpy()
    parts = np.where(summed, np.floor(value * PARTS + 0.5), PARTS).astype(np.int64)
    return feedback.drop_columns(["value"]).append_column("parts", pa.array(parts))


def _known(name: str, paths: Sequence[str], columns: Sequence[str], window: Window) -> pa.Table:
    read = [*columns, "event_time", "ingested_at"]
    table = pa.concat_tables([read_part(path, name, read) for path in paths])
    event_us, known_us = (table[name].cast(pa.int64()).to_numpy() for name in ("event_time", "ingested_at"))
    event_day = event_us // DAY_US
    start_day = np.maximum(event_day, known_us // DAY_US)
    last = day_number(window.days[-1])
    rows = np.flatnonzero((start_day <= last) & (event_day > window.first - window.long_term_days))
    ids = table.select(list(columns)).take(pa.array(rows))
    times = {"event_us": event_us[rows], "event_day": event_day[rows], "start_day": start_day[rows]}
    return pa.table({**{name: ids[name] for name in columns}, **times})
