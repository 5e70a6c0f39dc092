"""Which category an item was in on the day of an event, and the interest bucket that category is hashed to."""

import zlib
from collections.abc import Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.featurize.core import Ints, day_number
from models.features import INTEREST_BUCKETS

NO_SLOT = INTEREST_BUCKETS
"""The slot of events whose item has no category: they count for the user, for no interest."""
HISTORY = pa.schema(
    [
        *(("item_id", pa.string()), ("category", pa.string()), ("slot", pa.int32())),
        *(("from_day", pa.int32()), ("until_day", pa.int32())),
    ]
)


def interest_buckets(categories: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Each category's bucket as int32, null where there is no category."""
    encoded = pc.dictionary_encode(_one(categories).cast(pa.string()))
    buckets = [zlib.crc32(text.encode()) % INTEREST_BUCKETS for text in encoded.dictionary.to_pylist()]
    return pa.array(buckets, pa.int32()).take(encoded.indices)


def category_history(snapshots: Sequence[tuple[date, pa.Table]]) -> pa.Table:
    """From which day until before which day (day numbers) an item was in which category: one row per change.

    An event of day e takes its item's category from the newest snapshot at or before e, so that it means the same
    whichever feature day asks. Items without a category, or not in that snapshot, have no row.
    """
    if not snapshots:
        return HISTORY.empty_table()
    ordered = sorted(snapshots, key=lambda pair: pair[0])
    begins = np.array([day_number(day) for day, _ in ordered] + [np.iinfo(np.int32).max], np.int64)
    ids = pa.chunked_array([_one(s["item_id"]).cast(pa.string()) for _, s in ordered])
    categories = _one(pa.chunked_array([_one(s["category"]).cast(pa.string()) for _, s in ordered]))
    encoded = pc.dictionary_encode(categories)
    ordinal = np.repeat(np.arange(len(ordered)), [len(s) for _, s in ordered])
    unique = ids.unique()
    item = pc.index_in(ids, unique).to_numpy().astype(np.int64)
    code = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    order = np.lexsort((ordinal, item))
    item, code, ordinal = item[order], code[order], ordinal[order]
    fresh = np.ones(len(item), bool)
    fresh[1:] = (item[1:] != item[:-1]) | (code[1:] != code[:-1]) | (ordinal[1:] != ordinal[:-1] + 1)
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], len(item)) - 1
    kept = code[first] >= 0
    first, last = first[kept], last[kept]
    category = encoded.dictionary.take(pa.array(code[first]))
    days = [pa.array(begins[at].astype(np.int32)) for at in (ordinal[first], ordinal[last] + 1)]
    return pa.table([unique.take(pa.array(item[first])), category, interest_buckets(category), *days], schema=HISTORY)


def rows_of(item_id: pa.ChunkedArray, event_day: Ints, history: pa.Table) -> Ints:
    """The row of `category_history` that says what each event's item was on the event's day, -1 where none does.

    `history` sorted by item_id, then from_day, as `in_order` leaves it. A null item has no row.
    """
    if not len(history):
        return np.full(len(event_day), -1, np.int64)
    listed = history["item_id"].unique()
    starts, ends = (history[name].to_numpy().astype(np.int64) for name in ("from_day", "until_day"))
    span = 1 << 32
    begins = pc.index_in(history["item_id"], listed).to_numpy().astype(np.int64) * span + starts
    item = pc.fill_null(pc.index_in(item_id, listed, skip_nulls=True), -1).to_numpy().astype(np.int64)
    at = np.searchsorted(begins, item * span + event_day, side="right") - 1
    # The row found belongs to an earlier item where this one was not listed yet.
    within = (item >= 0) & (at >= 0) & (begins[at] // span == item) & (event_day < ends[at])
    return np.where(within, at, -1)


def in_order(history: pa.Table) -> pa.Table:
    """As `rows_of` wants it."""
    return history.sort_by([("item_id", "ascending"), ("from_day", "ascending")]).combine_chunks()


def slots_of(item_id: pa.ChunkedArray, event_day: Ints, history: pa.Table) -> Ints:
    """The interest bucket of each event's item on the event's day, else `NO_SLOT`."""
    slots = np.append(history["slot"].to_numpy().astype(np.int64), NO_SLOT)
    found: Ints = slots[rows_of(item_id, event_day, history)]
    return found


def categories_of(item_id: pa.ChunkedArray, event_day: Ints, history: pa.Table) -> pa.Array:
    """The category of each event's item on the event's day, dictionary-encoded, null where it has none."""
    at = rows_of(item_id, event_day, history)
    encoded = pc.dictionary_encode(_one(history["category"]))
    return encoded.take(pa.array(at, mask=at < 0))


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
