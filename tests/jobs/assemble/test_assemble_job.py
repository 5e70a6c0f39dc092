"""The assemble stage on a small lake: which rows, with which features and labels, and what it refuses."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import config
from jobs.assemble import core, job
from jobs.assemble.card import figures
from jobs.config import Config, DatasetSettings
from jobs.errors import NotReady, Refused
from jobs.flow import FEATURES, STAGES
from jobs.run import Run
from jobs.store import Lake, Lineage, midnight
from jobs.tables import INTEREST_BUCKETS, LAKE
from models.rankers.features import ITEM_NUMBERS, SEPARATOR, USER_NUMBERS

FIRST, DAY = date(2026, 1, 1), date(2026, 1, 7)
"""Published days 1..7: with the test settings, 1..4 train (6 are wanted), 5 validates, 6 tests, 7 is embargoed."""
TRAIN, VALIDATE, TEST = ([date(2026, 1, n) for n in span] for span in ((1, 2, 3, 4), (5,), (6,)))
LINEAGE = Lineage("test", "run0", "code", "settings")
USERS, ITEMS = ("ann", "bob", "cat"), ("tea", "mug", "new")


def at(day: int, hour: float = 12.0) -> datetime:
    """A time in January 2026."""
    return datetime(2026, 1, day, tzinfo=UTC) + timedelta(hours=hour)


class World:
    """A lake under `root`: every user is shown items each day, features say which day they are of."""

    def __init__(self, root: Path) -> None:
        self.config: Config = config.load({"TIDEGATE_ENV": "test", "TIDEGATE__LAKE__ROOT": str(root / "lake")})
        self.lake = Lake(self.config.lake.root)
        self.shown: dict[date, list[dict[str, Any]]] = {}

    def put(self, table: str, day: date, rows: list[dict[str, Any]]) -> None:
        spec = LAKE[table]
        full = [{name: row.get(name) for name in spec.columns} for row in rows]
        self.lake.publish(table, {"day": str(day)}, pa.Table.from_pylist(full, spec.schema), LINEAGE)

    def impression(self, user: str | None, item: str, when: datetime, **more: Any) -> dict[str, Any]:
        row = {"impression_id": f"{user}-{item}-{when:%dT%H%M}", "request_id": "r", "event_time": when}
        row |= {"ingested_at": when, "user_id": user, "item_id": item, "surface": "home", "position": 2}
        return row | {"propensity": 0.25, "policy": "logging", "attributes": [("daypart", "noon")], **more}

    def label(self, shown: dict[str, Any], **more: Any) -> dict[str, Any]:
        row = {name: shown.get(name) for name in LAKE["labels"].columns}
        row |= {"known_at": shown["ingested_at"], "clicked": False, "converted": False}
        row |= {"conversion_credit": 0.0, "conversion_value": 0.0}
        row |= {"click_matures_at": shown["event_time"] + timedelta(days=1)}
        return row | {"matures_at": shown["event_time"] + timedelta(days=8), **more}

    def features(self, day: date, users: tuple[str, ...] = USERS, items: tuple[str, ...] = ITEMS[:2]) -> None:
        """Feature values are the day's number (users) and a hundred more (items): a row tells where it is from."""
        known: dict[str, Any] = {"available_at": midnight(day + timedelta(days=1))}
        interests = [float(day.day * 100 + bucket) for bucket in range(INTEREST_BUCKETS)]
        user: dict[str, Any] = dict.fromkeys(("clicks", *USER_NUMBERS), float(day.day))
        user |= {"last_items": ["tea", "pot"], "last_buckets": [7, 3], "session_buckets": [3, 7, 7, -1]}
        item = dict.fromkeys(("clicks", *ITEM_NUMBERS), 100.0 + day.day)
        item |= {"price": 9.5, "category": "drinks", "interest_bucket": 7}
        rates = {("category", "drinks"): day.day / 100, ("source_category", f"drinks{SEPARATOR}drinks"): day.day / 50}
        keys = [dict(zip(("encoding", "value"), key, strict=True)) for key in rates]
        counts = {"impressions": 9.0, "clicks": 1.0}
        rows = [k | known | counts | {"click_rate": rate} for k, rate in zip(keys, rates.values(), strict=True)]
        self.put("encodings", day, rows)
        self.put("user_features", day, [{"user_id": u, **known, **user, "interests": interests} for u in users])
        self.put("item_features", day, [{"item_id": i, **known, **item} for i in items])

    def fill(self, more: dict[date, list[dict[str, Any]]] | None = None, last: date = DAY) -> None:
        """Every day: two impressions a user, labels without outcome, features, and snapshots on the first."""
        for n in range((last - FIRST).days + 1):
            day = FIRST + timedelta(days=n)
            rows = [self.impression(u, i, at(day.day, 9 + k)) for u in USERS for k, i in enumerate(ITEMS[:2])]
            self.shown[day] = rows + (more or {}).get(day, [])
            self.put("impressions", day, self.shown[day])
            self.put("labels", day, [self.label(row) for row in self.shown[day]])
            self.features(day)
        self.put("users", FIRST, [{"user_id": "ann", "attributes": [("segment", "a")]}])
        self.put("items", FIRST, [{"item_id": "tea", "attributes": [("tier", "plus"), ("brand", "x")]}])

    def assemble(self, mode: Any = "full", day: date = DAY) -> dict[str, Any]:
        return job.run(Run(STAGES["assemble"], self.config, day, mode=mode))

    def card(self, table: str = "examples") -> dict[str, Any]:
        found = self.lake.lineage(table, {"day": str(DAY), "mode": "full"})
        assert found is not None
        return dict(json.loads(json.loads(found["notes"])["card"]))

    def examples(self, mode: str = "full", day: date = DAY) -> list[dict[str, Any]]:
        return self.lake.read("examples", [day], {"mode": mode}).to_pylist()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_impression_of_the_split_days_is_an_example_once(world: World) -> None:
    """By time, the embargoed day left out; the counts say what there is, fewer train days than wanted included."""
    world.fill()
    counts = world.assemble()
    rows = world.examples()
    splits = {"train": TRAIN, "validate": VALIDATE, "test": TEST}
    wanted = {r["impression_id"]: split for split, days in splits.items() for day in days for r in world.shown[day]}
    assert {row["impression_id"]: row["split"] for row in rows} == wanted
    assert len(rows) == len(wanted)
    assert [row["event_time"] for row in rows] == sorted(row["event_time"] for row in rows)
    assert (counts["train"], counts["validate"], counts["test"], counts["train_days"]) == (24, 6, 6, 4)


def test_an_example_sees_the_newest_features_available_before_it(world: World) -> None:
    """Point in time: features of the day before, the very first day none, at midnight already those of the day over."""
    midnight_row = world.impression("ann", "tea", at(4, 0))
    world.fill({date(2026, 1, 4): [midnight_row]})
    world.assemble()
    for row in world.examples():
        before = row["event_time"].day - 1
        wanted = None if before == 0 else float(before)
        assert row["user_impressions"] == row["user_click_rate"] == wanted
        assert row["item_click_rate"] == (None if before == 0 else 100.0 + before)
        assert row["user_item_interest"] == (None if before == 0 else before * 100.0 + 7)
        assert row["encoded_category"] == (None if before == 0 else before / 100)
        assert row["position"] == 2
        assert row["weight"] == 1.0


def test_a_missing_user_or_item_row_is_unknown_not_zero(world: World) -> None:
    """Anonymous users, new items and users who have left the window have nulls: the endpoint knows no more of them."""
    pairs = ((None, "tea"), ("ann", "new"), ("zed", "tea"))
    strangers = [world.impression(user, item, at(5)) for user, item in pairs]
    world.fill({date(2026, 1, 5): strangers})
    world.features(date(2026, 1, 4), users=USERS[1:])
    world.assemble()
    rows = {row["impression_id"]: row for row in world.examples()}
    nobody, unseen, zed = (rows[row["impression_id"]] for row in strangers)
    assert nobody["user_id"] is nobody["user_impressions"] is nobody["user_item_interest"] is None
    assert nobody["item_impressions"] == 104.0
    assert unseen["item_click_rate"] is unseen["item_category"] is unseen["user_item_interest"] is None
    assert unseen["user_impressions"] is None, "ann is not in the newest day: her older row has expired"
    assert zed["user_impressions"] is None


def test_what_only_one_surface_has_is_known_before_and_a_default_elsewhere(world: World) -> None:
    """The page's item gives its category, as of the midnight before; without a page the category's own rate stands."""
    of_page = world.impression("ann", "tea", at(5), surface="similar", source_item_id="mug")
    of_new = world.impression("ann", "mug", at(5), surface="similar", source_item_id="new")
    asked = world.impression("bob", "tea", at(5), surface="kiosk", query="black tea")
    world.fill({date(2026, 1, 5): [of_page, of_new, asked]})
    world.assemble()
    rows = {row["impression_id"]: row for row in world.examples()}
    names = ("task_type", "source_same_category", "encoded_source_category", "encoded_query_category", "source_item_id")
    found = [tuple(rows[shown["impression_id"]][name] for name in names) for shown in (of_page, of_new, asked)]
    assert found == [
        ("similar", 1.0, 4 / 50, 4 / 100, "mug"),
        ("similar", 0.0, 4 / 100, 4 / 100, "new"),
        ("recommend", 0.0, 4 / 100, 4 / 100, None),
    ]


def test_last_items_and_the_last_session_are_shares_of_the_candidates_category(world: World) -> None:
    """Two of the last session's three categorised events, one of two clicked items; tea itself was clicked."""
    world.fill()
    world.assemble()
    rows = {(row["user_id"], row["item_id"]): row for row in world.examples() if row["split"] == "test"}
    names = ("user_last5_share", "user_last10_share", "user_session_share", "user_clicked_item")
    assert [rows["ann", "tea"][name] for name in names] == [0.5, 0.5, 2 / 3, 1.0]
    assert rows["ann", "mug"]["user_clicked_item"] == 0.0


def test_attributes_are_the_impressions_the_users_and_the_items(world: World) -> None:
    """One map under three namings; a user or item the snapshot lacks adds nothing."""
    world.fill()
    world.assemble()
    seen = {(row["user_id"], row["item_id"]): dict(row["attributes"]) for row in world.examples()}
    assert seen["ann", "tea"] == {"daypart": "noon", "user.segment": "a", "item.tier": "plus", "item.brand": "x"}
    assert seen["bob", "mug"] == {"daypart": "noon"}


def test_labels_are_those_known_at_the_cut(world: World) -> None:
    """What arrives after the midnight that ends the day does not exist: unknown while it may come, zero after."""
    world.fill()
    cut = midnight(DAY + timedelta(days=1))
    test, train = world.shown[TEST[0]], world.shown[TRAIN[0]]
    known, late = cut - timedelta(microseconds=1), cut
    labels = [world.label(row) for row in test]
    labels[0] |= {"clicked": True, "click_known_at": known, "converted": True, "conversion_known_at": known}
    labels[1] |= {"clicked": True, "click_known_at": late, "converted": True, "conversion_known_at": late}
    world.put("labels", TEST[0], labels)
    old = [world.label(row, matures_at=cut) for row in train]
    world.put("labels", TRAIN[0], old)
    world.assemble()
    rows = {row["impression_id"]: (row["clicked"], row["converted"]) for row in world.examples()}
    assert [rows[row["impression_id"]] for row in test[:3]] == [(True, True), (False, None), (False, None)]
    assert rows[train[0]["impression_id"]] == (False, False)


def test_an_impression_known_only_after_the_cut_is_left_out(world: World) -> None:
    """The dataset of day D, made again on day D + 9, is the same dataset."""
    cut = midnight(DAY + timedelta(days=1))
    late = world.impression("bob", "mug", at(6, 13), ingested_at=cut)
    world.fill({TEST[0]: [late]})
    assert world.assemble()["test"] == 6
    assert late["impression_id"] not in {row["impression_id"] for row in world.examples()}


def test_warm_is_the_end_of_full(world: World) -> None:
    """The same rows, only fewer days to learn from; each mode has its own partition."""
    world.fill()
    world.assemble()
    counts = world.assemble("warm")
    assert (counts["train"], counts["train_days"]) == (12, 2)
    full, warm = (
        [{k: v for k, v in row.items() if k != "mode"} for row in world.examples(mode)] for mode in ("full", "warm")
    )
    assert warm == full[-len(warm) :]


def test_a_rerun_publishes_the_same_rows(world: World) -> None:
    """Same inputs, same rows in the same order."""
    world.fill()
    world.assemble()
    before = world.examples()
    world.assemble()
    assert world.examples() == before


@pytest.mark.parametrize("table", FEATURES)
def test_features_that_claim_to_be_earlier_than_their_day_are_refused(world: World, table: str) -> None:
    """The planted leak: a row of the whole of day 3 that says it was available at noon of day 3."""
    world.fill()
    rows = world.lake.read(table, [date(2026, 1, 3)]).drop_columns(["day"]).to_pylist()
    world.put(table, date(2026, 1, 3), [*rows[:-1], rows[-1] | {"available_at": at(3)}])
    with pytest.raises(Refused, match=rf"{table} of 2026-01-03 need available_at .* found 2026-01-03 12:00"):
        world.assemble()
    assert world.lake.version("examples") is None


def test_a_join_that_looks_ahead_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second net: whatever the kernel does, no example is published with a feature row of its future."""
    world.fill()
    honest: Callable[..., Any] = core.latest

    def looks_ahead(left: pa.Table, right: pa.Table, **how: Any) -> Any:
        times = left.column("event_time")
        later = pa.array([t + timedelta(days=1) for t in times.to_pylist()], times.type)
        shifted = left.set_column(left.schema.get_field_index("event_time"), "event_time", later)
        return honest(shifted, right, **how)

    monkeypatch.setattr(core, "latest", looks_ahead)
    with pytest.raises(Refused, match=r"item_features rows that were available at or before"):
        world.assemble()
    assert world.lake.version("examples") is None


@pytest.mark.parametrize("table", ["impressions", "labels", *FEATURES])
def test_a_missing_day_is_not_ready(world: World, table: str) -> None:
    """Retry later: the message names the table and the day; nothing is published."""
    world.fill(last=date(2026, 1, 3))
    for n in (4, 5, 6, 7):
        day = date(2026, 1, n)
        rows = [world.impression("ann", "tea", at(n))]
        if (table, n) != ("impressions", 5):
            world.put("impressions", day, rows)
        if (table, n) != ("labels", 7):
            world.put("labels", day, [world.label(row) for row in rows])
        if n != 4 or table not in FEATURES:
            world.features(day)
        else:
            for other in set(FEATURES) - {table}:
                world.put(other, day, [])
    with pytest.raises(NotReady, match=rf"table {table} needs 2026-01-0"):
        world.assemble()
    assert world.lake.version("examples") is None


def test_without_users_and_items_tables_there_are_no_such_attributes(world: World) -> None:
    """A real log without user ids: the dataset is made of what there is."""
    for n in range(7):
        day = FIRST + timedelta(days=n)
        rows = [world.impression(None, "tea", at(day.day, hour), propensity=None) for hour in range(3)]
        world.put("impressions", day, rows)
        world.put("labels", day, [world.label(row) for row in rows])
        world.put("user_features", day, [])
        world.features(day, users=())
    world.assemble()
    assert {tuple(map(tuple, row["attributes"])) for row in world.examples()} == {(("daypart", "noon"),)}


def busy(world: World) -> None:
    """Copies, repeats, unknown users, clicks, purchases, two surfaces and an item under two ids."""
    rng = np.random.default_rng(0)
    more: dict[date, list[dict[str, Any]]] = {}
    for n in range(7):
        hours = rng.uniform(0, 24, 60)
        users, items = rng.choice(["ann", "bob", "cat", ""], 60).tolist(), rng.choice(ITEMS, 60).tolist()
        surfaces = rng.choice(["home", "search"], 60).tolist()
        more[FIRST + timedelta(days=n)] = [
            world.impression(user or None, item, at(n + 1, float(hour)), impression_id=f"{n}-{k}", surface=surface)
            for k, (user, item, hour, surface) in enumerate(zip(users, items, hours, surfaces, strict=True))
        ]
        more[FIRST + timedelta(days=n)] += more[FIRST + timedelta(days=n)][:3]
    world.fill(more)
    for day, rows in world.shown.items():
        labels = {row["impression_id"]: world.label(row) for row in rows}
        for label, clicked, bought in zip(labels.values(), rng.random(99) < 0.3, rng.random(99) < 0.5, strict=False):
            known = label["event_time"] + timedelta(hours=1)
            label |= {"clicked": clicked, "click_known_at": known if clicked else None}
            label |= {"conversion_value": 0.1 * float(rng.integers(1, 99)), "conversion_known_at": known}
            label |= {"converted": clicked and bought, "conversion_credit": float(clicked and bought)}
        world.put("labels", day, list(labels.values()))
    catalogue = [{"item_id": item, "attributes": [], "category": "c", "price": 1.0, "title": "x"} for item in ITEMS[1:]]
    for day in world.shown:
        world.features(day, items=(*ITEMS[:2], "far"))
    world.put("items", FIRST, [*catalogue, {"item_id": "tea", "attributes": [("tier", "plus")]}])


EVERYTHING = {
    "selection": {
        "active_clicks": 1,
        "active_days": 3,
        "duplicates": "per_outcome",
        "same_items": "content",
        "negative_rate": 0.6,
        "max_train_rows": 60,
        "surface_shares": "revenue",
    },
    "retrieval": {"per_click": 3},
}


def with_dataset(world: World, chosen: dict[str, Any]) -> None:
    settings = DatasetSettings.model_validate(world.config.dataset.model_dump() | chosen)
    world.config = world.config.model_copy(update={"dataset": settings})


def on_spark(world: World, partitions: int) -> None:
    always = world.config.spark.model_copy(update={"from_rows": 0, "partitions": partitions})
    world.config = world.config.model_copy(update={"spark": always})


def test_the_card_adds_up(world: World) -> None:
    """Every impression read is an example, left out for a reason, a copy, or unknown at the cut; rates are weighted."""
    busy(world)
    with_dataset(world, EVERYTHING)
    counts = world.assemble()
    rows = world.examples()
    card = world.card()
    train, test = card["splits"]["train"], card["splits"]["test"]
    left_out = sum(n for reasons in train["left_out"].values() for n in reasons.values())
    assert counts["left_out"] == left_out > 0
    assert set(train["left_out"]) == {"inactive_user", "duplicate", "negative", "surface"}
    assert card["copies_or_unknown_at_cut"] == 3 * 6
    assert card["impressions_read"] == len(rows) + left_out + card["copies_or_unknown_at_cut"]
    assert test["left_out"] == {}
    assert (test["rows"], test["weight"], test["weight_span"]) == (66, 66.0, [1.0, 1.0])
    mine = [row for row in rows if row["split"] == "train"]
    known = [row for row in mine if row["clicked"] is not None]
    rate = sum(row["weight"] * row["clicked"] for row in known) / sum(row["weight"] for row in known)
    assert train["click_rate"] == pytest.approx(rate, rel=1e-8)
    assert train["weight"] == pytest.approx(sum(row["weight"] for row in mine), rel=1e-8)
    assert train["users"] == len({row["user_id"] for row in mine} - {None})
    assert train["event_time"] == [str(mine[0]["event_time"]), str(mine[-1]["event_time"])]
    assert sum(surface["rows"] for surface in train["surfaces"].values()) == train["rows"] == len(mine)
    empty = sum(row["item_click_rate"] is None for row in mine) / len(mine)
    assert train["missing"]["item_click_rate"] == pytest.approx(empty, abs=1e-6)
    assert card["duplicate_items"] == 1
    assert card["versions"] == {table: world.lake.version(table) for table in STAGES["assemble"].reads}
    assert world.card("retrieval_negatives") == card
    told = figures(card)
    assert told["dataset.train.rows"] == len(mine)
    assert told["dataset.train.click_rate"] == train["click_rate"]


def test_negatives_for_retrieval_have_their_own_table_and_leave_the_examples_alone(world: World) -> None:
    """A ranker that took them for impressions would learn that whatever was not shown is not clicked."""
    busy(world)
    world.assemble()
    examples, none = world.examples(), world.lake.read("retrieval_negatives", [DAY])
    assert len(none) == 0
    with_dataset(world, {"retrieval": {"per_click": 9}})
    world.assemble()
    found = world.lake.read("retrieval_negatives", [DAY], {"mode": "full"}).to_pylist()
    clicked = {row["impression_id"]: row for row in examples if row["split"] == "train" and row["clicked"]}
    for row in found:
        shown = clicked[row["impression_id"]]
        assert all(row[name] == shown[name] for name in ("user_id", "event_time", "surface"))
    assert {row["item_id"] for row in found} == {"far"}
    assert {row["event_time"].day for row in found} == {2, 3, 4}, "on the first day no catalogue was known"
    assert world.card()["retrieval_negatives"] == len(found)
    assert world.examples() == examples


def test_warm_is_the_end_of_full_with_every_rule_on(world: World) -> None:
    """Coins, activity and blocks of days do not depend on where the train window begins."""
    busy(world)
    with_dataset(world, {"selection": EVERYTHING["selection"] | {"max_train_rows": None, "surface_shares": "traffic"}})
    world.assemble()
    world.assemble("warm")
    full, warm = (
        [{k: v for k, v in row.items() if k != "mode"} for row in world.examples(mode)] for mode in ("full", "warm")
    )
    assert warm == full[-len(warm) :]
    assert min(row["event_time"] for row in warm).day == TRAIN[-2].day


@pytest.mark.spark
@pytest.mark.parametrize(("chosen", "partitions"), [({}, 2), (EVERYTHING, 5)])
def test_spark_is_the_core(world: World, chosen: dict[str, Any], partitions: int) -> None:
    """The same examples, negatives and card from any number of buckets as from one process; copies, maps and nulls."""
    busy(world)
    with_dataset(world, chosen)
    counts = world.assemble()
    examples, negatives, card = (
        world.examples(),
        world.lake.read("retrieval_negatives", [DAY]).to_pylist(),
        world.card(),
    )
    on_spark(world, partitions)
    assert world.assemble() == counts
    assert sorted(world.examples(), key=by_id) == sorted(examples, key=by_id)
    assert sorted(world.lake.read("retrieval_negatives", [DAY]).to_pylist(), key=by_id) == sorted(negatives, key=by_id)
    assert world.card() == card
    assert len(negatives) > 0 or not chosen


def by_id(row: dict[str, Any]) -> tuple[str, int]:
    return row["impression_id"], row.get("draw", 0)
