"""The evidence pack of a candidate: `evidence.json`, the page, and beside its bundle what came of it since.

`verdict.json` is there once there is a verdict, `matured.json` once every label was in. The latter stays as long as the
pack is about the very document it was computed for.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.evidence import page
from jobs.lake.run import Run
from jobs.lake.swap import swap

DOCUMENT, PAGE, VERDICT, MATURED = "evidence.json", "evidence.html", "verdict.json", "matured.json"


def write(
    run: Run,
    document: Mapping[str, Any],
    judgement: Mapping[str, Any] | None = None,
    matured: Mapping[str, Any] | None = None,
) -> Path:
    """The folder `<bundles>/<candidate>.evidence`, replaced as one: readers see the old pack or the new one, whole."""
    folder = _folder(run, document)
    if matured is None:
        matured = _kept(folder, document)
    draft = folder.with_name(f".{folder.name}.{run.run_id}")
    draft.mkdir(parents=True)
    (draft / DOCUMENT).write_text(_json(document))
    (draft / PAGE).write_text(page.html(document, judgement, matured))
    for name, tree in ((VERDICT, judgement), (MATURED, matured)):
        if tree is not None:
            (draft / name).write_text(_json(tree))
    swap(draft, folder)
    shutil.rmtree(draft, ignore_errors=True)  # what lay there before
    return folder


def judgement(run: Run, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The verdict beside this very document; None where nobody has judged it, or the pack is about another."""
    folder = _folder(run, document)
    return _read(folder / VERDICT) if _read(folder / DOCUMENT) == document else None


def sha256(document: Mapping[str, Any]) -> str:
    """What tells one document from another: the digest of the text in the table `evidence`."""
    return hashlib.sha256(text(document).encode()).hexdigest()


def text(document: Mapping[str, Any]) -> str:
    """The document as the table has it: one line, sorted, finite."""
    return json.dumps(document, sort_keys=True, allow_nan=False)


def _folder(run: Run, document: Mapping[str, Any]) -> Path:
    return run.config.bundles / f"{document['challenger']['candidate_id']}.evidence"


def _kept(folder: Path, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was computed for this very document; of another one it says nothing."""
    matured = _read(folder / MATURED)
    return matured if matured is not None and matured["evidence_sha256"] == sha256(document) else None


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if path.is_file() else None


def _json(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=1, sort_keys=True, allow_nan=False)
