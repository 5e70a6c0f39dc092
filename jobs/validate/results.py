"""What the suites found in a table of a day, as Great Expectations writes it: one JSON file a table and day.

The file is an `ExpectationSuiteValidationResult`; `python -m jobs.validate.docs` renders Data Docs from it. A day that
was refused has its files too, as far as it was judged.
"""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from functools import cache
from importlib.metadata import version
from typing import Any

from jobs.lake.swap import write_whole
from jobs.places import Place
from jobs.validate.evaluate import of_outcome
from jobs.validate.suites import Expectation, Finding

NOT_RAISED = {"raised_exception": False, "exception_traceback": None, "exception_message": None}


def document(table: str, day: date, findings: Sequence[Finding], run_id: str) -> dict[str, Any]:
    """An `ExpectationSuiteValidationResult` as JSON; equal findings of one run make equal documents."""
    held = sum(finding.held for finding in findings)
    return {
        "success": held == len(findings),
        "results": [_result(finding) for finding in findings],
        "suite_name": table,
        "suite_parameters": {},
        "statistics": {
            "evaluated_expectations": len(findings),
            "successful_expectations": held,
            "unsuccessful_expectations": len(findings) - held,
            "success_percent": held / len(findings) * 100 if findings else None,
        },
        "meta": {
            "great_expectations_version": _written_as(),
            # The day at hand: no clock, so a run that is repeated writes the same file.
            "run_id": {"run_name": run_id, "run_time": datetime.combine(day, time(), UTC).isoformat()},
            "batch_spec": {"data_asset_name": table, "day": day.isoformat()},
            "active_batch_definition": {
                "datasource_name": "raw",
                "data_connector_name": "days",
                "data_asset_name": table,
                "batch_identifiers": {"day": day.isoformat()},
            },
        },
        "id": None,
    }


def write(folder: Place, table: str, day: date, findings: Sequence[Finding], run_id: str) -> Place:
    """Replace `folder/<table>/<day>.json` whole; returns its path."""
    path = folder / table / f"{day.isoformat()}.json"
    return write_whole(path, json.dumps(document(table, day, findings, run_id), ensure_ascii=False))


@cache
def _written_as() -> str:
    """To find a package's version is to parse all that it says of itself."""
    return version("great_expectations")


def _result(finding: Finding) -> dict[str, Any]:
    rule, outcome = finding.expectation, finding.outcome
    return {
        "success": finding.held,
        "expectation_config": _configuration(rule),
        "result": dict(finding.observed) if outcome is None else of_outcome(rule.type, outcome),
        "meta": {},
        "exception_info": NOT_RAISED,
    }


def _configuration(rule: Expectation) -> dict[str, Any]:
    return {
        "type": rule.type,
        "kwargs": dict(rule.kwargs),
        "meta": dict(rule.meta),
        "notes": rule.notes,
        "severity": rule.severity,
    }
