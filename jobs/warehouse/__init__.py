"""A database that a team has its tables in: asked in SQL, rows as Arrow.

An address is a URL: `duckdb:` (in memory; it reads Parquet, CSV and JSON files), `duckdb:///path/to.duckdb`,
`postgresql://…`, `snowflake://…`, `bigquery://project/dataset`. What DuckDB and PostgreSQL need is in the lock, that of
the others (`PACKAGES`) is installed where they are asked. An address may hold a password: no message repeats it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from pydantic import SecretStr

from jobs.errors import Misconfigured
from jobs.warehouse import adbc, bigquery
from jobs.warehouse.adbc import in_order as in_order
from jobs.warehouse.base import Database as Database
from jobs.warehouse.base import literal as literal

PACKAGES = {**{kind: f"adbc-driver-{kind}" for kind in adbc.KINDS}, "bigquery": "google-cloud-bigquery"}


@contextmanager
def connected(url: SecretStr, read_only: bool = True) -> Iterator[Database]:
    """The database at an address; what was begun in it and not done is undone.

    Raises `Misconfigured` for an address without a driver and for what the database refuses, `NotReady` where it does
    not answer or another process writes to it.
    """
    address = url.get_secret_value()
    kind = urlsplit(address).scheme
    if kind not in PACKAGES:
        raise Misconfigured(f"a database's address needs to begin with one of {', '.join(PACKAGES)}; found {kind!r}")
    try:
        with (
            bigquery.connected(address) if kind == "bigquery" else adbc.connected(kind, address, read_only) as database
        ):
            yield database
    except ModuleNotFoundError as error:
        package = PACKAGES[kind]
        raise Misconfigured(
            f"{kind} needs the package {package}; found no {error.name}: pip install {package}"
        ) from error
