"""Real databases for tests: a DuckDB file, PostgreSQL where it answers, emulators where they are installed."""

import atexit
import os
import shutil
import socket
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import pytest

from infra.stack.processes import free_ports
from tests import emulators

POSTGRES = os.environ.get("TIDEGATE_TEST_POSTGRES", "postgresql://postgres:postgres@127.0.0.1:5432/postgres")
REDIS = ("127.0.0.1", 6379)
KINDS = ("duckdb", "postgresql", *emulators.KINDS)


def empty_redis(number: int) -> Any:
    """A client of that database of the local Redis; skips where there is none, or somebody uses it."""
    try:
        socket.create_connection(REDIS, timeout=5).close()  # a busy one is no missing one
    except OSError:
        pytest.skip(f"no Redis at {REDIS[0]}:{REDIS[1]}")
    import redis

    client = redis.Redis(*REDIS, db=number)
    if client.dbsize():
        pytest.skip(f"database {number} of the local Redis is in use")
    return client


def address(kind: str, folder: Path) -> str:
    """Of a database of a kind; skips where it does not answer."""
    if kind == "duckdb":
        return f"duckdb://{folder}/shop.duckdb"
    if kind in emulators.KINDS:
        if not (emulators.SIDE / "ready").exists():
            pytest.skip(f"needs an emulator of {kind}: python -m tests.emulators")
        return _emulated(kind)
    try:
        adbc_driver_postgresql.dbapi.connect(POSTGRES).close()
    except adbc_driver_manager.Error as error:
        pytest.skip(f"needs PostgreSQL at TIDEGATE_TEST_POSTGRES or 127.0.0.1:5432: {error}")
    return POSTGRES


@cache
def _emulated(kind: str) -> str:
    """One of this process, until it ends."""
    if str(emulators.DRIVERS) not in sys.path:
        sys.path.append(str(emulators.DRIVERS))
    folder, stack = Path(tempfile.mkdtemp()), ExitStack()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(stack.close)
    [port] = free_ports(1)
    return stack.enter_context(emulators.running(kind, folder, port))
