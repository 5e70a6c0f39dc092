"""Part files as the contract has them, whoever wrote them: other Delta writers have text types of their own.

delta-rs, for one, rewrites a file it deletes rows from with columns of `string_view`, which Arrow neither concatenates
with strings nor filters.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from jobs.lake.log import blamed
from jobs.lake.tables import LAKE
from jobs.places import Place, dataset, footer, parquet

if TYPE_CHECKING:  # pyarrow.dataset loads pandas, which takes longer than most days
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

R = TypeVar("R")
BATCH_ROWS = 1 << 14
"""Rows decoded together where they are not wanted all at once."""


def read_part(path: Place | str, table: str, columns: Sequence[str], rows: pc.Expression | None = None) -> pa.Table:
    """Columns of a part file in the contract's types; of `rows` alone, where an expression of these columns is given:
    row groups whose statistics say that they hold none of them are not decoded.

    Raises `Refused` naming the file where it is no Parquet, lacks a column, or holds other values than the contract's.
    """
    schema = pa.schema([LAKE[table].schema.field(name) for name in columns])
    try:
        file = parquet(path)
        if rows is None:
            return file.read(columns=list(columns)).select(columns).cast(schema)
        groups = _groups(file, path, schema, rows)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _blamed(table, columns, path, error) from error
    kept = [batch.filter(rows) for batch in batches(path, table, columns, groups)]
    return pa.concat_tables(kept) if kept else schema.empty_table()


def _groups(file: "pq.ParquetFile", path: Place | str, schema: pa.Schema, rows: pc.Expression) -> list[int] | None:
    """The row groups that may hold some of `rows`; None: all, also where the types are not the contract's."""
    if file.num_row_groups < 2 or not _as_the_contract(file.schema_arrow, schema):
        return None
    [fragment] = dataset([str(path)], schema).get_fragments()
    return [group.id for group in fragment.subset(filter=rows).row_groups]


def batches(
    path: Place | str, table: str, columns: Sequence[str], groups: list[int] | None = None
) -> Iterator[pa.Table]:
    """The rows of `read_part` in order, `BATCH_ROWS` at once, and so much memory; raises as that does. Of `groups`
    alone, where they are given.

    A dataset's scanner would decode a row group of a million rows whole before it filters.
    """
    schema = pa.schema([LAKE[table].schema.field(name) for name in columns])
    try:
        with parquet(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(columns)):
                yield pa.Table.from_batches([batch]).select(columns).cast(schema)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _blamed(table, columns, path, error) from error


def told(function: Callable[[Iterator[pa.Table]], R], table: str, columns: Sequence[str], path: Place | str) -> R:
    """What a function tells of a part file's rows, which come as those of `batches`."""
    return function(batches(path, table, columns))


def whole(table: str, columns: Sequence[str], some: Iterable[pa.Table]) -> pa.Table:
    """These columns of a table's rows as one table, of whatever parts there are."""
    return pa.concat_tables([LAKE[table].schema.empty_table().select(columns), *some])


def in_one(some: Iterable[pa.Table]) -> list[pa.Table]:
    """One table of them, or none, with no more memory than its rows: of a part of a larger one all would be sent."""
    found = list(some)
    return [pa.concat_tables(found).combine_chunks()] if found else []


def _blamed(table: str, columns: Sequence[str], path: Place | str, error: Exception) -> Exception:
    return blamed(f"table {table} needs the columns {', '.join(columns)} in part file {path}", error)


def scanned(paths: Sequence[Place | str], table: str) -> "ds.Dataset":
    """Part files to filter without reading them whole, but for those of other types than the contract's."""
    import pyarrow.dataset as ds

    schema = pa.schema([(field.name, field.type) for field in LAKE[table].schema])
    own = [str(path) for path in paths if _as_the_contract(footer(path).schema.to_arrow_schema(), schema)]
    foreign = [read_part(path, table, schema.names).cast(schema) for path in paths if str(path) not in set(own)]
    return ds.dataset([dataset(own, schema), ds.dataset(foreign or schema.empty_table())])


def _as_the_contract(found: pa.Schema, schema: pa.Schema) -> bool:
    return all(found.field(field.name).type == field.type for field in schema if field.name in found.names)
