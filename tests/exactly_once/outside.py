"""Reading the lake as others do: DuckDB and Polars through the Delta log, Spark and pyarrow from the files it names."""

from collections.abc import Callable, Iterable
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.lake import log
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from tests.delta_extension import delta_extension

Rows = list[dict[str, Any]]


def by_duckdb(lake: Lake, table: str, version: int | None = None) -> tuple[Rows, dict[str, str]]:
    """Rows, and DuckDB's own names of the types."""
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        connection.load_extension(str(delta_extension()))
        connection.execute("SET TimeZone = 'UTC'")
        at = "" if version is None else f", version := {version}"
        relation = connection.sql(f"SELECT * FROM delta_scan('{lake.root / table}'{at})")
        types = {
            name: str(type_).replace('"', "") for name, type_ in zip(relation.columns, relation.types, strict=True)
        }
        return plain(relation.to_arrow_table().to_pylist()), types


def by_polars(lake: Lake, table: str, version: int | None = None) -> tuple[Rows, dict[str, Any]]:
    """Rows, and Polars' types; on S3 by the variables that the lake finds it by."""
    where = log.options(lake.root)
    frame = polars.scan_delta(str(lake.root / table), version=version, storage_options=where).collect()
    return plain(frame.to_arrow().to_pylist()), dict(frame.schema)


def by_pyarrow(lake: Lake, table: str) -> Rows:
    """The data columns of the files the log names."""
    schema = LAKE[table].schema
    return plain(ds.dataset([path for path, _ in lake.files(table)], schema=schema).to_table().to_pylist())


def published(lake: Lake, table: str, version: int | None = None) -> Rows:
    """What the lake's own reader says."""
    return plain(lake.read(table, version=version).to_pylist())


def plain(rows: Iterable[dict[str, Any]]) -> Rows:
    """Rows in an order of their own; a map is a dict whichever way its engine writes one."""
    found = [{name: _plain(value) for name, value in sorted(row.items())} for row in rows]
    return sorted(found, key=repr)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        if value and isinstance(value[0], tuple):
            return dict(value)
        if value and isinstance(value[0], dict) and set(value[0]) == {"key", "value"}:
            return {pair["key"]: pair["value"] for pair in value}
        return value or "empty"  # an empty map is an empty list to Polars
    return value


NAMES: dict[pa.DataType, tuple[str, Any]] = {
    pa.string(): ("VARCHAR", polars.String()),
    pa.timestamp("us", tz="UTC"): ("TIMESTAMP WITH TIME ZONE", polars.Datetime("us", "UTC")),
    pa.float64(): ("DOUBLE", polars.Float64()),
    pa.float32(): ("FLOAT", polars.Float32()),
    pa.int32(): ("INTEGER", polars.Int32()),
    pa.int64(): ("BIGINT", polars.Int64()),
    pa.bool_(): ("BOOLEAN", polars.Boolean()),
    pa.binary(): ("BLOB", polars.Binary()),
    pa.map_(pa.string(), pa.string()): ("MAP(VARCHAR, VARCHAR)", polars.Map(polars.String(), polars.String())),
    pa.map_(pa.string(), pa.float64()): ("MAP(VARCHAR, DOUBLE)", polars.Map(polars.String(), polars.Float64())),
}
"""What DuckDB and Polars call a type; nested types are made of these."""


def in_duckdb(type_: pa.DataType) -> str:
    """DuckDB's name of a type."""
    if type_ in NAMES:
        return NAMES[type_][0]
    if pa.types.is_struct(type_):
        return f"STRUCT({', '.join(f'{field.name} {in_duckdb(field.type)}' for field in type_)})"
    return f"{in_duckdb(type_.value_type)}[]"


def in_polars(type_: pa.DataType) -> Any:
    """Polars' type for a type."""
    if type_ in NAMES:
        return NAMES[type_][1]
    if pa.types.is_struct(type_):
        return polars.Struct({field.name: in_polars(field.type) for field in type_})
    return polars.List(in_polars(type_.value_type))


def types(table: str, name_of: Callable[[pa.DataType], Any]) -> dict[str, Any]:
    """Column to type as an engine names it, partition columns included."""
    found = {name: name_of(column.type) for name, column in LAKE[table].columns.items()}
    return found | dict.fromkeys(LAKE[table].partition, name_of(pa.string()))
