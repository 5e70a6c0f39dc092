"""kill -9 where the lake is on S3, and two writers of a day: moto's server on loopback, stages as Airflow starts them.

What differs from a disk is killed at: a raw day is its manifest, a commit one conditional put, a checkpoint two puts, a
bundle and a pack of evidence are there with their last file. The rest of each stage dies in `test_kills.py`.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import config
from jobs.lake.store import Lake
from tests import moto_server
from tests.exactly_once import outside, readers
from tests.exactly_once.forks import Forks
from tests.exactly_once.killed import ON_S3, Killed, disturbed
from tests.exactly_once.small_world import BUCKET, DAY, TRAINED, kill
from tests.jobs.small_lake import empty_mlflow

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

MOMENTS: dict[str, tuple[str, ...]] = {
    "ingest": ("put:20", "claim:2", "claimed:1"),  # no manifest; one table of the day new; then all but late events
    "validate": ("put:20", "claim:1", "claimed:4"),  # a checkpoint, no hint; a part nobody names; some tables new
    "attribute": ("claim:1", "claimed:1"),  # nothing committed; one of the days
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Killed]:
    """Every stage killed at its moments and run again; then one of two writers is held before its commit."""
    home = tmp_path_factory.mktemp("killed-on-s3")
    (home / "world").mkdir()
    shutil.copy(empty_mlflow(tmp_path_factory.getbasetemp()), home / "world" / "mlflow.db")
    with moto_server.serving() as moto, pytest.MonkeyPatch.context() as patch:
        for name, value in moto.bucket(BUCKET).items():
            patch.setenv(name, value)
        with disturbed(home, forks, moto) as world:
            for stage, moments in MOMENTS.items():
                world.kill_at(stage, *moments)
            yield world


@pytest.mark.parametrize("stage", ON_S3)
def test_the_two_versions_can_be_told_apart(killed: Killed, stage: str) -> None:
    assert [unit for unit in killed.written_by(stage) if killed.old.get(unit) != killed.new[unit]]


@pytest.mark.parametrize("stage", ON_S3)
def test_killed_at_any_moment_readers_see_the_old_or_the_new(killed: Killed, stage: str) -> None:
    deaths = killed.deaths[stage]
    assert [death.moment for death in deaths] == list(MOMENTS[stage])
    assert [death.status for death in deaths] == [-signal.SIGKILL] * len(deaths), "it must really have died there"
    assert [(death.moment, death.wrong) for death in deaths if death.wrong] == []


@pytest.mark.parametrize("stage", ON_S3)
def test_run_again_it_gives_the_rows_of_an_undisturbed_run(killed: Killed, stage: str) -> None:
    assert killed.reruns[stage] == []


def test_the_checkpoint_that_a_death_left_without_a_hint_is_there(killed: Killed) -> None:
    """Else the moment above is another one by now."""
    listed = (killed.moments / "validate").read_text().splitlines()
    [moment] = [line for line in listed if line.startswith(MOMENTS["validate"][0] + " ")]
    assert moment.endswith("/profiles/_delta_log/_last_checkpoint"), "\n".join(listed)


def test_of_two_writers_of_a_day_the_slower_is_told(killed: Killed) -> None:
    """One is held before the put of its commit, after it has found the day free; the other replaces it."""
    world, until = killed.world, killed.world.home / "until"
    hold = {"KILL_BELOW": str(world.home), "HOLD_AT": "claim:1", "HOLD_UNTIL": str(until)}
    waiting = world.start("attribute", DAY, **hold)
    try:
        while not until.with_name("until.reached").exists():
            assert waiting.poll() is None, waiting.communicate()
            time.sleep(0.05)
        killed.warm.well("attribute", DAY, "--since", TRAINED.isoformat())
        until.touch()
        _, said = waiting.communicate(timeout=300)
    finally:
        kill(waiting)
    assert (waiting.returncode, "another writer committed first and stays" in said) == (75, True), said
    assert readers.units(world) == killed.new


@pytest.mark.parametrize("table", ["profiles", "clicks", "impressions", "labels"])
def test_who_reads_from_outside_sees_what_the_lake_sees(killed: Killed, table: str) -> None:
    """Polars, through delta-rs, which knows nothing of copies; now and at the version of a dead run."""
    lake = Lake(killed.world.root / "lake")
    newest = lake.version(table)
    assert newest is not None
    for version in (newest, newest - 1):
        found, _ = outside.by_polars(lake, table, version)
        assert found == outside.published(lake, table, version)
    assert found


def test_put_by_put_what_was_there_is_whole(tmp_path: Path) -> None:
    """A bundle and a pack of evidence are there with their last file. Of a table that is maintained the same rows are
    read after each death, now and as of then, and as much is left when one lives, whenever those before it died.
    """
    with moto_server.serving() as moto, pytest.MonkeyPatch.context() as patch:
        for name, value in moto.bucket(BUCKET).items():
            patch.setenv(name, value)
        command = [sys.executable, "-m", "tests.exactly_once.put_by_put", f"s3://{BUCKET}", str(tmp_path)]
        done = subprocess.run(command, cwd=config.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["bundle"] == [*["old"] * (len(said["bundle"]) - 1), "old and new"]
    assert said["pack"] == [*["old"] * (len(said["pack"]) - 1), "new"]
    assert min(map(len, said.values())) > 2
    maintained = {kind: said[kind] for kind in ("put", "delete")}
    assert {seen for found in maintained.values() for seen in found[:-1]} == {"as before"}
    assert len({found[-1] for found in maintained.values()}) == 1
