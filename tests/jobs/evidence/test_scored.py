"""What test rows can be told apart by."""

import pyarrow as pa
import pytest

from jobs.config import SelectionSettings
from jobs.evidence.detail import sliced
from jobs.evidence.scored import scored
from jobs.moment.identity import IDENTITY, identities
from models.settings import GateSettings
from tests.jobs.small_candidates import linear
from tests.jobs.small_lake import TEST_DAY, World, examples, items

PAIR = {side: linear(interest) for side, interest in (("champion", 0.5), ("challenger", 1.0))}


def catalogue(copies: dict[str, str]) -> pa.Table:
    """The small lake's items, some of which name another as the one they are."""
    found = items(World())
    maps = [
        [*pairs, ("canonical_item_id", copies[item])] if item in copies else pairs
        for item, pairs in zip(found["item_id"].to_pylist(), found["attributes"].to_pylist(), strict=True)
    ]
    at = found.schema.get_field_index("attributes")
    return found.set_column(at, found.schema.field("attributes"), pa.array(maps, found.schema.field("attributes").type))


def test_items_under_several_ids_are_a_slice_of_their_own() -> None:
    """The copy and the item it stands for alike; all that have one id are the rest."""
    rows = examples(World(), TEST_DAY, "test", 200)
    identity = identities(catalogue({"i000007": "i000003", "i000020": "i000021"}), SelectionSettings())
    found = scored(rows, PAIR, identity).attributes["item_ids"]
    several = {"i000003", "i000007", "i000020", "i000021"}
    assert found.tolist() == ["several" if item in several else "one" for item in rows["item_id"].to_pylist()]
    parts = sliced(scored(rows, PAIR, identity), GateSettings(min_slice_rows=20)).slices
    mine = {part.value: part.n for part in parts if part.attribute == "item_ids"}
    assert mine == {value: found.tolist().count(value) for value in ("several", "one")}


@pytest.mark.parametrize("settings", [SelectionSettings(), SelectionSettings(same_items="item_id")])
def test_without_copies_there_is_no_such_slice(settings: SelectionSettings) -> None:
    copies = {} if settings.same_items == "canonical" else {"i000007": "i000003"}
    rows = examples(World(), TEST_DAY, "test", 20)
    for identity in (identities(catalogue(copies), settings), IDENTITY.empty_table()):
        assert "item_ids" not in scored(rows, PAIR, identity).attributes
