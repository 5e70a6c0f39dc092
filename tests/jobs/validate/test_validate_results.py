"""What validate leaves behind is Great Expectations' own: it loads there, says the same, and renders as Data Docs."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobs.config import Config
from jobs.errors import NotReady, Refused
from jobs.lake.tables import RAW
from jobs.validate.docs import render
from tests.jobs.validate.raw_days import FIRST, put, retyped, tables_of, write

Validate = Callable[..., dict[str, Any]]


def result(config: Config, table: str) -> dict[str, Any]:
    """The file of a table of the first day."""
    document: dict[str, Any] = json.loads((config.lake.results / table / f"{FIRST}.json").read_text())
    return document


def test_every_table_of_a_day_leaves_a_result(config: Config, validate: Validate) -> None:
    """One entry per expectation of the suite, in all scopes, with the figures of Great Expectations."""
    write(config.lake.raw, FIRST, {**tables_of(FIRST), "clicks": put(tables_of(FIRST)["clicks"], "item_id", None)})
    counts = validate()
    documents = {table: result(config, table) for table in RAW}
    assert sum(len(document["results"]) for document in documents.values()) == counts["expectations"]
    assert {table for table, document in documents.items() if not document["success"]} == {"clicks"}
    failed = [entry for entry in documents["clicks"]["results"] if not entry["success"]]
    assert [entry["expectation_config"]["meta"]["name"] for entry in failed] == ["item_id_present"]
    assert failed[0]["result"]["unexpected_count"] == 1


def test_a_refused_day_leaves_what_refused_it(config: Config, validate: Validate) -> None:
    """Nothing was published, so this is the only place where the whole verdict can be read."""
    rows = tables_of(FIRST)["impressions"]
    write(config.lake.raw, FIRST, {**tables_of(FIRST), "impressions": rows.slice(0, 0)})
    with pytest.raises(Refused):
        validate()
    failed = [e for e in result(config, "impressions")["results"] if not e["success"]]
    assert "has_rows" in [entry["expectation_config"]["meta"]["name"] for entry in failed]
    write(config.lake.raw, FIRST, {"impressions": retyped(rows, "position", rows.column("surface"))})
    with pytest.raises(Refused, match="position"):
        validate()
    failed = [e for e in result(config, "impressions")["results"] if not e["success"]]
    assert [entry["expectation_config"]["meta"]["name"] for entry in failed] == ["position_type"]


def test_great_expectations_loads_the_files_as_its_own(config: Config, validate: Validate) -> None:
    """Whatever tool a team points at the folder reads them: nothing is lost or renamed in loading."""
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema

    write(config.lake.raw, FIRST, tables_of(FIRST))
    validate()
    for table in RAW:
        document = result(config, table)
        loaded = expectationSuiteValidationResultSchema.load(json.loads(json.dumps(document)))
        again = loaded.to_json_dict()
        assert (again["success"], again["statistics"]) == (document["success"], document["statistics"])
        for ours, theirs in zip(document["results"], again["results"], strict=True):
            assert theirs["result"] == ours["result"]
            assert theirs["expectation_config"] | ours["expectation_config"] == theirs["expectation_config"]


def test_data_docs_show_the_failed_expectation_and_what_breaks(config: Config, validate: Validate) -> None:
    """The page a person opens: the rule, the values that broke it and the notes."""
    with pytest.raises(NotReady, match="Data Docs need"):
        render(config.lake.results)
    write(config.lake.raw, FIRST, {**tables_of(FIRST), "items": put(tables_of(FIRST)["items"], "price", -4.25)})
    validate()
    index = render(config.lake.results)
    assert all(f"validations/{table}/" in index.read_text() for table in RAW)
    pages = list((index.parent / "validations" / "items").rglob("*.html"))
    assert len(pages) == 1
    page = pages[0].read_text()
    failed = next(e for e in result(config, "items")["results"] if not e["success"])["expectation_config"]
    assert failed["meta"]["name"] == "price_not_negative"
    assert "-4.25" in page
    assert failed["notes"] in page
