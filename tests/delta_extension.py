"""DuckDB's Delta extension, from the lock: DuckDB would download its own, and a machine without network cannot."""

import importlib.util
from pathlib import Path


def delta_extension() -> Path:
    """The file of the package `duckdb-extension-delta`."""
    found = importlib.util.find_spec("duckdb_extension_delta")
    assert found is not None
    folders = found.submodule_search_locations or []
    return next(path for folder in folders for path in Path(folder).rglob("*.duckdb_extension"))
