"""Part files as the contract has them, whoever wrote them: other Delta writers have text types of their own.

delta-rs, for one, rewrites a file it deletes rows from with columns of `string_view`, which Arrow neither concatenates
with strings nor filters.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.lake.log import blamed
from jobs.lake.tables import LAKE

BATCH_ROWS = 1 << 14
"""Rows decoded together where only some are wanted."""


def read_part(path: Path | str, table: str, columns: Sequence[str], rows: pc.Expression | None = None) -> pa.Table:
    """Columns of a part file in the contract's types; of `rows` alone, where an expression of these columns is given.

    Raises `Refused` naming the file where it is no Parquet, lacks a column, or holds other values than the contract's.
    """
    schema = pa.schema([LAKE[table].schema.field(name) for name in columns])
    try:
        file = pq.ParquetFile(path)
        if rows is None:
            return file.read(columns=list(columns)).select(columns).cast(schema)
        # A dataset's scanner would decode a row group of a million rows whole before it filters.
        batches = file.iter_batches(BATCH_ROWS, columns=list(columns))
        kept = [pa.Table.from_batches([batch]).select(columns).cast(schema).filter(rows) for batch in batches]
        return pa.concat_tables(kept) if kept else schema.empty_table()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise blamed(f"table {table} needs the columns {', '.join(columns)} in part file {path}", error) from error


def scanned(paths: Sequence[Path | str], table: str) -> ds.Dataset:
    """Part files to filter without reading them whole, but for those of other types than the contract's."""
    schema = pa.schema([(field.name, field.type) for field in LAKE[table].schema])
    own = [str(path) for path in paths if _as_the_contract(pq.read_schema(path), schema)]
    foreign = [read_part(path, table, schema.names).cast(schema) for path in paths if str(path) not in set(own)]
    return ds.dataset([ds.dataset(own, schema, format="parquet"), ds.dataset(foreign or schema.empty_table())])


def _as_the_contract(found: pa.Schema, schema: pa.Schema) -> bool:
    return all(found.field(field.name).type == field.type for field in schema if field.name in found.names)
