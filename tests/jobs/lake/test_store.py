"""The lake: readers see whole versions, one writer wins, a killed writer leaves the old version."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import DeltaError
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import ROOT
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.lake import parts
from jobs.lake.log import blamed
from jobs.lake.store import NEVER, Lake, Lineage, midnight
from jobs.lake.tables import LAKE, conform
from jobs.lake.vacuum import vacuum_table

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


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_only_the_rows_asked_for_are_kept_in_their_order(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """However a file is cut to pieces, and where it holds none of them or no row at all."""
    monkeypatch.setattr(parts, "BATCH_ROWS", batch)
    for day, published in ((1, "abcab"), (2, "cc"), (3, "")):
        lake.publish("quarantine", slot(day), rows(*published), LINEAGE)
    wanted = pc.field("row_key") != "c"
    found = lake.read("quarantine", rows=wanted)
    whole = lake.read("quarantine")
    assert found.column("row_key").to_pylist() == list("abab")
    assert found.equals(whole.filter(wanted))
    assert lake.read("quarantine", columns=["row_key"], rows=wanted).column_names == ["row_key", "day", "table"]


def test_rows_that_are_not_wanted_are_not_decoded(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the statistics of row groups: of a month's dataset a backtest decodes the newest day."""
    write, decoded = pq.write_table, []
    iter_batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq, "write_table", lambda *of, **more: write(*of, **more, row_group_size=2))

    def watched(file: pq.ParquetFile, size: int, row_groups: list[int] | None, **more: Any) -> Any:
        decoded.append(row_groups)
        return iter_batches(file, size, row_groups=row_groups, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    lake.publish("quarantine", slot(1), rows(*"aabbbccc"), LINEAGE)
    for wanted, groups in (("a", [0]), ("b", [1, 2]), ("c", [2, 3]), ("d", [])):
        found = lake.read("quarantine", rows=pc.field("row_key") == wanted)
        assert found.column("row_key").to_pylist() == [key for key in "aabbbccc" if key == wanted]
        assert decoded.pop() == groups


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
    other = replace(LINEAGE, run_id="run2")
    with pytest.raises(NotReady, match="another writer committed first"):
        lake.publish("quarantine", slot(1), rows("loser"), other, base_version=base)
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
        from jobs.lake.store import Lake
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
    child.wait(60)
    child.stdout.close()
    assert len(list((tmp_path / "quarantine" / "parts").rglob("*.parquet"))) == 2
    assert keys(Lake(tmp_path)) == ["old"]
    assert vacuum_table(lake, "quarantine") == 0, "a run that may still be alive keeps its files"
    grow_old(tmp_path)
    assert vacuum_table(lake, "quarantine") == 1
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


def test_of_two_first_writers_of_a_partition_one_wins(lake: Lake) -> None:
    """A day published for the first time by two runs at once must not hold both, nor the later over the earlier."""
    base = NEVER if lake.version("quarantine") is None else 0
    lake.publish("quarantine", slot(1), rows("winner"), LINEAGE, base_version=base)
    other = replace(LINEAGE, run_id="run2")
    with pytest.raises(NotReady, match="another writer committed first"):
        lake.publish("quarantine", slot(1), rows("loser"), other, base_version=base)
    lake.publish("quarantine", slot(2), rows("second day"), LINEAGE)
    # Both look, both see the partition free, both commit: only the log itself can tell them apart.
    open_as_it_was = lake._open("quarantine", None)
    lake.publish("quarantine", slot(3), rows("winner of 3"), LINEAGE)
    slow, opened = Lake(lake.root), [open_as_it_was]
    slow._open = lambda *at: opened.pop() if opened else lake._open(*at)  # type: ignore[method-assign]
    with pytest.raises(NotReady, match="another writer committed first"):
        slow.publish("quarantine", slot(3), rows("loser of 3"), other)
    assert keys(lake) == ["second day", "winner", "winner of 3"]


def test_a_run_may_replace_what_it_published_itself(lake: Lake) -> None:
    """Deploy writes its ledger page twice; a writer in between is noticed all the same."""
    base = lake.publish("quarantine", slot(1), rows("old"), LINEAGE) - 1
    mine, other = replace(LINEAGE, run_id="mine"), replace(LINEAGE, run_id="other")
    for content in ("approved", "deployed"):
        lake.publish("quarantine", slot(1), rows(content), mine, base_version=base)
    lake.publish("quarantine", slot(1), rows("theirs"), other)
    with pytest.raises(NotReady, match="another writer committed first"):
        lake.publish("quarantine", slot(1), rows("mine again"), mine, base_version=base)
    assert keys(lake) == ["theirs"]


def test_old_log_entries_are_never_cleaned_away(lake: Lake) -> None:
    """delta-rs would delete entries of more than 30 days with every hundredth commit: lineage and replays with them."""
    lake.publish("quarantine", slot(1), rows("first"), LINEAGE)
    for _ in range(98):
        lake.publish("quarantine", slot(2), rows("b"), LINEAGE)
    grow_old(lake.root, days=400)
    lake.publish("quarantine", slot(2), rows("c"), LINEAGE)
    log = lake.root / "quarantine" / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet")), "an open reads a checkpoint, not every entry"
    assert len(list(log.glob("*.json"))) == 100
    assert keys(lake, version=0) == ["first"]
    assert lake.lineage("quarantine", slot(1)) is not None


def test_what_is_asked_of_a_long_log_reads_its_newest_entries(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate asks for each table's lineage day by day: a year of commits must not make that slow."""
    for day in range(1, 29):
        lake.publish("quarantine", slot(day), rows("a"), LINEAGE)
    read: list[str] = []
    text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: read.append(path.name) or text(path))
    assert lake.lineage("quarantine", slot(27)) is not None
    assert read == [f"{27:020}.json", f"{26:020}.json"]
    read.clear()
    lake.publish("quarantine", slot(28), rows("b"), LINEAGE, base_version=26)
    assert read == [], "what it committed itself it knows"
    Lake(lake.root).publish("quarantine", slot(29), rows("c"), LINEAGE, base_version=27)
    assert read == [f"{28:020}.json"]


def test_a_table_that_is_kept_open_is_seen_as_it_is_now(lake: Lake) -> None:
    """What others commit, an entry that a power cut left hollow, and a table that was made anew."""
    other = Lake(lake.root)
    for number in range(3):
        lake.publish("quarantine", slot(number), rows("a"), LINEAGE)
        other.publish("quarantine", slot(10 + number), rows("b", "c"), LINEAGE)
        assert len(lake.partitions("quarantine")) == len(other.partitions("quarantine")) == 2 * number + 2
    assert lake.version("quarantine") == 5
    log = lake.root / "quarantine" / "_delta_log"
    (log / f"{6:020}.json").touch()
    with pytest.raises(Refused, match=f"found nothing in {log}/{6:020}.json"):
        lake.version("quarantine")
    shutil.rmtree(lake.root / "quarantine")
    assert lake.version("quarantine") is None
    other.publish("quarantine", slot(1), rows("d"), LINEAGE)
    assert (lake.version("quarantine"), len(lake.read("quarantine"))) == (0, 1)


@pytest.mark.parametrize("damage", [b"{", b"\x00\xff", None])
def test_a_damaged_log_is_named_in_one_sentence(lake: Lake, damage: bytes | None) -> None:
    """Whoever is paged must read which file of which table is broken, not a stack trace; nothing is written over it.

    By whoever opens the table: one that is open already has read the entry.
    """
    for name in "abc":
        lake.publish("quarantine", slot(1), rows(name), LINEAGE)
    entry = lake.root / "quarantine" / "_delta_log" / f"{1:020}.json"
    if damage is None:
        entry.unlink()
    else:
        entry.write_bytes(entry.read_bytes()[:200] + damage)
    lake = Lake(lake.root)
    for use in (
        lambda: lake.read("quarantine"),
        lambda: lake.lineage("quarantine", slot(1)),
        lambda: lake.publish("quarantine", slot(1), rows("d"), LINEAGE),
        lambda: vacuum_table(lake, "quarantine"),
    ):
        grow_old(lake.root)
        with pytest.raises(Refused, match="table quarantine needs a readable log") as said:
            use()
        assert "\n" not in str(said.value)
    assert not (lake.root / "quarantine" / "_delta_log" / f"{3:020}.json").exists()


@pytest.mark.parametrize("damage", ["{", "7", "[]", "\x00"])
def test_an_older_entry_that_only_lineage_reads_is_named_too(lake: Lake, damage: str) -> None:
    """Below a checkpoint delta-rs no longer looks; lineage, history and vacuum still do."""
    lake.publish("quarantine", slot(1), rows("a"), LINEAGE)
    lake.publish("quarantine", slot(2), rows("a"), LINEAGE)
    found = lake._open("quarantine", None)
    assert found is not None
    found.create_checkpoint()
    (lake.root / "quarantine" / "_delta_log" / f"{0:020}.json").write_text(damage)
    lake.staging("quarantine", "dead")
    grow_old(lake.root)
    for use in (
        lambda: lake.lineage("quarantine", slot(1)),
        lambda: lake.history("quarantine"),
        lambda: vacuum_table(lake, "quarantine"),
    ):
        with pytest.raises(Refused, match=r"^table quarantine needs a readable log; found") as said:
            use()
        assert "\n" not in str(said.value)


def test_an_entry_that_a_power_cut_emptied_is_not_skipped(lake: Lake) -> None:
    """delta-rs takes it for a commit of nothing: the rows of its day would be gone, and vacuum would take the files."""
    for day in (1, 2, 3):
        lake.publish("quarantine", slot(day), rows(f"day {day}"), LINEAGE)
    (lake.root / "quarantine" / "_delta_log" / f"{1:020}.json").write_bytes(b"")
    with pytest.raises(Refused, match=r"^table quarantine needs a readable log; found nothing in .*0001\.json$"):
        lake.read("quarantine")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), NotReady),
        (
            OSError(
                "Kernel error -> Generic LocalFileSystem error\n \x1b[31m↳\x1b[0m Stale file handle (os error 116)"
            ),
            NotReady,
        ),
        (PermissionError(errno.EACCES, "Permission denied"), Misconfigured),
        (DeltaError("Generic delta kernel error\n \x1b[31m↳\x1b[0m no protocol"), Refused),
        (pa.ArrowInvalid("Parquet magic bytes not found"), Refused),
    ],
)
def test_an_error_is_the_tables_fault_only_where_the_disk_did_answer(error: Exception, kind: type[Exception]) -> None:
    """A table that is refused is not tried again; one on a disk that is full or away for a minute is."""
    found = blamed("table clicks needs a readable log", error)
    assert type(found) is kind
    assert "\n" not in str(found)
    assert "\x1b" not in str(found)
    assert "[31m" not in str(found)


@pytest.mark.parametrize("name", ["run[1]", "a{b,c}", "st*r", "wh?t", "hash#", "100%", "ü d:e", "a+b&c;d@$('e')"])
def test_a_root_may_be_called_as_people_call_folders(tmp_path: Path, name: str) -> None:
    """Rows, versions, a checkpoint and the history are there, and nothing beside the folder."""
    lake = Lake(tmp_path / name)
    for day in (1, 2):
        lake.publish("quarantine", slot(day), rows(f"day {day}"), LINEAGE)
    opened = lake._open("quarantine", None)
    assert opened is not None
    opened.create_checkpoint()
    assert keys(lake) == ["day 1", "day 2"]
    assert keys(lake, version=0) == ["day 1"]
    assert [commit["tidegate.rows"] for commit in lake.history("quarantine")] == ["1", "1"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["per%20cent", "back\\slash", "line\nbreak", "tab\t"])
def test_a_root_that_delta_reads_otherwise_is_a_wrong_setting(tmp_path: Path, name: str) -> None:
    """delta-rs would look for the log in `per cent`, and say that the data is wrong."""
    with pytest.raises(Misconfigured, match=r"^lake\.root needs a path that Delta reads as it is.*; found ") as said:
        Lake(tmp_path / name)
    assert str(said.value).isprintable()


def test_a_root_that_is_a_file_is_a_wrong_setting(tmp_path: Path) -> None:
    """Said before any work, and not as a bug."""
    (tmp_path / "lake").write_text("")
    with pytest.raises(Misconfigured, match=r"lake\.root must be a folder; found a file at .*/lake"):
        Lake(tmp_path / "lake")


def test_vacuum_takes_what_is_dead_and_nothing_else(lake: Lake) -> None:
    """Every version stays readable; a run that wrote anything lately keeps all its files, old ones as well."""
    for name in "ab":
        lake.publish("quarantine", slot(1), rows(name), LINEAGE)
    dead, live = lake.staging("quarantine", "dead"), lake.staging("quarantine", "live")
    for folder in (dead, live):
        (folder / "_temporary" / "0").mkdir(parents=True)
        for name in ("part-0.parquet", "_temporary/0/part-1.parquet", ".part-0.parquet.crc"):
            (folder / name).write_bytes(b"half")
    (lake.root / "quarantine" / "_delta_log" / f"{2:020}.json#1").write_text("{")
    grow_old(lake.root)
    (live / "part-2.parquet").write_bytes(b"fresh")
    assert vacuum_table(lake, "quarantine") == 3
    assert not dead.exists()
    assert len(list(live.rglob("*.parquet"))) == 3
    assert not list((lake.root / "quarantine" / "_delta_log").glob("*#*"))
    assert [keys(lake, version=v) for v in (0, 1)] == [["a"], ["b"]]
    assert vacuum_table(lake, "quarantine") == 0


def grow_old(folder: Path, days: int = 2) -> None:
    """Everything below was last touched so long ago."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (time.time() - days * 86_400,) * 2)


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
    with pytest.raises(Misconfigured, match="s3://bucket/prefix"):
        Lake("gs://bucket/lake")


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
