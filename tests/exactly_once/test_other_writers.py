"""Another Delta writer deletes rows of a table: nobody of Tidegate ever gives them back, and no reader falls over."""

import os
import time
from datetime import date
from functools import reduce
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.errors import Refused
from jobs.lake.parts import scanned
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.lake.vacuum import DEAD_AFTER_HOURS, vacuum_table
from tests.exactly_once import outside
from tests.exactly_once.any_rows import LINEAGE, rows, slot
from tests.exactly_once.other_writers import WRITERS, mark_deleted


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Nothing published yet."""
    return Lake(tmp_path / "lake")


@pytest.mark.parametrize("name", LAKE)
def test_rows_that_delta_rs_deleted_are_gone_and_the_others_as_they_were(lake: Lake, name: str) -> None:
    """It rewrites the file in types of its own; every reader has the contract's, as DuckDB reads them."""
    table = LAKE[name]
    key = next(column for column, spec in table.columns.items() if spec.type == pa.string())
    for day in (1, 2):
        lake.publish(name, slot(table, day), rows(table, 40, day), LINEAGE)
    before = lake.read(name)
    wanted = {key: "plain", **slot(table, 1)}
    gone = reduce(pc.and_, (pc.equal(before[column], value) for column, value in wanted.items()))
    condition = " and ".join(f"{column} = '{value}'" for column, value in wanted.items())
    deleted = deltalake.DeltaTable(str(lake.root / name)).delete(condition)
    assert deleted["num_deleted_rows"] > 0
    after = lake.read(name)
    assert after.schema == before.schema
    assert outside.plain(after.to_pylist()) == outside.plain(
        before.filter(pc.invert(pc.fill_null(gone, False))).to_pylist()
    )
    assert outside.plain(after.to_pylist()) == outside.by_duckdb(lake, name)[0]


def test_part_files_of_two_writers_are_filtered_alike(lake: Lake) -> None:
    """Arrow has no comparison of a string with the view of one that another writer left."""
    table = LAKE["clicks"]
    for day in (1, 2):
        lake.publish("clicks", slot(table, day), rows(table, 40, day), LINEAGE)
    deltalake.DeltaTable(str(lake.root / "clicks")).delete("click_id = 'plain' and day = '2026-01-01'")
    found = scanned([path for path, _ in lake.files("clicks")], "clicks")
    wanted = pc.field("item_id").isin(pa.array(["plain", "東京"], pa.string()))
    names = list(table.columns)
    expected = lake.read("clicks", columns=names).filter(wanted).select(names)
    assert outside.plain(found.to_table(filter=wanted).to_pylist()) == outside.plain(expected.to_pylist())
    assert found.count_rows(filter=wanted) == len(expected) > 0


@pytest.mark.parametrize("left", WRITERS)
def test_what_the_files_alone_do_not_say_is_refused_by_name(lake: Lake, left: str) -> None:
    """A reader of files would give deleted rows back, or miss columns: better no rows than those."""
    table = LAKE["clicks"]
    lake.publish("clicks", slot(table, 1), rows(table, 40, 1), LINEAGE)
    WRITERS[left](lake, "clicks")
    for use in (lake.files, lake.read):
        with pytest.raises(Refused, match=r"^table clicks needs .*found") as said:
            use("clicks")
        assert "\n" not in str(said.value)


def test_days_without_deleted_rows_are_read_and_a_new_publication_is_whole(lake: Lake) -> None:
    """The vector lies on one file; DuckDB, which knows of vectors, says the same."""
    table = LAKE["clicks"]
    for day in (1, 2):
        lake.publish("clicks", slot(table, day), rows(table, 40, day), LINEAGE)
    path = mark_deleted(lake, "clicks", [3, 5])
    assert len(outside.by_duckdb(lake, "clicks")[0]) == 78
    assert len(lake.read("clicks", [date(2026, 1, 2)])) == 40
    with pytest.raises(Refused, match=rf"without deletion vectors.*found 1 with one, such as {path}: rewrite"):
        lake.read("clicks", [date(2026, 1, 1)])
    (lake.staging("clicks", "dead") / "part-0.parquet").write_bytes(b"half")
    for left in (lake.root / "clicks").rglob("*"):
        os.utime(left, (time.time() - 2 * DEAD_AFTER_HOURS * 3600,) * 2)
    assert vacuum_table(lake, "clicks") == 1
    assert path.exists()
    lake.publish("clicks", slot(table, 1), rows(table, 30, 3), LINEAGE)
    assert outside.published(lake, "clicks") == outside.by_duckdb(lake, "clicks")[0]


def test_a_part_file_that_is_gone_or_damaged_is_named(lake: Lake) -> None:
    """A vacuum of another engine, a disk: the file and what is wrong with it, in one sentence."""
    table = LAKE["clicks"]
    lake.publish("clicks", slot(table, 1), rows(table, 40, 1), LINEAGE)
    ((path, _),) = lake.files("clicks")
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:99])
    with pytest.raises(Refused, match=rf"^table clicks needs the columns .* in part file {path}; found: .*Parquet"):
        lake.read("clicks")
    Path(path).unlink()
    with pytest.raises(Refused, match=rf"^table clicks needs the part file {path}, .*; found no such file$"):
        lake.files("clicks")


def test_a_day_that_is_none_is_named(lake: Lake) -> None:
    """Somebody's append under a partition of another kind."""
    table = LAKE["clicks"]
    lake.publish("clicks", slot(table, 1), rows(table, 4, 1), LINEAGE)
    stray = rows(table, 1, 2).append_column("day", pa.array(["someday"]))
    deltalake.write_deltalake(str(lake.root / "clicks"), stray, mode="append")
    with pytest.raises(Refused, match=r"^table clicks needs days YYYY-MM-DD; found 2026-01-01, someday$"):
        lake.days("clicks")
