"""kill -9 at the worst moments of every stage: readers see the old version or the new one, a rerun the same rows.

One small world, run undisturbed under other settings for a day and put back; then every stage of that day is killed
under those settings and run again. `python -m tests.bench.kills` kills at many more moments.
"""

import shutil
import signal
from collections.abc import Iterator

import pytest

from jobs.flow import STAGES
from tests.exactly_once.forks import Forks
from tests.exactly_once.killed import Killed, disturbed
from tests.jobs.small_lake import empty_mlflow

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

MOMENTS: dict[str, tuple[str, ...]] = {
    "ingest": ("half:40", "rename:2"),  # a draft half written; late events laid by half
    "validate": ("half:5", "committed:3"),  # some tables of the day old, some new
    "attribute": ("committed:1", "half:2"),
    "featurize": ("commit:2", "sql:2"),  # items published, users not; nothing online yet, then a part of it
    "assemble": ("half:1", "commit:1"),
    "train": ("commit:1", "saved:30"),  # bundles in place, candidates not; in the middle of a run of MLflow
    # Its look has begun, and is gone on with; then the record is there, its pack is not.
    "backtest": ("half:1", "committed:1", "saved:1", "committed:1"),
    "promote": ("commit:1", "saved:4", "committed:1"),
    "monitor": ("half:1",),
    "experiment": ("commit:1",),
    "reevaluate": ("half:1", "saved:1", "committed:1"),  # metrics are there; then the table too; the pack is not
    "deploy": ("committed:1", "send:6", "saved:1"),  # approved; in talks with the endpoint; before the alias
}
"""Where each stage dies: forked from a warm process, the first of some as a process of its own."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Killed]:
    """Every stage killed at its moments and run again; the tests below only look at what was found."""
    home = tmp_path_factory.mktemp("killed")
    (home / "world").mkdir()
    shutil.copy(empty_mlflow(tmp_path_factory.getbasetemp()), home / "world" / "mlflow.db")
    with disturbed(home, forks) as world:
        for stage, moments in MOMENTS.items():
            world.kill_at(stage, *moments)
        yield world


def test_every_stage_of_the_flow_is_killed() -> None:
    """A new stage needs its moments here; `export` and `maintain` publish nothing, and have tests of their own."""
    assert set(MOMENTS) == set(STAGES) - {"export", "maintain"}


@pytest.mark.parametrize("stage", [stage for stage in MOMENTS if stage != "deploy"])
def test_the_two_versions_can_be_told_apart(killed: Killed, stage: str) -> None:
    """Without a difference between old and new no mixture could be seen."""
    assert [unit for unit in killed.written_by(stage) if killed.old.get(unit) != killed.new[unit]]


@pytest.mark.parametrize("stage", MOMENTS)
def test_killed_at_any_moment_readers_see_the_old_or_the_new(killed: Killed, stage: str) -> None:
    """Each partition, raw day, bundle and database is whole after every kill, and nothing that was there is gone."""
    deaths = killed.deaths[stage]
    assert [death.moment for death in deaths] == list(MOMENTS[stage])
    assert all(death.status == -signal.SIGKILL for death in deaths), "the process must really have died there"
    assert [(death.moment, death.wrong) for death in deaths if death.wrong] == []


@pytest.mark.parametrize("stage", MOMENTS)
def test_run_again_it_gives_the_rows_of_an_undisturbed_run(killed: Killed, stage: str) -> None:
    """Exactly once: what died left nothing that counts."""
    assert killed.reruns[stage] == []
