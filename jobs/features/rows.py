"""Rows that go online, of tables or of part files that are read some at once: as the store's views have them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from jobs.features import wire
from jobs.features.read import UNREAD
from jobs.features.writing import AT, KEYS
from jobs.lake.parts import batches
from jobs.lake.tables import LAKE, TIME
from models.features import OUTCOMES

DIGESTED_ROWS = 1 << 14


@dataclass(frozen=True)
class Parts:
    """A table's part files; their rows are never in memory together."""

    table: str
    files: Sequence[str]


Rows: TypeAlias = pa.Table | Parts


def some(rows: Rows, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows, some at once."""
    if isinstance(rows, Parts):
        for path in rows.files:
            yield from batches(path, rows.table, columns)
    else:
        yield rows.select(list(columns))


def times(rows: Rows) -> pa.ChunkedArray:
    """The different moments from which rows count as known."""
    found = pa.chunked_array([pa.array([], TIME)])
    for table in some(rows, [AT]):
        found = pa.chunked_array([pc.unique(pa.chunked_array([*found.chunks, *table.column(AT).cast(TIME).chunks]))])
    return found


def read(table: str) -> list[str]:
    """The columns of a feature table that go online."""
    return [name for name in LAKE[table].columns if name not in UNREAD[table]]


def features(rows: pa.Table, table: str) -> pa.Table:
    """Only the columns that are read online; Feast has no maps of numbers: counts become a JSON text."""
    own = rows.select(read(table))
    if OUTCOMES not in own.column_names:
        return own
    texts = [None if pairs is None else json.dumps(dict(pairs)) for pairs in own[OUTCOMES].to_pylist()]
    return own.set_column(own.column_names.index(OUTCOMES), OUTCOMES, pa.array(texts, pa.string()))


def attributes(snapshot: pa.Table, key: str, at: datetime) -> pa.Table:
    """A snapshot's attributes, as one JSON text a row: Feast has no maps."""
    texts = [json.dumps(dict(pairs or []), sort_keys=True) for pairs in snapshot["attributes"].to_pylist()]
    known = pa.repeat(pa.scalar(at, TIME), len(snapshot))
    return pa.table({key: snapshot[key], AT: known, "attributes": pa.array(texts, pa.string())})


def digest(view: str, table: pa.Table) -> str:
    """The same for the same rows, whenever they became available."""
    found = hashlib.sha256()
    for at in range(0, len(table), DIGESTED_ROWS):
        piece = table.slice(at, DIGESTED_ROWS)
        columns = [wire.values(piece.column(name)) for name in piece.column_names if name not in (*KEYS[view], AT)]
        for parts in zip(wire.keys(piece, KEYS[view]), *columns, strict=True):
            found.update(b"".join(b"%d:%b" % (len(part), part) for part in parts))
    return found.hexdigest()[:16]
