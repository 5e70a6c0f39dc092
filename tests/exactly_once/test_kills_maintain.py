"""kill -9 in the middle of `maintain`: no row is lost or doubled, kept versions read as before, the next runs end it.

A lake of twelve days whose tables were published again and again, with a day of each in many files, and what a dead
run left. It is maintained twice, since what the first run writes must settle before the second may cut: the first dies
while it makes small files one, the second while it cuts logs and deletes files.
"""

import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars
import pyarrow.parquet as pq
import pytest

from jobs.lake.store import Lake, Lineage
from jobs.lake.vacuum import DEAD_AFTER_HOURS
from tests.exactly_once.forks import Forks
from tests.exactly_once.small_world import SmallWorld, Warm
from tests.jobs import aged_lake

FIRST, DAYS = date(2026, 1, 1), 12
KEPT_DAYS, AS_OF_DAYS = 6, 4
"""Versions of so many days are kept; of so many they are looked at, since the lake grows older meanwhile."""
KEYS = {"labels": "impression_id", "clicks": "click_id"}
REOPENED = {"labels": 3, "clicks": 1}
PARTS = 4
"""Of a day as Spark leaves it."""
MOMENTS = {
    "compacts": ("half:1", "half:2", "commit:1", "committed:1", "committed:2"),
    "cuts": ("open:1", "rename:1", "remove:1", "remove:9", "remove:24", "remove:-1"),
}
"""Where each of the two runs dies; the last one counted from the end of an undisturbed run."""
Versions = Mapping[str, tuple[int, int]]
"""Of each table."""


class Lies(NamedTuple):
    """What there is of a table."""

    entries: int
    checkpoints: int
    told: int
    parts: int
    live: int


@dataclass(frozen=True)
class Aged:
    """The lake before each of the two runs, and what undisturbed runs make of it."""

    warm: Warm
    root: Path
    laid: Mapping[str, Path]
    moments: Mapping[str, list[str]]
    versions: Versions
    seen: Mapping[Any, Any]
    ended: Mapping[str, Mapping[str, Lies]]

    def maintain(self, **variables: str) -> int:
        """As a command; its exit status."""
        return self.warm("maintain", FIRST, **variables)

    def end(self, run: str) -> Mapping[str, Lies]:
        """What is left to do after one of the two, done."""
        assert self.maintain() == 0, self.warm.out.read_text()
        aged_lake.age(self.root, DEAD_AFTER_HOURS + 1)
        assert self.maintain() == 0, self.warm.out.read_text()
        return lies(self.root)


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Aged:
    """Undisturbed, one run after the other; then what is left of each."""
    home = tmp_path_factory.mktemp("maintained")
    world = SmallWorld(home / "world", more={"lake.retain_days": str(KEPT_DAYS)})
    root = world.home / "lake"
    lay(root)
    versions = {table: young(root / table) for table in KEYS}
    found = Aged(Warm(world, forks), root, {}, {}, versions, seen(root, versions), {})
    laid, moments, ended = {}, {}, {}
    for run in MOMENTS:
        laid[run] = Path(shutil.copytree(root, home / run))
        listed = home / f"{run}.moments"
        assert found.maintain(KILL_BELOW=str(root), MOMENTS=str(listed)) == 0, found.warm.out.read_text()
        moments[run] = [line.split()[0] for line in listed.read_text().splitlines()]
        assert seen(root, versions) == found.seen
        after = Path(shutil.copytree(root, home / f"{run}-after"))
        ended[run] = found.end(run)
        put_back(after, root)
        aged_lake.age(root, 2)
    return Aged(found.warm, root, laid, moments, versions, found.seen, ended)


def lay(root: Path) -> None:
    """Days that those after them publish again; one in parts, written long ago; a part of a run that died."""
    now = float(int(time.time()))
    long_ago, day = now - (DAYS + 1) * aged_lake.DAY_SECONDS, FIRST - timedelta(days=1)
    for table in KEYS:
        folder = Lake(root).staging(table, "spark") / f"day={day}"
        folder.mkdir()
        for number in range(PARTS):
            part = folder / f"part-{number}.parquet"
            pq.write_table(aged_lake.rows(table, 2, day, f"p{number}"), part)
            os.utime(part, (long_ago, long_ago))
        by = Lineage("attribute", "spark", "code", "cfg")
        Lake(root).publish(table, {"day": str(day)}, sorted(folder.glob("*")), by)
        (Lake(root).staging(table, "dead") / "part-0.parquet").write_bytes(b"half")
    aged_lake.stamp(root, set(), long_ago)
    for _ in aged_lake.lay(root, FIRST, DAYS, now, n=2, tables=REOPENED):
        pass


def young(table: Path) -> tuple[int, int]:
    """The oldest version of the last days, and the newest."""
    since = time.time() - AS_OF_DAYS * aged_lake.DAY_SECONDS
    found = [int(path.stem) for path in (table / "_delta_log").glob("*.json") if path.stat().st_mtime >= since]
    return min(found), max(found)


def seen(root: Path, versions: Versions) -> Mapping[Any, Any]:
    """Rows of these versions and now, and their lineage; now also as a reader from outside finds them."""
    lake, found = Lake(root), dict[Any, Any]()
    for table, key in KEYS.items():
        days = lake.days(table)
        for version in (*versions[table], None):
            rows = lake.read(table, columns=[key], version=version)[key].to_pylist()
            told = lake.lineages(table, days, versions[table][-1] if version is None else version)
            found[table, version] = sorted(rows), told
        outside = polars.scan_delta(str(root / table)).select(key).collect()[key].to_list()
        assert sorted(outside) == found[table, None][0]
    return found


def lies(root: Path) -> Mapping[str, Lies]:
    """What there is: part files are whole, and a version names them."""
    lake, found = Lake(root), {}
    for table in KEYS:
        names = [path.name for path in (root / table / "_delta_log").iterdir()]
        parts = set((root / table / "parts").rglob("*.parquet"))
        assert parts <= lake.named(table)
        assert all(pq.read_metadata(part).num_rows for part in parts)
        entries, checkpoints = sum(map(str.isdigit, (name[:-5] for name in names))), sum("point.p" in n for n in names)
        told = len(list((root / table / "_lineage").glob("*")))
        found[table] = Lies(entries, checkpoints, told, len(parts), len(lake.files(table)))
    return found


def put_back(copy: Path, root: Path) -> None:
    shutil.rmtree(root)
    shutil.copytree(copy, root)


def test_undisturbed_there_is_something_to_do(aged: Aged) -> None:
    """Else nothing dies in the middle of it."""
    for table in KEYS:
        entries = len(list((aged.laid["compacts"] / table / "_delta_log").glob("*.json")))
        ended = aged.ended["cuts"][table]
        assert ended.live == DAYS + 1, "a file a day"
        assert ended.entries < entries
        assert ended.told == 1
    assert "committed:2" in aged.moments["compacts"]


@pytest.mark.parametrize(("run", "moment"), [(run, moment) for run, found in MOMENTS.items() for moment in found])
def test_killed_at_any_moment_nothing_is_lost_and_the_next_runs_end_it(aged: Aged, run: str, moment: str) -> None:
    """Then there lies as much as undisturbed runs leave, and a stage goes on."""
    put_back(aged.laid[run], aged.root)
    kind, _, number = moment.partition(":")
    moments = [one for one in aged.moments[run] if one.startswith(f"{kind}:")]
    at = moments[int(number)] if number.startswith("-") else moment
    assert at in moments
    assert aged.maintain(KILL_BELOW=str(aged.root), KILL_AT=at) == -signal.SIGKILL
    assert seen(aged.root, aged.versions) == aged.seen
    assert aged.end(run) == aged.ended[run]
    assert seen(aged.root, aged.versions) == aged.seen
