"""A Parquet file without a person's rows, whoever wrote it: where they stand in it, and its bytes without them.

They stand in a column `user_id`, in the `payload` of a row that was set aside, which is a JSON text of it, and in the
`value` of a record of a stream that became no row.
"""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.places import Place

USER, PAYLOAD, RECORD = "user_id", "payload", "value"
TAIL = 8
"""Bytes at the end of a Parquet file: how long its footer is, and PAR1."""
WAYS = (("snappy", True), ("snappy", False), ("zstd", False))
"""Compression, and whether with statistics: the next where one makes more of fewer rows than there was."""


def names(schema: pa.Schema) -> list[str]:
    """The columns in which a person may stand."""
    found = [name for name in (USER, PAYLOAD) if name in schema.names]
    records = RECORD in schema.names and pa.types.is_binary(schema.field(RECORD).type)
    return [*found, RECORD] if records else found


def kept(rows: pa.Table, user: str) -> pa.Table:
    """The rows that are not the user's; `rows` need have no more than the columns of `names`."""
    for name in names(rows.schema):
        if name == RECORD:
            records = rows.column(name).to_pylist()
            rows = rows.filter(pa.array([not _tells_of(record, user) for record in records], pa.bool_()))
            continue
        texts = rows.column(name).cast(pa.string())
        rows = rows.filter(_others(texts, user) if name == USER else _elsewhere(texts, user))
    return rows


def _others(ids: pa.ChunkedArray, user: str) -> pa.ChunkedArray:
    return pc.invert(pc.fill_null(pc.equal(ids, user), False))


def _elsewhere(payloads: pa.ChunkedArray, user: str) -> pa.Array:
    return pa.array([not _is_of(text, user) for text in payloads.to_pylist()], pa.bool_())


def _is_of(payload: str | None, user: str) -> bool:
    try:
        found = json.loads(payload or "{}")
    except ValueError:
        return user in (payload or "")
    return isinstance(found, dict) and str(found.get(USER)) == user


def _tells_of(record: bytes | None, user: str) -> bool:
    """Whether a record of a stream that became no row has the id: one that cannot be read, if it has its bytes."""
    try:
        told = json.loads(record or b"{}")
    except ValueError:
        return user.encode() in (record or b"")
    return isinstance(told, dict) and user in map(str, told.values())


def found(path: Place, user: str) -> int:
    """How many rows of a file are the user's; none where it is gone, or no Parquet, such as a run's that died."""
    try:
        with pq.ParquetFile(path if isinstance(path, Path) else pa.BufferReader(path.read_bytes())) as file:
            looked_at = names(file.schema_arrow)
            groups = range(file.num_row_groups) if looked_at else ()
            parts = (file.read_row_group(group, columns=looked_at) for group in groups)
            return sum(len(rows) - len(kept(rows, user)) for rows in parts)
    except (pa.ArrowException, OSError, ValueError):
        return 0


def without(content: bytes, user: str, compression: str = "snappy", statistics: bool = True) -> bytes:
    """The file without the user's rows, in the order they had; the same bytes each time it is asked for."""
    rows = kept(pq.ParquetFile(pa.BufferReader(content)).read(), user)
    for at, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type):
            # A dictionary keeps the words of rows that are gone.
            again = rows.column(at).cast(field.type.value_type).dictionary_encode()
            rows = rows.set_column(at, field.name, again)
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression=compression, write_statistics=statistics)
    return sink.getvalue()


def as_large(content: bytes, user: str) -> bytes | None:
    """As `without`, of exactly as many bytes, so that a log that says how many there are stays right; None where
    fewer rows took more.
    """
    for compression, statistics in WAYS:
        made = without(content, user, compression, statistics)
        spare = len(content) - len(made)
        if spare >= 0:
            # Readers find the footer from the end, and the columns from the footer: between them may be anything.
            footer = len(made) - TAIL - int.from_bytes(made[-TAIL:-4], "little")
            return made[:footer] + bytes(spare) + made[footer:]
    return None
