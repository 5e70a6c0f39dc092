"""What goes online is written here, and is to the byte what Feast itself writes; of attributes only what is new."""

import sqlite3
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import config
from jobs.asof.clock import available_at
from jobs.features import erased, online, publish
from jobs.features.rows import Parts, attributes, features
from jobs.features.told import ATTRIBUTES
from jobs.lake.tables import ATTRIBUTES as PAIRS
from jobs.lake.tables import LAKE
from tests.bench.bench_endpoint import filled
from tests.jobs.databases import REDIS, empty_redis

REDIS_DB = 12
DAY, USERS = date(2026, 1, 8), 40


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A database of the local Redis that nobody uses, empty afterwards."""
    client = empty_redis(REDIS_DB)
    yield f"{REDIS[0]}:{REDIS[1]},db={REDIS_DB}"
    client.flushdb()


def settings(folder: Path, redis_url: str | None = None) -> Any:
    known = config.load()
    more: dict[str, Any] = {"online": True, "online_path": folder}
    more |= {"online_store": "redis", "redis_url": redis_url} if redis_url else {"online_store": "sqlite"}
    return known.model_copy(update={"features": known.features.model_copy(update=more)})


def tables(at: datetime) -> dict[str, pa.Table]:
    """Few rows with every kind of value there is: none, no number, negative, empty, long, of other alphabets."""
    rng, blank = np.random.default_rng(0), [None] * (USERS - 4)
    users = {
        "user_id": [f"u{n}é" for n in range(USERS)],
        "interests": [[], None, [1.0], [0.1] * 32, *([0.5] * 32 for _ in blank)],
        "last_items": [[], None, ["a"], ["é" * 200, ""], *(["i1", "i2"] for _ in blank)],
        "last_buckets": [[], None, [-1, 3], [300, 100_000], *([1] for _ in blank)],
        "session_buckets": [[0], [], None, [-1], *([1] for _ in blank)],
        "days_since_click": [None, float("nan"), 0.0, -1.5, *blank],
        "outcomes": [[("like", 2.0)], [], None, [("watch", 0.001)], *blank],
    }
    items = {
        "item_id": ["i1", "i2", "i3"],
        "category": [None, "", "é"],
        "interest_bucket": [None, -1, 300],
        "vector": [None, [], [0.5, 1.5]],
        "outcomes": None,
    }
    values = {"encoding": ["category", "query_category"], "value": ["a", "q\x1fa"]}
    found = {"user_features": users, "item_features": items, "encodings": values}
    return {name: filled(LAKE[name].schema, {"available_at": at, **of}, rng) for name, of in found.items()}


def snapshot(clubs: list[str]) -> pa.Table:
    rows = [{"user_id": f"u{n}é", "attributes": [("club", club)]} for n, club in enumerate(clubs)]
    return pa.Table.from_pylist(rows, pa.schema([("user_id", pa.string()), ("attributes", PAIRS)]))


def held(known: Any) -> Any:
    """Every byte of both slots."""
    if known.features.online_store == "redis":
        import redis

        client = redis.Redis(*REDIS, db=REDIS_DB)
        return {key: client.hgetall(key) for key in client.scan_iter(b"*")}
    found = {}
    for slot in online.SLOTS:
        with sqlite3.connect(online.registry_of(known, slot).with_name("online.db")) as connection:
            names = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
            found |= {name: sorted(connection.execute(f'select * from "{name}"'), key=repr) for (name,) in names}
    return found


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_the_bytes_are_those_that_feast_writes(kind: str, request: Any, tmp_path: Path) -> None:
    """Readers are Feast's: a byte that is another one is another feature, or none."""
    url = request.getfixturevalue("redis_url") if kind == "redis" else None
    written = []
    for name in ("feast", "ours"):
        known = settings(tmp_path / name, url)
        at = available_at(DAY, known.features) + timedelta(microseconds=1234)
        for slot in online.SLOTS:
            online._apply(online.store_of(known, slot), known, slot)
        store, target = online.store_of(known, online.SLOTS[0]), publish.target_of(known, online.SLOTS[0])
        told = online.Publication(DAY, at, {"a": "b"}, ["i1"], [("e", "v\x1fw")], ["é"])
        views = {table: features(rows, table) for table, rows in tables(at).items()}
        views |= {
            ATTRIBUTES: attributes(snapshot(["a", "b"]), "user_id", at),
            "publications": publish._marker(told, at),
        }
        for view, rows in views.items():
            if name == "feast":
                store.write_to_online_store(view, rows.to_pandas())
            else:
                assert target.write(view, [rows.slice(0, 1), rows.slice(1)]) == len(rows)
        written.append(held(known))
        if url:
            import redis

            redis.Redis(*REDIS, db=REDIS_DB).flushdb()
    assert written[0] == written[1]
    assert len(written[0]) > 5


def test_of_attributes_only_what_the_slot_does_not_hold_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    """Whoever is another one, or new; all again where a publication broke off, or somebody was forgotten."""
    known, clubs = settings(tmp_path), ["a"] * USERS
    wrote: dict[str, int] = {}
    write = publish._write

    def counted(target: Any, view: str, rows: Any) -> int:
        wrote[view] = write(target, view, rows)
        if view == ATTRIBUTES and breaks:
            raise OSError("no space left on device")
        return wrote[view]

    breaks = False
    monkeypatch.setattr(publish, "_write", counted)

    def published(day: date) -> int:
        wrote.clear()
        publish.publish(known, day, tables(available_at(day, known.features)), snapshot(clubs))
        return wrote.get(ATTRIBUTES, 0)

    first, second, third = (DAY + timedelta(days=n) for n in range(3))
    assert published(first) == published(second) == USERS, "each slot has its own"
    clubs[3] = "b"
    assert published(third) == 1, "what the first day's slot lacks"
    assert published(third) == 0
    clubs.append("new")
    assert published(second) == 2
    breaks, clubs[5] = True, "c"
    with pytest.raises(OSError, match="no space"):
        published(second)
    breaks, clubs[5] = False, "a"
    assert published(second) == USERS + 1, "nobody knows what it holds"
    erased.erase(known, "u3é")
    assert published(second) == USERS + 1
    reader = online.OnlineFeatures(known)
    assert [reader.user(f"u{n}é", second)["attributes"]["club"] for n in (2, 3, 5, USERS)] == ["a", "b", "a", "new"]  # type: ignore[index]


def test_workers_write_what_one_process_writes(tmp_path: Path, redis_url: str) -> None:
    """A part file a task, on Spark."""
    import redis

    files, found = [str(tmp_path / f"part-{n}.parquet") for n in range(3)], []
    for on_spark in (False, True):
        known = settings(tmp_path / str(on_spark), redis_url)
        of = tables(available_at(DAY, known.features))
        for n, file in enumerate(files):
            pq.write_table(of["user_features"].slice(n * 15, 15), file)
        rows = of | {"user_features": Parts("user_features", files)}
        assert publish.publish(known, DAY, rows, snapshot(["a"]), on_spark=on_spark) == USERS + 3 + 2 + 1
        found.append(held(known))
        redis.Redis(*REDIS, db=REDIS_DB).flushdb()
    assert found[0] == found[1]
    assert len([key for key in found[0] if b"user_id" in key]) == USERS
