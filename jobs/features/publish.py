"""A feature day goes online: users, items, encodings and last the marker that names them, as Feast's stores have it.

`jobs.features.wire` says how rows are written. Users are never in memory together: their rows are read and written some
at once, in this process or, of Redis, on Spark's workers; what is of items is in memory here as in every endpoint.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.clock import published_at, refuse_early
from jobs.config import Config, SparkSettings
from jobs.features import online
from jobs.features.online import NEWEST, SLOTS, Publication
from jobs.features.rows import Parts, Rows, attributes, digest, features, read, some, times
from jobs.features.told import ATTRIBUTES, gathered, other
from jobs.features.writing import Target
from jobs.flow import FEATURES
from jobs.lake.tables import LAKE, TIME

if TYPE_CHECKING:
    from feast import FeatureStore

MARKER = pa.schema(
    [
        *((name, pa.string()) for name in ("publication_id", "day", "versions")),
        *((name, pa.list_(pa.string())) for name in ("item_ids", "removed", "unlisted", "encodings", "values")),
        ("available_at", TIME),
    ]
)


def publish(
    config: Config,
    day: date,
    rows: Mapping[str, Rows],
    users: Rows | None = None,
    items: pa.Table | None = None,
    on_spark: bool = False,
) -> int:
    """Put a day's feature tables (`rows`, by name) and what the snapshots say besides online; returns the keys written.

    `users`: their attributes; `items`: likewise, and which of them are removed. Users' rows are written some at once,
    of part files on Spark's workers where that is asked for and the store is one that they reach; what is of items is
    in memory, as in every endpoint. Of users' attributes only those are written that the slot does not hold already.

    They take the place of the older of the two days online. Writes nothing and returns 0 where both are newer: a
    backfill must not turn back the endpoint. Safe to repeat. Raises `NotReady` where Redis does not answer, `Refused`
    for rows that claim to be known earlier than promised.
    """
    with online.reached(config):
        stores = [online.store_of(config, slot) for slot in SLOTS]
        for store, slot in zip(stores, SLOTS, strict=True):
            online._apply(store, config, slot)
        number, newest = _place(stores, day)
        if number is None:
            return 0
        available = {table: times(rows[table]) for table in FEATURES}
        refuse_early(day, available, config.features)
        at = published_at(day, available, config.features)
        of_items = {table: _whole(rows[table], table) for table in FEATURES if table != "user_features"}
        if items:
            of_items["item_attributes"] = attributes(items, "item_id", at)
        versions = {view: digest(view, table) for view, table in of_items.items()}
        target, workers = target_of(config, SLOTS[number]), config.spark if on_spark else None
        if newest is not None and newest.day != day:
            _write(target, "publications", [_marker(None, at)])
        keys = _write_users(target, rows["user_features"], workers)
        for view, table in of_items.items():
            # Attributes hardly ever change, and are half of all keys.
            unchanged = view == "item_attributes" and newest and newest.versions.get(view) == versions[view]
            keys += 0 if unchanged else _write(target, view, [table])
        if users is not None:
            folder = online.registry_of(config, target.slot).parent
            told = _write_attributes(target, folder, users, at, newest.versions.get(ATTRIBUTES) if newest else None)
            keys, versions[ATTRIBUTES] = keys + told[0], told[1]
        item_ids = sorted(of_items["item_features"]["item_id"].to_pylist())
        pairs = list(zip(*(of_items["encodings"][name].to_pylist() for name in ("encoding", "value")), strict=True))
        lists = (item_ids, pairs, _removed(items), _unlisted(of_items["item_features"], items))
        versions["publications"] = hashlib.sha256(json.dumps(lists).encode()).hexdigest()[:16]
        publication = Publication(day, at, versions, *lists)
        _write(target, "publications", [_marker(publication, at)])
        return keys


def _whole(rows: Rows, table: str) -> pa.Table:
    """All rows of a feature table, as they go online."""
    if isinstance(rows, Parts):
        none = LAKE[table].schema.empty_table().select(read(table))
        rows = pa.concat_tables([none, *some(rows, read(table))])
    return features(rows, table)


def _write_users(target: Target, rows: Rows, workers: SparkSettings | None) -> int:
    """All users of a day: the rate of all, which smoothes each one's own, makes nearly every row another every day."""
    table = "user_features"
    if workers is not None and isinstance(rows, Parts) and target.redis_url is not None:
        from jobs.features.spark import written

        return written(workers, target, rows)
    return _write(target, table, (features(part, table) for part in some(rows, read(table))))


def _write_attributes(target: Target, folder: Path, users: Rows, at: datetime, newest: str | None) -> tuple[int, str]:
    """Of a snapshot what the slot does not hold; returns how many rows, and the digest of all.

    `newest`: the digest of what its publication says that it holds.
    """

    def said() -> Iterator[pa.Table]:
        return (attributes(part, "user_id", at) for part in some(users, ["user_id", "attributes"]))

    draft = folder / f"{ATTRIBUTES}.draft"
    digested = gathered(draft, ((t["user_id"].combine_chunks(), t["attributes"].combine_chunks()) for t in said()))
    held, mine = folder / f"{ATTRIBUTES}.{newest}", folder / f"{ATTRIBUTES}.{digested}"
    whole = newest is None or not held.is_file()
    if not whole and held == mine:
        draft.unlink()
        return 0, digested
    others = said() if whole else other(held, said(), "user_id", "attributes")
    for file in folder.glob(f"{ATTRIBUTES}.*"):
        # Mapped ones stay readable. From the first row on, until the last, nobody knows what the slot holds.
        if file != draft:
            file.unlink()
    written = _write(target, ATTRIBUTES, others)
    draft.replace(mine)
    return written, digested


def _place(stores: "Sequence[FeatureStore]", day: date) -> tuple[int | None, Publication | None]:
    """The slot for `day`, and what that holds: its own, else a free one, else the older day's unless that is newer."""
    held = [(number, online.publication_of(store)) for number, store in enumerate(stores)]
    for number, publication in held:
        if publication is not None and publication.day == day:
            return number, publication
    number, publication = min(held, key=lambda pair: date.min if pair[1] is None else pair[1].day)
    return (None, None) if publication is not None and publication.day > day else (number, publication)


def target_of(config: Config, slot: str) -> Target:
    """Where a slot's rows are written to."""
    url = config.features.redis_url if config.features.online_store == "redis" else None
    return Target(slot, url, online.registry_of(config, slot).with_name("online.db"))


def _write(target: Target, view: str, tables: Iterable[pa.Table]) -> int:
    return target.write(view, tables)


def _removed(items: pa.Table | None) -> list[str]:
    """The ids of a snapshot's removed items."""
    if items is None:
        return []
    return sorted(items.filter(pc.fill_null(items["removed"], False))["item_id"].to_pylist())


def _unlisted(shown: pa.Table, items: pa.Table | None) -> list[str]:
    """The ids of item features that a catalogue, where there is one, does not list."""
    if items is None or not len(items):
        return []
    listed = pc.is_in(shown["item_id"], items["item_id"].combine_chunks())
    return sorted(shown.filter(pc.invert(listed))["item_id"].to_pylist())


def _marker(publication: Publication | None, at: datetime) -> pa.Table:
    """One row; of no publication, that there is none."""
    row = {
        "publication_id": NEWEST,
        "available_at": at,
        "day": publication.day.isoformat() if publication else "",
        "versions": json.dumps(publication.versions if publication else {}, sort_keys=True),
        "item_ids": publication.item_ids if publication else [],
        "removed": publication.removed if publication else [],
        "unlisted": publication.unlisted if publication else [],
        "encodings": [name for name, _ in publication.encodings] if publication else [],
        "values": [value for _, value in publication.encodings] if publication else [],
    }
    return pa.Table.from_pylist([row], MARKER)
