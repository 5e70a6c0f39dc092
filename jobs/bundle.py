"""The bundle: one directory per model, every file's sha256 in its manifest. What serves is what was judged.

    manifest.json       kind, candidate, schema, policy, lineage, files -> sha256
    ranker/…            the ranker's own files (no pickle), what maps its probabilities where something does, and its
                        ONNX graph (`models.rankers.served`), whose tables are those files
    light/…             the light ranker that leaves the ranker fewer candidates, where there is such a stage
    fallback/…          the popularity ranker that answers when the ranker is late or down
    retrieval/…         which items are worth ranking where a request names none: the retriever, its index and canary
    delays/curve.json   how conversions were delayed in its training, where that could be told
    probe/rows.json     rows on which a chain of warm starts is watched, the same along the chain
    reference/profile.json  what it learned from and what it said of the day after, which `monitor` holds days against

Backtest, endpoint and monitor all load through `load`; a bundle's own sha256 is that of its manifest.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import Refused
from jobs.lake.store import midnight
from jobs.lake.swap import put_folder, swap
from jobs.places import Place, S3Path
from models.delays.curve import DelayCurve
from models.monitoring.profile import Profile
from models.policies.score import score
from models.policies.stages import kept as kept_by
from models.rankers import load as load_ranker
from models.rankers.protocol import Columns, Scorer
from models.retrieval import FirstStage
from models.settings import PolicySettings

MANIFEST = "manifest.json"
PROBE = "probe/rows.json"
REFERENCE = "reference/profile.json"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Light:
    """The stage before the ranker: of a request's candidates the `keeps` best by a quicker ranker."""

    ranker: Scorer
    keeps: int


@dataclass(frozen=True)
class Standby:
    """What of a model answers when its ranker does not: small, and loaded without the rest."""

    candidate_id: str
    path: Place
    sha256: str
    fallback: Scorer
    policy: PolicySettings
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Bundle(Standby):
    """A loaded model: everything needed to turn features into a slate and its probabilities."""

    ranker: Scorer
    retrieval: FirstStage | None
    """None where nobody known had clicked anything."""
    delays: DelayCurve | None
    light: Light | None = None

    @property
    def rankers(self) -> tuple[Scorer, ...]:
        """All that look at candidates: the ranker, and the light one where there is such a stage."""
        return (self.ranker,) if self.light is None else (self.ranker, self.light.ranker)

    def kept(self, columns: Columns, offsets: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """(n,) which candidates of each request reach the ranker; None: all do.

        `columns` of n candidates laid end to end, request i has `offsets[i]:offsets[i + 1]`. One definition for serving
        and replay: a candidate that is cut is shown with probability 0 by either.
        """
        if self.light is None or np.diff(offsets).max(initial=0) <= self.light.keeps:
            return None
        return kept_by(score(self.light.ranker.predict(columns), self.policy), offsets, self.light.keeps)

    @property
    def probe(self) -> bytes | None:
        """Its probe rows as `train` wrote them; None in a bundle of before there were any."""
        path = self.path / PROBE
        return path.read_bytes() if path.is_file() else None

    @property
    def reference(self) -> Profile | None:
        """What its training wrote of its features, outcomes and scores; None in a bundle of before that was written."""
        path = self.path / REFERENCE
        return Profile.from_json(path.read_bytes()) if path.is_file() else None

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
    folder: Place,
    candidate_id: str,
    ranker: Scorer,
    fallback: Scorer,
    retrieval: FirstStage | None,
    policy: PolicySettings,
    lineage: Mapping[str, Any],
    delays: DelayCurve | None = None,
    light: Light | None = None,
    probe: bytes | None = None,
    reference: bytes | None = None,
) -> Bundle:
    """Write `folder/<candidate_id>` whole or not at all, replacing an older one of that name; returns it loaded.

    `lineage` must be reproducible (no clock, no run id): same data, settings and seed give the same sha256.
    """
    parts = {
        "ranker": ranker.to_files(),
        "light": light.ranker.to_files() if light else {},
        "fallback": fallback.to_files(),
        "retrieval": retrieval.to_files() if retrieval else {},
        "delays": {"curve.json": delays.to_json()} if delays else {},
    }
    files = {f"{part}/{name}": content for part, contents in parts.items() for name, content in contents.items()}
    files |= {name: content for name, content in ((PROBE, probe), (REFERENCE, reference)) if content is not None}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "candidate_id": candidate_id,
        "ranker": ranker.kind,
        "light": {"ranker": light.ranker.kind, "keeps": light.keeps} if light else None,
        "fallback": fallback.kind,
        "retriever": retrieval.kind if retrieval else None,
        "policy": policy.model_dump(mode="json"),
        "lineage": dict(lineage),
        "files": {name: _sha256(content) for name, content in sorted(files.items())},
    }
    content = json.dumps(manifest, indent=1, sort_keys=True).encode()
    put_folder(folder / candidate_id, {**files, MANIFEST: content}, last=MANIFEST)
    return load(folder / candidate_id)


def kept(draft: Bundle, folder: Place) -> Place:
    """Where a bundle of this content lies below `folder` once it is put there.

    On S3 each content has a prefix of its own: nothing that may be serving is ever put over.
    """
    final = folder / draft.candidate_id
    return final / draft.sha256[:16] if isinstance(final, S3Path) else final


def keep(draft: Bundle, folder: Place) -> None:
    """Put a draft where it is `kept`, unless the very same bundle lies there already (it may be serving)."""
    final = kept(draft, folder)
    if final.exists():
        try:
            load(final, draft.sha256)
            return
        except Refused:
            pass  # another one, which goes with the drafts
    if isinstance(final, Path) and isinstance(draft.path, Path):
        swap(draft.path, final)
    else:
        put_folder(final, _files(draft.path), last=MANIFEST)


def load(path: Place, expected_sha256: str | None = None) -> Bundle:
    """The bundle at `path`; raises `Refused` when any file differs from its manifest, it is not the one expected, or an
    index of its retrieval does not find what its canary knows.
    """
    sha256, manifest, files = _verified(path, expected_sha256)
    retrieval, delays, light = _part(files, "retrieval"), _part(files, "delays"), manifest["light"]
    return Bundle(
        candidate_id=manifest["candidate_id"],
        path=path,
        sha256=sha256,
        ranker=load_ranker(manifest["ranker"], _part(files, "ranker")),
        fallback=load_ranker(manifest["fallback"], _part(files, "fallback")),
        retrieval=_first_stage(path, retrieval) if retrieval else None,
        policy=PolicySettings.model_validate(manifest["policy"]),
        manifest=manifest,
        delays=DelayCurve.from_json(delays["curve.json"]) if delays else None,
        light=Light(load_ranker(light["ranker"], _part(files, "light")), light["keeps"]) if light else None,
    )


def standby(path: Place, expected_sha256: str) -> Standby:
    """The part of the bundle at `path` that needs no ranker; every file of it is verified as `load` does."""
    sha256, manifest, files = _verified(path, expected_sha256)
    return Standby(
        candidate_id=manifest["candidate_id"],
        path=path,
        sha256=sha256,
        fallback=load_ranker(manifest["fallback"], _part(files, "fallback")),
        policy=PolicySettings.model_validate(manifest["policy"]),
        manifest=manifest,
    )


def _verified(path: Place, expected_sha256: str | None) -> tuple[str, dict[str, Any], dict[str, bytes]]:
    """The bundle's own sha256, its manifest, and its other files' content by name."""
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
    found = {name: content for name, content in _files(path).items() if name != MANIFEST}
    digests = {name: _sha256(data) for name, data in found.items()}
    if digests != manifest["files"]:
        wrong = sorted(set(digests.items()) ^ set(manifest["files"].items()))
        raise Refused(
            f"bundle {path.name} needs the files its manifest names, unchanged; differing: {[n for n, _ in wrong]}"
        )
    return sha256, manifest, found


def _files(folder: Place) -> dict[str, bytes]:
    """The content of every file by its name below the folder."""
    if isinstance(folder, S3Path):
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _part(files: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {name.removeprefix(prefix + "/"): data for name, data in files.items() if name.startswith(prefix + "/")}


def _first_stage(path: Place, files: Mapping[str, bytes]) -> FirstStage:
    try:
        return FirstStage.from_files(files)
    except ValueError as error:
        raise Refused(
            f"bundle {path.name} needs a retrieval that finds what it found when it was built: {error}"
        ) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
