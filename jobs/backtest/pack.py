"""The evidence pack of a candidate: `evidence.json`, the page, and the verdict once there is one, beside its bundle."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.backtest import page
from jobs.run import Run
from jobs.swap import swap

DOCUMENT, PAGE, VERDICT = "evidence.json", "evidence.html", "verdict.json"


def write(run: Run, document: Mapping[str, Any], judgement: Mapping[str, Any] | None = None) -> Path:
    """The folder `<bundles>/<candidate>.evidence`, replaced as one: readers see the old pack or the new one, whole."""
    folder = run.config.bundles / f"{document['challenger']['candidate_id']}.evidence"
    draft = folder.with_name(f".{folder.name}.{run.run_id}")
    draft.mkdir(parents=True)
    (draft / DOCUMENT).write_text(_json(document))
    (draft / PAGE).write_text(page.html(document, judgement))
    if judgement is not None:
        (draft / VERDICT).write_text(_json(judgement))
    swap(draft, folder)
    shutil.rmtree(draft, ignore_errors=True)  # what lay there before
    return folder


def _json(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=1, sort_keys=True, allow_nan=False)
