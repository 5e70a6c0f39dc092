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
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq

from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
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
            state = os.stat(path)
            unit = (table, *(values[column] for column in LAKE[table].partition))
            texts[unit] += _texts(
                world.lake.root, table, path, tuple(values.items()), (state.st_size, state.st_mtime_ns)
            )
    return {unit: _digest("\n".join(sorted(rows)).encode()) for unit, rows in texts.items()}


@cache
def _texts(root: Path, table: str, path: str, values: tuple[tuple[str, str], ...], _state: Any) -> list[str]:
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
    raw = world.home / "raw"
    for day in sorted(raw.glob("[!.]*/date=*")):
        own = sorted(day.glob("hour=*/part-*.parquet"))
        for path in own:
            pq.read_metadata(path)
        content = b"".join(str(path.parent.name).encode() + path.read_bytes() for path in own)
        found["raw", *day.relative_to(raw).parts] = _digest(content)
        for path in day.glob("hour=*/late-*.parquet"):
            found["raw", *path.relative_to(raw).parts] = _digest(path.read_bytes())
    return found


def _bundles(world: SmallWorld) -> dict[Unit, str]:
    """Complete with the sha256 of every file, by an account of its own."""
    found: dict[Unit, str] = {}
    for folder in (world.home / "bundles").glob("[!.]*"):
        if folder.suffix == ".evidence":
            sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
            assert all(sizes.values()), sizes
            document = _document((folder / "evidence.json").read_text())
            _of_one_document(folder)
            names = sorted(set(sizes) - {"verdict.json", "matured.json"})  # promote and reevaluate add them
            found["evidence", folder.name] = _digest(json.dumps([document, names], sort_keys=True).encode())
            if "matured.json" in sizes:
                matured = json.loads((folder / "matured.json").read_text())
                del matured["evidence_sha256"]
                found["matured", folder.name] = _digest(json.dumps(matured, sort_keys=True).encode())
            continue
        manifest = (folder / "manifest.json").read_bytes()
        files = {p.relative_to(folder).as_posix(): _digest(p.read_bytes()) for p in folder.rglob("*") if p.is_file()}
        files.pop("manifest.json")
        assert files == json.loads(manifest)["files"], folder
        found["bundle", folder.name] = _digest(manifest)
    return found


def _of_one_document(folder: Path) -> None:
    """Verdict and re-evaluation say which evidence they are on: the one beside them."""
    document = json.dumps(json.loads((folder / "evidence.json").read_text()), sort_keys=True)
    for name in ("verdict.json", "matured.json"):
        if (folder / name).exists():
            told = json.loads((folder / name).read_text())["evidence_sha256"]
            assert told == _digest(document.encode()), folder / name


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
    """The databases of the two days online."""
    found = sorted((world.home / "online").glob("*/online.db"))
    assert len(found) == 2
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
