"""Raw columns take the contract's names and types wherever that loses nothing; whatever cannot stays as it was found.

Nothing is refused here: the suites look at the outcome and say what is missing or of the wrong type.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import Refused
from jobs.lake.tables import ATTRIBUTES, STR, TIME, Table

TEXT = (pa.string(), pa.large_string(), pa.string_view())
ROW_ATTRIBUTES = "attributes"


@dataclass(frozen=True)
class Shaped:
    """Rows in contract order, as far as the raw columns allowed; `unknown` are the columns left out.

    `attributes` is there for tables that have it. `ingested_at` may be null: `filled` fills it.
    """

    rows: pa.Table
    unknown: tuple[str, ...]


def shaped(rows: pa.Table, table: Table) -> Shaped:
    """The contract's columns: cast where lossless, absent optional ones null, prefixed extras in `attributes`.

    A required column that is absent stays absent; one that cannot be cast keeps its type. Raises `Refused` when two
    columns share a name.
    """
    names = rows.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Refused(f"raw {table.name} needs each column once; found {', '.join(twice)} more than once")
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name, column in table.columns.items():
        if name in names:
            columns[name] = lossless(rows.column(name), column.type)
        elif column.optional:
            columns[name] = pa.nulls(len(rows), column.type)
    extras = [name for name in names if name not in table.columns]
    folded = [n for n in extras if table.extra_prefix and n.startswith(table.extra_prefix) and _is_plain(rows, n)]
    if table.extra_prefix:
        prefix = len(table.extra_prefix)
        columns[ROW_ATTRIBUTES] = attributes({name[prefix:]: rows.column(name) for name in folded}, len(rows))
    return Shaped(pa.table(columns), tuple(name for name in extras if name not in folded))


def lossless(column: pa.ChunkedArray, needed: pa.DataType) -> pa.ChunkedArray:
    """`column` as `needed` if every value survives, else as it was.

    Times of any unit become UTC microseconds (without a zone they are taken as UTC), whole numbers int32, any float or
    small integer float64, dictionaries and large strings plain strings; NaN is null.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if column.type == needed:
        return column
    try:
        return _cast(column, needed)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column


def _cast(column: pa.ChunkedArray, needed: pa.DataType) -> pa.ChunkedArray:
    """The safe cast where one exists between such types at all, else the column."""
    found = column.type
    if pa.types.is_null(found):
        return pa.chunked_array([pa.nulls(len(column), needed)])
    if needed == TIME and pa.types.is_timestamp(found):
        zoned = column if found.tz else column.cast(pa.timestamp(found.unit, "UTC"))
        return zoned.cast(needed)
    number = pa.types.is_integer(found) or pa.types.is_floating(found)
    if number and (pa.types.is_integer(needed) or pa.types.is_floating(needed)):
        return column.cast(needed)
    if needed == STR and found in TEXT:
        return column.cast(needed)
    if (
        pa.types.is_list(needed)
        and _is_list(found)
        and (found.value_type in TEXT or pa.types.is_null(found.value_type))
    ):
        return column.cast(needed)
    return column


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_plain(rows: pa.Table, name: str) -> bool:
    """Whether the values can be written as text; nested ones cannot, and binary ones need not."""
    kind = rows.schema.field(name).type
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def attributes(columns: dict[str, pa.ChunkedArray], n: int) -> pa.MapArray:
    """n maps of text to text, keys in the order of their names; a null value has no key."""
    names = sorted(columns)
    texts = []
    for name in names:
        column = columns[name]
        plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        texts.append(plain.cast(STR).combine_chunks())
    if not names or not n:
        return pa.MapArray.from_arrays(np.zeros(n + 1, np.int32), pa.array([], STR), pa.array([], STR)).cast(ATTRIBUTES)
    # Column-major to row-major: row i holds names[0], names[1], …
    order = np.arange(n * len(names)).reshape(len(names), n).T.ravel()
    values = pa.concat_arrays(texts).take(pa.array(order))
    keys = pa.array(names, STR).take(pa.array(np.tile(np.arange(len(names)), n)))
    present = np.asarray(values.is_valid())
    offsets = np.concatenate([[0], np.cumsum(present.reshape(n, len(names)).sum(axis=1))]).astype(np.int32)
    mask = pa.array(present)
    return pa.MapArray.from_arrays(offsets, keys.filter(mask), values.filter(mask)).cast(ATTRIBUTES)


def filled(rows: pa.Table) -> pa.Table:
    """`ingested_at` where it is unknown is the event's own time: what happened was known at once."""
    if "ingested_at" not in rows.column_names:
        return rows
    known = pc.coalesce(rows.column("ingested_at"), rows.column("event_time"))
    return rows.set_column(rows.column_names.index("ingested_at"), "ingested_at", known)
