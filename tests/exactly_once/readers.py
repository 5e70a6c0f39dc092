"""What readers see of a small world: every unit that a kill must leave whole, as a digest of what it holds.

A unit is a partition of a table, a day of a raw table, a bundle, a folder of evidence. Clocks and run ids are left out:
they are the only thing two runs over the same inputs may differ in.
"""

import hashlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq

from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.places import Place, S3Path
from tests.exactly_once.small_world import SmallWorld

Unit = tuple[str, ...]
CLOCKS = {
    "candidates": ("run_id",),
    "evidence": ("document_sha256",),
    "looks": ("at", "evidence_sha256"),
    "reevaluations": ("evidence_sha256",),
    "promotions": ("evidence_sha256", "decided_at"),
    "deployments": ("evidence_sha256", "at"),
}


def units(world: SmallWorld) -> dict[Unit, str]:
    """Everything there is; raises where a reader would."""
    return {**_tables(world), **_raw(world), **_bundles(world)}


def neither(found: Mapping[Unit, str], old: Mapping[Unit, str], new: Mapping[Unit, str]) -> list[Unit]:
    """Units that are neither the old nor the new one: mixed, made up, or gone."""
    wrong = [unit for unit, digest in found.items() if digest not in (old.get(unit), new.get(unit))]
    return wrong + [unit for unit in old if unit not in found]


def ledger(world: SmallWorld) -> list[tuple[str, str]]:
    """The steps of every release so far: the sha256 of its bundle and the step."""
    rows = sorted(world.lake.read("deployments").to_pylist(), key=lambda row: int(row["number"]))
    return [(row["bundle_sha256"], row["step"]) for row in rows]


def _tables(world: SmallWorld) -> dict[Unit, str]:
    texts: dict[Unit, list[str]] = defaultdict(list)
    for table in LAKE:
        for path, values in world.lake.files(table):
            unit = (table, *(values[column] for column in LAKE[table].partition))
            texts[unit] += _texts(world.lake.root, table, path, tuple(values.items()), _state(path))
    return {unit: _digest("\n".join(sorted(rows)).encode()) for unit, rows in texts.items()}


def _state(path: str) -> Any:
    """Changes with the file; an object of a run is put once."""
    if path.startswith("s3://"):
        return None
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


@cache
def _texts(root: Place, table: str, path: str, values: tuple[tuple[str, str], ...], _state: Any) -> list[str]:
    """The rows of a part file, read again where it was written to: a world is looked at after every kill."""
    rows = Lake(root).read_files(table, [(path, dict(values))]).to_pylist()
    return [json.dumps(_timeless(table, row), default=str, sort_keys=True) for row in rows]


def _timeless(table: str, row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in CLOCKS.get(table, ())}
    return kept | ({"document": _document(row["document"])} if row.get("document") else {})


def _document(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    document["challenger"].pop("run_id")
    document.pop("lineage")  # the commit the code is at, which may move while the tests run
    for look in document["risk"]["looks"]:
        del look["at"]
    for part in ("data", "dataset"):  # versions count the commits of a table, and a killed world has made more
        if document[part]:
            document[part].pop("versions", None)
    return document


def _raw(world: SmallWorld) -> dict[Unit, str]:
    """A day's own files are one unit, what arrived late a unit per file."""
    found: dict[Unit, str] = {}
    for unit, files in _raw_files(world.root / "raw").items():
        own = {name: content for name, content in files.items() if "/part-" in name}
        found["raw", *unit] = _digest(b"".join(name.split("/")[0].encode() + own[name] for name in sorted(own)))
        found |= {("raw", *unit, *name.split("/")): _digest(files[name]) for name in set(files) - set(own)}
    return found


def _raw_files(raw: Place) -> dict[Unit, dict[str, bytes]]:
    """Of each table and day, `hour=…/….parquet` to what is in it; each is Parquet."""
    days: dict[Unit, dict[str, bytes]] = {}
    if isinstance(raw, S3Path):
        for manifest in raw.rglob("_manifest.json"):
            keys = json.loads(manifest.read_text())["files"]
            contents = {"/".join(key.split("/")[-2:]): _content(manifest.parent / key) for key in keys}
            days[manifest.parts[-3:-1]] = contents
    else:
        for day in raw.glob("[!.]*/date=*"):
            paths = [*day.glob("hour=*/part-*.parquet"), *day.glob("hour=*/late-*.parquet")]
            days[day.parts[-2:]] = {path.relative_to(day).as_posix(): path.read_bytes() for path in paths}
    for files in days.values():
        for content in files.values():
            pq.read_metadata(BytesIO(content))
    return days


@cache
def _content(path: S3Path) -> bytes:
    """Of an object that is named by what it holds."""
    return path.read_bytes()


def _bundles(world: SmallWorld) -> dict[Unit, str]:
    """Complete with the sha256 of every file, by an account of its own."""
    found: dict[Unit, str] = {}
    for name, files in _folders(world.root / "bundles").items():
        if name.endswith(".evidence"):
            assert all(files.values()), files.keys()
            document = _document(files["evidence.json"].decode())
            _of_one_document(name, files)
            names = sorted(set(files) - {"verdict.json", "matured.json"})  # promote and reevaluate add them
            found["evidence", name] = _digest(json.dumps([document, names], sort_keys=True).encode())
            if "matured.json" in files:
                matured = json.loads(files["matured.json"])
                del matured["evidence_sha256"]
                found["matured", name] = _digest(json.dumps(matured, sort_keys=True).encode())
            continue
        manifest = files.pop("manifest.json")
        assert {path: _digest(content) for path, content in files.items()} == json.loads(manifest)["files"], name
        found["bundle", name] = _digest(manifest)
    return found


def _folders(bundles: Place) -> dict[str, dict[str, bytes]]:
    """Of each bundle and pack of evidence, its files; on S3 those whose manifest is there, and of packs what it says.

    There a bundle has a folder for each content: of those the newest counts, others may still serve.
    """
    if isinstance(bundles, Path):
        folders = [folder for folder in bundles.glob("[!.]*") if folder.is_dir()]
        return {
            folder.name: {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
            for folder in folders
        }
    found: dict[str, dict[str, bytes]] = {}
    objects = bundles.objects()
    manifests = [path for path in objects if path.name in ("manifest.json", "evidence.json")]
    for manifest in sorted(manifests, key=lambda path: objects[path].st_mtime):
        name = manifest.relative_to(bundles).parts[0]
        within = [path for path in objects if path.parts[: len(manifest.parts) - 1] == manifest.parts[:-1]]
        read = S3Path.read_bytes if name.endswith(".evidence") else _content
        if not name.startswith("."):
            found[name] = {path.relative_to(manifest.parent).as_posix(): read(path) for path in within}
    return found


def _of_one_document(name: str, files: Mapping[str, bytes]) -> None:
    """Verdict and re-evaluation say which evidence they are on: the one beside them."""
    document = json.dumps(json.loads(files["evidence.json"]), sort_keys=True)
    for part in {"verdict.json", "matured.json"} & set(files):
        assert json.loads(files[part])["evidence_sha256"] == _digest(document.encode()), (name, part)


def databases(world: SmallWorld) -> None:
    """SQLite finds nothing wrong; no run or model version of a bundle is there twice."""
    for path in (world.home / "mlflow.db", *_slots(world)):
        assert _sql(path, "PRAGMA integrity_check") == [("ok",)]
    finished = """
        SELECT c.value, s.value, count(*) FROM runs r
        JOIN tags c ON c.run_uuid = r.run_uuid AND c.key = 'candidate_id'
        JOIN tags s ON s.run_uuid = r.run_uuid AND s.key = 'bundle_sha256'
        WHERE r.status = 'FINISHED' GROUP BY 1, 2 HAVING count(*) > 1"""
    assert _sql(world.home / "mlflow.db", finished) == []
    versions = (
        "SELECT value, count(*) FROM model_version_tags WHERE key = 'bundle_sha256' GROUP BY 1 HAVING count(*) > 1"
    )
    assert _sql(world.home / "mlflow.db", versions) == []


def online(world: SmallWorld) -> dict[str, str]:
    """What each view of the online store holds of either day, whenever it was written."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for path in _slots(world):
        for (view,) in _sql(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1"):
            query = f'SELECT hex(entity_key), feature_name, hex(value), event_ts FROM "{view}" ORDER BY 1, 2'
            rows[view] = _sql(path, query)
    return {view: _digest(repr(found).encode()) for view, found in rows.items()}


def _slots(world: SmallWorld) -> list[Path]:
    """The databases of the two days online, where anything is."""
    found = sorted((world.home / "online").glob("*/online.db"))
    assert len(found) == (0 if world.more.get("features.online") == "false" else 2)
    return found


def champion(world: SmallWorld) -> str | None:
    """The sha256 of the bundle MLflow's alias points at."""
    found = _sql(
        world.home / "mlflow.db",
        "SELECT t.value FROM registered_model_aliases a JOIN model_version_tags t "
        "ON t.name = a.name AND t.version = a.version AND t.key = 'bundle_sha256' WHERE a.alias = 'champion'",
    )
    return str(found[0][0]) if found else None


def serving(world: SmallWorld) -> str:
    """The sha256 of the bundle that answers a request just now."""
    address = {"endpoint_url": f"http://127.0.0.1:{world.port}", "region_name": "eu-central-1"}
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    runtime = boto3.client("sagemaker-runtime", **address, **keys)
    body = json.dumps({"request_id": "seen", "user_id": "u000001", "surface": "home", "k": 3})
    answer = runtime.invoke_endpoint(EndpointName="tidegate", Body=body, ContentType="application/json")
    return str(json.loads(answer["Body"].read())["bundle_sha256"])


def _sql(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
