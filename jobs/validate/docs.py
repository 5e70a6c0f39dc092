"""`python -m jobs.validate.docs`: Great Expectations' Data Docs of every result under `lake.results`.

Prints the page to open. The pages are Great Expectations' own rendering; this module only hands it the files.
"""

import json
import logging
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs import config
from jobs.errors import EXIT_OK, NotReady, UsageError, run_as_command
from jobs.places import Place, copied
from jobs.validate.suites import FOLDER

SITE = "docs"


def render(results: Place) -> Path:
    """Renders every `results/<table>/<day>.json` below `results/docs`, of S3 below a copy in `var`; returns the index.

    Raises `NotReady` where there is no result yet.
    """
    folder = copied(results, config.ROOT / "var" / "validations")
    paths = sorted(folder.glob("*/????-??-??.json"))
    if not paths:
        raise NotReady(f"Data Docs need {results}/<table>/<day>.json, which validate writes; found none")
    context = _context(folder / SITE)
    for table in sorted({path.parent.name for path in paths}):
        _add_suite(context, table)
    for path in paths:
        _add_result(context, path)
    context.build_data_docs(site_names=[SITE])
    return folder / SITE / "index.html"


def _context(folder: Path) -> Any:
    """A context that lives in memory, with one site in `folder`; silent and without analytics."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # importing it says 209 things
    import great_expectations
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # This module turns itself up again.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = great_expectations.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    context.add_data_docs_site(site_name=SITE, site_config=site)
    return context


def _add_suite(context: Any, table: str) -> None:
    """Put a table's suite where result pages link to."""
    import great_expectations

    context.suites.add(great_expectations.ExpectationSuite(**json.loads((FOLDER / f"{table}.json").read_text())))


def _add_result(context: Any, path: Path) -> None:
    """Put one result where the renderer looks for it, under its table, run and day."""
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    document = json.loads(path.read_text())
    for entry in document["results"]:
        entry["expectation_config"]["description"] = _described(entry["expectation_config"])
    run = document["meta"]["run_id"]
    key = ValidationResultIdentifier(
        ExpectationSuiteIdentifier(document["suite_name"]),
        RunIdentifier(run["run_name"], datetime.fromisoformat(run["run_time"])),
        path.stem,
    )
    context.validation_results_store.set(key, expectationSuiteValidationResultSchema.load(document))


def _described(rule: dict[str, Any]) -> str:
    """A rule in its suite's own words: result pages leave out notes and severity otherwise."""
    words = f"{rule['meta']['name']} ({rule['severity']}): needs {rule['meta']['needs']}. {rule['notes']}"
    return words.replace("$", "$$")  # the renderer's templates take a single one for a parameter


def main(argv: Sequence[str]) -> int:
    """Render what the configured lake's results hold; returns the exit code."""
    if argv:
        raise UsageError(f"python -m jobs.validate.docs takes no words; found {' '.join(argv)}")
    print(render(config.load().lake.results))
    return EXIT_OK


if __name__ == "__main__":
    run_as_command(main)
