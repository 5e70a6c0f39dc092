"""One Great Expectations suite a table, as JSON under `expectations/`; Great Expectations says what breaks it.

Every expectation carries `severity` (critical or warning), `notes` (what breaks when it fails) and in `meta`:
`name`; `needs`, the rule in words; `scope`, what it looks at:

    column  the day's columns and their types: a failure is about the day
    day     one row of figures a day: a failure is about the day
    row     the rows: the failing ones are named, so `mostly` has no place there

Great Expectations runs on pandas: a day of a table fits in memory many times over, and on Spark each expectation is a
job of its own (2M rows, 16 expectations: pandas 7-9 s, Spark 9-25 s). The six suites cost about a second a batch,
however few the rows: a batch holds many days, and every failing row is traced to its day.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.config import ROOT
from jobs.errors import Misconfigured

FOLDER = ROOT / "expectations"
SCOPES = ("column", "day", "row")
NAMING_ROWS = {
    "result_format": "COMPLETE",
    "partial_unexpected_count": 0,
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}

Scope = Literal["column", "day", "row"]


@dataclass(frozen=True)
class Expectation:
    """One rule of a suite; `columns` are the frame's columns it looks at."""

    name: str
    scope: Scope
    severity: Literal["critical", "warning"]
    needs: str
    notes: str
    columns: tuple[str, ...]
    shows: tuple[str, ...]
    """What a reason quotes: columns of the row, or of the frame."""
    keeps_one: bool
    """Of the rows that break it together (copies), one is good."""


@dataclass(frozen=True)
class Finding:
    """What one expectation found in a batch: whether it held, and the positions of the rows that broke it."""

    expectation: Expectation
    held: bool
    rows: NDArray[np.int64]


class Suites:
    """The suites of a folder and a Great Expectations context to run them in; open one per process."""

    def __init__(self, tables: Sequence[str], folder: Path = FOLDER) -> None:
        self._gx = _great_expectations()
        context = self._gx.get_context(mode="ephemeral")
        context.variables.progress_bars = _no_progress_bars()
        self._source = context.data_sources.add_pandas("lake")
        self._documents = {table: _document(folder, table) for table in tables}
        self._batches = {
            table: self._source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("rows")
            for table in tables
        }

    def expectations(self, table: str, scope: Scope) -> list[Expectation]:
        """What a suite says of one scope, in its own order."""
        return [e for e in map(expectation, self._documents[table]["expectations"]) if e.scope == scope]

    def columns(self, table: str, scope: Scope) -> list[str]:
        """The frame columns a scope's expectations look at."""
        return sorted({column for e in self.expectations(table, scope) for column in e.columns})

    def judge(self, table: str, scope: Scope, frame: pd.DataFrame) -> list[Finding]:
        """Every expectation of a scope on one frame (index 0…n-1), in the suite's order.

        Raises `Misconfigured` when an expectation cannot be evaluated, unless its scope is `column`: there an absent
        column is the finding.
        """
        chosen = [entry for entry in self._documents[table]["expectations"] if entry["meta"]["scope"] == scope]
        batch = self._batches[table].get_batch({"dataframe": frame})
        held = self._validate(batch, chosen, {"result_format": "BOOLEAN_ONLY"})
        for rule in map(expectation, chosen):
            raised = _raised(held[rule.name].exception_info)
            if raised and scope != "column":
                raise Misconfigured(f"suite {table}: {rule.name} needs to be evaluable; found: {raised}")
        # Which rows: asked only of what failed, because the answer costs as much again as the question.
        failed = [entry for entry in chosen if not held[entry["meta"]["name"]].success and scope != "column"]
        named = self._validate(batch, failed, NAMING_ROWS) if failed else {}
        nowhere = np.array([], np.int64)
        return [
            Finding(rule, bool(held[rule.name].success), _rows(named[rule.name]) if rule.name in named else nowhere)
            for rule in map(expectation, chosen)
        ]

    def _validate(self, batch: Any, entries: list[dict[str, Any]], result_format: dict[str, Any]) -> dict[str, Any]:
        """Great Expectations' result of each entry, by name."""
        suite = self._gx.ExpectationSuite(name="chosen", expectations=entries)
        outcome = batch.validate(suite, result_format=result_format)
        return {result.expectation_config.meta["name"]: result for result in outcome.results}


def expectation(entry: dict[str, Any]) -> Expectation:
    """One entry of a suite's JSON."""
    kwargs, meta = entry["kwargs"], entry["meta"]
    columns = [kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs]
    columns += kwargs.get("column_list", [])
    return Expectation(
        name=meta["name"],
        scope=meta["scope"],
        severity=entry["severity"],
        needs=meta["needs"],
        notes=entry["notes"],
        columns=tuple(columns),
        shows=tuple(meta.get("shows", columns)),
        keeps_one=meta.get("keeps_one", False),
    )


def _rows(result: Any) -> NDArray[np.int64]:
    """The positions of the rows that broke an expectation."""
    return np.asarray(result.result["unexpected_index_list"], dtype=np.int64)


def _raised(info: dict[str, Any] | None) -> str | None:
    """The message of what an expectation raised: flat for the expectation, keyed by metric for its metrics."""
    if not info:
        return None
    entries = [info] if "raised_exception" in info else list(info.values())
    return next((str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")), None)


def _document(folder: Path, table: str) -> dict[str, Any]:
    path = folder / f"{table}.json"
    if not path.is_file():
        raise Misconfigured(f"table {table} needs a suite {path}; found none")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _great_expectations() -> Any:
    """The package, imported late (seconds), silent and without analytics."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # importing it says 209 things
    import great_expectations

    # This module turns itself up again.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    return great_expectations


def _no_progress_bars() -> Any:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    return ProgressBarsConfig(globally=False)
