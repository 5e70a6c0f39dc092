"""Arrow rows become ranker arrays: nothing is lost, shifted or invented on the way."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.asof.clock import instants
from jobs.errors import Refused
from jobs.lake.tables import ATTRIBUTES, LAKE, TIME, VALUES
from jobs.moment.columns import (
    attribute_columns,
    attribute_keys,
    columns_read,
    encodings_of,
    encodings_seen,
    numbers,
    outcome_words,
    ranker_columns,
    strings,
    user_arrays,
    user_row,
    with_unknown,
)
from models.features import INTEREST_BUCKETS, LAST_ITEMS, Feature
from models.rankers.features import NUMERIC, USER_NUMBERS
from models.rankers.protocol import Inputs
from models.rankers.words import Words

ENTRIES = st.dictionaries(st.sampled_from(["a", "b", "item.c"]), st.sampled_from(["x", "y"]), max_size=3)


@settings(deadline=None)
@given(st.lists(ENTRIES, max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_attributes_are_those_of_a_dictionary_look_up(maps: list[dict[str, str]], cut: int, skipped: int) -> None:
    """Also for sliced and chunked columns, whose offsets once pointed at other rows' entries."""
    whole = pa.array([list(m.items()) for m in maps], ATTRIBUTES)
    column = pa.chunked_array([whole.slice(0, cut), whole.slice(cut)]).slice(skipped)
    left = maps[skipped:]
    assert attribute_keys(column) == sorted({key for m in left for key in m})
    found = attribute_columns(column, ["a", "item.c", "never"])
    for key in ("a", "item.c", "never"):
        assert found[f"attributes.{key}"].tolist() == [m.get(key) for m in left]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=9))
def test_strings_keep_their_order_and_their_nulls(values: list[str | None]) -> None:
    assert strings(pa.chunked_array([pa.array(values, pa.string())])).tolist() == values


@pytest.mark.parametrize("type_", [pa.float64(), pa.bool_(), pa.int32()])
def test_numbers_are_nan_where_null(type_: pa.DataType) -> None:
    """A null click that became 0.0 would teach that unknown means no."""
    found = numbers(pa.chunked_array([pa.array([1, None, 0]).cast(type_)]))
    assert found.dtype == np.float64
    assert found.tolist()[::2] == [1.0, 0.0]
    assert np.isnan(found[1])


def test_the_serving_position_replaces_only_the_position() -> None:
    row = dict.fromkeys(LAKE["examples"].columns) | {"item_id": "i", "surface": "home", "position": 4, "attributes": []}
    table = pa.Table.from_pylist([row], pa.schema([f.with_nullable(True) for f in LAKE["examples"].schema]))
    shown, first = ranker_columns(table), ranker_columns(table, at_serving_position=True)
    assert shown["position"].tolist() == [4.0]
    assert first["position"].tolist() == [1.0]
    assert set(shown) == set(first) >= set(NUMERIC)


def test_a_vector_that_is_null_is_unknown_and_a_short_one_is_refused() -> None:
    """Rows that were joined have nulls where the publication has no row; a list cut short is another vector."""
    feature = Feature("item", "text", "of its title", "vector", width=2, seen="within")
    found = with_unknown(feature, pa.chunked_array([pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32()))]))
    np.testing.assert_array_equal(found, [[1, 2], [np.nan] * 2, [3, 4], [np.nan] * 2])
    with pytest.raises(Refused, match="item_features needs 2 text a row; found 1 in 1 rows"):
        with_unknown(feature, pa.chunked_array([pa.array([[1.0]], pa.list_(pa.float32()))]))


def test_only_what_is_asked_for_is_read() -> None:
    """A million rows of ten strings each are made for a ranker that looks at them, not for trees."""
    rows = [
        {"user_id": "u", "last_items": ["a", "b"], "device": "phone", "attributes": [("daypart", "night")]},
        {"user_id": None, "last_items": None, "device": None, "attributes": []},
        {"user_id": "v", "last_items": [], "device": None, "attributes": []},
        {"user_id": "w", "last_items": [str(n) for n in range(12)], "device": None, "attributes": []},
    ]
    schema = pa.schema([("user_id", pa.string()), ("last_items", pa.list_(pa.string())), ("device", pa.string()),
                        ("attributes", ATTRIBUTES)])  # fmt: skip
    table = pa.Table.from_pylist(rows, schema)
    asked = Inputs(ids=("user_id",), lists=("last_items",))
    for part, offset in ((table, 0), (table.slice(1), 1), (pa.concat_tables([table, table]).slice(4), 0)):
        found = ranker_columns(part, inputs=asked)
        assert {name: column.shape for name, column in found.items()} == {
            "user_id": (4 - offset,),
            "last_items": (4 - offset, LAST_ITEMS),
        }
        assert found["user_id"].strings().tolist() == ["u", None, "v", "w"][offset:]
        wanted = [["a", "b", *[None] * 8], [None] * 10, [None] * 10, [str(n) for n in range(10)]]
        assert found["last_items"].strings().tolist() == wanted[offset:]
    both = asked | Inputs(categories=("device",), attributes=True) | Inputs(ids=("user_id",))
    assert columns_read(both) == ("user_id", "device", "last_items", "attributes")
    assert set(ranker_columns(table, inputs=both)) == {"user_id", "device", "last_items", "attributes.daypart"}


def test_a_users_row_is_the_same_from_a_table_and_from_a_mapping() -> None:
    """The endpoint reads one row as a mapping, datasets read tables: a ranker is shown the same of both."""
    lists = {"last_items": ["a", "b"], "last_buckets": [3, -1], "session_buckets": list(range(20))}
    row: dict[str, Any] = {name: float(n) for n, name in enumerate(("clicks", *USER_NUMBERS))} | lists
    row |= {"user_id": "u", "available_at": datetime(2026, 1, 2, tzinfo=UTC), "interests": [1.5] * INTEREST_BUCKETS}
    table = pa.Table.from_pylist([row | {"user_id": "other", "last_items": []}, row], LAKE["user_features"].schema)
    found, unknown = user_arrays(table, np.array([1, 1])), user_arrays(table, np.array([-1]))
    for wanted, columns in ((user_row(row, 2), found), (user_row(None, 1), unknown)):
        assert columns.keys() == wanted.keys()
        for name, column in columns.items():
            np.testing.assert_array_equal(column, wanted[name], err_msg=name)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(0, 5), st.sampled_from(["a", "b"]), max_size=6),
    st.lists(st.integers(-30, 200), max_size=8),
)
def test_an_encoding_is_seen_from_its_publication_to_the_next(known: dict[int, str], hours: list[int]) -> None:
    """Never one of the future, nor one that a newer publication has replaced, whether or not that knows the value."""
    start = datetime(2026, 1, 1, 6, tzinfo=UTC)
    rows = [
        {"encoding": "category", "value": value, "available_at": start + timedelta(days=n), "click_rate": n / 10}
        | {"impressions": 1.0, "clicks": 0.0}
        for n, value in known.items()
    ]
    table = pa.Table.from_pylist(rows, LAKE["encodings"].schema)
    published = instants([start + timedelta(days=n) for n in known])
    times = pa.chunked_array([pa.array([start + timedelta(hours=h) for h in hours], TIME)])
    words = [Words.of(np.array(["a"] * len(hours), dtype=object))]
    found = encodings_seen(table, published, times).of("category", words)
    newest = [max((n for n in known if n <= h / 24), default=None) for h in hours]
    np.testing.assert_array_equal(found, [np.nan if n is None or known[n] != "a" else n / 10 for n in newest])


def test_one_publication_is_what_all_rows_see() -> None:
    """The endpoint and a replayed hour have one; none of a value that it lacks."""
    row = {"encoding": "category", "value": "a", "click_rate": 0.5, "impressions": 1.0, "clicks": 0.0}
    table = pa.Table.from_pylist([row | {"available_at": datetime(2026, 1, 2, tzinfo=UTC)}], LAKE["encodings"].schema)
    words = [Words.of(np.array(["a", "b", "a"], dtype=object))]
    np.testing.assert_array_equal(encodings_of(table).of("category", words), [0.5, np.nan, 0.5])
    np.testing.assert_array_equal(encodings_of(table.slice(1)).of("category", words), [np.nan] * 3)


def test_counts_of_outcomes_are_told_in_steps_that_double() -> None:
    """Each number by the power of two at or below it; null ones tell nothing; a slice is read from its begin."""
    numbered = [("a", 0.0), ("b", 0.001), ("c", 0.75), ("d", 1.0), ("e", 1.999), ("f", 2.0), ("g", 1023.0), ("h", -3.0)]
    counts = pa.chunked_array([pa.array([[("z", 9.0)], None, numbered, []], VALUES)]).slice(1)
    words = outcome_words(counts, "item")
    assert words.type == ATTRIBUTES
    steps = ["0", "0.0009765625", "0.5", "1", "1", "2", "512", "0"]
    told = [(f"item.outcomes.{name}", step) for (name, _), step in zip(numbered, steps, strict=True)]
    assert words.to_pylist() == [[], told, []]
    assert outcome_words(pa.chunked_array([], VALUES), "user").to_pylist() == []
