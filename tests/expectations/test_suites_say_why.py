"""The suites are read by people on call: each rule says what breaks without it and whether publishing stops."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.lake.tables import RAW, TIME
from jobs.validate.suites import FOLDER, SCOPES, expectation

TYPES = {
    pa.string(): "string",
    TIME: "datetime64[us, UTC]",
    pa.int32(): "int32",
    pa.float64(): "float64",
    pa.bool_(): "bool",
}


def entries(table: str) -> list[dict[str, Any]]:
    document = json.loads((FOLDER / f"{table}.json").read_text())
    return list(document["expectations"])


ALL = [pytest.param(table, entry, id=f"{table}.{entry['meta']['name']}") for table in RAW for entry in entries(table)]


def test_every_raw_table_has_one_suite_and_nothing_else_is_there() -> None:
    """A table without a suite would be published unchecked."""
    assert {path.name for path in Path(FOLDER).iterdir()} == {f"{table}.json" for table in RAW}


@pytest.mark.parametrize(("table", "entry"), ALL)
def test_every_expectation_says_what_breaks_and_whether_publishing_stops(table: str, entry: dict[str, Any]) -> None:
    """Severity, notes, the rule in words and its scope; `mostly` would hide rows that must be named."""
    assert entry["severity"] in ("critical", "warning")
    assert len(entry["notes"]) > 25
    assert entry["notes"].endswith(".")
    assert entry["meta"]["needs"]
    assert entry["meta"]["scope"] in SCOPES
    assert "mostly" not in entry["kwargs"]
    assert expectation(entry).columns or entry["meta"]["scope"] == "column"


@pytest.mark.parametrize("table", RAW)
def test_names_are_unique(table: str) -> None:
    """Quarantine rows and counts refer to expectations by name."""
    names = [entry["meta"]["name"] for entry in entries(table)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("table", RAW)
def test_suites_and_table_contract_agree(table: str) -> None:
    """jobs.lake.tables is the contract: a column or type changed there must change here."""
    spec, found = RAW[table], entries(table)
    by_name = {entry["meta"]["name"]: entry["kwargs"] for entry in found}
    required = [name for name, column in spec.columns.items() if not column.optional]
    assert by_name["columns_present"]["column_set"] == required
    for name, column in spec.columns.items():
        kwargs = by_name[f"{name}_type"]
        inner = column.type.value_type if pa.types.is_list(column.type) else column.type
        assert kwargs["type_"] == TYPES[inner]
        assert kwargs["column"] == (f"{name}.element" if pa.types.is_list(column.type) else name)
        if not column.nullable:
            assert f"{name}_present" in by_name
    assert f"{spec.key[0]}_unique" in by_name


@pytest.mark.parametrize("table", RAW)
def test_great_expectations_reads_the_files_as_they_are(table: str) -> None:
    """They are suites of Great Expectations, not a format of our own: severity, notes and meta survive its loading."""
    import great_expectations as gx

    document = json.loads((FOLDER / f"{table}.json").read_text())
    suite = gx.ExpectationSuite(**document)
    for entry, loaded in zip(document["expectations"], suite.expectations, strict=True):
        assert loaded.expectation_type == entry["type"]
        assert (loaded.severity, loaded.notes, loaded.meta) == (entry["severity"], entry["notes"], entry["meta"])
