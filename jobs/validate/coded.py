"""Text columns by their distinct values: what is asked of a text is asked once of each value, not of each row.

A column of `CODED` holds every value once, none of them null, and a whole number per row. Functions here take such
columns and plain ones alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.lake.tables import STR
from jobs.validate.hashes import of_texts

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Column: TypeAlias = pa.Array | pa.ChunkedArray
CODED = pa.dictionary(pa.int32(), STR)
PLAIN = ((CODED, STR), (pa.list_(CODED), pa.list_(STR)))
"""Types of codes and those of the texts they stand for."""


@dataclass(frozen=True)
class Codes:
    """Equal texts of n have equal codes."""

    of: Ints
    """(n,) which of the values; -1 for null."""
    values: pa.Array
    """Distinct, none null; some may be used by no row."""


def codes(column: Column) -> Codes:
    """Those of a text column."""
    whole = in_one_piece(column)
    coded = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    return Codes(np.asarray(pc.fill_null(coded.indices, -1), dtype=np.int64), coded.dictionary)


def in_one_piece(column: Column) -> pa.Array:
    """The column without chunks."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def plain(rows: pa.Table) -> pa.Table:
    """Rows with texts in place of their codes."""
    types = [plain_type(column.type) for column in rows.columns]
    columns = [c if c.type == kind else c.cast(kind) for c, kind in zip(rows.columns, types, strict=True)]
    return pa.table(columns, names=rows.column_names)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """That of the texts, where a type is one of codes."""
    return next((texts for coded, texts in PLAIN if kind == coded), kind)


def whole(parts: Sequence[pa.Table], key: str) -> pa.Table:
    """The rows of one part after the other, columns in one piece, texts and lists of them as codes.

    The parts have the same columns; where their types differ, some hold codes and others texts. `key` names the column
    of which hardly a value comes twice.
    """
    same = all(part.schema.equals(parts[0].schema) for part in parts)
    rows = pa.concat_tables(parts if same else [plain(part) for part in parts])
    try:
        rows = rows.unify_dictionaries()
    except pa.ArrowInvalid:  # a null in a dictionary
        rows = plain(rows)
    rows = rows.combine_chunks()
    for n, field in enumerate(rows.schema):
        if field.type in (STR, CODED):
            column = in_one_piece(rows.column(n))
            rows = rows.set_column(n, field.name, _coded(column) if field.name != key else _coded_key(column))
        elif pa.types.is_list(field.type) and field.type.value_type in (STR, CODED):
            rows = rows.set_column(n, field.name, _coded_lists(in_one_piece(rows.column(n))))
    return rows


def each(texts: pa.Array, ask: Callable[[pa.Array], Bools]) -> Bools:
    """(n,) the answer to each text, given those to plain texts; null has no."""
    if not pa.types.is_dictionary(texts.type):
        return np.asarray(ask(texts) & np.asarray(texts.is_valid()))
    answers = ask(texts.dictionary)
    if answers.all():
        return np.asarray(texts.is_valid())
    return np.asarray(np.append(answers, False)[codes(texts).of])


def row_of(values: Column, among: Column) -> Ints:
    """(n,) the first row of `among` that has each value; -1 where none has, or the value is null."""
    mine = codes(values)
    if pa.types.is_dictionary(among.type):
        theirs = codes(among)
        row = np.append(first_rows(theirs.of, len(theirs.values)), -1)[_index(mine.values, theirs.values)]
    else:
        row = _index(mine.values, among)
    return np.append(row, -1)[mine.of]


def is_among(values: Column, among: Column) -> Bools:
    """(n,) whether any row of `among` has each value; no for null."""
    mine = codes(values)
    others = codes(among).values if pa.types.is_dictionary(among.type) else among
    return np.append(_index(mine.values, others) >= 0, False)[mine.of]


def first_rows(of: Ints, n: int) -> Ints:
    """(n,) the first row that has each code; -1 where none has."""
    first = np.full(n + 1, -1, np.int64)
    first[of[::-1]] = np.arange(len(of) - 1, -1, -1)
    return first[:n]


def ascending(numbers: Ints) -> Ints:
    """(n,) the rows in order of their numbers, equal ones in their own order."""
    if not len(numbers):
        return np.zeros(0, np.int64)
    low, high, bits = int(numbers.min()), int(numbers.max()), len(numbers).bit_length()
    if (high - low).bit_length() + bits > 63:
        return np.argsort(numbers, kind="stable")
    # Number and row as one: whole numbers are sorted six times faster than rows by them.
    both = ((numbers - low) << bits) | np.arange(len(numbers))
    both.sort()
    return both & ((1 << bits) - 1)


def _index(values: pa.Array, among: Column) -> Ints:
    """The first place of each of some distinct values among others; -1 where there is none. The fewer are hashed."""
    if len(among) <= len(values):
        return np.asarray(pc.fill_null(pc.index_in(values, among, skip_nulls=True), -1), np.int64)
    met = np.asarray(pc.fill_null(pc.index_in(among, values, skip_nulls=True), -1), np.int64)
    return first_rows(met, len(values))


def _coded(column: pa.Array) -> pa.Array:
    """`CODED`, whatever the dictionary of a column that has one."""
    if pa.types.is_dictionary(column.type):
        values = column.dictionary
        if not values.null_count and pc.count_distinct(values).as_py() == len(values):
            return column
        column = column.cast(STR)
    return column.dictionary_encode()


def _coded_lists(lists: pa.Array) -> pa.Array:
    values = _coded(lists.values)
    return pa.Array.from_buffers(
        pa.list_(values.type), len(lists), lists.buffers()[:2], lists.null_count, lists.offset, children=[values]
    )


def _coded_key(column: pa.Array) -> pa.Array:
    """`CODED`, by numbers made of the texts: a table of a million texts takes four times as long."""
    if pa.types.is_dictionary(column.type):
        return _coded(column)
    numbers, there = of_texts(column)[0], np.asarray(column.is_valid())
    ordered = np.sort(numbers)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    # Rows whose number another row has too: few; only of those the texts are looked at.
    maybe = np.flatnonzero(_found(numbers, np.unique(twice)) | ~there)
    of = np.arange(len(column))
    some = codes(column.take(pa.array(maybe)))
    of[maybe] = np.append(maybe[first_rows(some.of, len(some.values))], -1)[some.of]
    originals = of == np.arange(len(column))
    place = np.append(np.cumsum(originals) - 1, -1)[of]
    values = column if originals.all() else column.filter(pa.array(originals))
    return pa.DictionaryArray.from_arrays(pa.array(place.astype(np.int32), mask=of < 0), values)


def _found(numbers: NDArray[np.uint64], among: NDArray[np.uint64]) -> Bools:
    """Which numbers are among some few."""
    if not len(among):
        return np.zeros(len(numbers), bool)
    at = np.minimum(np.searchsorted(among, numbers), len(among) - 1)
    return np.asarray(among[at] == numbers)
