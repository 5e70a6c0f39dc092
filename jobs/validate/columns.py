"""Raw columns take the contract's names and types wherever that loses nothing; whatever cannot stays as it was found.

Nothing is refused here: the suites look at the outcome and say what is missing or of the wrong type.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import Refused, one_line
from jobs.lake.tables import ATTRIBUTES, STR, TIME, Table
from models.features import NUMBER
from models.probabilities import at_most_one

TEXT = (pa.string(), pa.large_string(), pa.string_view())
ROW_ATTRIBUTES = "attributes"
ONE_NAME_SPACE = ("impressions",)
"""A request's context holds columns (`device`) and attributes alike: `context_device` could never be served as both."""
SHOWN_NAMES, SHOWN_CHARACTERS = 40, 60


@dataclass(frozen=True)
class Shaped:
    """Rows in contract order, as far as the raw columns allowed; `unknown` are the columns left out.

    `attributes` is there for tables that have it. `ingested_at` may be null: `filled` fills it.
    """

    rows: pa.Table
    unknown: tuple[str, ...]


def shaped(rows: pa.Table, table: Table) -> Shaped:
    """The contract's columns: cast where lossless, absent optional ones null, prefixed extras in `attributes`.

    A required column that is absent stays absent; one that cannot be cast keeps its type. A probability that rounding
    has left a little above 1 is 1. Raises `Refused` when two columns share a name.
    """
    names = rows.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Refused(f"raw {table.name} needs each column once; found {listed(twice)} more than once")
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name, column in table.columns.items():
        if name in names:
            columns[name] = lossless(rows.column(name), column.type)
            if column.probability and columns[name].type == column.type:
                columns[name] = _rounded(columns[name])
        elif column.optional:
            columns[name] = pa.nulls(len(rows), column.type)
    extras = [name for name in names if name not in table.columns]
    folded = [name for name in extras if _is_attribute(table, name, rows.schema.field(name).type)]
    if table.extra_prefix:
        prefix = len(table.extra_prefix)
        keys = {name: name[prefix:] + (NUMBER if _is_number(name, rows.column(name).type) else "") for name in folded}
        columns[ROW_ATTRIBUTES] = attributes({keys[name]: rows.column(name) for name in folded}, len(rows))
    return Shaped(pa.table(columns), tuple(name for name in extras if name not in folded))


def shape(schema: pa.Schema, table: Table, is_empty: Callable[[str], bool]) -> Shaped:
    """`shaped` without rows: what a file's types come to. `is_empty` is asked of columns whose type does not fit.

    It says whether the column `holds_nothing`: then no value is in the way.
    """
    found = shaped(schema.empty_table(), table)
    rows = found.rows
    for name in (name for name in table.columns if name in schema.names):
        kind = schema.field(name).type
        fits = _cast(_plain(pa.chunked_array([], kind)), table.columns[name].type).type == table.columns[name].type
        if not fits and not is_empty(name):
            rows = rows.set_column(rows.column_names.index(name), name, pa.chunked_array([], kind))
    return Shaped(rows, found.unknown)


def listed(names: Sequence[str]) -> str:
    """Columns' names for a sentence, whatever they are: on one line, and not more than can be read."""
    text = ", ".join(one_line(name, SHOWN_CHARACTERS) for name in names[:SHOWN_NAMES])
    return text if len(names) <= SHOWN_NAMES else f"{text} and {len(names) - SHOWN_NAMES} more"


def lossless(column: pa.ChunkedArray, needed: pa.DataType) -> pa.ChunkedArray:
    """`column` as `needed` if every value survives, else as it was.

    Times of any unit become UTC microseconds (without a zone they are taken as UTC), whole numbers int32, any float or
    small integer float64, dictionaries and large strings plain strings; NaN is null. A column without a single value is
    one of nulls, whatever its writer took it for: of an hour in which nobody searched pandas says that `query` is a
    double.
    """
    try:
        plain = _plain(column)
        if plain.type == needed:
            return plain
        return _nothing(plain, needed) if holds_nothing(plain, needed) else _cast(plain, needed)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column


def _rounded(probabilities: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(at_most_one(probabilities.to_numpy()), from_pandas=True)])


def holds_nothing(column: pa.ChunkedArray, needed: pa.DataType) -> bool:
    """Whether there is no value: all are null or NaN or, where lists are needed, lists of nulls."""
    plain = _plain(column)
    if plain.null_count == len(plain):
        return True
    lists = pa.types.is_list(needed) and _is_list(plain.type) and not pa.types.is_nested(plain.type.value_type)
    return bool(lists and (inner := pc.list_flatten(plain)).null_count == len(inner))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values in place of their codes, null in place of NaN."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _nothing(column: pa.ChunkedArray, needed: pa.DataType) -> pa.ChunkedArray:
    """A column that `holds_nothing` as `needed`: its nulls, or its empty lists."""
    if column.null_count < len(column):
        return column.cast(needed)
    return pa.chunked_array([pa.nulls(len(column), needed)])


def _cast(column: pa.ChunkedArray, needed: pa.DataType) -> pa.ChunkedArray:
    """The safe cast where one exists between such types at all, else the column."""
    found = column.type
    if pa.types.is_null(found):
        return column.cast(needed)
    if needed == TIME and pa.types.is_timestamp(found):
        return _in_utc(column).cast(needed)
    number = pa.types.is_integer(found) or pa.types.is_floating(found)
    if number and (pa.types.is_integer(needed) or pa.types.is_floating(needed)):
        return column.cast(needed)
    if needed == STR and found in TEXT:
        return column.cast(needed)
    if pa.types.is_list(needed) and _is_list(found) and _may_be(_value_type(found.value_type), needed.value_type):
        return column.cast(needed)
    return column


def _may_be(found: pa.DataType, needed: pa.DataType) -> bool:
    """Whether values of a list are texts where texts are needed, or numbers where numbers are; nulls are either."""
    if pa.types.is_floating(needed):
        return bool(pa.types.is_floating(found) or pa.types.is_integer(found) or pa.types.is_null(found))
    return found in (*TEXT, pa.null())


def _in_utc(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same instants in UTC; times without a zone are taken as UTC."""
    return times.cast(pa.timestamp(times.type.unit, "UTC"))


def _is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of lists; not of views of them: Arrow's cast of such loses the last list."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_attribute(table: Table, name: str, kind: pa.DataType) -> bool:
    """Whether a column beyond the contract is folded into `attributes`: its values have a text, its key is free."""
    if not table.extra_prefix or not name.startswith(table.extra_prefix):
        return False
    taken = table.columns if table.name in ONE_NAME_SPACE else ()
    return _has_text(_value_type(kind)) and name.removeprefix(table.extra_prefix) not in taken


def _is_number(name: str, kind: pa.DataType) -> bool:
    """Whether an attribute is a number to a ranker: its column's type is one, and its name is not that of an id."""
    plain = _value_type(kind)
    number = pa.types.is_integer(plain) or pa.types.is_floating(plain) or pa.types.is_decimal(plain)
    return bool(number) and not name.endswith("_id")


def _has_text(kind: pa.DataType) -> bool:
    """Whether every value of a type can be written as text: bytes need not be any, and nested values have none."""
    number = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    time = pa.types.is_temporal(kind) and not pa.types.is_interval(kind)
    return number or time or pa.types.is_decimal(kind) or pa.types.is_null(kind) or kind in TEXT


def attributes(columns: dict[str, pa.ChunkedArray], n: int) -> pa.MapArray:
    """n maps of text to text, keys in the order of their names; a null value (NaN is one) has no key."""
    names = sorted(columns)
    if not names or not n:
        return pa.MapArray.from_arrays(np.zeros(n + 1, np.int32), pa.array([], STR), pa.array([], STR)).cast(ATTRIBUTES)
    texts = [_texts(columns[name]) for name in names]
    # Column-major to row-major: row i holds names[0], names[1], …
    order = np.arange(n * len(names)).reshape(len(names), n).T.ravel()
    values = pa.concat_arrays(texts).take(pa.array(order))
    keys = pa.array(names, STR).take(pa.array(np.tile(np.arange(len(names)), n)))
    present = np.asarray(values.is_valid())
    offsets = np.concatenate([[0], np.cumsum(present.reshape(n, len(names)).sum(axis=1))]).astype(np.int32)
    mask = pa.array(present)
    return pa.MapArray.from_arrays(offsets, keys.filter(mask), values.filter(mask)).cast(ATTRIBUTES)


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """Values as text; an instant has one text, whatever the zone its writer was in."""
    plain = _plain(column)
    if pa.types.is_timestamp(plain.type) and plain.type.tz:
        plain = _in_utc(plain)
    return plain.cast(STR).combine_chunks()


def filled(rows: pa.Table) -> pa.Table:
    """`ingested_at` where it is unknown is the event's own time: what happened was known at once."""
    if "ingested_at" not in rows.column_names:
        return rows
    known = pc.coalesce(rows.column("ingested_at"), rows.column("event_time"))
    return rows.set_column(rows.column_names.index("ingested_at"), "ingested_at", known)
