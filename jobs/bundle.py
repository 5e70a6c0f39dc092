"""The bundle: one directory per model, every file's sha256 in its manifest. What serves is what was judged.

    manifest.json       kind, candidate, schema, policy, lineage, files -> sha256
    ranker/…            the ranker's own files (no pickle), and what maps its probabilities where something does
    fallback/…          the popularity ranker that answers when the ranker is late or down
    retrieval/…         the item index, where one was built
    delays/curve.json   how conversions were delayed in its training, where that could be told

Backtest, endpoint and monitor all load through `load`; a bundle's own sha256 is that of its manifest.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from jobs.errors import Refused
from jobs.lake.store import midnight
from jobs.lake.swap import swap
from models.delays.curve import DelayCurve
from models.rankers import load as load_ranker
from models.rankers.protocol import Scorer
from models.retrieval import ItemIndex
from models.settings import PolicySettings

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Bundle:
    """A loaded model: everything needed to turn features into a slate and its probabilities."""

    candidate_id: str
    path: Path
    sha256: str
    ranker: Scorer
    fallback: Scorer
    index: ItemIndex | None
    policy: PolicySettings
    manifest: Mapping[str, Any]
    delays: DelayCurve | None

    @property
    def learned_until(self) -> datetime:
        """No row that it, or what its training started from, learned from or was chosen on is later than this.

        An older bundle does not say; a training sees nothing later than its day, so the end of that is as true. Raises
        `Refused` where it says neither.
        """
        lineage = self.manifest["lineage"]
        if "learned_until" in lineage:
            return datetime.fromisoformat(lineage["learned_until"])
        if "day" in lineage:
            return midnight(date.fromisoformat(lineage["day"]) + timedelta(days=1)) - timedelta(microseconds=1)
        raise Refused(
            f"bundle {self.candidate_id} must say until when it learned, by learned_until or its day; found neither in"
            " its lineage: train again"
        )


def write(
    folder: Path,
    candidate_id: str,
    ranker: Scorer,
    fallback: Scorer,
    index: ItemIndex | None,
    policy: PolicySettings,
    lineage: Mapping[str, Any],
    delays: DelayCurve | None = None,
) -> Bundle:
    """Write `folder/<candidate_id>` whole or not at all, replacing an older one of that name; returns it loaded.

    `lineage` must be reproducible (no clock, no run id): same data, settings and seed give the same sha256.
    """
    parts = {
        "ranker": ranker.to_files(),
        "fallback": fallback.to_files(),
        "retrieval": index.to_files() if index else {},
        "delays": {"curve.json": delays.to_json()} if delays else {},
    }
    files = {f"{part}/{name}": content for part, contents in parts.items() for name, content in contents.items()}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "candidate_id": candidate_id,
        "ranker": ranker.kind,
        "fallback": fallback.kind,
        "policy": policy.model_dump(mode="json"),
        "lineage": dict(lineage),
        "files": {name: _sha256(content) for name, content in sorted(files.items())},
    }
    draft = folder / f".{candidate_id}.{uuid.uuid4().hex[:8]}"
    for name, content in {**files, MANIFEST: json.dumps(manifest, indent=1, sort_keys=True).encode()}.items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    swap(draft, folder / candidate_id)
    shutil.rmtree(draft, ignore_errors=True)  # what lay there before
    return load(folder / candidate_id)


def load(path: Path, expected_sha256: str | None = None) -> Bundle:
    """The bundle at `path`; raises `Refused` when any file differs from its manifest or it is not the one expected."""
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise Refused(f"a bundle needs {MANIFEST}; found none in {path}")
    content = manifest_path.read_bytes()
    sha256 = _sha256(content)
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise Refused(
            f"bundle {path.name} must be the one that was judged ({expected_sha256[:12]}…); found {sha256[:12]}…"
        )
    manifest = json.loads(content)
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise Refused(
            f"bundle {path.name} needs schema_version {SCHEMA_VERSION}; found {manifest.get('schema_version')}"
        )
    found = {
        p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file() and p != manifest_path
    }
    digests = {name: _sha256(data) for name, data in found.items()}
    if digests != manifest["files"]:
        wrong = sorted(set(digests.items()) ^ set(manifest["files"].items()))
        raise Refused(
            f"bundle {path.name} needs the files its manifest names, unchanged; differing: {[n for n, _ in wrong]}"
        )

    def part(prefix: str) -> dict[str, bytes]:
        return {name.removeprefix(prefix + "/"): data for name, data in found.items() if name.startswith(prefix + "/")}

    retrieval, delays = part("retrieval"), part("delays")
    return Bundle(
        candidate_id=manifest["candidate_id"],
        path=path,
        sha256=sha256,
        ranker=load_ranker(manifest["ranker"], part("ranker")),
        fallback=load_ranker(manifest["fallback"], part("fallback")),
        index=ItemIndex.from_files(retrieval) if retrieval else None,
        policy=PolicySettings.model_validate(manifest["policy"]),
        manifest=manifest,
        delays=DelayCurve.from_json(delays["curve.json"]) if delays else None,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
