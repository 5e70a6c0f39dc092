"""Arrow rows become ranker arrays: nothing is lost, shifted or invented on the way."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.examples import attribute_columns, attribute_keys, numbers, ranker_columns, strings
from jobs.tables import ATTRIBUTES, LAKE
from models.rankers.features import NUMERIC

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
