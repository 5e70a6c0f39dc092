"""Rows into the online store, some at once: Redis over a pipeline, or Feast's tables in a file of SQLite."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.config.base import without_password
from jobs.errors import NotReady
from jobs.features import wire

KEYS = {
    "user_features": ("user_id",),
    "user_attributes": ("user_id",),
    "item_features": ("item_id",),
    "item_attributes": ("item_id",),
    "encodings": ("encoding", "value"),
    "publications": ("publication_id",),
}
"""Each view's entities."""
AT = "available_at"
WRITE_ROWS = 10_000
"""Of one transaction, or of one pipeline: so many are in memory as bytes."""
WAIT_SECONDS = 30.0
"""For the file of SQLite, which somebody else may be writing."""


@dataclass(frozen=True)
class Target:
    """A slot of an online store; what is told of it suffices on any worker."""

    slot: str
    redis_url: str | None
    """None: SQLite."""
    path: Path
    """SQLite's file."""

    def write(self, view: str, tables: Iterable[pa.Table]) -> int:
        """Write a view's rows over those of the same keys; returns how many. In short transactions.

        Columns are the view's keys, `available_at` and its features. Raises `NotReady` where Redis does not answer.
        """
        put = self._into_sqlite if self.redis_url is None else self._into_redis
        pieces = (table.slice(at, WRITE_ROWS) for table in tables for at in range(0, len(table), WRITE_ROWS))
        with redis_reached(self.redis_url):
            return sum(put(view, pieces))

    def _into_redis(self, view: str, pieces: Iterator[pa.Table]) -> Iterator[int]:
        """A hash an entity, a field a feature; the fields of its other views stay as they are."""
        with closing(client(self.redis_url or "")) as redis:
            for piece in pieces:
                names = [name for name in piece.column_names if name not in (*KEYS[view], AT)]
                columns = [wire.values(piece.column(name)) for name in names]
                fields = [f"_ts:{view}".encode(), *(_hashed(f"{view}:{name}") for name in names)]
                times = [_moment(at) for at in piece.column(AT).cast(pa.int64()).to_pylist()]
                keys = [key + self.slot.encode() for key in wire.keys(piece, KEYS[view])]
                with redis.pipeline(transaction=False) as pipe:
                    for key, *row in zip(keys, times, *columns, strict=True):
                        pipe.execute_command(
                            "HSET", key, *(part for pair in zip(fields, row, strict=True) for part in pair)
                        )
                    pipe.execute()
                yield len(piece)

    def _into_sqlite(self, view: str, pieces: Iterator[pa.Table]) -> Iterator[int]:
        """A row an entity and feature."""
        put = (
            f'INSERT INTO "{self.slot}_{view}" (entity_key, feature_name, value, value_text, event_ts) '
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (entity_key, feature_name) DO UPDATE SET "
            "value = excluded.value, value_text = excluded.value_text, event_ts = excluded.event_ts"
        )
        with closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS)) as connection:
            for piece in pieces:
                keys = wire.keys(piece, KEYS[view])
                times = [at // 1_000_000 for at in piece.column(AT).cast(pa.int64()).to_pylist()]
                with connection:
                    for name in piece.column_names:
                        if name not in (*KEYS[view], AT):
                            column = piece.column(name)
                            rows = zip(keys, wire.values(column), _said(column), times, strict=True)
                            connection.executemany(put, ((k, name, value, said, at) for k, value, said, at in rows))
                yield len(piece)


@contextmanager
def redis_reached(url: str | None) -> Iterator[None]:
    """Turns Redis's own errors into `NotReady`; None: it is not Redis that is asked."""
    if url is None:
        yield
        return
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as error:
        raise NotReady(f"features.online_store needs Redis at {without_password(url)}; found: {error}") from error


def client(url: str) -> Any:
    """A client of Redis at an address as Feast has it: host:port, then settings of the client's after commas."""
    from redis import Redis

    address, *settings = url.split(",")
    host, _, port = address.partition(":")
    return Redis(host=host, port=int(port or 6379), **dict(map(_setting, settings)))


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _hashed(name: str) -> bytes:
    """Feast's name of a feature in Redis."""
    import mmh3

    return int(mmh3.hash(name, signed=False)).to_bytes(4, "little")


def _said(column: pa.ChunkedArray) -> Sequence[str | None]:
    """What Feast keeps beside a value to search by; nothing of lists."""
    if pa.types.is_list(column.type):
        return [None] * len(column)
    return [None if value is None or value != value else str(value) for value in column.to_pylist()]


@cache
def _moment(micros: int) -> bytes:
    return wire.moment(micros)
