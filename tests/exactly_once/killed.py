"""A small world whose stages are killed: what an undisturbed run leaves, what each kill leaves, what a rerun leaves."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from jobs.flow import STAGES
from tests.exactly_once import readers
from tests.exactly_once.forks import Forks
from tests.exactly_once.readers import Unit
from tests.exactly_once.small_world import (
    DATA,
    DAY,
    EARLY,
    FIRST,
    MODEL,
    OTHER_CLICKS,
    SERVING,
    TRAINED,
    SmallWorld,
    Warm,
)
from tests.moto_server import Moto

LIGHT = {"world.requests_per_day": "100", "features.online": "false"}
"""On S3, where what is killed are puts and commits, however few their rows."""
DISTURBED = (*DATA, *MODEL, *SERVING)
ON_S3 = ("ingest", "validate", "attribute")
ALONE = ("ingest", "attribute", "train", "deploy")
"""Killed first as a process of its own, one of each kind: the raw lake, tables, bundles and MLflow, the endpoint."""


@dataclass(frozen=True)
class Death:
    """One kill: at which moment, how the process ended, and the units that were neither old nor new after it."""

    moment: str
    status: int
    wrong: list[Unit]


@dataclass
class Killed:
    """Stages are to be killed in the order of the flow: each starts from what the one before published again."""

    world: SmallWorld
    warm: Warm
    stages: tuple[str, ...]
    """Of which there is an undisturbed run."""
    old: dict[Unit, str]
    new: dict[Unit, str]
    online: dict[str, str]
    """What the undisturbed run put online."""
    moments: Path
    """A file a stage: the moments of its undisturbed run."""
    ledger: list[tuple[str, str]]
    """The steps of the releases before."""
    seconds: dict[str, float]
    """How long the undisturbed run took, imports apart."""
    deaths: dict[str, list[Death]] = field(default_factory=dict)
    reruns: dict[str, list[Unit]] = field(default_factory=dict)
    """Units that differ from the undisturbed run's after each stage was run again."""

    def kill_at(self, stage: str, *moments: str) -> None:
        """Kill a stage at each of the moments, those of `ALONE` first in a process of their own; then run it again."""
        judged = self.judged()
        deaths = self.deaths[stage] = []
        for number, moment in enumerate(moments):
            variables = {"KILL_AT": moment, "KILL_BELOW": str(self.world.home)}
            if number == 0 and stage in ALONE and self.world.s3 is None:
                child = self.world.start(stage, DAY, **variables)
                child.communicate(timeout=300)
                status = child.returncode
            else:
                status = self.warm(stage, DAY, **variables)
            deaths.append(Death(moment, status, self.look(stage, judged)))
        self.reruns[stage] = self.run_again(stage)

    def judged(self) -> set[str | None]:
        """The bundles that may serve: the champion's and the challenger's."""
        return {readers.champion(self.world), self._challenger()}

    def written_by(self, stage: str) -> list[Unit]:
        """The units of an undisturbed run that a stage writes."""
        return [unit for unit in self.new if _writer(unit) == stage]

    def look(self, stage: str, judged: set[str | None]) -> list[Unit]:
        """What is neither old nor new; databases whole; the alias and the endpoint name one of the judged bundles."""
        readers.databases(self.world)
        wrong = readers.neither(self.units(stage), self.old, self.new)
        if readers.champion(self.world) not in judged:
            wrong.append(("alias",))
        if stage == "deploy" and readers.serving(self.world) not in judged:
            wrong.append(("endpoint",))
        if readers.ledger(self.world)[: len(self.ledger)] != self.ledger:
            wrong.append(("deployments",))
        return wrong

    def run_again(self, stage: str) -> list[Unit]:
        """What differs from the undisturbed run after one more run to the end."""
        self.warm.well(stage, DAY)
        readers.databases(self.world)
        found = self.units(stage)
        done = self.stages[: self.stages.index(stage) + 1] if stage in self.stages else self.stages
        wrong = readers.neither(found, self.old, self.new)
        wrong += [unit for earlier in done for unit in self.written_by(earlier) if found.get(unit) != self.new[unit]]
        if stage == "featurize" and readers.online(self.world) != self.online:
            wrong.append(("online",))
        if stage == "deploy":
            released = [(self._challenger(), "approved"), (self._challenger(), "live")]
            if {readers.champion(self.world), readers.serving(self.world)} != {self._challenger()}:
                wrong.append(("endpoint",))
            if readers.ledger(self.world) != [*self.ledger, *released]:
                wrong.append(("deployments",))
        return wrong

    def units(self, stage: str) -> dict[Unit, str]:
        """What there is; the ledger of a `deploy` is judged by its steps, for no undisturbed run had them."""
        found = readers.units(self.world)
        return found | {unit: self.old[unit] for unit in found if stage == "deploy" and unit[0] == "deployments"}

    def _challenger(self) -> str | None:
        where = {"day": DAY.isoformat(), "mode": "full"}
        rows = self.world.lake.read("promotions", where=where).to_pylist()
        return str(rows[0]["bundle_sha256"]) if rows else None


def _writer(unit: Unit) -> str:
    """The stage a unit comes from."""
    kinds = {"raw": "ingest", "bundle": "train", "evidence": "backtest", "matured": "reevaluate"}
    return kinds.get(unit[0]) or next(stage.name for stage in STAGES.values() if unit[0] in stage.writes)


@contextmanager
def disturbed(home: Path, forks: Forks, s3: Moto | None = None) -> Iterator[Killed]:
    """A world with a published day, and what a run of that day under other settings gives.

    On a disk it has a deployed champion; on S3 it is two days of tables.
    """
    world = SmallWorld(home / "world", s3=s3, more={} if s3 is None else LIGHT)
    world.home.mkdir(exist_ok=True)
    stages = DISTURBED if s3 is None else ON_S3
    with world.endpoint() if s3 is None else nullcontext():
        warm = Warm(world, forks)
        if s3 is None:
            for stage in DATA:
                warm.well(stage, TRAINED, "--since", FIRST.isoformat())
            for stage in (*MODEL, "deploy"):
                warm.well(stage, TRAINED, **(EARLY if stage == "backtest" else {}))
            for stage in DISTURBED:
                warm.well(stage, DAY)
        else:
            for stage in stages:
                warm.well(stage, DAY, "--since", TRAINED.isoformat())
        old = readers.units(world)
        world.save(home / "saved")
        world.more = {**world.more, **OTHER_CLICKS}
        moments, seconds = home / "moments", {}
        moments.mkdir()
        for stage in stages:
            started = time.monotonic()
            warm.well(stage, DAY, KILL_BELOW=str(world.home), MOMENTS=str(moments / stage))
            seconds[stage] = time.monotonic() - started
        new, online = readers.units(world), readers.online(world)
        world.restore(home / "saved")
        yield Killed(world, warm, stages, old, new, online, moments, readers.ledger(world), seconds)
