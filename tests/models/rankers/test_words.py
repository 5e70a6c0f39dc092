"""Codes and a vocabulary say what the strings said; and nothing on the way to a ranker makes strings of them again."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.rankers import RANKERS, fit
from models.rankers.crosses import CROSSES, crossed
from models.rankers.embeddings import Embeddings, of_columns, sightings
from models.rankers.encoding import codes_of
from models.rankers.protocol import Columns, TrainingData
from models.rankers.words import Words, repeated, said_once, unpacked
from tests.models.rankers.id_world import IdWorld
from tests.models.rankers.test_ranker_contract import SETTINGS as QUICK

WORDS = st.sampled_from(["a", "b", "c", "unseen", "", None, float("nan")])
LISTS = st.lists(st.lists(WORDS, min_size=3, max_size=3), max_size=9)
KEPT = {"a": 5, "b": 6, "": 7, "absent": 8}


def objects(values: list[Any], width: int | None = None) -> np.ndarray:
    column = np.empty((len(values), width) if width else len(values), dtype=object)
    for at, value in enumerate(values):
        column[at] = value
    return column


def known(value: Any) -> str | None:
    return value if isinstance(value, str) else None


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12), st.lists(st.integers(0, 11), max_size=6))
def test_a_column_is_its_strings_whichever_rows_are_taken(values: list[Any], at: list[int]) -> None:
    """Unknown is None, NaN too; values that no longer occur in the rows taken are not counted, ordered or told."""
    column, rows = Words.of(objects(values)), np.array([n for n in at if n < len(values)], np.int64)
    assert column.strings().tolist() == [known(value) for value in values]
    some, strings = column[rows], [known(values[n]) for n in rows.tolist()]
    assert some.strings().tolist() == strings
    there = [value for value in strings if value is not None]
    assert [some.values[n] for n in some.order().tolist()] == list(dict.fromkeys(there))
    counts = dict(zip(some.values, some.counts().tolist(), strict=True))
    assert {value: n for value, n in counts.items() if n} == {value: there.count(value) for value in there}
    assert [some.are("a").tolist(), some.are("never").any()] == [[value == "a" for value in strings], False]


@settings(deadline=None)
@given(LISTS)
def test_what_is_encoded_is_what_the_strings_encode_to(lists: list[list[Any]]) -> None:
    """Categories' codes, rows of a table of vectors, buckets of crosses, what was seen how often: of words and lists,
    with unknown and unseen ones, and of rows taken out of more."""
    strings = objects(lists, 3)
    more = Words.of(np.concatenate([objects([["of", "other", "rows"]], 3), strings]))[1:]
    first = {"strings": strings[:, 0], "words": more[:, 0]}
    said = {name: codes_of(of, KEPT, otherwise=1, unknown=0).tolist() for name, of in first.items()}
    assert said["strings"] == said["words"] == [KEPT.get(v, 1) if isinstance(v, str) else 0 for v, *_ in lists]
    table = Embeddings({"id": ("", "a", "b")}, np.zeros((5, 1)), np.zeros(5, np.float32), np.zeros(5, np.int32))
    columns: list[Columns] = [{"one": strings[:, 0], "all": strings}, {"one": more[:, 0], "all": more}]
    looked, same = (of_columns(table, of, {"one": "id", "all": "id", "absent": "id"}, len(lists)) for of in columns)
    assert looked.tolist() == same.tolist()
    days = np.arange(len(lists), dtype=np.int64)
    before, now = (sightings([(of["one"], days), (of["all"], days)], (of["one"], of["one"])) for of in columns)
    assert (before.values, before.parents) == (now.values, now.parents)
    assert [before.count.tolist(), before.last_day.tolist()] == [now.count.tolist(), now.last_day.tolist()]
    buckets = np.zeros((2, len(lists), len(CROSSES)), np.int32)
    for at, of in enumerate(columns):
        crossed({name: of["one"] for cross in CROSSES for name in cross}, buckets[at])
    assert buckets[0].tolist() == buckets[1].tolist()


def test_a_column_said_once_stays_so() -> None:
    """A request's user is looked up once, not once a candidate."""
    column = Words.of(np.broadcast_to(objects(["ann"]), (1000,)))
    assert column.at.strides == (0,)
    assert column[:2].strings().tolist() == ["ann", "ann"]


def test_numbers_among_words_are_refused() -> None:
    """An integer id would never be found again among strings."""
    with pytest.raises(ValueError, match="a string or None; found 1"):
        Words.of(objects(["a", 1]))


@pytest.mark.parametrize("kind", list(RANKERS))
def test_a_fit_makes_no_object_a_row(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From codes, the very ranker that strings make; and neither Python strings nor an array of objects of them."""
    drawn = IdWorld(users=60, items=30).rows(600, seed=3).data
    strings = replace(drawn, groups=np.arange(600) // 4, days=np.arange(600) // 200)
    words = replace(strings, features={name: coded(column) for name, column in drawn.features.items()})
    of_strings = fit(kind, strings, QUICK)
    warm = fit(kind, strings, QUICK, of_strings)
    monkeypatch.setattr(Words, "strings", lambda _: pytest.fail("a column of words was made an array of objects"))
    of_words = fit(kind, replace(words, held_out=None), QUICK)
    assert of_words.to_files() == of_strings.to_files()
    assert fit(kind, words, QUICK, of_words).to_files() == warm.to_files()
    with pytest.raises(TypeError, match="is no array"):
        np.asarray(words.features["item_id"])


def test_rows_taken_are_the_rows() -> None:
    """Of training data with words: all columns alike, all rows without a copy."""
    drawn = IdWorld(users=60, items=30).rows(600, seed=3).data
    words: TrainingData = replace(drawn, features={name: coded(column) for name, column in drawn.features.items()})
    some = np.arange(0, 600, 7)
    for name, column in words.where(some).features.items():
        np.testing.assert_array_equal(unpacked(column), unpacked(words.features[name])[some])
    assert words.where(np.arange(600)).features["item_price"] is words.features["item_price"]


def coded(column: np.ndarray) -> Any:
    return Words.of(column) if column.dtype == object else column


@pytest.mark.parametrize("row", [np.array("a", dtype=object), np.array([1, 2]), np.array(["a", None], dtype=object)])
def test_a_row_that_is_repeated_is_one_in_memory(row: NDArray[Any]) -> None:
    """And nobody writes to it."""
    found = repeated(row, 3)
    assert np.array_equal(found, np.broadcast_to(row, (3, *row.shape)))
    assert said_once(found)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = row
    assert repeated(row, 0).shape == (0, *row.shape)
