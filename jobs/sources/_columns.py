"""Rows in a team's own names and types as rows of the contract (`jobs.mapping`); all that does not fit is named."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import Misconfigured, one_line
from jobs.lake.tables import RAW, TIME
from jobs.mapping import ColumnMapping, TableMapping

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def refuse_unknown(mapping: Mapping[str, TableMapping]) -> None:
    """Raises `Misconfigured` naming every column that the contract does not have, and every needed one not mapped."""
    wrong = []
    for name, of in mapping.items():
        table = RAW[name]
        prefix = table.extra_prefix
        wrong += [
            f"{name}.{column}: no such column{f', unless it begins with {prefix}' if prefix else ''}"
            for column in of.columns
            if column not in table.columns and not (prefix and column.startswith(prefix))
        ]
        needed = [column for column, kind in table.columns.items() if not kind.optional]
        wrong += [f"{name}.{column}: not mapped" for column in needed if column not in of.columns]
    if wrong:
        raise Misconfigured(f"source.mapping needs the columns of jobs.lake.tables.RAW; found {'; '.join(wrong)}")


def conformed(rows: pa.Table, name: str, of: TableMapping) -> pa.Table:
    """The rows in the contract's columns and types, in their order.

    A time without a zone is one of `of.zone`; an hour that came twice, when clocks went back, is the first of the two.
    Raises `Misconfigured` naming every column that is not there or whose values have no such type.
    """
    wrong: list[str] = []
    columns: dict[str, pa.ChunkedArray] = {}
    for column, said in of.columns.items():
        kind = RAW[name].columns[column].type if column in RAW[name].columns else None
        if said.column and said.column not in rows.column_names:
            wrong.append(f"{name}.{column}: no column {said.column} among {', '.join(rows.column_names)}")
            continue
        theirs = rows.column(said.column) if said.column else _constant(said, kind, len(rows))
        try:
            columns[column] = converted(theirs, kind, said, of.zone)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            wrong.append(f"{name}.{column}: from {said.column or said.value!r}, {theirs.type}: {one_line(error, 200)}")
    if wrong:
        raise Misconfigured(f"source.mapping needs columns that become the contract's; found {'; '.join(wrong)}")
    return pa.table(columns)


def _constant(said: ColumnMapping, kind: pa.DataType | None, rows: int) -> pa.ChunkedArray:
    value = str(said.value) if kind is not None and pa.types.is_string(kind) else said.value
    return pa.chunked_array([pa.repeat(value, rows)])


def converted(theirs: pa.ChunkedArray, kind: pa.DataType | None, said: ColumnMapping, zone: str) -> pa.ChunkedArray:
    """A column as the contract's type; one of the team's own (None) as it is. Raises `ValueError` or Arrow's."""
    if pa.types.is_dictionary(theirs.type):
        theirs = theirs.cast(theirs.type.value_type)
    if said.plus:
        theirs = pc.add(theirs.cast(pa.int64()), said.plus)
    if kind is None:
        return theirs
    if kind == TIME:
        return _times(theirs, said, zone)
    if pa.types.is_string(kind):
        return _words(theirs)
    if pa.types.is_list(kind):
        return _lists(theirs, kind, said.separator)
    return theirs.cast(kind)


def _words(theirs: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(theirs.type) or pa.types.is_timestamp(theirs.type):
        raise ValueError("an id or a word needs to be text or a whole number")
    return theirs.cast(pa.string())


def _lists(theirs: pa.ChunkedArray, kind: pa.DataType, separator: str) -> pa.ChunkedArray:
    """Of a text, what is between its separators, without blanks around it: none where there is no text.

    Of a list, its values as they are.
    """
    if not pa.types.is_string(theirs.type) and not pa.types.is_large_string(theirs.type):
        return theirs.cast(kind)
    if not separator:
        raise ValueError("a list that is a text needs a `separator`")
    texts = theirs.to_pylist()
    parts = [[part.strip() for part in (text or "").split(separator) if part.strip()] for text in texts]
    return pa.chunked_array([pa.array(parts, pa.list_(pa.string()))]).cast(kind)


def _times(theirs: pa.ChunkedArray, said: ColumnMapping, zone: str) -> pa.ChunkedArray:
    if said.unit or (pa.types.is_primitive(theirs.type) and not pa.types.is_temporal(theirs.type)):
        return _since_1970(theirs, said.unit)
    if pa.types.is_string(theirs.type) or pa.types.is_large_string(theirs.type):
        theirs = pc.strptime(theirs, said.format, "us") if said.format else _iso(theirs)
    if pa.types.is_date(theirs.type):
        theirs = theirs.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(theirs.type):
        raise ValueError("a time needs to be a timestamp, a text, or a number with its `unit`")
    if theirs.type.tz is None:
        theirs = pc.assume_timezone(theirs, zone, ambiguous="earliest", nonexistent="latest")
    # Of nanoseconds the microsecond is kept.
    return theirs.cast(TIME, safe=False)


def _since_1970(theirs: pa.ChunkedArray, unit: str | None) -> pa.ChunkedArray:
    if unit is None:
        raise ValueError("a time that is a number needs its `unit`: s, ms, us or ns")
    if pa.types.is_temporal(theirs.type):
        raise ValueError("a `unit` is of a time that is a number")
    if pa.types.is_integer(theirs.type):
        return theirs.cast(pa.int64()).cast(pa.timestamp(unit)).cast(pa.timestamp("us"), safe=False).cast(TIME)
    micros = pc.round(pc.multiply(theirs.cast(pa.float64()), 10**6 / PER_SECOND[unit]))
    return micros.cast(pa.int64()).cast(pa.timestamp("us")).cast(TIME)


def _iso(theirs: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts that all say a zone, or none of which does."""
    try:
        return theirs.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return theirs.cast(TIME)
