"""kill -9 of a stage in the middle of Spark's writing takes the JVM with it; readers still see the old rows."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config import ROOT
from jobs.lake import raw
from tests.exactly_once import readers
from tests.exactly_once.forks import Forks
from tests.exactly_once.small_world import FIRST, OTHER_CLICKS, SmallWorld, copy, kill

DAY_BEGINS = int(datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC).timestamp()) * 10**6
pytestmark = [pytest.mark.e2e, pytest.mark.spark, pytest.mark.timeout(900)]


def test_killed_while_spark_writes_its_part_files(tmp_path: Path, forks: Forks) -> None:
    """Part files of a dead JVM are never seen; run again in one process, the rows are those of an undisturbed run."""
    world, alone = (
        SmallWorld(tmp_path / name, more=more, forks=forks) for name, more in (("killed", {}), ("alone", OTHER_CLICKS))
    )
    world.home.mkdir()
    for stage in ("ingest", "validate", "attribute"):
        world.run(stage, FIRST)
    old = readers.units(world)
    world.more = OTHER_CLICKS
    for stage in ("ingest", "validate"):
        world.run(stage, FIRST)
    copy(world.home, alone.home)
    alone.run("attribute", FIRST)
    new = readers.units(alone)
    assert {unit for unit in new if new[unit] != old[unit]} >= {("labels", FIRST.isoformat())}

    world.more = {**OTHER_CLICKS, "spark.from_rows": "0"}
    parts = world.home / "lake" / "labels" / "parts"
    before = set(parts.rglob("*.parquet"))
    child = world.start("attribute", FIRST)
    try:
        while not set(parts.rglob("*.parquet")) - before:
            assert child.poll() is None, child.communicate()
            time.sleep(0.01)
        family = psutil.Process(child.pid).children(recursive=True)
        assert any("java" in process.name() for process in family), "Spark must really be at work"
    finally:
        kill(child)
    assert child.returncode == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=30)
    assert [process.pid for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert readers.neither(readers.units(world), old, new) == []
    assert readers.units(world)["labels", FIRST.isoformat()] == old["labels", FIRST.isoformat()]
    world.more = OTHER_CLICKS
    world.run("attribute", FIRST)
    assert readers.units(world) == new


def test_killed_while_workers_lay_down_a_raw_day(tmp_path: Path) -> None:
    """Files that workers wrote are never seen; run again, by Spark or not, the day is the new one."""
    columns = {name: name for name in ("impression_id", "request_id", "event_time", "item_id", "surface", "policy")}
    mapping = {"impressions": {"files": "*.parquet", "columns": columns | {"position": {"value": 1}}}}
    source = {"name": "mapped", "data": str(tmp_path / "shop"), "mapping": mapping}
    places = {"LAKE__ROOT": str(tmp_path / "lake"), "LAKE__RAW": str(tmp_path / "raw"), "SOURCE": json.dumps(source)}
    given = {f"TIDEGATE__{name}": value for name, value in places.items()}

    def start(from_rows: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "jobs", "ingest", "--day", FIRST.isoformat()]
        environment = {**os.environ, **given, "TIDEGATE__SPARK__FROM_ROWS": str(from_rows)}
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def mark() -> str:
        return raw.fingerprint(tmp_path / "raw", "impressions", FIRST)

    _land(tmp_path / "shop", 20_000)
    assert start(1 << 40).wait() == 0
    old = mark()
    _land(tmp_path / "shop", 1_000_000)
    child = start(0)
    table = tmp_path / "raw" / "impressions"
    try:
        while not list(table.glob(f".date={FIRST}.*/.*/hour=*/*.parquet")):
            assert child.poll() is None
            time.sleep(0.01)
        family = psutil.Process(child.pid).children(recursive=True)
        assert any("java" in process.name() for process in family), "Spark must really be at work"
    finally:
        kill(child)
    assert child.wait() == -signal.SIGKILL
    assert mark() == old
    psutil.wait_procs(family, timeout=30)
    assert mark() == old
    assert start(0).wait() == 0
    new = mark()
    assert start(1 << 40).wait() == 0
    assert mark() == new != old


def _land(shop: Path, rows: int) -> None:
    """A team's day in one file."""
    shop.mkdir(exist_ok=True)
    n = pa.array(range(rows)).cast(pa.string())
    words = dict.fromkeys(("impression_id", "request_id", "item_id", "surface", "policy"), n)
    at = pa.array([DAY_BEGINS + second * 86_400 // rows * 10**6 for second in range(rows)], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({**words, "event_time": at}), shop / "views.parquet")
