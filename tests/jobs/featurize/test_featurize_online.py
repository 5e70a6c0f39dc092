"""Online equals offline: what the endpoint reads is, to the bit, what the lake holds."""

import math
import socket
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.asof.clock import available_at, instants
from jobs.asof.core import latest, take
from jobs.errors import NotReady
from jobs.features import erased, online, publish
from jobs.features.online import OnlineFeatures
from jobs.features.read import UNREAD
from jobs.flow import FEATURES
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE, TIME
from jobs.moment.columns import encodings_of, encodings_seen, item_arrays, user_arrays, user_row
from models.features import INTEREST_BUCKETS
from models.rankers.features import ITEM_NUMBERS, NUMERIC, USER_NUMBERS, decision_columns, steps
from models.settings import TaskSettings
from tests.delta_extension import delta_extension
from tests.jobs.databases import REDIS, empty_redis

REDIS_DB = 13


def going_online(world: Any, **more: Any) -> Any:
    """The world's settings with online publication on."""
    features = world.config.features.model_copy(update={"online": True, **more})
    return world.config.model_copy(update={"features": features})


def known_from(table: pa.Table, at: datetime) -> pa.Table:
    """The rows as of another publication."""
    column = table.column_names.index("available_at")
    return table.set_column(column, "available_at", pa.array([at] * len(table), TIME))


def online_now(settings: Any) -> list[date]:
    """Newest first."""
    return [published.day for published in OnlineFeatures(settings).published()]


def words_of(row: dict[str, Any]) -> dict[str, str]:
    """What rankers are told of a row's counts."""
    counts = dict(row["outcomes"])
    return {f"outcomes.{name}": steps(np.array([number]))[0] for name, number in counts.items()}


def check_equal(world: Any, settings: Any, day: Any) -> None:
    """Every user and item of the lake's day, read online, is that row."""
    reader = OnlineFeatures(settings)
    published = next(one for one in reader.published() if one.day == day)
    assert published.available_at == midnight(day) + timedelta(days=1, hours=6)
    clubs = {row["user_id"]: dict(row["attributes"]) for row in world.rows("users", day)}
    rows = world.rows("user_features", day)
    for row in rows:
        found = reader.user(row["user_id"], day)
        assert found is not None
        assert found["attributes"] == clubs[row["user_id"]] | words_of(row)
        assert found["outcomes"] == dict(row["outcomes"])
        assert found["interests"].dtype == np.float64
        assert found["interests"].tolist() == row["interests"]
        unread = set(UNREAD["user_features"])
        for name in set(row) - {"user_id", "interests", "outcomes", "days_since_click", "day"} - unread:
            assert found[name] == row[name], name
        assert not unread & set(found)
        assert found["days_since_click"] == row["days_since_click"] or math.isnan(found["days_since_click"])
        assert (row["days_since_click"] is None) == math.isnan(found["days_since_click"])
    items, wanted = published.items, world.rows("item_features", day)
    assert items["item_id"].tolist() == [row["item_id"] for row in wanted]
    assert not set(UNREAD["item_features"]) & set(items)
    for name in ITEM_NUMBERS:
        offline = np.array([math.nan if row[name] is None else row[name] for row in wanted])
        np.testing.assert_array_equal(items[name], offline)
    assert items["category"].tolist() == [row["category"] for row in wanted]
    assert items["interest_bucket"].tolist() == [
        -1 if row["interest_bucket"] is None else row["interest_bucket"] for row in wanted
    ]
    vectors = [[value for value in row if value == value] for row in items["vector"].tolist()]
    assert vectors == [row["vector"] or [] for row in wanted]
    assert [len(row) for row in vectors[:4]] == [0, 3, 4, 2]
    quality = {row["item_id"]: dict(row["attributes"]).get("quality") for row in world.rows("items", day)}
    unlisted = {row["item_id"] for row in wanted} - set(quality)
    assert published.unlisted == unlisted, "shown, and in no catalogue: known, and never offered"
    found = dict(zip(items["item_id"], items["attributes.item.quality"], strict=True))
    assert found == quality | dict.fromkeys(unlisted)
    for name in ("outcomes.like", "outcomes.watch"):
        words = items[f"attributes.item.{name}"].tolist()
        assert words == [words_of(row)[name] for row in wanted]
        assert len(set(words)) > 2
    rates = published.encodings.rates
    assert {(name, value): rate[0] for name, of in rates.items() for value, rate in of.items()} == {
        (row["encoding"], row["value"]): row["click_rate"] for row in world.rows("encodings", day)
    }


def test_who_has_left_the_window_is_unknown_again(lively: Any) -> None:
    """The store keeps old rows; served as if fresh, they would differ from what the as-of join sees offline."""
    settings = going_online(lively)
    last = lively.first + timedelta(days=5)
    lively.run(last, since=lively.first, settings=settings)
    rows = {table: lively.lake.read(table, [last]).drop_columns(["day"]) for table in FEATURES}
    users = rows["user_features"]
    reader = OnlineFeatures(settings)
    assert reader.user("u01", last)["impressions"] > 0
    stayed = rows | {"user_features": users.filter(pc.not_equal(users["user_id"], "u01"))}
    for later in (last + timedelta(days=n) for n in (1, 2)):  # the second takes the slot in which u01 was known
        at = available_at(later, settings.features)
        publish.publish(settings, later, {name: known_from(table, at) for name, table in stayed.items()}, None, None)
    assert reader.refresh()
    assert reader.user("u01", last) is None, "of that day nothing is online any more"
    left = reader.user("u01", later)
    assert math.isnan(left["impressions"])
    assert np.isnan(left["interests"]).all()
    assert (left["last_items"], left["available_at"]) == ([], None)
    assert left["attributes"], "what does not age is still known"
    assert reader.user("u02", later)["impressions"] > 0


def test_online_is_offline_and_follows_the_two_newest_days(lively: Any) -> None:
    """Publish, read back, publish the next day: the same reader takes it up; a backfill does not turn it back."""
    settings = going_online(lively)
    reader = OnlineFeatures(settings)
    eve, before, last = (lively.first + timedelta(days=n) for n in (3, 4, 5))
    assert (reader.published(), reader.user("u01", eve)) == ((), None)

    # of either day: 40 users' features, 45 users' attributes, 16 items' features, attributes, and every encoding
    counts = lively.run(before, since=lively.first, settings=settings)
    encoded = {day: len(lively.rows("encodings", day)) for day in (eve, before)}
    assert counts["online_keys"] == 2 * (40 + 45) + (16 + 15) + (16 + 14) + sum(encoded.values())
    assert min(encoded.values()) > 20
    assert reader.refresh()
    kept, replaced = reader.published()
    assert (kept.day, replaced.day) == (before, eve)
    for day in (eve, before):
        check_equal(lively, settings, day)

    users = [{"user_id": f"u{k:02d}", "attributes": [("club", str(k % 6))]} for k in range(45)]
    lively.put("users", last, users)
    lively.run(last, settings=settings)
    for day in (before, last):
        check_equal(lively, settings, day)
    assert reader.refresh()
    newest, second = reader.published()
    assert (newest.day, newest.available_at) == (last, lively.at(6, 6))
    assert second is kept, "what stays online is not packed again"

    assert lively.run(eve, settings=settings)["online_keys"] == 0
    counts = lively.run(last, settings=settings)  # attributes as before are not written again
    assert counts["online_keys"] == 40 + 16 + len(lively.rows("encodings", last))
    assert not reader.refresh()  # the same rows again are no news
    lively.run(before, settings=settings)  # the second newest day may still be corrected
    assert online_now(settings) == [last, before]


def test_whatever_order_days_come_in_the_two_newest_stay(lively: Any, tmp_path: Path) -> None:
    """Days that failed and are made up for: the endpoint never goes back, nor does it miss the second newest."""
    lively.run(lively.first + timedelta(days=3), since=lively.first)
    for number, given in enumerate([(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (0, 3, 2, 1)]):
        settings = going_online(lively, online_path=tmp_path / f"another-{number}")
        days = [lively.first + timedelta(days=n) for n in given]
        for count, day in enumerate(days, start=1):
            rows = {table: lively.lake.read(table, [day]) for table in FEATURES}
            publish.publish(settings, day, rows, None, lively.lake.read("items", [day]))
            assert online_now(settings) == sorted(days[:count], reverse=True)[:2], given


def test_a_publication_that_broke_off_is_not_read(lively: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a day under the marker of another would be rows of two days on one page; the newer day serves on."""
    settings = going_online(lively)
    eve, before, last = (lively.first + timedelta(days=n) for n in (3, 4, 5))
    lively.run(before, since=lively.first, settings=settings)
    reader = OnlineFeatures(settings)
    assert reader.user("u01", eve) is not None
    write = publish._write

    def full(target: Any, view: str, tables: Any) -> int:
        if view == "item_features":
            raise OSError("no space left on device")
        return write(target, view, tables)

    with monkeypatch.context() as broken:
        broken.setattr(publish, "_write", full)
        with pytest.raises(OSError, match="no space"):
            lively.run(last, settings=settings)
    assert reader.refresh()
    assert [one.day for one in reader.published()] == [before]
    assert reader.user("u01", eve) is reader.user("u01", last) is None
    lively.run(last, settings=settings)
    for day in (before, last):
        check_equal(lively, settings, day)


def test_a_late_publication_is_an_alarm_of_the_run(lively: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests since six had the day before's features, which training does not know; a correction is no such thing."""
    settings, last = going_online(lively), lively.first + timedelta(days=5)
    early = lively.run(last - timedelta(days=1), settings=settings)
    assert not {"late_minutes", "alarms"} & set(early), "computed years later, it keeps nobody waiting"
    monkeypatch.setattr("jobs.featurize.job.now", lambda: lively.at(6, 7.25))
    late = lively.run(last, settings=settings)
    assert (late["late_minutes"], late["alarms"], late["alarmed"]) == (75, 1, {str(last): ["late_publication"]})
    assert not {"late_minutes", "alarms"} & set(lively.run(last, settings=settings))


def test_unknown_users_and_users_known_by_attributes_only(lively: Any) -> None:
    """An unknown user is None, never a row of zeros; a listed one without events keeps the attributes."""
    settings = going_online(lively)
    lively.run(lively.first, settings=settings)
    reader = OnlineFeatures(settings)
    assert reader.user("nobody", lively.first) is None
    quiet = reader.user("u44", lively.first)
    assert quiet is not None
    assert quiet["attributes"] == {"club": "4"}
    assert math.isnan(quiet["click_rate"])
    assert quiet["available_at"] is None
    columns = user_row(None, 3)
    assert all(np.isnan(columns[name]).all() for name in ("interests", *USER_NUMBERS))
    assert columns["interests"].shape == (3, INTEREST_BUCKETS)
    assert columns["last_items"].tolist() == [[None] * 10] * 3


def test_a_rankers_columns_are_the_same_from_both_sides(lively: Any) -> None:
    """One definition: `decision_columns` of the lake's rows and of what was read online, for every user and item."""
    settings = going_online(lively)
    lively.run(lively.first + timedelta(days=5), since=lively.first, settings=settings)
    day = lively.first + timedelta(days=5)
    reader = OnlineFeatures(settings)
    table = {name: lively.lake.read(name, [day]) for name in FEATURES}
    published = reader.published()[0]
    items = published.items
    n = len(items["item_id"])
    at = pc.index_in(pa.array(items["item_id"], pa.string()), table["item_features"]["item_id"]).to_numpy()
    words = {"user_id": "u", "surface": "similar", "device": None, "region": None}
    words |= {"query": "c1", "source_category": "c2"}
    context = {name: np.full(n, word, dtype=object) for name, word in words.items()}
    offline_items = {**item_arrays(table["item_features"], at.astype(np.int64)), "item_id": items["item_id"]}
    rates = encodings_of(table["encodings"])
    informed = set()
    for row, user in enumerate(table["user_features"]["user_id"].to_pylist()):
        found = decision_columns(
            user_row(reader.user(user, day), n), items, context, published.encodings, TaskSettings()
        )
        offline = user_arrays(table["user_features"], np.full(n, row))
        wanted = decision_columns(offline, offline_items, context, rates, TaskSettings())
        assert found.keys() == wanted.keys() >= set(NUMERIC)
        for name, column in wanted.items():
            np.testing.assert_array_equal(found[name], column, err_msg=name)
            if name in NUMERIC and len(set(column[~np.isnan(column)])) > 1:
                informed.add(name)
    flat = {"position", *(f"user_{name}" for name in USER_NUMBERS)}
    assert set(NUMERIC) - informed <= flat, "a number that tells no items apart would prove nothing"


def test_logs_without_users_go_online(world: Any) -> None:
    """No user rows and no users snapshot: items are online all the same, and which of them are removed."""
    blocked = [world.item("i1", None, removed=True), world.item("i2", price=None, removed=False)]
    world.put("items", world.first, blocked)
    for table in ("impressions", "clicks", "purchases"):
        world.put(table, world.first, [])
    settings = going_online(world)
    assert world.run(world.first, settings=settings)["online_keys"] == 4
    reader = OnlineFeatures(settings)
    assert reader.published()[0].items["item_id"].tolist() == ["i1", "i2"]
    assert reader.published()[0].removed == {"i1"}
    assert reader.user("u1", world.first) is None
    world.put("items", world.first, [world.item("i1", None), world.item("i2", price=None, removed=True)])
    world.run(world.first, settings=settings)  # blocked in between: the same day again is enough
    assert reader.refresh()
    assert reader.published()[0].removed == {"i2"}


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A database of the local Redis that nobody uses, emptied of our keys afterwards."""
    client = empty_redis(REDIS_DB)
    yield f"{REDIS[0]}:{REDIS[1]},db={REDIS_DB}"
    for slot in online.SLOTS:
        for key in client.scan_iter(b"*" + slot.encode()):
            client.delete(key)
    assert client.dbsize() == 0


def test_redis_serves_the_same(lively: Any, redis_url: str) -> None:
    """The store is a setting; a corrected rerun of the same day replaces the values in Redis too."""
    settings = going_online(lively, online_store="redis", redis_url=redis_url)
    lively.run(lively.first, settings=settings)
    check_equal(lively, settings, lively.first)
    lively.put("clicks", lively.first, [lively.event("u01", "i01", lively.at(0, 23))])
    lively.run(lively.first, settings=settings)
    check_equal(lively, settings, lively.first)


def test_a_redis_that_does_not_answer_is_not_ready(lively: Any) -> None:
    """The lake is published, the task is retried: it is no bug and no reason to lose the day."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = going_online(lively, online_store="redis", redis_url=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(NotReady, match="needs Redis at 127"):
            lively.run(lively.first, settings=settings)
    assert lively.lake.days("user_features") == [lively.first]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_user_who_is_forgotten_is_nobody_and_nowhere(lively: Any, kind: str, request: Any, tmp_path: Path) -> None:
    """On both days, for an endpoint that is reading; no byte of SQLite's file or of its log has the id; others stay."""
    url = request.getfixturevalue("redis_url") if kind == "redis" else ""
    settings = going_online(lively, online_store=kind, online_path=tmp_path, **({"redis_url": url} if url else {}))
    last = lively.first + timedelta(days=4)
    lively.run(last, since=lively.first, settings=settings)
    reader = OnlineFeatures(settings)
    gone, others = "u01", [user for user in lively.rows("user_features", last) if user["user_id"] != "u01"]
    assert reader.user(gone, last) is not None
    assert erased.erase(settings, gone) > 0
    assert reader.user(gone, last) is reader.user(gone, last - timedelta(days=1)) is None
    assert all(reader.user(user["user_id"], last) is not None for user in others)
    if kind == "sqlite":
        assert not [path for path in tmp_path.rglob("*.db*") if gone.encode() in path.read_bytes()]
    assert erased.erase(settings, gone) == 0


# -- thousands of keys, and Feast's own join --------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_thousands_of_keys_are_the_same_offline_and_online(crowd: Any, kind: str, request: Any, tmp_path: Any) -> None:
    """Offline: the point-in-time join of an impression on the next day. Online: what the endpoint reads."""
    url = request.getfixturevalue("redis_url") if kind == "redis" else ""
    settings = going_online(crowd, online_store=kind, online_path=tmp_path, **({"redis_url": url} if url else {}))
    crowd.run(crowd.first + timedelta(days=1), since=crowd.first, settings=settings)
    reader = OnlineFeatures(settings)
    published = reader.published()[0]
    items = published.items
    tables = {name: crowd.lake.read(name).drop_columns(["day"]) for name in FEATURES}
    noon = {"event_time": pa.repeat(pa.scalar(crowd.at(2), TIME), 2_600)}
    asked = pa.table({"user_id": [f"u{k:04d}" for k in range(2_600)], **noon})
    rows = latest(asked, tables["user_features"], ("user_id",), right_time="available_at")
    offline = user_arrays(tables["user_features"], rows)
    for n, user in enumerate(asked["user_id"].to_pylist()):
        for name, column in user_row(reader.user(user, published.day), 1).items():
            np.testing.assert_array_equal(column[0], offline[name][n], err_msg=f"{name} of {user}")
    assert np.count_nonzero(rows >= 0) > 2_000, "and the last hundred have never been seen"
    asked = pa.table({"item_id": pa.array(items["item_id"], pa.string()), "event_time": noon["event_time"][:600]})
    at = latest(asked, tables["item_features"], ("item_id",), right_time="available_at")
    for name, column in item_arrays(tables["item_features"], at).items():
        np.testing.assert_array_equal(items[name], column, err_msg=name)
    known = instants([available_at(crowd.first + timedelta(days=n), settings.features) for n in range(2)])
    offline_rates = encodings_seen(tables["encodings"], known, pa.chunked_array([noon["event_time"]]))
    online_rates = published.encodings.rates
    assert sum(map(len, online_rates.values())) == len(crowd.rows("encodings", crowd.first + timedelta(days=1)))
    for name, of in online_rates.items():
        for value, rate in of.items():
            assert offline_rates.rates[name][value][-1] == rate[0]


@pytest.fixture
def duckdb_knows_delta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast's DuckDB finds the extension installed, as it is after a first download, in a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with duckdb.connect() as connection:
        connection.install_extension(str(delta_extension()))


@pytest.mark.usefixtures("duckdb_knows_delta")
def test_feasts_own_join_of_the_lake_is_ours(lively: Any) -> None:
    """`get_historical_features` reads the Delta tables by the registered definitions: the same rows, and as fresh."""
    settings = going_online(lively)
    lively.run(lively.first + timedelta(days=4), since=lively.first, settings=settings)
    lively.run(lively.first + timedelta(days=4), settings=settings)  # replaced: its old part files are dead
    for table in FEATURES:
        is_ours(lively, settings, table, LAKE[table].key)


def is_ours(lively: Any, settings: Any, table: str, keys: tuple[str, ...]) -> None:
    rows = lively.lake.read(table).drop_columns(["day"])
    known = rows.group_by(list(keys)).aggregate([])
    times = [lively.at(n, hours) for n in range(7) for hours in (0, 5.999, 6, 9.5)]  # on day 6 all expires for Feast
    asked = pa.concat_tables(
        [known.append_column("event_time", pa.repeat(pa.scalar(t, TIME), len(known))) for t in times]
    )
    found = latest(asked, rows, keys, right_time="available_at")
    age = pc.subtract(asked["event_time"], take(rows.select(["available_at"]), found)["available_at"])
    found[pc.fill_null(pc.greater_equal(age, pa.scalar(timedelta(days=1), pa.duration("us"))), False).to_numpy()] = -1
    ours = take(rows.drop_columns([*keys, "available_at", *UNREAD[table]]), found)
    numbered = asked.rename_columns([*keys, "event_timestamp"]).append_column("row", pa.array(range(len(asked))))
    features = [f"{table}:{name}" for name in ours.column_names]
    feasts = (
        online.store_of(settings, online.SLOTS[0])
        .get_historical_features(numbered.to_pandas(), features)
        .to_arrow()
        .sort_by("row")
    )
    assert len(feasts) == len(asked)
    assert 0 < np.count_nonzero(found >= 0) < len(asked)
    for name in ours.column_names:
        assert feasts[name].to_pylist() == ours[name].to_pylist(), name
