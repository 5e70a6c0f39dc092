"""Rows into parcels and out of them: a parcel holds the rows of one task that go to one bucket, as one Arrow stream.

Rows that share a key share a bucket, whatever task they are in: the bucket is a hash of the key's text alone.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from jobs.asof.core import Indices

PARCELS = pa.schema([("bucket", pa.int32()), ("side", pa.int32()), ("rows", pa.binary())])
"""`side`: which of the tables that meet in a bucket the rows are of."""
Keys = tuple[str, ...]
"""The first of these columns that is not null says which bucket a row goes to; of times, their day."""


def packed(rows: pa.Table, keys: Keys, buckets: int, side: int = 0) -> pa.Table:
    """`PARCELS`: one for each bucket that any of the rows goes to, rows in their order."""
    bucket = bucket_of(rows, keys, buckets)
    order = np.argsort(bucket, kind="stable")
    ordered = rows.take(pa.array(order)).combine_chunks()
    found, starts, counts = np.unique(bucket[order], return_index=True, return_counts=True)
    streams = [_stream(ordered.slice(start, count)) for start, count in zip(starts, counts, strict=True)]
    columns = [
        pa.array(found, pa.int32()),
        pa.array(np.full(len(found), side), pa.int32()),
        pa.array(streams, pa.binary()),
    ]
    return pa.table(columns, schema=PARCELS)


def opened(parcels: pa.Table, schema: pa.Schema, side: int = 0) -> pa.Table:
    """All rows of one side's parcels, as `schema`; none where there is no parcel."""
    mine = parcels.filter(pc.equal(parcels.column("side"), side)).column("rows")
    return pa.concat_tables([schema.empty_table(), *(_table(part, schema) for chunk in mine.chunks for part in chunk)])


def bucket_of(rows: pa.Table, keys: Keys, buckets: int) -> Indices:
    """Each row's bucket, 0 to buckets - 1: SipHash of its key; rows without any key are together."""
    key = pc.coalesce(*(_text(rows.column(name)) for name in keys))
    coded = pa.chunked_array(key, pa.string()).combine_chunks().dictionary_encode()
    values = np.append(coded.dictionary.to_numpy(zero_copy_only=False).astype(object), "")
    hashed = pd.util.hash_array(values, categorize=False) % np.uint64(buckets)
    codes = pc.fill_null(coded.indices, len(values) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(hashed.astype(np.int64)[codes])


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as it is; a time as its day."""
    return column.cast(pa.date32()).cast(pa.string()) if types.is_timestamp(column.type) else column


def _stream(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def _table(stream: pa.BinaryScalar, schema: pa.Schema) -> pa.Table:
    return pa.ipc.open_stream(stream.as_buffer()).read_all().cast(schema)


def added(parts: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """Counts of all rows from counts of parts; `schema` has names first and integer figures after them."""
    names = [field.name for field in schema if not types.is_integer(field.type)]
    figures = [field.name for field in schema if types.is_integer(field.type)]
    whole = pa.concat_tables([schema.empty_table(), *parts])
    return (
        whole.group_by(names).aggregate([(name, "sum") for name in figures]).rename_columns(schema.names).cast(schema)
    )
