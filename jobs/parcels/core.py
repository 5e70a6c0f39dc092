"""Rows into parcels and out of them: a parcel holds the rows of one task that go to one bucket, as one Arrow stream.

Rows that share a key share a bucket, whatever task they are in: the bucket is a hash of the key's text alone. A parcel
is the stream itself, or where it lies in a file that all workers can read.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple, Self
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types
from numpy.typing import NDArray

from jobs.asof.keys import Indices, fingerprints, hashes_of

MOST_ROWS = 1 << 16
"""Of one parcel: what goes through Spark is held in its memory one parcel at a time."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiplied by it, near fingerprints lie far apart in their upper bits."""
Hashes = NDArray[np.uint64]
COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
"""For parcels that are copied at every socket. What lies in a file is mapped, which compression would prevent."""


@dataclass(frozen=True)
class Pair:
    """Rows with the same key and the same `beside` are together; one key alone may have too many for one bucket."""

    keys: tuple[str, ...]
    beside: str


Keys = tuple[str, ...] | Pair
"""The first of these columns that is not null says which bucket a row goes to; of times, their day."""


class Lying(NamedTuple):
    """An Arrow stream in a file."""

    path: str
    start: int
    size: int


Parcel = bytes | Lying


@dataclass
class Packer:
    """Puts the rows of one task into parcels: into one file of its own in `folder`, else into memory.

    Who reads a file maps it: rows are written once and read where they lie. A task that runs twice leaves two files,
    and what is told of one of them counts.
    """

    folder: str | None
    _open: ExitStack = field(default_factory=ExitStack, init=False)
    _file: pa.NativeFile | None = field(default=None, init=False)
    _path: str = field(default="", init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def packed(self, rows: pa.Table, keys: Keys, buckets: int) -> Iterator[tuple[int, Parcel]]:
        """Parcels by bucket: of each bucket that any of the rows goes to, rows in their order.

        What lies in a file is whole when this packer is closed.
        """
        bucket = bucket_of(rows, keys, buckets)
        order = np.argsort(bucket.astype(np.uint16 if buckets < 1 << 16 else np.int64), kind="stable")
        ordered = rows.combine_chunks().take(pa.array(order)).combine_chunks()
        counts = np.bincount(bucket, minlength=buckets)
        ends = np.cumsum(counts)
        for number in np.flatnonzero(counts).tolist():
            end = int(ends[number])
            for at in range(end - int(counts[number]), end, MOST_ROWS):
                yield number, self._put(ordered.slice(at, min(MOST_ROWS, end - at)))

    def _put(self, rows: pa.Table) -> Parcel:
        if self.folder is None:
            return stream(rows)
        if self._file is None:
            self._path = os.path.join(self.folder, uuid4().hex)
            self._file = self._open.enter_context(pa.OSFile(self._path, "wb"))
        start = self._file.tell()
        _write(rows, self._file)
        return Lying(self._path, start, self._file.tell() - start)


def opened(parcels: Iterable[Parcel], schema: pa.Schema) -> pa.Table:
    """All rows of some parcels, as `schema`; none where there is no parcel."""
    files: dict[str, pa.MemoryMappedFile] = {}
    return pa.concat_tables([schema.empty_table(), *(_table(_content(part, files), schema) for part in parcels)])


def bucket_of(rows: pa.Table, keys: Keys, buckets: int) -> Indices:
    """Each row's bucket, 0 to buckets - 1: by its key alone; rows without any key are together."""
    return place_of(rows, keys, buckets)


def place_of(rows: pa.Table, keys: Keys, places: int) -> Indices:
    """Each row's place, 0 to places - 1, by its key alone; of some times `buckets` places, the rest is its bucket."""
    hashed = key_hashes(rows, keys) * GOLDEN >> np.uint64(24)
    return np.asarray((hashed % np.uint64(places)).astype(np.int64))


def key_hashes(rows: pa.Table, keys: Keys) -> Hashes:
    """(n,) of each row's key: equal keys have equal ones, others hardly ever; 0 where there is none."""
    if isinstance(keys, Pair):
        return key_hashes(rows, keys.keys) * GOLDEN + key_hashes(rows, (keys.beside,))
    first, *others = keys
    column = rows.column(first)
    found = _hashes(column)
    if others and column.null_count:
        without = np.flatnonzero(column.is_null())
        found[without] = key_hashes(rows.select(others).take(pa.array(without)), tuple(others))
    return found


def _hashes(column: pa.ChunkedArray) -> Hashes:
    """Of texts, or of the days of times; 0 for null."""
    if not types.is_timestamp(column.type):
        return hashes_of(column)
    coded = column.cast(pa.date32()).combine_chunks().dictionary_encode()
    of_days = fingerprints(coded.dictionary.cast(pa.string()))
    found: Hashes = np.append(of_days, np.uint64(0))[pc.fill_null(coded.indices, -1).to_numpy()]
    return found


def stream(rows: pa.Table) -> bytes:
    """Rows as an Arrow stream."""
    sink = pa.BufferOutputStream()
    _write(rows, sink, COMPRESSED)
    return bytes(sink.getvalue())


def _write(rows: pa.Table, sink: pa.NativeFile, options: pa.ipc.IpcWriteOptions | None = None) -> None:
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_table(rows)


def _content(parcel: Parcel, files: dict[str, pa.MemoryMappedFile]) -> pa.Buffer:
    """The stream; of a file, which stays open for as long as its rows are anybody's, without a copy."""
    if isinstance(parcel, bytes):
        return pa.py_buffer(parcel)
    file = files.get(parcel.path)
    if file is None:
        file = files[parcel.path] = pa.memory_map(parcel.path)
    file.seek(parcel.start)
    return file.read_buffer(parcel.size)


def _table(content: pa.Buffer, schema: pa.Schema) -> pa.Table:
    found = pa.ipc.open_stream(content).read_all()
    return found if found.schema.equals(schema) else found.cast(schema)


def added(parts: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """Counts of all rows from counts of parts; `schema` has names first and integer figures after them."""
    names = [field.name for field in schema if not types.is_integer(field.type)]
    figures = [field.name for field in schema if types.is_integer(field.type)]
    whole = pa.concat_tables([schema.empty_table(), *parts])
    return (
        whole.group_by(names).aggregate([(name, "sum") for name in figures]).rename_columns(schema.names).cast(schema)
    )
