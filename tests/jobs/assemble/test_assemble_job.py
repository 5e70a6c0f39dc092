"""The assemble stage on a small lake: which rows, with which features and labels, and what it refuses."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.assemble import core
from jobs.errors import NotReady, Refused
from jobs.flow import FEATURES
from jobs.lake.store import midnight
from tests.jobs.assemble.assemble_world import DAY, FIRST, TEST, TRAIN, USERS, VALIDATE, World, at, with_dataset


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
    """Point in time: those of the day before from six in the morning on, earlier those of one day more back."""
    moments = {n: [at(n, 0), at(n, 6) - timedelta(microseconds=1), at(n, 6), at(n, 23.999)] for n in range(1, 7)}
    rows = {date(2026, 1, n): [world.impression("ann", "tea", when) for when in of] for n, of in moments.items()}
    for n, of_day in rows.items():
        rows[n] = [row | {"impression_id": f"{n}-{k}"} for k, row in enumerate(of_day)]
    world.fill(rows)
    world.assemble()
    seen = {row["impression_id"]: row["user_impressions"] for row in world.examples()}
    assert [seen[f"2026-01-05-{k}"] for k in range(4)] == [3.0, 3.0, 4.0, 4.0]
    for row in world.examples():
        before = max(row["event_time"].day - (1 if row["event_time"].hour >= 6 else 2), 0)
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
    assert unseen["user_impressions"] is None, "ann is not in the newest publication: her older row counts no more"
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
    """What arrives after the midnight that ends the day does not exist; and what may still change is unknown, also
    where somebody is known to have bought already.
    """
    world.fill()
    cut = midnight(DAY + timedelta(days=1))
    closing = cut - timedelta(days=world.config.attribution.late_days)
    test, train = world.shown[TEST[0]], world.shown[TRAIN[0]]
    known, late = cut - timedelta(microseconds=1), cut
    labels = [world.label(row) for row in test]
    labels[0] |= {"clicked": True, "click_known_at": known, "converted": True, "conversion_known_at": known}
    labels[1] |= {"clicked": True, "click_known_at": late, "converted": True, "conversion_known_at": late}
    world.put("labels", TEST[0], labels)
    old = [world.label(row, matures_at=closing + timedelta(microseconds=n == 3)) for n, row in enumerate(train)]
    for row, when in zip((old[0], old[1], old[3]), (known, late, known), strict=True):
        row |= {"clicked": True, "click_known_at": known, "converted": True, "conversion_known_at": when}
    world.put("labels", TRAIN[0], old)
    world.assemble()
    rows = {row["impression_id"]: (row["clicked"], row["converted"]) for row in world.examples()}
    assert [rows[row["impression_id"]] for row in test[:3]] == [(True, None), (False, None), (False, None)]
    wanted = [(True, True), (True, False), (False, False), (True, None)]
    assert [rows[row["impression_id"]] for row in train[:4]] == wanted
    heard = {row["impression_id"]: row["conversion_heard_at"] for row in world.examples()}
    assert [heard[row["impression_id"]] for row in test[:3]] == [known, None, None]
    assert [heard[row["impression_id"]] for row in train[:4]] == [known, None, None, known]


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


@pytest.mark.parametrize("when", [at(3), at(4, 0), at(4, 5.99)])
@pytest.mark.parametrize("table", FEATURES)
def test_features_that_claim_to_be_earlier_than_promised_are_refused(world: World, table: str, when: datetime) -> None:
    """The planted leak: a row of day 3 says it was known at noon of it, at its midnight, or before it was served."""
    world.fill()
    rows = world.lake.read(table, [date(2026, 1, 3)]).drop_columns(["day"]).to_pylist()
    world.put(table, date(2026, 1, 3), [*rows[:-1], rows[-1] | {"available_at": when}])
    with pytest.raises(Refused, match=rf"{table} of 2026-01-03 need available_at .* found {when:%Y-%m-%d %H:%M}"):
        world.assemble()
    assert world.lake.version("examples") is None


def test_a_publication_is_good_until_the_next_one_whenever_that_comes(world: World) -> None:
    """No logs and so no features of two days: the endpoint goes on with what it has, and training says the same."""
    for n in (1, 4, 5, 6, 7):
        rows = [world.impression("ann", "tea", at(n, hour)) for hour in (3, 9)]
        world.put("impressions", date(2026, 1, n), rows)
        world.put("labels", date(2026, 1, n), [world.label(row) for row in rows])
        world.features(date(2026, 1, n))
    with_dataset(world, {"train_days": 1})
    world.assemble()
    names = ("user_impressions", "item_click_rate", "encoded_category")
    found = [tuple(row[name] for name in names) for row in world.examples()]
    assert found == [(n, 100.0 + n, n / 100) for n in (1.0, 1.0, 1.0, 4.0, 4.0, 5.0)]


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
