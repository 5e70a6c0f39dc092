"""Feast's definitions say what the tables say."""

import pyarrow as pa
import pytest

from jobs.featurize.online import import_feast
from jobs.tables import LAKE

TYPES = {
    "Float64": pa.float64(),
    "Int32": pa.int32(),
    "String": pa.string(),
    "Array(Float32)": pa.list_(pa.float32()),
    "Array(String)": pa.list_(pa.string()),
}


@pytest.mark.parametrize(("table", "key"), [("user_features", "user_id"), ("item_features", "item_id")])
def test_every_column_of_a_feature_table_is_a_field_of_the_same_type(table: str, key: str) -> None:
    """A column added to the table and not here would silently be missing at serving time."""
    import_feast()
    from feature_repo import definitions

    view = getattr(definitions, table)
    fields = {field.name: TYPES[str(field.dtype)] for field in view.schema if field.name != key}
    columns = {n: c.type for n, c in LAKE[table].columns.items() if n not in (key, definitions.AVAILABLE_AT)}
    assert fields == columns
    assert view.source.timestamp_field == definitions.AVAILABLE_AT
