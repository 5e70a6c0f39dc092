"""DuckDB, PostgreSQL and Snowflake, through the drivers of Arrow Database Connectivity."""

import importlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any
from urllib.parse import parse_qs, urlsplit

import adbc_driver_manager
import adbc_driver_manager.dbapi
import pyarrow as pa

from jobs.errors import one_line
from jobs.gathered import gathered
from jobs.warehouse.base import Database, failed, wide

BUSY = "Could not set lock on file"
"""What DuckDB says where another process has the file."""


DUCKDB = {"memory_limit": "512MB", "threads": "2"}
"""It works in this process: what it sorts beyond that lies on disk. A thread needs some 125 MB."""
AT_ONCE = 1 << 16
"""Rows of a query that are in memory together where they are not wanted all at once; DuckDB gives 2,048."""
LOGIN_SECONDS = 60
"""How long Snowflake's driver tries to log in; its own default is 300, also for an account that does not exist."""


class Adbc(Database):
    """One connection; what it did since the last `do` or `beside` is undone when it ends."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def read(self, query: str) -> pa.Table:
        """See `Database.read`."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return _plain(cursor.fetch_arrow_table())

    def batches(self, query: str) -> Iterator[pa.Table]:
        """See `Database.batches`: `AT_ONCE` rows and a few more."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            reader = cursor.fetch_record_batch()
            given = (pa.Table.from_batches([batch]) for batch in reader)
            for some in gathered(chain([reader.schema.empty_table()], given), AT_ONCE):
                yield _plain(pa.concat_tables(some))

    def do(self, *statements: str) -> None:
        """See `Database.do`."""
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        self._connection.commit()

    @contextmanager
    def beside(self, rows: pa.Table) -> Iterator[str]:
        """See `Database.beside`: a temporary table, which ends with the connection."""
        named = wide(rows).rename_columns([self.own(name).strip(self.MARK) for name in rows.column_names])
        name = self.own(f"incoming_{uuid.uuid4().hex}")
        self.do(f"create temporary table {name} ({self.columns(rows.schema)})")
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(name.strip(self.MARK), named, mode="append", **self._where())
        self._connection.commit()
        yield name
        self.do(f"drop table {name}")

    def in_order(self, rows: Iterable[pa.Table], columns: Sequence[str]) -> Iterator[pa.Table]:
        """See below; of DuckDB, which has rows in the order in which they came."""
        schema = pa.schema([])
        with self._connection.cursor() as cursor:
            for some in rows:
                schema = some.schema
                cursor.adbc_ingest("incoming", some, mode="create_append", **self._where())
        order = ", ".join([*map(self.quoted, columns), "rowid"])
        for some in self.batches(f"select * from incoming order by {order}"):
            yield some.cast(schema)

    def _where(self) -> dict[str, Any]:
        """Words of the driver for a temporary table."""
        return {"temporary": True}


class Snowflake(Adbc):
    """Its names are in capitals; its driver finds a temporary table as it does any other."""

    def own(self, name: str) -> str:
        """See `Database.own`."""
        return self.quoted(name.upper())

    def literal(self, text: str) -> str:
        """See `Database.literal`."""
        return super().literal(text.replace("\\", "\\\\"))

    def _where(self) -> dict[str, Any]:
        return {}


KINDS: dict[str, type[Adbc]] = {"duckdb": Adbc, "postgresql": Adbc, "snowflake": Snowflake}


@contextmanager
def connected(kind: str, address: str, read_only: bool) -> Iterator[Adbc]:
    """See `jobs.warehouse.connected`."""
    try:
        with _connection(kind, address, read_only) as connection:
            yield KINDS[kind](connection)
    except adbc_driver_manager.Error as error:
        found = one_line(error, 400).replace(address, "its address")
        gone = isinstance(error, adbc_driver_manager.OperationalError) or BUSY in found
        raise failed(kind, found, ask_again=gone) from error


def _connection(kind: str, address: str, read_only: bool) -> Any:
    """By the words that the driver has for an address."""
    driver = importlib.import_module(f"adbc_driver_{kind}")
    at = urlsplit(address)
    if kind == "duckdb":
        options = {"path": at.path, "access_mode": "READ_ONLY" if read_only else "READ_WRITE"} if at.path else {}
        spilled = os.path.join(tempfile.gettempdir(), f"tidegate-duckdb-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        return adbc_driver_manager.dbapi.connect(
            driver=driver.driver_path(),
            entrypoint="duckdb_adbc_init",
            db_kwargs={**DUCKDB, "temp_directory": spilled, **options},
        )
    dbapi = importlib.import_module(f"adbc_driver_{kind}.dbapi")
    if kind == "snowflake":
        return dbapi.connect(address.removeprefix("snowflake://"), db_kwargs=_snowflake(at.query))
    return dbapi.connect(address)


def in_order(rows: Iterable[pa.Table], columns: Sequence[str]) -> Iterator[pa.Table]:
    """All rows of some tables of one schema in the order of some columns, of equal ones the first first.

    DuckDB sorts them; some are in memory at once.
    """
    with connected("duckdb", "duckdb:", read_only=False) as database:
        yield from database.in_order(rows, columns)


def _snowflake(query: str) -> dict[str, str]:
    """Options of its driver for an address with this query; an option goes over what the address says."""
    # Of NUMBER, which whole numbers are there too, integers and floats instead of decimals.
    plain = {"adbc.snowflake.sql.client_option.use_high_precision": "false"}
    if "loginTimeout" in parse_qs(query):
        return plain
    return {**plain, "adbc.snowflake.sql.client_option.login_timeout": f"{LOGIN_SECONDS}s"}


def _plain(rows: pa.Table) -> pa.Table:
    """Of a type of the database's own what it is stored as."""
    plain = [
        pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        if isinstance(column.type, pa.BaseExtensionType)
        else column
        for column in rows.columns
    ]
    return pa.table(plain, names=rows.column_names)
