"""Vectors by value: what is copied, what begins where, who comes in and who goes; and the file they lie in."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.rankers.embeddings import Admission, Embeddings, cold, sightings
from models.rankers.tensors import from_bytes, to_bytes

ADMISSION = Admission(admit_after=2, expire_after_days=3, max_values=4)
DAYS = st.lists(st.lists(st.sampled_from([None, "a", "b", "c", "d", "e", "f"]), max_size=12), min_size=1, max_size=6)


def words(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def table(values: list[Any], admission: Admission = ADMISSION, day: int = 0) -> Embeddings:
    seen = {"id": sightings([(words(values), np.full(len(values), day))])}
    return cold(seen, admission, 3, np.random.default_rng(0)).at_rest()


@settings(deadline=None, max_examples=60)
@given(DAYS)
def test_a_table_grown_by_day_is_the_plain_rule(days: list[list[Any]]) -> None:
    """Kept while seen within the limit; new with two rows of one day, while there is room; rows copied bit for bit."""
    found = table(days[0])
    last = dict.fromkeys(found.values["id"], 0)
    vectors = dict(zip(found.values["id"], found.rows[2:], strict=True))
    for day, values in enumerate(days[1:], start=1):
        seen = {"id": sightings([(words(values), np.full(len(values), day))])}
        found = found.grown(seen, ADMISSION, {}, day).at_rest()
        counts = Counter(value for value in values if value is not None)
        last |= {value: day for value in counts if value in last}
        last = {value: at for value, at in last.items() if day - at <= ADMISSION.expire_after_days}
        often = sorted((-n, value) for value, n in counts.items() if n >= ADMISSION.admit_after and value not in last)
        new = {value for _, value in often[: max(0, ADMISSION.max_values - len(last))]}
        vectors = {value: vectors[value] for value in last} | dict.fromkeys(new, found.rows[1])
        last |= dict.fromkeys(new, day)
        assert set(found.values["id"]) == set(last)
        assert dict(zip(found.values["id"], found.last_seen[2:].tolist(), strict=True)) == last
        for value, row in zip(found.values["id"], found.rows[2:], strict=True):
            assert np.array_equal(row, vectors[value])
    assert Embeddings.from_files(found.to_files()).to_files() == found.to_files()


def test_a_new_value_begins_at_the_mean_of_its_kind() -> None:
    """A new item is first of all one of its category; one of an unheard category is one of the rest."""
    admission = Admission(1, 30, 100, first_sum=0.5)
    before = table(["a", "b", "c"], admission)
    assert set(before.accumulators) == {0.5}
    items, kinds = words(["a", "b", "c", "new", "odd", "none"]), words(["x", "x", "y", "x", "z", None])
    seen = {"id": sightings([(items, np.zeros(6, np.int64))], (items, kinds))}
    before.accumulators[:] = 7.0
    after = before.grown(seen, admission, {"id": "kind"}, 0)
    row = after.row_of["id"]
    mean = before.rows[[before.row_of["id"]["a"], before.row_of["id"]["b"]]].astype(np.float32).mean(axis=0)
    np.testing.assert_array_equal(after.rows[row["new"]], mean)
    for value in ("odd", "none"):
        np.testing.assert_array_equal(after.rows[row[value]], before.rows[before.rest("id")].astype(np.float32))
    fresh = {value: after.accumulators[row[value]] for value in row}
    assert fresh == {"a": 7.0, "b": 7.0, "c": 7.0, "new": 0.5, "odd": 0.5, "none": 0.5}


def test_a_list_shares_the_rows_of_its_items() -> None:
    """An item among the last clicked is that very item; what is no value has the row of the unknown or of the rest."""
    found = table(["a", "a", "b", "b", "c"])
    codes = found.codes("id", words(["a", None, "c", "never", "b"]))
    assert codes.tolist() == [2, 0, 1, 1, 3]
    lists = np.array([["b", None], ["a", "c"]], dtype=object)
    assert found.codes("id", lists).tolist() == [[3, 0], [2, 1]]
    assert sightings([(words(["a", None]), np.array([1, 2])), (lists, np.array([5, 6]))]).count.tolist() == [2, 1, 1]


def test_a_value_that_is_a_number_is_refused() -> None:
    """1 and "1" would be two ids."""
    with pytest.raises(ValueError, match="string or None; found 1"):
        sightings([(words(["a", 1]), np.zeros(2, np.int64))])
    with pytest.raises(ValueError, match="string or None; found 1"):
        table(["a", "a"]).codes("id", words([1]))


def test_tensors_come_back_as_they_were() -> None:
    """Types, shapes and every bit, empty ones too; nothing that would need a pickle is written."""
    tensors = {
        "half": np.array([[1.5, -0.0], [np.nan, np.inf]], np.float16),
        "none": np.zeros((0, 3), np.float32),
        "whole": np.arange(3, dtype=np.int32),
        "one": np.float64(2.0) * np.ones(()),
    }
    content = to_bytes(tensors)
    found = from_bytes(content)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].tobytes() == tensor.tobytes()
    assert to_bytes(found) == content
    with pytest.raises(ValueError, match="words of object"):
        to_bytes({"words": np.array(["a"], dtype=object)})
    with pytest.raises(ValueError, match=r"needs \d+ bytes"):
        from_bytes(content[:-1])
