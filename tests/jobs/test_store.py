"""The lake: readers see whole versions, one writer wins, a killed writer leaves the old version."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, date, datetime
from pathlib import Path

import polars
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import ROOT
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.store import Lake, Lineage, midnight, vacuum
from jobs.tables import LAKE, conform

LINEAGE = Lineage("validate", "run1", "abc", "cfg", {"raw": 3}, {"kept": 1})


def rows(*keys: str) -> pa.Table:
    n = len(keys)
    return pa.table({"row_key": list(keys), "expectation": ["e"] * n, "reason": [""] * n, "payload": ["{}"] * n})


def slot(day: int, table: str = "clicks") -> dict[str, str]:
    return {"day": f"2026-01-{day:02}", "table": table}


def keys(lake: Lake, **where: object) -> list[str]:
    return sorted(lake.read("quarantine", **where).column("row_key").to_pylist())  # type: ignore[arg-type]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_a_partition_is_replaced_whole_and_others_stay(lake: Lake) -> None:
    """Running a day twice must not double its rows nor touch another day."""
    lake.publish("quarantine", slot(1), rows("a"), LINEAGE)
    lake.publish("quarantine", slot(2), rows("b", "c"), LINEAGE)
    assert lake.publish("quarantine", slot(2), rows("d"), LINEAGE) == 1
    assert keys(lake) == ["a", "d"]
    assert keys(lake, days=[date(2026, 1, 2)]) == ["d"]


def test_an_older_version_stays_readable(lake: Lake) -> None:
    """A verdict can be replayed on the very rows it was made from."""
    lake.publish("quarantine", slot(1), rows("a"), LINEAGE)
    before = lake.version("quarantine")
    lake.publish("quarantine", slot(1), rows("b"), LINEAGE)
    assert keys(lake, version=before) == ["a"]
    assert keys(lake) == ["b"]


def test_an_empty_day_is_not_a_missing_day(lake: Lake) -> None:
    """A day without purchases is published; a day that never came makes its reader wait."""
    lake.publish("quarantine", slot(1), rows(), LINEAGE)
    lake.publish("quarantine", slot(2), [], LINEAGE)
    assert lake.read("quarantine", [date(2026, 1, 1), date(2026, 1, 2)]).num_rows == 0
    with pytest.raises(NotReady, match=r"quarantine needs 2026-01-03; published: 2026-01-01\.\.2026-01-02"):
        lake.read("quarantine", [date(2026, 1, 3)])


def test_the_later_of_two_writers_of_one_partition_is_told_and_changes_nothing(lake: Lake) -> None:
    """Backfill against the daily run: one winner; the loser can retry and does not overwrite."""
    lake.publish("quarantine", slot(1), rows("a"), LINEAGE)
    base = lake.version("quarantine")
    lake.publish("quarantine", slot(1), rows("winner"), LINEAGE, base_version=base)
    with pytest.raises(NotReady, match="another writer committed first"):
        lake.publish("quarantine", slot(1), rows("loser"), LINEAGE, base_version=base)
    assert keys(lake) == ["winner"]
    lake.publish("quarantine", slot(2), rows("other day"), LINEAGE, base_version=base)
    assert keys(lake) == ["other day", "winner"]


def _publish_days(root: str, name: str) -> None:
    lake = Lake(root)
    for day in range(1, 5):
        lake.publish("quarantine", slot(day, name), rows(f"{name}{day}"), LINEAGE)


def test_processes_writing_different_partitions_at_once_lose_nothing(tmp_path: Path) -> None:
    """Commits to other partitions of a table collide in the log; each must be tried again, not dropped."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_publish_days, args=(str(tmp_path), name)) for name in "xyz"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert keys(Lake(tmp_path)) == sorted(f"{n}{d}" for n in "xyz" for d in range(1, 5))


def test_a_writer_killed_before_its_commit_leaves_the_old_version(tmp_path: Path) -> None:
    """kill -9 between the part files and the commit: the files are there, no reader sees them, vacuum takes them."""
    lake = Lake(tmp_path)
    lake.publish("quarantine", slot(1), rows("old"), LINEAGE)
    script = textwrap.dedent(f"""
        import time
        from jobs.store import Lake
        from tests_rows import rows, slot, LINEAGE
        lake = Lake({str(tmp_path)!r})
        def hang(*_):
            print("written", flush=True)
            time.sleep(60)
        lake._commit = hang
        lake.publish("quarantine", slot(1), rows("half"), LINEAGE)
    """)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "tests_rows.py").write_text(Path(__file__).read_text())
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "path")])}
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    assert len(list((tmp_path / "quarantine" / "parts").rglob("*.parquet"))) == 2
    assert keys(Lake(tmp_path)) == ["old"]
    assert vacuum(lake, "quarantine") == 0, "a run that may still be alive keeps its files"
    for part in (tmp_path / "quarantine" / "parts").rglob("*.parquet"):
        os.utime(part, (time.time() - 90_000,) * 2)
    assert vacuum(lake, "quarantine") == 1
    assert keys(Lake(tmp_path)) == ["old"]


def test_every_commit_says_what_made_it(lake: Lake) -> None:
    """Lineage is in the log and nowhere else: stage, run, code, settings, input versions, counts, rows."""
    lake.publish("quarantine", slot(1), rows("a", "b"), LINEAGE)
    found = lake.lineage("quarantine", slot(1))
    assert found is not None
    assert (found["stage"], found["run_id"], found["code_version"], found["config_hash"]) == (
        "validate",
        "run1",
        "abc",
        "cfg",
    )
    assert (found["inputs"], found["counts"], found["rows"]) == ('{"raw": 3}', '{"kept": 1}', "2")
    assert lake.lineage("quarantine", slot(2)) is None


def test_other_engines_read_the_lake_as_delta(lake: Lake) -> None:
    """A team's own tools must see the same rows and the partition columns."""
    lake.publish("quarantine", slot(1), rows("a"), LINEAGE)
    lake.publish("quarantine", slot(2), rows("b"), LINEAGE)
    lake.publish("quarantine", slot(1), rows("c"), LINEAGE)
    frame = polars.read_delta(str(lake.root / "quarantine")).sort("row_key")
    assert frame.select("row_key", "day", "table").rows() == [
        ("b", "2026-01-02", "clicks"),
        ("c", "2026-01-01", "clicks"),
    ]


def test_unknown_tables_partitions_and_roots_are_misconfigured(lake: Lake) -> None:
    """A typo must not create a new table beside the real one."""
    with pytest.raises(Misconfigured, match="found 'quarantines'"):
        lake.read("quarantines")
    with pytest.raises(Misconfigured, match=r"partitioned by \('day', 'table'\)"):
        lake.publish("quarantine", {"day": "2026-01-01"}, rows("a"), LINEAGE)
    with pytest.raises(Misconfigured, match="local folder"):
        Lake("s3://bucket/lake")


@pytest.mark.parametrize("name", sorted(LAKE))
def test_dropping_or_retyping_any_column_is_refused(name: str) -> None:
    """The contract is held at the door: a table that lacks or retypes a column is never published."""
    table = LAKE[name]
    empty = table.schema.empty_table()
    assert conform(empty, table).schema == table.schema
    for index, column in enumerate(table.columns):
        with pytest.raises(Refused, match=column):
            conform(empty.remove_column(index), table)
        wrong = pa.array([], pa.binary(3)) if table.columns[column].type != pa.binary(3) else pa.array([], pa.int8())
        with pytest.raises(Refused, match=table.name):
            conform(empty.set_column(index, column, wrong), table)


def test_nulls_in_a_required_column_are_refused(lake: Lake) -> None:
    """A null id would silently fall out of every join."""
    data = rows("a").set_column(1, "expectation", pa.array([None], pa.string()))
    with pytest.raises(Refused, match="expectation must not be null; found 1 nulls"):
        lake.publish("quarantine", slot(1), data, LINEAGE)
    assert lake.version("quarantine") is None


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.lists(st.text("abc", min_size=1, max_size=3), max_size=4)), max_size=6))
def test_the_lake_equals_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, list[str]]]
) -> None:
    """Whatever the order of replacements, the lake is what a dict from day to rows would be."""
    lake, model = Lake(tmp_path_factory.mktemp("lake")), {}
    for day, content in writes:
        lake.publish("quarantine", slot(day), rows(*content), LINEAGE)
        model[day] = content
    assert keys(lake) == sorted(key for content in model.values() for key in content)
    assert lake.days("quarantine") == [date(2026, 1, day) for day in sorted(model)]


def test_midnight_is_the_first_instant_of_a_utc_day() -> None:
    """Days are UTC: an offset here would shift every window."""
    assert midnight(date(2026, 1, 8)) == datetime(2026, 1, 8, tzinfo=UTC)
