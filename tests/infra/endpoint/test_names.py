"""Ids that are written out beforehand say what a list of them says."""

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from infra.endpoint.names import MOST, Names

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), min_size=1, max_size=8)


@given(IDS, st.data())
def test_names_are_json_as_a_list_of_them_is(ids: list[str], data: st.DataObject) -> None:
    """Quotes, letters of several bytes, NUL and nothing at all included; in any order, as often as one likes."""
    column = np.empty(len(ids), dtype=object)
    column[:] = ids
    rows = data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=12))
    named = Names(column).of(np.array(rows))
    assert named is not None
    assert orjson.loads(named.json()) == [ids[row] for row in rows] == list(named)
    assert named.json() == orjson.dumps(list(named))
    assert len(named) == len(rows)
    assert named[np.arange(len(rows))].tolist() == list(named)


def test_what_is_unknown_or_too_long_is_left_to_a_list() -> None:
    """A row of -1 has no name here; one long id would have a million others take its room."""
    short, long = (np.array(["a", of], dtype=object) for of in ("b", "b" * MOST))
    assert Names(short).of(np.array([0, -1])) is None
    assert Names(short).of(np.array([], dtype=np.int64)) is None
    assert Names(long).of(np.array([0])) is None
    assert Names(np.empty(0, dtype=object)).of(np.array([0])) is None
