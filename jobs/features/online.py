"""The two newest feature days where the endpoint reads them: Feast writes and reads, items are packed in the process.

Two, because a day counts as known from its `available_at` only (`jobs.asof.clock`) and may be published before: until
then requests see the day before it, whole. Each is kept in a slot of its own, a Feast project; a new day replaces the
older one. `jobs.features.publish` withdraws that slot's marker, writes users, items, encodings, then the marker of the
new day (day, digests, keys); a reader takes up items only after the marker names them. A user whose window has emptied
is in no new publication and is read as unknown, exactly what the as-of join sees offline. Feast 0.67 sends no usage
data. Its import takes seconds, so it happens inside functions only.

Not done yet: a registry shared between machines (it is a file under `online_path`), removal of users, feature TTLs.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from jobs.config import Config
from jobs.features.read import ONLINE
from jobs.features.writing import redis_reached
from models.features import OUTCOMES, Feature
from models.rankers.features import ATTRIBUTE_PREFIX, COUNT_PREFIX, Encodings, packed, steps

if TYPE_CHECKING:
    from feast import FeatureStore

KEYS = 3
"""How Feast writes the keys of entities."""
SLOTS = ("tidegate_a", "tidegate_b")
"""Feast's projects: two feature days that share no row."""
NEWEST = "newest"
"""The one key of a slot's publication marker."""
ALWAYS = datetime.min.replace(tzinfo=UTC)
READ_KEYS = 1_000
READ_SECONDS = 1.0
"""The longest that the endpoint waits for Redis; its requests have less, and popularity answers them."""
CHECK_SECONDS = 1.0
"""How old the reader's idea of the newest publication may be."""
Columns = dict[str, NDArray[Any]]
Row = tuple[datetime | None, dict[str, Any] | None]
"""The moment and the protobufs of a view's row; None and None where there is none."""
USER_VIEWS = ("user_features", "user_attributes")
_SERVICES: "WeakKeyDictionary[FeatureStore, dict[str, Any]]" = WeakKeyDictionary()
"""The services each store was asked for; definitions are applied when publishing, never under a reader."""
_VIEWS: "WeakKeyDictionary[FeatureStore, dict[str, Any]]" = WeakKeyDictionary()
"""The views each store was asked for, likewise."""


@dataclass(frozen=True)
class Publication:
    """What a slot's marker says: the day it holds, digests of the views written, and the keys of what is packed."""

    day: date
    available_at: datetime
    """From when its rows count as known."""
    versions: dict[str, str]
    item_ids: Sequence[str]
    encodings: Sequence[tuple[str, str]]
    """(encoding, value) pairs."""
    removed: Sequence[str] = ()
    """Items that are deleted or blocked, sorted."""
    unlisted: Sequence[str] = ()
    """Items that were shown though the catalogue does not list them, sorted; none where there is no catalogue."""


@dataclass(frozen=True)
class Published:
    """One publication as a reader holds it, whole: everything in it becomes available at the same moment."""

    day: date | None
    """None for what is known before the first publication: nothing."""
    items: Columns
    """Every item, sorted by id: what `decision_columns` takes, and their attributes.

    item_id: object; by the name of each declared feature: numbers float64, NaN where unknown; words object, None where
    unknown; buckets int64, `NO_BUCKET` where unknown; vectors float64, given ones float32, lists object or int8 as
    `decision_columns` takes them; `attributes.item.<key>`: object, None where an item lacks the key. Do not write into
    the arrays.
    """
    encodings: Encodings
    available_at: datetime = ALWAYS
    """What is asked before it must not be answered with this."""
    removed: frozenset[str] = frozenset()
    """Items that must not be offered, whenever it is asked: of all publications the newest one's count."""
    unlisted: frozenset[str] = frozenset()
    """Items that are known and may be ranked where a request brings them, and are never offered."""


def online_days(config: Config) -> set[date]:
    """The feature days that the endpoint can read; raises `NotReady` where Redis does not answer."""
    with reached(config):
        slots = [slot for slot in SLOTS if registry_of(config, slot).is_file()]
        held = [publication_of(store_of(config, slot)) for slot in slots]
    return {publication.day for publication in held if publication is not None}


class OnlineFeatures:
    """The endpoint's reader: users by key, all items packed as arrays, both as last published for each day online.

    Nothing published yet means no `published` and every user unknown. Each call looks at the markers at most every
    `CHECK_SECONDS`; the call that sees a new one packs the items again (a fraction of a second once a day), so a
    server that must never wait calls `refresh` from a thread of its own. Several threads may call: one of them packs,
    the others go on with what was there.
    """

    def __init__(self, config: Config) -> None:
        self._slots = [_Slot(config, name) for name in SLOTS]
        self._published: tuple[Published, ...] = ()
        self._checked = float("-inf")
        self._refreshing = threading.Lock()

    def user(self, user_id: str, day: date) -> dict[str, Any] | None:
        """A user's features of a day online, or None where neither features nor attributes are known of it.

        By the name of each declared feature: a number as float, NaN where unknown; a word or bucket, None where
        unknown; a vector (width,) float64, NaN where unknown; a list of ids or ints, newest first.
        outcomes: dict of numbers, None where unknown.
        attributes: dict of strings, with the words of these numbers (`outcomes.<name>`).
        available_at: from when the features count as known, None where there are none.
        """
        self._refresh_if_due()
        found = (slot.user(user_id, day) for slot in self._slots)
        return next((user for user in found if user is not None), None)

    def published(self) -> tuple[Published, ...]:
        """The days online, newest first; the same objects until a slot takes up another publication."""
        self._refresh_if_due()
        return self._published

    def refresh(self) -> bool:
        """Look at the markers now; True where a publication was taken up or withdrawn."""
        with self._refreshing:
            return self._refresh()

    def _refresh(self) -> bool:
        self._checked = time.monotonic()
        for slot in self._slots:
            slot.refresh()
        held = [slot.held[1] for slot in self._slots if slot.held is not None]
        held.sort(key=lambda published: published.available_at, reverse=True)
        if [*map(id, held)] == [*map(id, self._published)]:
            return False
        self._published = tuple(held)
        return True

    def _refresh_if_due(self) -> None:
        if time.monotonic() - self._checked < CHECK_SECONDS or not self._refreshing.acquire(blocking=False):
            return
        try:
            self._refresh()
        finally:
            self._refreshing.release()


class _Slot:
    """One of the two days online, as a reader holds it."""

    def __init__(self, config: Config, name: str) -> None:
        self._config, self._name = config, name
        self._store: FeatureStore | None = None
        self._marked: Row | None = None
        self.held: tuple[Publication, Published] | None = None

    def refresh(self) -> None:
        """Look at the marker, and hold what it names."""
        if self._store is None and registry_of(self._config, self._name).is_file():
            self._store = store_of(self._config, self._name, READ_SECONDS)
        if self._store is None:
            return
        with reached(self._config):
            marked = _marker(self._store)
            # As protobufs: a marker names every item, and to make strings of them took a request's time each second.
            if marked == self._marked:
                return
            newest = _publication(marked)
            if newest != (self.held and self.held[0]):
                self.held = None if newest is None else (newest, _read_publication(self._store, newest))
            self._marked = marked

    def user(self, user_id: str, day: date) -> dict[str, Any] | None:
        """See `OnlineFeatures.user`; None too where the slot holds another day."""
        held = self.held
        if self._store is None or held is None or held[0].day != day:
            return None
        with reached(self._config):
            (available, features), (_, said) = _read_user(self._store, user_id)
        if features.get("impressions") is None and said.get("attributes") is None:
            return None
        if available != held[0].available_at:
            # Not among this day's rows: the window has emptied, and the as-of join offline knows nothing either.
            available, features = None, {}
        found = {feature.name: _value(feature, features.get(feature.name)) for feature in ONLINE["user"]}
        found["available_at"] = available
        found["attributes"] = json.loads(said.get("attributes") or "{}") | _words(features.get(OUTCOMES))
        return found


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


def registry_of(config: Config, slot: str) -> Path:
    return config.features.online_path / slot / "registry.db"


def store_of(config: Config, slot: str, seconds: float | None = None) -> "FeatureStore":
    """Feast's store of a slot as configured; the registry is read once and kept.

    `seconds`: so long Redis is waited for, and not asked again but where a connection had ended meanwhile. By itself
    the client asks a store that is gone for ten seconds, and one that hangs for ever: a request would wait with it.
    """
    import_feast()
    from feast import FeatureStore, RepoConfig

    settings, registry = config.features, registry_of(config, slot)
    registry.parent.mkdir(parents=True, exist_ok=True)
    online: dict[str, Any] = {"type": "sqlite", "path": str(registry.with_name("online.db"))}
    if settings.online_store == "redis":
        # Without skip_dedup a second, corrected run of the same day would be dropped silently.
        limits = "" if seconds is None else f",socket_timeout={seconds},socket_connect_timeout={seconds}"
        online = {"type": "redis", "connection_string": settings.redis_url + limits, "skip_dedup": True}
    store = FeatureStore(
        config=RepoConfig(
            project=slot,
            provider="local",
            registry={"path": str(registry), "cache_ttl_seconds": 0},
            online_store=online,
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=KEYS,
        )
    )
    if seconds is not None and settings.online_store == "redis":
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as Gone
        from redis.retry import Retry

        # Feast has no setting for it.
        client = store._get_provider().online_store._get_client(store.config.online_store)
        client.set_retry(Retry(NoBackoff(), 1, supported_errors=(Gone,)))
    return store


def _apply(store: "FeatureStore", config: Config, slot: str) -> None:
    """Register the definitions where the registry lacks them, or has those of another version."""
    from feast.errors import FeatureServiceNotFoundException

    from feature_repo import definitions

    path = registry_of(config, slot).with_name("online.db")
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


def _read(store: "FeatureStore", service: str, keys: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    """A service's features for some keys (by join key), None where one is unknown; `<feature>__ts` in seconds."""
    known = _SERVICES.setdefault(store, {})
    if service not in known:
        # Asking for a service reads the registry anew and drops Feast's own cache: 13 ms a read instead of 0.6.
        known[service] = store.get_feature_service(service)
    response = store.get_online_features(known[service], {key: list(values) for key, values in keys.items()})
    found: dict[str, list[Any]] = response.to_dict(include_event_timestamps=True)
    return found


def _read_user(store: "FeatureStore", user_id: str) -> "list[tuple[datetime | None, dict[str, Any]]]":
    """Of each view of users' the moment and the features of one, None and nothing where it does not know the user.

    What `_read` does of the service `ranking`, without its columns of one row: a request's features in half the time.
    """
    found = []
    for view in USER_VIEWS:
        at, values = _read_row(store, view, "user_id", user_id)
        found.append((at, {name: _plain(value) for name, value in (values or {}).items()}))
    return found


def _read_row(store: "FeatureStore", view: str, join_key: str, key: str) -> Row:
    """One row of a view, as protobufs."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    known = _VIEWS.setdefault(store, {})
    if view not in known:
        known[view] = store.get_feature_view(view)
    of, entity = known[view], EntityKey(join_keys=[join_key], entity_values=[Value(string_val=key)])
    [(at, values)] = store.provider.online_read(store.config, of, [entity], [field.name for field in of.features])
    return at, values


def _plain(value: Any) -> Any:
    """A protobuf of the types that views have (`feature_repo.definitions`), as Python has it."""
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    of = getattr(value, kind)
    return list(of.val) if kind.endswith("_list_val") else of


def _read_all(store: "FeatureStore", service: str, keys: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    """`_read` in blocks; {} for no keys."""
    count = max(map(len, keys.values()))
    found: dict[str, list[Any]] = {}
    for at in range(0, count, READ_KEYS):
        block = _read(store, service, {key: values[at : at + READ_KEYS] for key, values in keys.items()})
        for name, values in block.items():
            found.setdefault(name, []).extend(values)
    return found


def publication_of(store: "FeatureStore") -> Publication | None:
    """What the marker says; None where there is none."""
    return _publication(_marker(store))


def _marker(store: "FeatureStore") -> Row:
    from feast.errors import FeatureViewNotFoundException

    try:
        return _read_row(store, "publications", "publication_id", NEWEST)
    except FeatureViewNotFoundException:
        return None, None


def _publication(marked: Row) -> Publication | None:
    at, values = marked
    row = {name: _plain(value) for name, value in (values or {}).items()}
    if at is None or not row.get("day"):
        return None
    return Publication(
        day=date.fromisoformat(row["day"]),
        available_at=at,
        versions=json.loads(row["versions"]),
        item_ids=tuple(row["item_ids"] or ()),
        encodings=tuple(zip(row["encodings"] or (), row["values"] or (), strict=True)),
        removed=tuple(row["removed"] or ()),
        unlisted=tuple(row.get("unlisted") or ()),
    )


def _read_publication(store: "FeatureStore", newest: Publication) -> Published:
    """Items and encodings of a publication, packed."""
    rows = _read_all(store, "catalogue", {"item_id": newest.item_ids})
    named, values = ([pair[part] for pair in newest.encodings] for part in (0, 1))
    rates = _read_all(store, "encodings", {"encoding": named, "value": values})
    removed, unlisted = frozenset(newest.removed), frozenset(newest.unlisted)
    told = zip(newest.item_ids, rows.get("attributes", []), strict=True)
    attributes = [None if item in unlisted else text for item, text in told]  # what left the catalogue has old ones
    items = _packed(rows, list(newest.item_ids), attributes)
    encodings = _encodings(newest.encodings, rates.get("click_rate", []))
    return Published(newest.day, items, encodings, newest.available_at, removed, unlisted)


@contextmanager
def reached(config: Config) -> Iterator[None]:
    """Turns Redis's own errors into `NotReady`."""
    with redis_reached(config.features.redis_url if config.features.online_store == "redis" else None):
        yield


# -- rows -----------------------------------------------------------------------------------------------------------
def _words(counts: str | None) -> dict[str, str]:
    """What rankers are told of counts, by attribute."""
    if counts is None:  # as of most, where no further outcome is declared
        return {}
    known = json.loads(counts)
    return dict(zip((COUNT_PREFIX + name for name in known), steps(np.array([*known.values()], float)), strict=True))


def _value(feature: Feature, value: Any) -> Any:
    """A feature as Feast gives it, or what stands for it where that is None."""
    if feature.kind == "vector":
        return np.array(value or np.full(feature.width, np.nan), dtype=np.float64)
    if feature.kind in ("items", "buckets"):
        return list(value or [])
    if feature.kind == "counts":
        return None if value is None else json.loads(value)
    return float("nan") if value is None and feature.kind == "number" else value


def _packed(rows: dict[str, list[Any]], item_ids: list[str], attributes: list[str | None]) -> Columns:
    """Feast's answer as arrays."""
    columns: Columns = {"item_id": np.array(item_ids, dtype=object)}
    columns |= {feature.name: packed(feature, rows.get(feature.name, [])) for feature in ONLINE["item"]}
    counts = columns.pop(OUTCOMES).tolist()
    maps = [json.loads(text or "{}") | _words(count) for text, count in zip(attributes, counts, strict=True)]
    for key in sorted({key for pairs in maps for key in pairs}):
        column = [pairs.get(key) for pairs in maps]
        columns[f"{ATTRIBUTE_PREFIX}item.{key}"] = np.array(column, dtype=object)
    return columns


def _encodings(keys: Sequence[tuple[str, str]], rates: Sequence[float]) -> Encodings:
    """Feast's answer as what `decision_columns` takes: one publication, seen by every row."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for (name, value), rate in zip(keys, rates, strict=True):
        found.setdefault(name, {})[value] = np.array([rate])
    return Encodings(found, np.array([0]))
