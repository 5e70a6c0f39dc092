"""A log that is cut: every kept version reads as before, what its commits said is remembered, the rest is let go."""

import shutil
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars
import pyarrow.parquet as pq
import pytest

from jobs.errors import Refused
from jobs.lake import expiry, remembered, small_files
from jobs.lake.store import Lake, Lineage
from tests.jobs import aged_lake
from tests.jobs.dying import dies

FIRST, DAYS, KEPT_DAYS, PINNED = date(2026, 1, 1), 16, 4, 9
TABLES = {"labels": 3}
NOW = float(int(time.time()))


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen days of labels, each publishing the three before it again."""
    root = tmp_path_factory.mktemp("aged")
    for _ in aged_lake.lay(root, FIRST, DAYS, NOW, n=3, tables=TABLES):
        pass
    return root


@pytest.fixture
def root(laid: Path, tmp_path: Path) -> Path:
    """A copy with the files' times."""
    shutil.copytree(laid, tmp_path, dirs_exist_ok=True)
    return tmp_path


def maintain(root: Path, at: float = NOW) -> int:
    """As `maintain` does of a table, keeping a version that something rests on."""
    return aged_lake.maintain(root, at, KEPT_DAYS, PINNED)


def maintained(root: Path) -> None:
    """Twice: what the first one wrote must have settled before the second cuts."""
    assert maintain(root) == 0, "nothing is cut before its checkpoint has settled"
    assert maintain(root, NOW + 2 * 3600) > 0


def ids(lake: Lake, version: int | None = None) -> list[str]:
    return sorted(lake.read("labels", columns=["impression_id"], version=version)["impression_id"].to_pylist())


def oldest(root: Path) -> int:
    """The newest version of five days ago: all after it are of the last days."""
    at = NOW - KEPT_DAYS * aged_lake.DAY_SECONDS
    log = root / "labels" / "_delta_log"
    return max(int(path.stem) for path in log.glob("*.json") if path.stat().st_mtime <= at)


def test_kept_versions_read_as_before_and_the_others_are_gone(root: Path) -> None:
    """Inside the days that are kept, at the version something rests on, and now; their commits' lineage too."""
    lake, since = Lake(root), oldest(root)
    newest = lake.version("labels")
    assert newest is not None
    versions = [PINNED, *range(since, newest + 1)]
    days = lake.days("labels")
    rows = {version: ids(lake, version) for version in versions}
    told = {version: lake.lineages("labels", days, version) for version in versions}
    files = len(list(root.rglob("*.parquet")))
    maintained(root)
    lake = Lake(root)
    assert {version: ids(lake, version) for version in versions} == rows
    assert {version: lake.lineages("labels", days, version) for version in versions} == told
    assert lake.lineage("labels", {"day": str(FIRST)}) == told[newest][FIRST]
    assert ids(lake) == rows[newest]
    assert polars.scan_delta(str(root / "labels")).collect().height == len(rows[newest])
    assert len(list(root.rglob("part-*.parquet"))) < files - 10
    for gone in (PINNED + 1, since - 1):
        with pytest.raises(Refused, match=f"needs a log that reaches back to version {gone}; `maintain` keeps"):
            ids(lake, gone)
    assert maintain(root, NOW + 4 * 3600) == 0, "again, there is nothing to do"
    assert {version: ids(Lake(root), version) for version in versions} == rows


def test_a_second_cut_forgets_no_lineage_of_the_first(root: Path) -> None:
    """Days later: what the first cut remembered is still known, of partitions nobody has published since."""
    told = Lake(root).lineages("labels", Lake(root).days("labels"))
    maintained(root)
    later = NOW + 3 * aged_lake.DAY_SECONDS
    maintain(root, later)
    assert maintain(root, later + 7200) > 0
    assert Lake(root).lineages("labels", list(told)) == told
    assert len(list((root / "labels" / remembered.FOLDER).glob("*"))) == 1


def test_a_writer_goes_on_while_its_table_is_maintained(root: Path) -> None:
    """It began before the cut; and another one that replaced the partition meanwhile is found in a log that is cut."""
    lake = Lake(root)
    base = lake.version("labels")
    maintained(root)
    day = FIRST + timedelta(days=DAYS)
    by = Lineage("attribute", "mine", "code", "cfg")
    lake.publish("labels", {"day": str(day)}, aged_lake.rows("labels", 2, day), by, base_version=base)
    assert len(ids(Lake(root))) == 3 * DAYS + 2


@pytest.mark.parametrize("moment", [1, 12, 40])
def test_killed_anywhere_every_kept_version_can_be_read(root: Path, moment: int) -> None:
    """`kill -9` before and after what is remembered, amid entries, amid part files; the next maintenance ends it."""
    lake, since = Lake(root), oldest(root)
    newest = lake.version("labels")
    assert newest is not None
    versions, days = [PINNED, since, newest - 1, newest], lake.days("labels")
    rows = {version: ids(lake, version) for version in versions}
    told = lake.lineages("labels", days)
    maintain(root)
    assert dies(root, moment, aged_lake.maintain, root, NOW + 2 * 3600, KEPT_DAYS, PINNED)
    assert {version: ids(Lake(root), version) for version in versions} == rows
    assert Lake(root).lineages("labels", days) == told
    maintain(root, NOW + 2 * 3600)
    whole = len(list(root.rglob("*")))
    assert {version: ids(Lake(root), version) for version in versions} == rows
    assert Lake(root).lineages("labels", days) == told
    assert maintain(root, NOW + 2 * 3600) == 0
    assert len(list(root.rglob("*"))) == whole


def _many_parts(root: Path, n: int) -> list[str]:
    """A day of as many files as Spark would leave; returns its rows' ids in order."""
    lake, day = Lake(root), FIRST
    folder = lake.staging("labels", "spark") / f"day={day}"
    folder.mkdir()
    for number in range(n):
        pq.write_table(aged_lake.rows("labels", 3, day, f"p{number}"), folder / f"part-{number}.parquet")
    by = Lineage("attribute", "spark", "code", "cfg", {"clicks": 7}, {"rows": 1}, {"raw_files": "abc"})
    lake.publish("labels", {"day": str(day)}, sorted(folder.glob("*")), by)
    return list(lake.read("labels", [day])["impression_id"].to_pylist())


def test_small_files_become_one_and_no_stage_sees_a_change(tmp_path: Path) -> None:
    """The same rows in their order; the partition's lineage is its stage's, and the version before reads as it did."""
    rows = _many_parts(tmp_path, 5)
    lake = Lake(tmp_path)
    told, before = lake.lineage("labels", {"day": str(FIRST)}), lake.version("labels")
    soon, tomorrow = aged_lake.moment(time.time()), aged_lake.moment(time.time() + 90_000)
    assert small_files.compact(lake, "labels", soon) == 0, "late events may write it again"
    assert small_files.compact(lake, "labels", tomorrow) == 1
    assert len(lake.files("labels")) == 1
    assert lake.read("labels", [FIRST])["impression_id"].to_pylist() == rows
    assert lake.lineage("labels", {"day": str(FIRST)}) == told
    assert len(lake.files("labels", version=before)) == 5
    assert lake.read("labels", version=before)["impression_id"].to_pylist() == rows
    entry = (tmp_path / "labels" / "_delta_log" / f"{1:020}.json").read_text()
    assert '"dataChange":true' not in entry
    assert small_files.compact(lake, "labels", tomorrow) == 0
    assert polars.scan_delta(str(tmp_path / "labels")).collect().height == len(rows)


def test_of_a_writer_and_a_compaction_the_writer_is_not_told(tmp_path: Path) -> None:
    """It began before and replaces the partition after: the rows it was made from are the same."""
    _many_parts(tmp_path, 3)
    writer = Lake(tmp_path)
    base = writer.version("labels")
    small_files.compact(Lake(tmp_path), "labels", aged_lake.moment(time.time() + 90_000))
    by = Lineage("attribute", "other", "code", "cfg")
    writer.publish("labels", {"day": str(FIRST)}, aged_lake.rows("labels", 2, FIRST, "new"), by, base_version=base)
    assert len(ids(Lake(tmp_path))) == 2


def test_where_a_writer_is_faster_nothing_is_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is on top of what was read, or it is none: replaced rows must not come back."""
    _many_parts(tmp_path, 3)
    merged = small_files._merged

    def late(lake: Lake, *args: Any) -> Any:
        by = Lineage("attribute", "other", "code", "cfg")
        Lake(tmp_path).publish("labels", {"day": str(FIRST)}, aged_lake.rows("labels", 2, FIRST, "new"), by)
        return merged(lake, *args)

    monkeypatch.setattr(small_files, "_merged", late)
    assert small_files.compact(Lake(tmp_path), "labels", aged_lake.moment(time.time() + 90_000)) == 0
    assert len(ids(Lake(tmp_path))) == 2


def test_a_lake_that_is_maintained_daily_does_not_grow_with_its_age(tmp_path: Path) -> None:
    """Thirty days of which five are kept: the log and the replaced files are those of a week, live files of all."""
    for _, at in aged_lake.lay(tmp_path, FIRST, 30, NOW, n=3, tables=TABLES):
        aged_lake.maintain(tmp_path, at, 5)
    commits_a_day, days = 1 + TABLES["labels"], 5 + 1
    spare = expiry.WORTH + commits_a_day
    assert aged_lake.entries(tmp_path, TABLES) <= commits_a_day * days + spare
    files = len(list(tmp_path.rglob("part-*.parquet")))
    assert 30 < files <= 30 + TABLES["labels"] * days + spare
    assert aged_lake.held(tmp_path) < 3 * aged_lake.live(Lake(tmp_path), TABLES)  # of three rows a day the log is half
    assert len(Lake(tmp_path).lineages("labels", Lake(tmp_path).days("labels"))) == 30
