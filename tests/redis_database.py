"""A database of the local Redis, lent to one test of one worker, and found empty by whoever comes next."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jobs.features.online import SLOTS

REDIS = ("127.0.0.1", 6379)
FIRST_DB, LAST_DB = 8, 15
"""Below them are those that people use by hand; Redis has sixteen."""


def client(url: str) -> Any:
    """Of the database that a URL as Feast writes it names."""
    import redis

    return redis.Redis(*REDIS, db=int(url.rpartition("=")[2]))


@contextmanager
def lent() -> Iterator[str]:
    """Its URL as Feast writes it. Each worker has a database of its own, which is emptied; others' stay as they are.

    One that holds anything is somebody's: the test is skipped. All that was written names the slot it is of.
    """
    try:
        socket.create_connection(REDIS, timeout=5).close()
    except OSError:
        pytest.skip(f"no Redis at {REDIS[0]}:{REDIS[1]}")
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    number = FIRST_DB + worker % (LAST_DB - FIRST_DB + 1)
    url = f"{REDIS[0]}:{REDIS[1]},db={number}"
    database = client(url)
    if database.dbsize():
        pytest.skip(f"database {number} of the local Redis is in use")
    yield url
    strange = [key for key in database.scan_iter() if not key.endswith(tuple(slot.encode() for slot in SLOTS))]
    database.flushdb()
    assert not strange
