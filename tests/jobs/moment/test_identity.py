"""When two ids are one item."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import SelectionSettings
from jobs.lake.tables import LAKE
from jobs.moment.identity import IDENTIFYING, identities

SCHEMA = pa.schema([LAKE["items"].schema.field(name) for name in IDENTIFYING])
IDS = st.sampled_from("abcdef")


def found(rows: list[dict[str, Any]], same_items: str = "canonical") -> dict[str, str]:
    plain = {"category": "drinks", "price": 2.5, "title": None, "attributes": []}
    full = [plain | row for row in rows]
    table = identities(pa.Table.from_pylist(full, SCHEMA), SelectionSettings.model_validate({"same_items": same_items}))
    return dict(zip(table["item_id"].to_pylist(), table["identity"].to_pylist(), strict=True))


def copy(item: str, of: str) -> dict[str, Any]:
    return {"item_id": item, "attributes": [("tier", "plus"), ("canonical_item_id", of)]}


def test_items_are_themselves_unless_the_catalogue_says_otherwise() -> None:
    """Equal content alone may be two sellers' offers: only a setting makes one item of them."""
    rows = [{"item_id": "a", "title": "Tea"}, {"item_id": "b", "title": "Tea"}]
    assert found(rows) == {}
    assert found([], "content") == {}
    assert found([copy("b", "a")], "item_id") == {}


@given(st.lists(st.tuples(IDS, IDS), max_size=8, unique_by=lambda pair: pair[0]))
@settings(deadline=None)
def test_who_names_whom_over_any_steps_is_one_item(pairs: list[tuple[str, str]]) -> None:
    """Chains, circles and stars give one identity, the smallest id; by repeated naming until nothing changes."""
    wanted = {item: item for pair in pairs for item in pair}
    for _ in wanted:
        for left, right in pairs:
            small = min(wanted[left], wanted[right])
            wanted = {
                item: small if known in (wanted[left], wanted[right]) else known for item, known in wanted.items()
            }
    assert found([copy(*pair) for pair in pairs]) == {item: known for item, known in wanted.items() if item != known}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"title": "  green\tTEA "}, True),
        ({"title": "green teas"}, False),
        ({"price": 2.51}, False),
        ({"category": "cups"}, False),
        ({"title": None}, False),
        ({"price": None}, False),
        ({"category": None}, False),
    ],
)
def test_equal_content_is_one_item_where_asked_for(other: dict[str, Any], same: bool) -> None:
    """Case and spaces apart; what is unknown equals nothing."""
    rows = [{"item_id": "b", "title": "Green  Tea"}, {"item_id": "a", "title": "Green Tea"} | other]
    assert found(rows, "content") == ({"b": "a"} if same else {})


def test_content_and_names_join() -> None:
    """c names b, b looks like a: one item."""
    rows = [
        {"item_id": "a", "title": "x"},
        {"item_id": "b", "title": "X"},
        copy("c", "b"),
        {"item_id": "d", "title": ""},
    ]
    assert found([*rows, {"item_id": "e", "title": " "}], "content") == {"b": "a", "c": "a"}
