"""A database that a team has its tables in: asked in SQL, rows as Arrow, through ADBC.

An address is a URL: `duckdb:` (in memory; it reads Parquet, CSV and JSON files), `duckdb:///path/to.duckdb`,
`postgresql://…`, `snowflake://…`, `bigquery://project/dataset`. The drivers of DuckDB and PostgreSQL are in the lock;
those of the others are installed where they are needed, and have only been connected to by their documentation. An
address may hold a password: no message repeats it.
"""

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import adbc_driver_manager
import adbc_driver_manager.dbapi
import pyarrow as pa
from pydantic import SecretStr

from jobs.errors import Misconfigured, NotReady, one_line

DRIVERS = {name: f"adbc_driver_{name}" for name in ("duckdb", "postgresql", "snowflake", "bigquery")}
BUSY = "Could not set lock on file"
"""What DuckDB says where another process has the file."""
DUCKDB = {"memory_limit": "512MB", "threads": "2"}
"""It works in this process: what it sorts beyond that lies on disk. A thread needs some 125 MB."""
AT_ONCE = 1 << 16
"""Rows of a query that are in memory together where they are not wanted all at once; DuckDB gives 2,048."""


@contextmanager
def connected(url: SecretStr, read_only: bool = True) -> Iterator[Any]:
    """A connection (PEP 249), whose work is undone where it was not committed.

    Raises `Misconfigured` for an address without a driver and for what the database refuses, `NotReady` where it does
    not answer or another process writes to it.
    """
    address = url.get_secret_value()
    scheme = urlsplit(address).scheme
    if scheme not in DRIVERS:
        raise Misconfigured(f"a database's address needs to begin with one of {', '.join(DRIVERS)}; found {scheme!r}")
    try:
        with _connection(scheme, address, read_only) as connection:
            yield connection
    except ModuleNotFoundError as error:
        package = DRIVERS[scheme].replace("_", "-")
        raise Misconfigured(f"{scheme} needs the package {package}; found none: pip install {package}") from error
    except adbc_driver_manager.Error as error:
        found = one_line(error, 400).replace(address, "its address")
        if isinstance(error, adbc_driver_manager.OperationalError) or BUSY in found:
            raise NotReady(f"{scheme} needs to answer; found: {found}") from error
        raise Misconfigured(f"{scheme} needs a query that it can answer; found: {found}") from error


def _connection(scheme: str, address: str, read_only: bool) -> Any:
    """By the words that the driver has for an address."""
    driver = importlib.import_module(DRIVERS[scheme])
    at = urlsplit(address)
    if scheme == "duckdb":
        options = {"path": at.path, "access_mode": "READ_ONLY" if read_only else "READ_WRITE"} if at.path else {}
        spilled = os.path.join(tempfile.gettempdir(), f"tidegate-duckdb-{os.getpid()}")
        return adbc_driver_manager.dbapi.connect(
            driver=driver.driver_path(),
            entrypoint="duckdb_adbc_init",
            db_kwargs={**DUCKDB, "temp_directory": spilled, **options},
        )
    dbapi = importlib.import_module(f"{DRIVERS[scheme]}.dbapi")
    if scheme == "bigquery":
        names = driver.DatabaseOptions
        return dbapi.connect({names.PROJECT_ID.value: at.netloc, names.DATASET_ID.value: at.path.strip("/")})
    return dbapi.connect(address.removeprefix("snowflake://"))


def read(connection: Any, query: str) -> pa.Table:
    """All rows of a query, in plain Arrow types: of a type of the database's own, what it is stored as."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return _plain(cursor.fetch_arrow_table())


def batches(connection: Any, query: str) -> Iterator[pa.Table]:
    """As `read`, `AT_ONCE` rows and a few more at once; of a query without rows one table."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
        held = [reader.schema.empty_table()]
        empty = True
        for batch in reader:
            held.append(pa.Table.from_batches([batch]))
            if sum(map(len, held)) >= AT_ONCE:
                yield _plain(pa.concat_tables(held))
                held, empty = [], False
        if held and (empty or sum(map(len, held))):
            yield _plain(pa.concat_tables(held))


def _plain(rows: pa.Table) -> pa.Table:
    plain = [
        pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        if isinstance(column.type, pa.BaseExtensionType)
        else column
        for column in rows.columns
    ]
    return pa.table(plain, names=rows.column_names)


def append(connection: Any, table: str, rows: pa.Table) -> None:
    """Put rows into a table, which is made where there is none; part of the transaction."""
    with connection.cursor() as cursor:
        cursor.adbc_ingest(table, rows, mode="create_append")


def do(connection: Any, statement: str) -> None:
    """A statement without rows; part of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"
