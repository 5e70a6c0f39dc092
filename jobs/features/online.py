"""The newest feature rows where the endpoint can read them: Feast writes and reads, items are packed in the process.

`publish` writes users, items, encodings, then the publication marker (day, digests, keys), all through Feast's online
store (SQLite under `features.online_path`, or Redis); a reader takes up new items only after the marker names them. A
user whose window has emptied is in no new publication and is read as unknown, exactly what the as-of join sees offline.
Feast 0.67 sends no usage data. Its import takes seconds, so it happens inside functions only.

Not done yet: a registry shared between machines (it is a file under `online_path`), removal of users, feature TTLs.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.config import Config
from jobs.errors import NotReady
from jobs.flow import FEATURES
from jobs.lake.store import midnight
from jobs.lake.tables import INTEREST_BUCKETS, LAKE, TIME
from models.rankers.features import ATTRIBUTE_PREFIX, NO_BUCKET, Encodings

if TYPE_CHECKING:
    from feast import FeatureStore

PROJECT = "tidegate"
NEWEST = "newest"
"""The one key of the publication marker."""
WRITE_ROWS = 10_000
READ_KEYS = 1_000
CHECK_SECONDS = 1.0
"""How old the reader's idea of the newest publication may be."""
USER_NUMBERS, ITEM_NUMBERS = (
    tuple(name for name, column in LAKE[table].columns.items() if column.type == pa.float64())
    for table in ("user_features", "item_features")
)
Columns = dict[str, NDArray[Any]]
_SERVICES: "WeakKeyDictionary[FeatureStore, dict[str, Any]]" = WeakKeyDictionary()
"""The services each store was asked for; definitions are applied when publishing, never under a reader."""


@dataclass(frozen=True)
class Publication:
    """What the marker says: the newest day online, digests of the views written, and the keys of what is packed."""

    day: date
    versions: dict[str, str]
    item_ids: Sequence[str]
    encodings: Sequence[tuple[str, str]]
    """(encoding, value) pairs."""

    @property
    def available_at(self) -> datetime:
        """From when its rows were known."""
        return midnight(self.day + timedelta(days=1))


@dataclass(frozen=True)
class Published:
    """One publication as a reader holds it, whole: everything in it became available at the same midnight."""

    day: date | None
    """None before the first publication."""
    items: Columns
    """Every item, sorted by id: what `decision_columns` takes, and their attributes.

    item_id, category: object; interest_bucket: int64, `NO_BUCKET` without a category; the rest float64, NaN where
    unknown; `attributes.item.<key>`: object, None where an item lacks the key. Do not write into the arrays.
    """
    encodings: Encodings


def publish(
    config: Config,
    day: date,
    rows: Mapping[str, pa.Table],
    users: pa.Table | None = None,
    items: pa.Table | None = None,
) -> int:
    """Put a day's feature tables (`rows`, by name) and the snapshots' attributes online; returns the keys written.

    Writes nothing and returns 0 where a newer day is online already: a backfill must not turn back the endpoint.
    Safe to repeat. Raises `NotReady` where Redis does not answer.
    """
    with _reachable(config):
        store = _store(config)
        _apply(store, config)
        newest = _publication(store)
        if newest is not None and newest.day > day:
            return 0
        views = {table: _of(rows[table], table) for table in FEATURES}
        views |= {f"{k}_attributes": _attributes(t, f"{k}_id", day) for k, t in (("user", users), ("item", items)) if t}
        versions = {view: _digest(table) for view, table in views.items() if view != "user_features"}
        keys = 0
        for view, table in views.items():
            # Attributes hardly ever change, and are half of all keys.
            unchanged = view.endswith("_attributes") and newest and newest.versions.get(view) == versions[view]
            keys += 0 if unchanged else _write(store, view, table)
        _write(store, "publications", _marker(day, versions, views["item_features"], views["encodings"]))
        return keys


class OnlineFeatures:
    """The endpoint's reader: one user by key, all items packed as arrays, both as last published.

    Nothing published yet means `day` None, every user unknown and no items. Each call looks at the marker at most
    every `CHECK_SECONDS`; the call that sees a new one packs the items again (a fraction of a second once a day), so a
    server that must never wait calls `refresh` from a thread of its own.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._store: FeatureStore | None = None
        self._publication: Publication | None = None
        self._published = Published(None, _packed({}, [], []), Encodings.unknown())
        self._checked = float("-inf")

    @property
    def day(self) -> date | None:
        """The feature day of the items held; they became available at the midnight that ends it."""
        self._refresh_if_due()
        return self._published.day

    @property
    def available_at(self) -> datetime | None:
        """From when the items held were known; the endpoint judges their freshness by it."""
        self._refresh_if_due()
        return self._publication.available_at if self._publication else None

    def user(self, user_id: str) -> dict[str, Any] | None:
        """A user's features, or None where neither features nor attributes are known.

        `USER_NUMBERS`: float, NaN where unknown. interests: (INTEREST_BUCKETS,)
        float64, NaN where unknown. last_items: list of ids, newest first; last_buckets, session_buckets: lists of ints.
        attributes: dict of strings.
        available_at: when the features became known, None where there are none.
        """
        self._refresh_if_due()
        if self._store is None:
            return None
        with _reachable(self._config):
            rows = _read(self._store, "ranking", {"user_id": [user_id]})
        if rows["impressions"][0] is None and rows["attributes"][0] is None:
            return None
        known = rows["impressions"][0] is not None
        available_at = datetime.fromtimestamp(rows["impressions__ts"][0], UTC) if known else None
        if available_at is not None and self._publication is not None and available_at < self._publication.available_at:
            # Not among the newest rows: the window has emptied, and the as-of join offline knows nothing either.
            rows = {name: value if name == "attributes" else [None] for name, value in rows.items()}
            available_at = None
        found: dict[str, Any] = {name: _number(rows[name][0]) for name in USER_NUMBERS} | {"available_at": available_at}
        interests = rows["interests"][0]
        found["interests"] = np.array(interests or np.full(INTEREST_BUCKETS, np.nan), dtype=np.float64)
        found |= {name: list(rows[name][0] or []) for name in ("last_items", "last_buckets", "session_buckets")}
        found["attributes"] = json.loads(rows["attributes"][0] or "{}")
        return found

    def published(self) -> Published:
        """The newest publication; the same object until a newer one is taken up."""
        self._refresh_if_due()
        return self._published

    def refresh(self) -> bool:
        """Look at the marker now; True where a new publication was taken up."""
        self._checked = time.monotonic()
        if self._store is None and _registry(self._config).is_file():
            self._store = _store(self._config)
        if self._store is None:
            return False
        with _reachable(self._config):
            newest = _publication(self._store)
            if newest is None or newest == self._publication:
                return False
            rows = _read_all(self._store, "catalogue", {"item_id": newest.item_ids})
            named, values = ([pair[part] for pair in newest.encodings] for part in (0, 1))
            rates = _read_all(self._store, "encodings", {"encoding": named, "value": values})
        items = _packed(rows, list(newest.item_ids), rows.get("attributes", []))
        encodings = _encodings(newest.encodings, rates.get("click_rate", []))
        self._publication, self._published = newest, Published(newest.day, items, encodings)
        return True

    def _refresh_if_due(self) -> None:
        if time.monotonic() - self._checked >= CHECK_SECONDS:
            self.refresh()


# -- Feast ----------------------------------------------------------------------------------------------------------
def import_feast() -> None:
    """Import Feast without letting typeguard parse and compile its sources again: 6 s of CPU instead of 13."""
    import typeguard

    def unguarded(target: Any = None, **_: Any) -> Any:
        return target if target is not None else unguarded

    guarded = typeguard.typechecked
    typeguard.typechecked = unguarded
    try:
        import feast  # noqa: F401
    finally:
        typeguard.typechecked = guarded


def _registry(config: Config) -> Any:
    return config.features.online_path / "registry.db"


def _store(config: Config) -> "FeatureStore":
    """Feast's store as configured; the registry is read once and kept."""
    import_feast()
    from feast import FeatureStore, RepoConfig

    settings = config.features
    settings.online_path.mkdir(parents=True, exist_ok=True)
    online: dict[str, Any] = {"type": "sqlite", "path": str(settings.online_path / "online.db")}
    if settings.online_store == "redis":
        # Without skip_dedup a second, corrected run of the same day would be dropped silently.
        online = {"type": "redis", "connection_string": settings.redis_url, "skip_dedup": True}
    return FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            provider="local",
            registry={"path": str(_registry(config)), "cache_ttl_seconds": 0},
            online_store=online,
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )


def _apply(store: "FeatureStore", config: Config) -> None:
    """Register the definitions where the registry lacks them, or has those of another version."""
    from feast.errors import FeatureServiceNotFoundException

    from feature_repo import definitions

    path = config.features.online_path / "online.db"
    sqlite = config.features.online_store == "sqlite"
    try:
        applied = store.get_feature_service("freshness").tags.get("definitions")
    except FeatureServiceNotFoundException:
        applied = None
    if applied == definitions.version(config.lake.root) and (path.is_file() or not sqlite):
        return
    store.apply(definitions.objects(config.lake.root))
    if sqlite:
        # Without a write-ahead log the endpoint would wait for the whole of a publication.
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()


def _write(store: "FeatureStore", view: str, table: pa.Table) -> int:
    """Write a view's rows in slices, so that no transaction is long; returns how many."""
    for at in range(0, len(table), WRITE_ROWS):
        store.write_to_online_store(view, table.slice(at, WRITE_ROWS).to_pandas())
    return len(table)


def _read(store: "FeatureStore", service: str, keys: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    """A service's features for some keys (by join key), None where one is unknown; `<feature>__ts` in seconds."""
    known = _SERVICES.setdefault(store, {})
    if service not in known:
        # Asking for a service reads the registry anew and drops Feast's own cache: 13 ms a read instead of 0.6.
        known[service] = store.get_feature_service(service)
    response = store.get_online_features(known[service], {key: list(values) for key, values in keys.items()})
    found: dict[str, list[Any]] = response.to_dict(include_event_timestamps=True)
    return found


def _read_all(store: "FeatureStore", service: str, keys: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    """`_read` in blocks; {} for no keys."""
    count = max(map(len, keys.values()))
    found: dict[str, list[Any]] = {}
    for at in range(0, count, READ_KEYS):
        block = _read(store, service, {key: values[at : at + READ_KEYS] for key, values in keys.items()})
        for name, values in block.items():
            found.setdefault(name, []).extend(values)
    return found


def _publication(store: "FeatureStore") -> Publication | None:
    from feast.errors import FeatureServiceNotFoundException

    try:
        row = _read(store, "freshness", {"publication_id": [NEWEST]})
    except FeatureServiceNotFoundException:
        return None
    if row["day"][0] is None:
        return None
    encodings = tuple(zip(row["encodings"][0] or (), row["values"][0] or (), strict=True))
    item_ids = tuple(row["item_ids"][0] or ())
    return Publication(date.fromisoformat(row["day"][0]), json.loads(row["versions"][0]), item_ids, encodings)


@contextmanager
def _reachable(config: Config) -> Iterator[None]:
    """Turns Redis's own errors into `NotReady`."""
    if config.features.online_store != "redis":
        yield
        return
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as error:
        raise NotReady(f"features.online_store needs Redis at {config.features.redis_url}; found: {error}") from error


# -- rows -----------------------------------------------------------------------------------------------------------
def _of(rows: pa.Table, table: str) -> pa.Table:
    """Only the table's own columns (no partition columns)."""
    return rows.select(list(LAKE[table].columns))


def _attributes(snapshot: pa.Table, key: str, day: date) -> pa.Table:
    """Each entity's attributes as a JSON text with sorted keys."""
    texts = [json.dumps(dict(pairs or ()), sort_keys=True) for pairs in snapshot["attributes"].to_pylist()]
    at = pa.repeat(pa.scalar(midnight(day + timedelta(days=1)), TIME), len(snapshot))
    return pa.table({key: snapshot[key], "available_at": at, "attributes": pa.array(texts, pa.string())})


def _marker(day: date, versions: dict[str, str], items: pa.Table, encodings: pa.Table) -> pa.Table:
    row = {
        "publication_id": NEWEST,
        "available_at": midnight(day + timedelta(days=1)),
        "day": day.isoformat(),
        "versions": json.dumps(versions, sort_keys=True),
        "item_ids": sorted(items["item_id"].to_pylist()),
        "encodings": encodings["encoding"].to_pylist(),
        "values": encodings["value"].to_pylist(),
    }
    return pa.Table.from_pylist([row])


def _digest(table: pa.Table) -> str:
    """The same for the same values, whenever they became available."""
    values = table.drop(["available_at"]).to_pandas().to_json(orient="values", double_precision=15)
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _packed(rows: dict[str, list[Any]], item_ids: list[str], attributes: list[str | None]) -> Columns:
    """Feast's answer as arrays."""
    columns: Columns = {"item_id": np.array(item_ids, dtype=object)}
    for name in ITEM_NUMBERS:
        columns[name] = np.array([_number(value) for value in rows.get(name, [])], dtype=np.float64)
    columns["category"] = np.array(rows.get("category", []), dtype=object)
    buckets = [NO_BUCKET if bucket is None else bucket for bucket in rows.get("interest_bucket", [])]
    columns["interest_bucket"] = np.array(buckets, dtype=np.int64)
    maps = [json.loads(text or "{}") for text in attributes]
    for key in sorted({key for pairs in maps for key in pairs}):
        column = [pairs.get(key) for pairs in maps]
        columns[f"{ATTRIBUTE_PREFIX}item.{key}"] = np.array(column, dtype=object)
    return columns


def _encodings(keys: Sequence[tuple[str, str]], rates: Sequence[float]) -> Encodings:
    """Feast's answer as what `decision_columns` takes: one midnight, seen by every row."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for (name, value), rate in zip(keys, rates, strict=True):
        found.setdefault(name, {})[value] = np.array([rate])
    return Encodings(found, np.array([0]))
