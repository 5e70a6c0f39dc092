"""Rows into parcels and out of them: a parcel holds the rows of one task that go to one bucket, as one Arrow stream.

Rows that share a key share a bucket, whatever task they are in: the bucket is a hash of the key's text alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types
from numpy.typing import NDArray

from jobs.asof.core import Indices, fingerprints

MOST_ROWS = 1 << 16
"""Of one parcel: what goes through Spark is held in its memory one parcel at a time."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiplied by it, near fingerprints lie far apart in their upper bits."""
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Pair:
    """Rows with the same key and the same `beside` are together; one key alone may have too many for one bucket."""

    keys: tuple[str, ...]
    beside: str


Keys = tuple[str, ...] | Pair
"""The first of these columns that is not null says which bucket a row goes to; of times, their day."""


def packed(rows: pa.Table, keys: Keys, buckets: int) -> Iterator[tuple[int, bytes]]:
    """Parcels by bucket: of each bucket that any of the rows goes to, rows in their order."""
    bucket = bucket_of(rows, keys, buckets)
    order = np.argsort(bucket.astype(np.uint16 if buckets < 1 << 16 else np.int64), kind="stable")
    ordered = rows.take(pa.array(order)).combine_chunks()
    found, starts, counts = np.unique(bucket[order], return_index=True, return_counts=True)
    for number, start, count in zip(found.tolist(), starts.tolist(), counts.tolist(), strict=True):
        for at in range(start, start + count, MOST_ROWS):
            yield number, stream(ordered.slice(at, min(MOST_ROWS, start + count - at)))


def opened(streams: Iterable[bytes], schema: pa.Schema) -> pa.Table:
    """All rows of some parcels, as `schema`; none where there is no parcel."""
    return pa.concat_tables([schema.empty_table(), *(_table(part, schema) for part in streams)])


def bucket_of(rows: pa.Table, keys: Keys, buckets: int) -> Indices:
    """Each row's bucket, 0 to buckets - 1: by its key alone; rows without any key are together."""
    return place_of(rows, keys, buckets)


def place_of(rows: pa.Table, keys: Keys, places: int) -> Indices:
    """Each row's place, 0 to places - 1, by its key alone; of some times `buckets` places, the rest is its bucket."""
    hashed = key_hashes(rows, keys) * GOLDEN >> np.uint64(24)
    return np.asarray((hashed % np.uint64(places)).astype(np.int64))


def key_hashes(rows: pa.Table, keys: Keys) -> Hashes:
    """(n,) of each row's key: equal keys have equal ones, others hardly ever."""
    if isinstance(keys, Pair):
        return key_hashes(rows, keys.keys) * GOLDEN + key_hashes(rows, (keys.beside,))
    text = pc.coalesce(*(_text(rows.column(name)) for name in keys))
    chunks = pa.chunked_array(text, pa.string()).chunks
    return np.concatenate([np.zeros(0, np.uint64), *(fingerprints(chunk) for chunk in chunks)])


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as it is; a time as its day."""
    return column.cast(pa.date32()).cast(pa.string()) if types.is_timestamp(column.type) else column


def stream(rows: pa.Table) -> bytes:
    """Rows as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def _table(parcel: bytes, schema: pa.Schema) -> pa.Table:
    found = pa.ipc.open_stream(pa.py_buffer(parcel)).read_all()
    return found if found.schema.equals(schema) else found.cast(schema)


def added(parts: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """Counts of all rows from counts of parts; `schema` has names first and integer figures after them."""
    names = [field.name for field in schema if not types.is_integer(field.type)]
    figures = [field.name for field in schema if types.is_integer(field.type)]
    whole = pa.concat_tables([schema.empty_table(), *parts])
    return (
        whole.group_by(names).aggregate([(name, "sum") for name in figures]).rename_columns(schema.names).cast(schema)
    )
