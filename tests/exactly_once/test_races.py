"""A backfill of a week while the daily run is going: each day ends with one winner, the loser is told and can retry.

Those that race are real processes of the real command on one lake. The shim holds one of them right before its commit,
after it has seen the day free, until the other is done: the worst case. Rounds left to the clock follow.
"""

import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import timedelta

import pytest

from tests.exactly_once import readers
from tests.exactly_once.forks import Forks
from tests.exactly_once.readers import Unit
from tests.exactly_once.small_world import DAY, FIRST, SmallWorld, kill

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

WEEK = ("--since", FIRST.isoformat())
MADE_BY = {
    "validate": ("impressions", "clicks", "purchases", "requests", "items", "users"),
    "attribute": ("labels",),
    "featurize": ("user_features", "item_features"),
}
CONFLICT = "another writer committed first and stays"


@dataclass
class Raced:
    """A world in which runs race, and what a serial run of the same stages gives."""

    world: SmallWorld
    serial: dict[Unit, str]

    def against(self, stage: str, held: tuple[str, ...], free: tuple[str, ...], moment: str) -> tuple[int, str]:
        """Hold one side at a moment, let the other run to its end, then go on; returns how the held one ended."""
        until = self.world.home / f"{stage}-{len(held)}"
        variables = {"KILL_BELOW": str(self.world.home), "HOLD_AT": moment, "HOLD_UNTIL": str(until)}
        waiting = self.world.start(stage, DAY, *held, **variables)
        try:
            reached = until.with_name(until.name + ".reached")
            while not reached.exists():
                assert waiting.poll() is None, waiting.communicate()
                time.sleep(0.05)
            self.world.run(stage, DAY, *free)
            until.touch()
            return ended(waiting)
        finally:
            kill(waiting)

    def writers(self, stage: str) -> dict[tuple[str, str], str]:
        """Table and day to the run its rows are from."""
        days = [(FIRST + timedelta(days=n)).isoformat() for n in range((DAY - FIRST).days + 1)]
        found = {}
        for table in MADE_BY[stage]:
            for day in days:
                lineage = self.world.lake.lineage(table, {"day": day})
                assert lineage is not None, (table, day)
                found[table, day] = str(lineage["run_id"])
        return found

    def rows_are_serial(self, stage: str) -> None:
        """No row doubled, none lost, whoever won."""
        found = readers.units(self.world)
        for unit, digest in self.serial.items():
            if unit[0] in MADE_BY[stage]:
                assert found[unit] == digest, unit


def ended(child: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and the last line of stderr."""
    _, err = child.communicate(timeout=300)
    return child.returncode, err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Raced:
    """Two worlds with the same raw lake: one is processed stage by stage, in the other runs race."""
    home = tmp_path_factory.mktemp("races")
    settings = {"features.online": "false"}
    alone, world = (SmallWorld(home / name, more=settings, forks=forks) for name in ("alone", "raced"))
    for place in (alone, world):
        place.home.mkdir()
    alone.run("ingest", DAY, *WEEK)
    shutil.copytree(alone.home / "raw", world.home / "raw")
    for stage in MADE_BY:
        alone.run(stage, DAY, *WEEK)
    return Raced(world, readers.units(alone))


@pytest.mark.parametrize("stage", MADE_BY)
def test_the_daily_run_loses_to_a_backfill_that_was_faster(raced: Raced, stage: str) -> None:
    """Also the very first publication: both find the day free, one stays; the loser exits 75 and a retry heals."""
    code, said = raced.against(stage, held=(), free=WEEK, moment="commit:1")
    assert (code, CONFLICT in said, "run the stage again" in said) == (75, True, True), said
    assert len(set(raced.writers(stage).values())) == 1, "every day is the backfill's"
    raced.rows_are_serial(stage)
    raced.world.run(stage, DAY)
    assert len(set(raced.writers(stage).values())) == 2, "the retry replaced its own day"
    raced.rows_are_serial(stage)


@pytest.mark.parametrize("stage", ["attribute"])
def test_a_backfill_loses_only_the_day_the_daily_run_took(raced: Raced, stage: str) -> None:
    """And takes it up again by itself, with the others it had left, on what the daily run has published."""
    before = set(raced.writers(stage).values())
    code, said = raced.against(stage, held=WEEK, free=(), moment="commit:2")
    assert code == 0, said
    winners = {day: run for (_, day), run in raced.writers(stage).items()}
    assert not before & set(winners.values()), "every day was published anew"
    assert winners[DAY.isoformat()] != winners[FIRST.isoformat()], "not by the try that lost"
    raced.rows_are_serial(stage)
    raced.world.run(stage, DAY, *WEEK)
    assert len(set(raced.writers(stage).values())) == 1
    raced.rows_are_serial(stage)


@pytest.mark.parametrize(("stage", "apart_ms"), [("attribute", 0), ("featurize", 150)])
def test_whatever_the_clock_does_no_day_is_mixed(raced: Raced, stage: str, apart_ms: int) -> None:
    """Two processes and no barrier: each ends well or with the conflict, at least one well, the rows are right."""
    sides = [raced.world.start(stage, DAY, *WEEK)]
    try:
        time.sleep(apart_ms / 1000)
        sides.append(raced.world.start(stage, DAY))
        ends = [ended(side) for side in sides]
    finally:
        for side in sides:
            kill(side)
    codes = sorted(code for code, _ in ends)
    assert codes in ([0, 0], [0, 75]), ends
    assert all(CONFLICT in said for code, said in ends if code == 75), ends
    raced.rows_are_serial(stage)
    for words, (code, _) in zip((WEEK, ()), ends, strict=True):
        if code == 75:
            raced.world.run(stage, DAY, *words)
    raced.rows_are_serial(stage)
