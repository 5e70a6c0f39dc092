"""Which logged decisions can be replayed, and what the rankers are shown of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.lake.store import midnight
from jobs.moment.columns import Columns
from jobs.moment.decisions import (
    Decisions,
    Disagreement,
    Known,
    candidate_columns,
    clusters,
    decisions,
    disagreement,
    first_placements,
)
from models.rankers.features import TABLE
from models.settings import TaskSettings
from tests.jobs.small_lake import (
    SLATE,
    TEST_DAY,
    World,
    encodings,
    examples,
    item_features,
    items,
    known_from,
    requests_table,
    user_features,
)

N = 40


def placed(**changes: Any) -> tuple[pa.Table, pa.Table]:
    rows = examples(World(), TEST_DAY, "test", N)
    for name, change in changes.items():
        values = change(rows[name].to_pylist())
        field = rows.schema.field(name).with_nullable(True)
        rows = rows.set_column(rows.column_names.index(name), field, pa.array(values, field.type))
    return rows, requests_table(World(), TEST_DAY, N)


def known(**changes: Any) -> list[Known]:
    """The two feature days before the test day, as `known_before` reads them; `changes` are of both."""
    days = [TEST_DAY - timedelta(days=back) for back in (2, 1)]
    return [replace(known_of(day), **changes) for day in days]


def known_of(day: date) -> Known:
    tables = [user_features(World(), day), item_features(World(), day), encodings(day), items(World())]
    return Known(day, known_from(day), *tables, None, TaskSettings())


def first_only(value: Any) -> Any:
    """Change the first placement of every fourth request."""
    return lambda values: [value if n % 12 == 0 else v for n, v in enumerate(values)]


def test_it_is_the_first_placement_whatever_the_order_of_rows() -> None:
    rows, requests = placed()
    backwards = rows.take(pa.array(np.arange(len(rows))[::-1]))
    for table in (rows, backwards):
        found, left_out = first_placements(table, requests)
        assert set(found["position"].to_pylist()) == {1}
        assert len(found) == N == left_out["requests"]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("propensity", None, "no_propensity"),
        ("propensity", 1.0, "certain_choice"),
        ("position", 2, "first_placement_missing"),
        ("clicked", None, "click_unknown"),
        ("item_id", "i999999", "shown_item_not_a_candidate"),
    ],
)
def test_what_cannot_be_replayed_is_left_out_and_counted(column: str, value: Any, reason: str) -> None:
    """Never replaced by the second placement: its propensity depends on the first."""
    found, left_out = first_placements(*placed(**{column: first_only(value)}))
    assert left_out[reason] == 10
    assert len(found) == N - 10
    assert set(found["position"].to_pylist()) == {1}


@pytest.mark.parametrize("kept", [[1, 2], [0, 1]], ids=["the first", "the last"])
def test_without_its_first_placement_a_request_is_left_out(kept: list[int]) -> None:
    """The second's propensity is given the first; what is missing below changes no first decision."""
    rows, requests = placed()
    gone = np.isin(np.arange(len(rows)) % 12, [n for n in range(3) if n not in kept])
    for table in (rows, rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))):
        there = np.isin(table["impression_id"].to_pylist(), rows["impression_id"].filter(pa.array(~gone)).to_pylist())
        found, left_out = first_placements(table.filter(pa.array(there)), requests)
        assert left_out["first_placement_missing"] == (10 if 0 not in kept else 0)
        assert len(found) == left_out["requests"] - left_out["first_placement_missing"]
        assert set(found["position"].to_pylist()) == {1}


def test_a_first_place_that_two_took_is_nobodys_decision() -> None:
    found, left_out = first_placements(*placed(position=lambda v: [1 if n % 12 == 1 else p for n, p in enumerate(v)]))
    assert (left_out["first_placement_twice"], len(found)) == (10, N - 10)
    deeper = placed(position=lambda v: [3 if n % 12 == 1 else p for n, p in enumerate(v)])
    assert len(first_placements(*deeper)[0]) == N


@pytest.mark.parametrize(
    ("position", "complete"), [([7, 8, 9], True), ([2, 2, 3], False), ([2, 3, 3], False), ([2, 2, 2], False)]
)
def test_a_request_with_all_its_places_lacks_none_wherever_it_stood(position: list[int], complete: bool) -> None:
    """A shelf further down, or one place of the screen that is decided alone; a place counts once."""
    rows, requests = placed(position=lambda v: position * (len(v) // SLATE))
    found, left_out = first_placements(rows, requests)
    assert len(found) == (N if complete else 0)
    assert left_out["first_placement_missing"] + left_out["first_placement_twice"] == N - len(found)


def test_requests_without_candidates_are_left_out() -> None:
    rows, requests = placed()
    found, left_out = first_placements(rows, requests.slice(3))
    assert (len(found), left_out["no_candidates"]) == (N - 3, 3)


def columns_of(table: pa.Table, some: Sequence[Known]) -> tuple[Decisions, Columns]:
    """The decisions, and what a ranker sees of all their candidates."""
    found = decisions(table)
    return found, candidate_columns(table, found.row, found.item_ids[found.item], some)


def compared(table: pa.Table, some: Sequence[Known]) -> Disagreement:
    found, columns = columns_of(table, some)
    return disagreement(table, columns, found.shown)


def test_the_shown_item_has_the_columns_it_had_in_training() -> None:
    """Replay and dataset take features by different code: a difference would make it another model's estimate."""
    table, _ = first_placements(*placed())
    assert compared(table, known()) == Disagreement(N, 0, {})
    older, newer = known()
    # Features that were computed at midnight and served from six on: a quarter of the day would see them too early.
    at_midnight = replace(newer, available_at=midnight(TEST_DAY))
    early = compared(table, [older, at_midnight])
    assert early == Disagreement(N, N // 4, {"item_age_days": N // 4})
    late = compared(table, [older])
    assert late == Disagreement(N, N - N // 4, {"item_age_days": N - N // 4})


def test_what_only_one_side_knows_differs_too() -> None:
    """An attribute the dataset never had, and one the catalogue lost."""
    table, _ = first_placements(*placed())
    some = known()
    kind = some[0].items.schema.field("attributes")
    colours = pa.array([[("colour", "red")]] * len(some[0].items), kind.type)
    other = some[0].items.set_column(some[0].items.schema.get_field_index("attributes"), kind, colours)
    found = compared(table, [replace(one, items=other) for one in some])
    assert found == Disagreement(N, N, {"attributes.item.colour": N, "attributes.item.tier": N})


def test_a_list_of_ids_is_compared_where_a_ranker_looks_at_it() -> None:
    """Other last items are another sequence to a ranker that reads them, and nothing to one that does not."""
    table, _ = first_placements(*placed())
    found, columns = columns_of(table, known())
    filled = np.array([["x", *[None] * 9]] * len(found.item), dtype=object)
    other = {**columns, "last_items": filled}
    assert disagreement(table, other, found.shown) == Disagreement(N, N, {"last_items": N})
    assert disagreement(table, other, found.shown, TABLE) == Disagreement(N, 0, {})
    nobody = {**columns, "user_id": np.full(len(found.item), None, dtype=object)}
    assert disagreement(table, nobody, found.shown).columns == {"user_id": N}


DISAGREEMENTS = st.builds(
    Disagreement,
    st.integers(0, 9),
    st.integers(0, 9),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), max_size=2),
)


@given(st.lists(DISAGREEMENTS, min_size=1))
def test_disagreements_of_parts_add_up_in_any_order(parts: list[Disagreement]) -> None:
    whole = sum(parts, Disagreement())
    assert whole == sum(reversed(parts), Disagreement())
    assert whole.decisions == sum(part.decisions for part in parts)
    assert sum(whole.columns.values()) == sum(n for part in parts for n in part.columns.values())
    assert (whole.skew is None) == (whole.decisions == 0)


def test_before_the_first_publication_nothing_is_known_of_anybody() -> None:
    """The small hours of the second day ever: the rows are replayed as they were served, with nothing."""
    table, _ = first_placements(*placed())
    _, newer = known()
    found, columns = columns_of(table, [newer])
    early = (np.array(table["event_time"].to_pylist()) < newer.available_at)[found.row]
    assert 0 < early.mean() < 1
    for name in ("user_impressions", "item_age_days", "encoded_category"):
        assert (np.isnan(columns[name]) == early).all(), name
    assert [tier is None for tier in columns["attributes.item.tier"]] == early.tolist()
    assert set(columns["attributes.daypart"]) == {"night", "noon"}, "what the request says is known"


def test_an_item_the_publication_lacks_has_no_attributes() -> None:
    """Listed since: the endpoint's catalogue did not have it, whatever a later snapshot says."""
    table, _ = first_placements(*placed())
    older, newer = known()
    found, columns = columns_of(table, [replace(older, item_features=older.item_features.slice(1)), newer])
    early = (np.array(table["event_time"].to_pylist()) < newer.available_at)[found.row]
    first = np.array([item == "i000000" for item in found.item_ids])[found.item]
    assert set(columns["attributes.item.tier"][first & early]) == {None}
    assert set(columns["attributes.item.tier"][first & ~early]) == {"plus"}


def test_every_candidate_has_its_own_item_and_the_requests_user() -> None:
    table, _ = first_placements(*placed())
    world = World()
    found, columns = columns_of(table, known())
    user = np.array([int(u[1:]) for u in table["user_id"].to_pylist()])[found.row]
    item = np.array([int(i[1:]) for i in found.item_ids])[found.item]
    assert item.tolist() == [int(i[1:]) for candidates in table["candidates"].to_pylist() for i in candidates]
    liked = world.taste[user] == world.category[item]
    assert columns["user_item_interest"].tolist() == np.where(liked, 3.0, 1.0).tolist()
    assert columns["attributes.item.tier"].tolist() == ["basic" if n % 2 else "plus" for n in item]
    assert columns["attributes.user.segment"].tolist() == world.segment[user].tolist()
    assert columns["position"].tolist() == [1.0] * len(item)
    assert found.of_taken(np.ones(len(item))).tolist() == [1.0] * N
    assert found.item_ids[found.item[found.shown]].tolist() == table["item_id"].to_pylist()


def test_unknown_users_and_items_are_unknown_not_somebody_else() -> None:
    """An index of -1 once would have taken the last row."""
    table, _ = first_placements(*placed(user_id=lambda v: [None] * len(v)))
    some = known_of(TEST_DAY - timedelta(days=1))
    few = known(item_features=some.item_features.slice(0, 5), items=some.items.slice(0, 5))
    found, columns = columns_of(table, few)
    late = np.array([int(i[1:]) >= 5 for i in found.item_ids])[found.item]
    assert np.isnan(columns["user_click_rate"]).all()
    assert np.isnan(columns["item_click_rate"][late]).all()
    assert set(columns["item_category"][late]) == {None}
    assert set(columns["attributes.item.tier"][late]) == {None}
    assert len(set(found.cluster)) == N  # each its own: unknown users are not one user


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    ends=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    candidates=st.integers(1, 20),
)
def test_parts_cover_their_decisions_in_order_and_are_as_large_as_they_may(
    sizes: list[int], ends: tuple[int, int], candidates: int
) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    first, last = sorted(min(end, len(sizes)) for end in ends)
    some = replace(decisions(first_placements(*placed())[0]), offsets=offsets)
    parts = list(some.parts(first, last, candidates))
    assert [n for start, end in parts for n in range(start, end)] == list(range(first, last))
    for start, end in parts:
        assert end == start + 1 or offsets[end] - offsets[start] <= candidates
        assert end == last or offsets[end + 1] - offsets[start] > candidates


def test_rows_of_one_anonymous_request_share_a_cluster() -> None:
    table = pa.table({"user_id": pa.array(["a", None, None, "a"]), "request_id": ["r1", "r2", "r2", "r3"]})
    found = clusters(table)
    assert found[0] == found[3]
    assert found[1] == found[2] != found[0]
