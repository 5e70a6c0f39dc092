"""The evidence pack of a candidate: `evidence.json`, the page, and beside its bundle what came of it since.

`verdict.json` is there once there is a verdict, `matured.json` once every label was in. A pack belongs to one document:
either stays as long as the pack is about the very document it was made of, and never lies beside another.

A stage publishes its table first and puts the pack there after it: whatever fails on the way, the old pack stays whole.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from jobs.errors import Refused
from jobs.evidence import page
from jobs.evidence.document import SCHEMA_VERSION, Document
from jobs.evidence.figures import Part
from jobs.evidence.judgement import Judgement, Matured
from jobs.lake.run import Run
from jobs.lake.swap import put_folder
from jobs.places import Place

DOCUMENT, PAGE, VERDICT, MATURED = "evidence.json", "evidence.html", "verdict.json", "matured.json"
Told = TypeVar("Told", Judgement, Matured)


@dataclass(frozen=True)
class Pack:
    """The files of one document, by name; nothing is on disk before `put`."""

    folder: Place
    files: Mapping[str, str]
    logged_in: str = ""
    """The folder of the MLflow run's evidence they go to, "" or one with a slash at its end."""

    @property
    def logged(self) -> dict[str, str]:
        """The files as the MLflow run has them."""
        return {self.logged_in + name: content for name, content in self.files.items()}

    def put(self) -> None:
        """The folder is replaced as one: readers see the old pack or this one, whole.

        On S3 file by file, the document last; whoever finds a verdict beside another document takes no notice of it.
        """
        put_folder(self.folder, {name: content.encode() for name, content in self.files.items()}, last=DOCUMENT)


def of(run: Run, document: Document, judgement: Judgement | None = None, matured: Matured | None = None) -> Pack:
    """The pack of a document; its verdict and re-evaluation stay unless given anew.

    It is `<bundles>/<candidate>.evidence`, of a later day on which the challenger stood `<candidate>.<day>.evidence`:
    what was found on the days before stays what it was.
    """
    challenger, sha = document.challenger, sha256(document)
    folder = _folder(run, challenger.candidate_id, document.day, challenger.day)
    verdict = judgement or _beside(folder / VERDICT, Judgement, sha)
    again = matured or _beside(folder / MATURED, Matured, sha)
    parts = {DOCUMENT: document, VERDICT: verdict, MATURED: again}
    files = {name: _json(part) for name, part in parts.items() if part is not None}
    # Of what is stored, so that whoever reads the document back makes the same page: order of keys included.
    files[PAGE] = page.html(Document.model_validate_json(text(document)), verdict, again)
    logged_in = "" if document.day == challenger.day else f"{document.day}/"
    return Pack(folder, files, logged_in)


def judgement(run: Run, row: Mapping[str, Any]) -> Judgement | None:
    """The verdict on the very document of a row of `evidence`; None where nobody has judged it, or the pack is about
    another.
    """
    trained = json.loads(row["document"]).get("challenger", {}).get("day", row["day"])
    folder = _folder(run, row["candidate_id"], row["day"], trained)
    return _beside(folder / VERDICT, Judgement, row["document_sha256"])


def parsed(text: str, stage: str) -> Document:
    """The document of a row of `evidence`; raises `Refused` where it is of another schema."""
    tree = json.loads(text)
    found = tree.get("schema_version")
    if found != SCHEMA_VERSION:
        raise Refused(f"{stage} needs evidence of schema_version {SCHEMA_VERSION}; found {found}: run backtest again")
    try:
        return Document.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(f"{stage} needs evidence of its schema; found at {where}: {first['msg']}") from error


def sha256(document: Document) -> str:
    """What tells one document from another: the digest of the text in the table `evidence`."""
    return hashlib.sha256(text(document).encode()).hexdigest()


def text(document: Document) -> str:
    """The document as the table has it: one line, sorted, finite."""
    return json.dumps(document.model_dump(mode="json"), sort_keys=True, allow_nan=False)


def _folder(run: Run, candidate_id: str, day: str, trained: str) -> Place:
    return run.config.bundles / (f"{candidate_id}.evidence" if day == trained else f"{candidate_id}.{day}.evidence")


def _beside(path: Place, kind: type[Told], evidence_sha256: str) -> Told | None:
    """What a file says of this very document; of another it says nothing."""
    tree = json.loads(path.read_text()) if path.is_file() else {}
    return kind.model_validate(tree) if tree.get("evidence_sha256") == evidence_sha256 else None


def _json(part: Part) -> str:
    return json.dumps(part.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
