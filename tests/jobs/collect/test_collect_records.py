"""Records become rows of the contract; what does not is named with its reason, and costs no other its place."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.collect.records import AHEAD_OF_TIME, UNFIT, UNREADABLE, rows_of
from jobs.kafka import Partition, Record
from jobs.lake.tables import RAW
from jobs.mapping import TableMapping

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
VIEW = {
    **{"impression_id": "i", "request_id": "r", "event_time": "2026-03-02T10:00:00Z", "item_id": "p", "user_id": "u"},
    **{"surface": "home", "position": 1, "policy": "x"},
}
SAME = TableMapping(topic="views")


def records(*values: Any, came: datetime = NOW) -> list[Record]:
    content = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]
    return [Record(Partition("views", 0), n, round(came.timestamp() * 1000), one) for n, one in enumerate(content)]


def read(*values: Any, of: TableMapping = SAME, known: Any = None, name: str = "impressions") -> Any:
    rows, aside, _ = rows_of(records(*values), name, of, known or {}, NOW)
    return rows, [(one.record.offset, one.reason, one.found) for one in aside]


@pytest.mark.parametrize(
    ("value", "reason", "found"),
    [
        (b"not json", UNREADABLE, "needs a JSON object; found invalid literal"),
        (b"\xff\xfe", UNREADABLE, "needs a JSON object; found"),
        (b'{"impression_id": NaN}', UNREADABLE, "needs a JSON object; found"),
        (None, UNREADABLE, "needs a JSON object; found"),
        ([1], UNREADABLE, "needs a JSON object; found list"),
        ({**VIEW, "position": "first"}, UNFIT, "position from 'first'"),
        ({**VIEW, "position": 1.5}, UNFIT, "position from 1.5"),
        ({**VIEW, "position": 2**70}, UNFIT, "position from"),
        ({**VIEW, "item_id": 1.5}, UNFIT, "item_id from 1.5: an id or a word needs to be text or a whole number"),
        ({**VIEW, "item_id": {"id": 1}}, UNFIT, "item_id from {'id': 1}"),
        ({**VIEW, "event_time": 1_772_445_600}, UNFIT, "event_time from 1772445600: a time that is a number needs its"),
        ({**VIEW, "event_time": "yesterday"}, UNFIT, "event_time from 'yesterday'"),
        ({k: v for k, v in VIEW.items() if k != "event_time"}, UNFIT, "event_time is missing"),
        ({**VIEW, "event_time": None}, UNFIT, "event_time is missing"),
        ({**VIEW, "event_time": "2099-01-01T00:00:00Z"}, AHEAD_OF_TIME, "event_time needs to be before 2026-03-02 13"),
        ({**VIEW, "context_depth": "deep"}, UNFIT, "context_depth needs a number, as before; found 'deep'"),
    ],
)
def test_a_record_that_fits_no_row_costs_itself_alone(value: Any, reason: str, found: str) -> None:
    """Set aside with its reason, between two that are as if it had not been there."""
    first, last = {**VIEW, "context_depth": 1}, {**VIEW, "impression_id": "z", "context_depth": 2.5}
    rows, aside = read(first, value, last)
    assert [(one[0], one[1]) for one in aside] == [(1, reason)]
    assert aside[0][2].startswith(found)
    alone, none = read(first, last)
    assert not none
    assert rows.rows.equals(alone.rows)
    assert [record.offset for record in rows.records] == [0, 2]


def test_values_are_read_as_the_contract_says() -> None:
    """Whole numbers are ids, times have any zone, what is missing is null and validate's to judge."""
    berlin = {**VIEW, "event_time": "2026-03-02T11:00:00+01:00", "item_id": 7, "propensity": 1, "query": None}
    rows, aside = read(berlin, {"event_time": "2026-03-02T10:00:00"})
    assert not aside
    first, second = rows.rows.to_pylist()
    at = datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert (first["event_time"], second["event_time"]) == (at, at)
    assert (first["item_id"], first["propensity"], second["item_id"]) == ("7", 1.0, None)
    fits = {name: column.type for name, column in RAW["impressions"].columns.items()}
    assert {name: rows.rows.schema.field(name).type for name in fits} == fits


def test_it_is_known_from_when_it_came_to_its_topic() -> None:
    """Where the event does not say so itself, and never before it happened: labels know nothing too soon."""
    (late, own), _ = (
        read({**VIEW}, {**VIEW, "ingested_at": "2026-03-02T10:00:01Z"})[0].rows["ingested_at"].to_pylist(),
        0,
    )
    assert (late, own) == (NOW, datetime(2026, 3, 2, 10, 0, 1, tzinfo=UTC))
    ahead = {**VIEW, "event_time": (NOW + timedelta(minutes=5)).isoformat()}
    assert read(ahead)[0].rows["ingested_at"].to_pylist() == [NOW + timedelta(minutes=5)]


def test_columns_of_ones_own_keep_the_type_they_have() -> None:
    """A batch of whole numbers after one of parts, or of nothing but nulls; nested ones are their text."""
    rows, aside = read({**VIEW, "context_depth": 3, "context_tags": ["a"], "context_none": None, "colour": "red"})
    assert not aside
    kinds = {"context_depth": pa.float64(), "context_tags": pa.string()}
    assert {name: rows.rows.schema.field(name).type for name in kinds} == kinds
    assert rows.rows["context_tags"].to_pylist() == ['["a"]']
    assert {"context_none", "colour"}.isdisjoint(rows.rows.column_names)
    assert rows_of(records({**VIEW, "colour": "red"}), "impressions", SAME, {}, NOW)[2] == {"colour"}
    _, aside = read({**VIEW, "context_depth": 3}, known={"context_depth": pa.string()})
    assert [found for _, _, found in aside] == ["context_depth needs a text, as before; found 3"]


def test_names_epochs_and_zones_are_mapped() -> None:
    """As of files: only what is named is read."""
    columns = {
        **{"request_id": "id", "event_time": {"column": "ms", "unit": "ms"}, "surface": {"value": "search"}},
        **{"policy": {"value": "x"}, "candidates": {"column": "shown", "separator": "|"}, "slate_size": {"value": 2}},
    }
    of = TableMapping(topic="asked", columns=columns)
    rows, aside = read(
        {"id": 5, "ms": 1_772_445_600_123, "shown": "a|b", "user_id": "not read"}, of=of, name="requests"
    )
    assert not aside
    (row,) = rows.rows.to_pylist()
    assert row == {
        **{"request_id": "5", "event_time": datetime(2026, 3, 2, 10, 0, 0, 123_000, tzinfo=UTC), "user_id": None},
        **{"surface": "search", "policy": "x", "candidates": ["a", "b"], "slate_size": 2},
    }


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=3), below, max_size=2),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([*VIEW, "context_a", "ingested_at", "other"]), anything), max_size=6))
def test_whatever_comes_each_record_is_a_row_or_set_aside(values: list[dict[str, Any]]) -> None:
    """Exactly one of the two, and nothing raises."""
    rows, aside = read(*values, VIEW)
    assert sorted([one.offset for one in rows.records] + [offset for offset, _, _ in aside]) == list(
        range(len(values) + 1)
    )
    assert len(rows.rows) == len(rows.records)
    assert rows.records[-1].offset == len(values)
