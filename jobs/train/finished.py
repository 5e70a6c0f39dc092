"""Rankers that a training finished before it was ended: the next try of the very same training takes them as they are.

They lie beside the bundles, out of sight, a folder per training and in it one per ranker, named by a digest of all that
its bytes depend on: data, settings, what it continues, the code of `models` and the lock of its libraries. A folder is
moved into place when it is whole. The training that publishes deletes its folder; `python -m jobs vacuum` one that
nobody came back to.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from jobs.config import ROOT
from jobs.lake.swap import put_folder, write_whole
from jobs.places import Place, remove
from jobs.train.progress import Step
from models.rankers import EVERY_KIND
from models.rankers.protocol import Ranker

RECORD = "record.json"
PREFIX = ".checkpoints-"


class Finished:
    """The finished rankers of one training (a day and mode)."""

    def __init__(self, bundles: Place, training: str) -> None:
        self.folder = bundles / f"{PREFIX}{training}"

    def get(self, kind: str, made_of: Mapping[str, Any]) -> tuple[Ranker, list[Step]] | None:
        """The ranker made of the very same, and its curve; None where there is none, or not whole."""
        path = self._path(kind, made_of)
        try:
            record = json.loads((path / RECORD).read_text())
            files = {name: (path / name).read_bytes() for name in record["files"]}
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if {name: _sha256(content) for name, content in files.items()} != record["files"]:
            return None
        return EVERY_KIND[kind].from_files(files), [Step(**step) for step in record["steps"]]

    def put(self, kind: str, made_of: Mapping[str, Any], ranker: Ranker, steps: list[Step]) -> None:
        """Keep a ranker that is done."""
        path = self._path(kind, made_of)
        files = ranker.to_files()
        record = {
            "files": {name: _sha256(content) for name, content in files.items()},
            "steps": [asdict(step) for step in steps],
        }
        put_folder(path, {**files, RECORD: json.dumps(record).encode()}, last=RECORD)

    def partial(self, kind: str, made_of: Mapping[str, Any]) -> "Partial":
        """Where a ranker that learns in steps keeps how far it has come."""
        path = self._path(kind, made_of)
        return Partial(path.with_name(f"{path.name}.part"))

    def clear(self) -> None:
        """The training is published: nobody comes back to them."""
        remove(self.folder)

    def _path(self, kind: str, made_of: Mapping[str, Any]) -> Place:
        told = json.dumps({**made_of, "code": _code()}, sort_keys=True, default=str)
        return self.folder / f"{kind}-{_sha256(told.encode())[:16]}"


@dataclass(frozen=True)
class Partial:
    """One checkpoint in a file, see `models.rankers.protocol.Checkpoints`."""

    path: Place

    def load(self) -> bytes | None:
        """The last one whole."""
        return self.path.read_bytes() if self.path.is_file() else None

    def save(self, content: bytes) -> None:
        """Instead of the one before, in one step."""
        write_whole(self.path, content)


@cache
def _code() -> str:
    """A digest of the sources of `models` and of the lock: a commit is too coarse where somebody works on them."""
    digest = hashlib.sha256()
    lock = ROOT / "requirements.lock"  # not there where Tidegate is installed without its repository
    for path in [*([lock] if lock.is_file() else []), *sorted((ROOT / "models").rglob("*.py"))]:
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
