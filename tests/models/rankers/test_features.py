"""What a ranker is shown: joint values, shares and defaults, each against its plain definition."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.features import LAST_ITEMS, SESSION_EVENTS
from models.rankers.encoding import codes_of
from models.rankers.features import (
    EVERYTHING,
    ITEM_NUMBERS,
    NO_BUCKET,
    SEPARATOR,
    USER_NUMBERS,
    Encodings,
    decision_columns,
    joint,
    share_of,
)
from models.rankers.words import Words
from models.settings import TaskSettings

WORDS = st.sampled_from([None, "", "a", "b", "a\x1e"])


def objects(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


@settings(deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=12), st.integers(1, 3))
def test_joint_values_are_the_parts_joined(rows: list[tuple[Any, ...]], width: int) -> None:
    """A None in any part is no value; equal values share one code; every value listed occurs."""
    both = joint([Words.of(objects([row[k] for row in rows])) for k in range(width)])
    codes, values = both.at, both.values
    wanted = [None if None in row[:width] else SEPARATOR.join(row[:width]) for row in rows]
    assert [None if code < 0 else values[code] for code in codes.tolist()] == wanted
    assert sorted(values) == sorted({value for value in wanted if value is not None})


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(-1, 3), min_size=4, max_size=4), st.integers(-1, 3)), max_size=8))
def test_a_share_counts_what_has_a_category(rows: list[tuple[list[int], int]]) -> None:
    """Nothing to be a part of, or an item without a category, is unknown: not zero."""
    buckets = np.array([row[0] for row in rows], np.int8).reshape(len(rows), 4)
    found = share_of(buckets, np.array([row[1] for row in rows], np.int64))
    for share, (of, bucket) in zip(found, rows, strict=True):
        there = [b for b in of if b >= 0]
        assert np.isnan(share) if bucket < 0 or not there else share == there.count(bucket) / len(there)


def test_each_row_sees_the_rates_of_its_own_midnight() -> None:
    """-1 is a row that may see none; a value that midnight did not know is unknown, whoever knew it before."""
    rates = {"category": {"a": np.array([0.1, 0.2]), "b": np.array([np.nan, 0.3])}}
    encodings = Encodings(rates, np.array([0, 1, -1, 0, 1, 1]))
    found = encodings.of("category", [Words.of(objects(["a", "a", "a", "b", "b", None]))])
    np.testing.assert_array_equal(found, [0.1, 0.2, np.nan, np.nan, 0.3, np.nan])
    assert np.isnan(encodings.of("surface_category", [Words.of(objects(["a"] * 6))] * 2)).all()


def decided(surface: str, **context: Any) -> dict[str, Any]:
    """Two candidates, of category a and of none, for a user who clicked the first."""
    users = {name: np.ones(2) for name in USER_NUMBERS} | {"interests": np.ones((2, 32))}
    users["last_items"] = np.array([["i0", *[None] * (LAST_ITEMS - 1)]] * 2, dtype=object)
    users["last_buckets"] = np.full((2, LAST_ITEMS), NO_BUCKET, np.int8)
    users["session_buckets"] = np.full((2, SESSION_EVENTS), 3, np.int8)
    items: dict[str, Any] = {name: np.zeros(2) for name in ITEM_NUMBERS}
    items |= {"item_id": objects(["i0", "i1"]), "category": objects(["a", None])}
    items["interest_bucket"] = np.array([3, NO_BUCKET])
    items["vector"] = np.empty((2, 0), np.float32)
    words = dict.fromkeys(("device", "region", "query", "source_category"))
    words |= {"surface": surface, "user_id": "u"} | context
    rates = {"category": {"a": 0.1}, "surface_category": {f"home{SEPARATOR}a": 0.2}}
    rates["source_category"] = {f"a{SEPARATOR}a": 0.3}
    known = {name: {value: np.array([rate]) for value, rate in of.items()} for name, of in rates.items()}
    columns = {name: objects([word] * 2) for name, word in words.items()}
    return decision_columns(users, items, columns, Encodings(known, np.array([0])), TaskSettings())


def test_context_of_one_surface_is_a_default_elsewhere() -> None:
    """The category's own rate stands in for a joint one; there is no other page's item to be like."""
    home, similar = decided("home"), decided("similar", source_category="a")
    assert set(home) == set(EVERYTHING.named)
    assert home["user_id"].tolist() == ["u", "u"]
    assert home["last_items"].tolist() == [["i0", *[None] * (LAST_ITEMS - 1)]] * 2
    names = ("category", "surface_category", "source_category", "query_category")
    assert [home[f"encoded_{name}"][0] for name in names] == [0.1, 0.2, 0.1, 0.1]
    assert [similar[f"encoded_{name}"][0] for name in names] == [0.1, 0.1, 0.3, 0.1]
    assert (home["source_same_category"].tolist(), similar["source_same_category"].tolist()) == ([0, 0], [1, 0])
    assert all(np.isnan(home[f"encoded_{name}"][1]) for name in names), "no category, no rate"
    assert home["user_clicked_item"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("surface", "task"), [("search", "search"), ("similar", "similar"), ("kiosk", "recommend")])
def test_a_surface_nobody_named_has_the_default_task(surface: str, task: str) -> None:
    assert decided(surface)["task_type"].tolist() == [task] * 2


@pytest.mark.parametrize("word", [None, "", "a", "a\x00", "unheard of"])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_what_a_request_says_once_has_the_codes_of_its_copies(word: str | None, n: int) -> None:
    """One cell seen n times is looked up once; nothing else may come of it."""
    once, copied = np.broadcast_to(objects([word]), (n,)), objects([word] * n)
    assert Words.of(once).values == Words.of(copied).values
    np.testing.assert_array_equal(Words.of(once).at, Words.of(copied).at)
    given = ({"a": 3, "": 4, "a\x00": 5}, 1, 2)
    found, wanted = (codes_of(of, given[0], otherwise=given[1], unknown=given[2]) for of in (once, copied))
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype
    with pytest.raises(ValueError, match="needs to be a string"):
        codes_of(np.broadcast_to(objects([3]), (2,)), {}, otherwise=0, unknown=0)
