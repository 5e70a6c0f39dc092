"""Real databases for tests: a DuckDB file, and PostgreSQL where it answers."""

import os
from pathlib import Path

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import pytest

POSTGRES = os.environ.get("TIDEGATE_TEST_POSTGRES", "postgresql://postgres:postgres@127.0.0.1:5432/postgres")
KINDS = ("duckdb", "postgresql")


def address(kind: str, folder: Path) -> str:
    """Of a database of a kind; skips where it does not answer."""
    if kind == "duckdb":
        return f"duckdb://{folder}/shop.duckdb"
    try:
        adbc_driver_postgresql.dbapi.connect(POSTGRES).close()
    except adbc_driver_manager.Error as error:
        pytest.skip(f"needs PostgreSQL at TIDEGATE_TEST_POSTGRES or 127.0.0.1:5432: {error}")
    return POSTGRES
