"""kill -9 of a stage in the middle of Spark's writing takes the JVM with it; readers still see the old labels."""

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.exactly_once import readers
from tests.exactly_once.forks import Forks
from tests.exactly_once.small_world import FIRST, OTHER_CLICKS, SmallWorld, copy, kill

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
