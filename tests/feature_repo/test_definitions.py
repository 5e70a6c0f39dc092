"""Feast's definitions say what the tables say."""

from pathlib import Path

import pyarrow as pa
import pytest

from jobs.features.online import import_feast
from jobs.features.read import UNREAD
from jobs.flow import FEATURES
from jobs.lake.tables import LAKE, VALUES

TYPES = {
    "Float64": pa.float64(),
    "Int32": pa.int32(),
    "String": pa.string(),
    "Array(Float32)": pa.list_(pa.float32()),
    "Array(Int32)": pa.list_(pa.int32()),
    "Array(String)": pa.list_(pa.string()),
}


@pytest.mark.parametrize("table", FEATURES)
def test_every_column_of_a_feature_table_is_a_field_of_the_same_type(tmp_path: Path, table: str) -> None:
    """A column added to the table and not here would silently be missing at serving time."""
    import_feast()
    from feature_repo import definitions

    view = definitions.views(tmp_path)[table]
    keys = LAKE[table].key
    fields = {field.name: TYPES[str(field.dtype)] for field in view.schema if field.name not in keys}
    apart = (*keys, definitions.AVAILABLE_AT, *UNREAD[table])
    columns = {n: c.type for n, c in LAKE[table].columns.items() if n not in apart}
    assert fields == {name: pa.string() if of == VALUES else of for name, of in columns.items()}, "maps are JSON texts"
    assert sorted(view.entities) == sorted(key.removesuffix("_id") for key in keys)
    assert view.source.timestamp_field == definitions.AVAILABLE_AT
