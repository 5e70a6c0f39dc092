"""Arrow's part of featurize: one process does all users at once, for windows that fit in its memory.

The same rows as `jobs.featurize.spark` for a fraction of its start-up time; tests hold the two together.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.featurize.categories import categories_of, slots_of
from jobs.featurize.core import FEEDBACK, Window
from jobs.featurize.encodings import CLICK_DAY, context_counts
from jobs.featurize.events import UserEvents, acted, columns_of, counted, fed, known
from jobs.featurize.items import ItemCounts, Overall
from jobs.featurize.users import user_features
from jobs.lake.parts import read_part

Events = dict[str, pa.Table]


def known_events(files: Mapping[str, Sequence[str]], window: Window) -> Events:
    """Per table the events that count for some feature day, as `known` has them."""

    def read(table: str, paths: Sequence[str]) -> pa.Table:
        return pa.concat_tables([read_part(path, table, columns_of(table)) for path in paths])

    return {table: known(table, read(table, paths), window) for table, paths in files.items()}


def item_counts(events: Events) -> ItemCounts:
    """How many events of each kind per item, event day, day known, and whether in that day's last hour."""
    return ItemCounts.of(pa.concat_tables([counted(table, rows) for table, rows in events.items()]))


def user_tables(events: Events, history: pa.Table, prior: Overall, window: Window) -> list[pa.Table]:
    """One `user_features` table per feature day, sorted by user."""
    parts = []
    for table in ("impressions", "clicks"):
        rows = events[table]
        slots = slots_of(rows["item_id"], rows["event_day"].to_numpy().astype(np.int64), history)
        parts.append(acted(table, rows, slots))
    if FEEDBACK in events:
        parts.append(fed(events[FEEDBACK]))
    return user_features(UserEvents.of(pa.concat_tables(parts, promote_options="default")), prior, window)


def contexts(events: Events, history: pa.Table) -> pa.Table:
    """`encodings.KEYS` and `n` of impressions whose item had a category, all of them and those that were clicked."""
    shown, clicks = events["impressions"], events["clicks"]
    named = clicks.filter(pc.is_valid(clicks["impression_id"]))
    first = named.group_by("impression_id").aggregate([("start_day", "min")]).combine_chunks()
    at = pc.index_in(shown["impression_id"], first["impression_id"].combine_chunks()).combine_chunks()
    click_day = first["start_day_min"].combine_chunks().take(at)
    event_day = shown["event_day"].to_numpy().astype(np.int64)
    columns = {
        **{name: shown[name].combine_chunks().dictionary_encode() for name in ("surface", "query")},
        "source_category": categories_of(shown["source_item_id"], event_day, history),
        "item_category": categories_of(shown["item_id"], event_day, history),
        "event_day": shown["event_day"],
        "start_day": shown["start_day"],
    }
    return context_counts(pa.table({**columns, CLICK_DAY: click_day}))
