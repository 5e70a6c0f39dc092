"""The stage on a lake: what is published, what is refused whole, and what is taken again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from jobs.attribute import job as job_of_labels
from jobs.config import ROOT, Config, SourceSettings
from jobs.errors import NotReady, Refused
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE, RAW
from jobs.validate import job
from tests.jobs.validate.raw_days import FIRST, N, put, retyped, tables_of, write

Validate = Callable[..., dict[str, Any]]
SECOND = FIRST + timedelta(days=1)
THIRD = FIRST + timedelta(days=2)


def versions(config: Config) -> dict[str, int | None]:
    """Where every table of the lake stands."""
    lake = Lake(config.lake.root)
    return {table: lake.version(table) for table in LAKE}


def test_a_day_becomes_the_validated_tables(config: Config, validate: Validate) -> None:
    """Rows in, rows out, with the summary of the verdict in every commit."""
    write(config.lake.raw, FIRST, tables_of(FIRST))
    counts = validate()
    lake = Lake(config.lake.root)
    assert {table: len(lake.read(table, [FIRST])) for table in RAW} == dict.fromkeys(RAW, N)
    assert (counts["raw_rows"], counts["set_aside"], counts["failed"]) == (7 * N, 0, {})
    lineage = lake.lineage("impressions", {"day": FIRST.isoformat()})
    assert lineage is not None
    recorded = json.loads(lineage["counts"])
    assert recorded["expectations"] > 30
    assert (recorded["failed_critical"], recorded["failed_warning"]) == (0, 0)
    assert len(json.loads(lineage["notes"])["raw_files"]) == 16


def test_running_again_gives_the_same_rows(config: Config, validate: Validate) -> None:
    """Also when the loggers' files hold them in another order."""
    tables = tables_of(FIRST)
    tables["impressions"] = pa.concat_tables([put(tables["impressions"], "position", 0), tables["impressions"][3:4]])
    write(config.lake.raw, FIRST, tables)
    validate()
    lake = Lake(config.lake.root)
    before = {table: lake.read(table) for table in (*RAW, "quarantine")}
    write(config.lake.raw, FIRST, {name: rows.take(list(range(len(rows)))[::-1]) for name, rows in tables.items()})
    validate()
    for table, rows in before.items():
        assert lake.read(table).equals(rows), table


def test_a_refused_day_publishes_nothing_and_the_days_before_it_stay(config: Config, validate: Validate) -> None:
    """All tables are looked at before any is published; later days are not begun."""
    write(config.lake.raw, FIRST, tables_of(FIRST))
    validate()
    before = versions(config)
    for day in (SECOND, THIRD):
        write(config.lake.raw, day, tables_of(day))
    users = tables_of(SECOND)["users"]  # the last table to be looked at
    write(config.lake.raw, SECOND, {"users": retyped(users, "user_id", pa.array(range(N)))})
    with pytest.raises(Refused, match="raw users of 2026-01-02 needs column user_id of type string; found type int64"):
        validate(THIRD, since=SECOND)
    assert versions(config) == before


def test_good_days_before_a_refused_one_are_published(config: Config, validate: Validate) -> None:
    """One batch of days is judged together, yet each day is its own verdict."""
    for day in (FIRST, SECOND, THIRD):
        write(config.lake.raw, day, tables_of(day))
    bad = retyped(tables_of(SECOND)["purchases"], "value", pa.array([-1.0] * N))
    write(config.lake.raw, SECOND, {"purchases": bad})
    with pytest.raises(Refused, match="raw purchases of 2026-01-02"):
        validate(THIRD, since=FIRST)
    lake = Lake(config.lake.root)
    assert {table: lake.days(table) for table in RAW} == {table: [FIRST] for table in RAW}


def test_a_repaired_day_clears_its_quarantine(config: Config, validate: Validate) -> None:
    """Rows set aside once are not set aside for ever."""
    tables = tables_of(FIRST)
    write(config.lake.raw, FIRST, {**tables, "clicks": put(tables["clicks"], "item_id", None)})
    assert validate()["set_aside"] == 1
    write(config.lake.raw, FIRST, tables)
    assert validate()["set_aside"] == 0
    lake = Lake(config.lake.root)
    assert (len(lake.read("quarantine")), len(lake.read("clicks"))) == (0, N)


def test_late_arrivals_reopen_an_earlier_day(config: Config, validate: Validate) -> None:
    """Only days whose raw files changed, and only as far back as a late event may come."""
    for day in (FIRST, SECOND):
        write(config.lake.raw, day, tables_of(day))
        assert validate(day)["revisited"] == []
    late = put(tables_of(FIRST)["clicks"], "click_id", "late", 0).slice(0, 1)
    write(config.lake.raw, FIRST, {"clicks": late}, file=f"late-{THIRD}.parquet")
    write(config.lake.raw, THIRD, tables_of(THIRD))
    assert validate(THIRD)["revisited"] == [FIRST.isoformat()]
    assert len(Lake(config.lake.root).read("clicks", [FIRST])) == N + 1
    assert validate(THIRD)["revisited"] == []


@pytest.mark.parametrize("table", RAW)
def test_a_promised_day_that_has_not_come_is_named(config: Config, validate: Validate, table: str) -> None:
    """Retried later; the sentence says where the rows are waited for, and how to do without them."""
    tables = tables_of(FIRST)
    write(config.lake.raw, SECOND, tables)
    write(config.lake.raw, FIRST, {name: rows for name, rows in tables.items() if name != table})
    promised = config.model_copy(update={"source": SourceSettings(daily=(table,))})
    with pytest.raises(NotReady) as said:
        job.run(Run(STAGES["validate"], promised, FIRST))
    path = f"{config.lake.raw}/{table}/date=2026-01-01/hour=HH/*.parquet"
    assert f"needs {path}; found no such folder" in str(said.value)
    without = "jobs lose --day 2026-01-01" if table == "impressions" else "a day without any by one file without rows"
    assert without in str(said.value)
    assert set(versions(config).values()) == {None}
    if table == "impressions":
        return  # the one table that every day has, and that no day has empty
    write(config.lake.raw, FIRST, {table: tables[table].slice(0, 0)})
    assert job.run(Run(STAGES["validate"], promised, FIRST))["days"] == 1


def test_a_promised_snapshot_is_of_the_day_itself(config: Config, validate: Validate) -> None:
    """Yesterday's catalogue stands in where none is promised, and is waited for where one is."""
    write(config.lake.raw, FIRST, tables_of(FIRST))
    write(config.lake.raw, SECOND, {"impressions": tables_of(SECOND)["impressions"]})
    promised = config.model_copy(update={"source": SourceSettings(daily=("items",))})
    with pytest.raises(NotReady, match=r"items/date=2026-01-02/.*source\.daily promises items"):
        job.run(Run(STAGES["validate"], promised, SECOND))
    validate(SECOND, since=FIRST)
    assert len(Lake(config.lake.root).read("items", [SECOND])) == N


def test_only_impressions_are_needed(config: Config, validate: Validate) -> None:
    """Case 14, a day on which nobody bought anything, and a log that never had another table: empty days are days."""
    write(config.lake.raw, FIRST, {"impressions": tables_of(FIRST)["impressions"]})
    failed = validate()["failed"]
    assert set(failed) == {"clicks.has_rows", "items.has_rows", "users.has_rows"}  # warnings, each of which says why
    lake = Lake(config.lake.root)
    others = {table: len(lake.read(table, [FIRST])) for table in RAW if table != "impressions"}
    assert others == dict.fromkeys(others, 0)
    write(config.lake.raw, SECOND, {name: of for name, of in tables_of(SECOND).items() if name != "purchases"})
    validate(SECOND)
    assert len(lake.read("purchases", [SECOND])) == 0
    job_of_labels.run(Run(STAGES["attribute"], config, SECOND, FIRST))
    assert lake.read("labels", [SECOND]).column("clicked").to_pylist() == [True] * N


def test_what_came_after_all_is_taken_again(config: Config, validate: Validate) -> None:
    """A table that was empty because its logger was slow: the next day's run finds the day's files changed."""
    tables = tables_of(FIRST)
    write(config.lake.raw, FIRST, {name: rows for name, rows in tables.items() if name != "clicks"})
    validate()
    write(config.lake.raw, FIRST, {"clicks": tables["clicks"]})
    write(config.lake.raw, SECOND, tables_of(SECOND))
    assert validate(SECOND)["revisited"] == [FIRST.isoformat()]
    assert len(Lake(config.lake.root).read("clicks", [FIRST])) == N


def test_clicks_may_be_their_own_impressions(config: Config, validate: Validate) -> None:
    """A log of nothing but clicks, each shown the moment it was clicked: every label is a yes."""
    tables = tables_of(FIRST)
    shown, clicks = tables["impressions"], tables["clicks"]
    for name in ("event_time", "ingested_at"):
        clicks = retyped(clicks, name, shown[name])
    bare = shown.drop_columns(["propensity", "device", "region", "query", "source_item_id"])
    write(config.lake.raw, FIRST, {"impressions": bare, "clicks": clicks})
    assert not [name for name in validate()["failed"] if name.startswith("clicks")]
    counts = job_of_labels.run(Run(STAGES["attribute"], config, FIRST))
    assert (counts["impressions"], counts["clicked"]) == (N, N)


def test_empty_tables_are_published_empty(config: Config, validate: Validate) -> None:
    """A real source without users or purchases is a source, not an error."""
    tables = tables_of(FIRST)
    write(config.lake.raw, FIRST, {**tables, "users": tables["users"][:0], "purchases": tables["purchases"][:0]})
    assert validate()["failed"] == {"users.has_rows": 1}
    assert len(Lake(config.lake.root).read("purchases", [FIRST])) == 0


def test_a_file_that_is_not_parquet_is_named(config: Config, validate: Validate) -> None:
    """A half-written upload is refused with its path."""
    write(config.lake.raw, FIRST, tables_of(FIRST))
    path = config.lake.raw / "clicks" / "date=2026-01-01" / "hour=10" / "part-1.parquet"
    path.write_bytes(b"half a file")
    with pytest.raises(Refused, match=r"clicks/date=2026-01-01/hour=10/part-1\.parquet needs to be Parquet"):
        validate()


def test_one_hour_without_a_column_is_refused_with_its_file(config: Config, validate: Validate) -> None:
    """Read together, the hour's rows would silently be null."""
    tables = tables_of(FIRST)
    write(config.lake.raw, FIRST, tables)
    write(config.lake.raw, FIRST, {"impressions": tables["impressions"].drop_columns(["surface"])}, hour=11)
    with pytest.raises(Refused, match=r"needs column surface .*hour=11/part-0\.parquet"):
        validate()


def test_hours_of_different_loggers_are_one_day(config: Config, validate: Validate) -> None:
    """A logger that learned a column at noon, and times of another unit, are no reason to refuse."""
    rows = tables_of(FIRST)["impressions"]
    morning, noon = rows.slice(0, N // 2).drop_columns(["device"]), rows.slice(N // 2)
    times = noon.column("event_time").cast(pa.timestamp("ms")).combine_chunks()
    noon = retyped(noon, "event_time", times).append_column("context_weather", pa.array(["rain"] * len(noon)))
    write(config.lake.raw, FIRST, {**tables_of(FIRST), "impressions": morning})
    write(config.lake.raw, FIRST, {"impressions": noon}, hour=11)
    validate()
    published = Lake(config.lake.root).read("impressions", [FIRST])
    assert published.column("device").null_count == N // 2
    assert published.column("event_time").to_pylist() == rows.column("event_time").to_pylist()
    assert [dict(m) for m in published.column("attributes").to_pylist()] == [{}] * 20 + [{"weather": "rain"}] * 20


def test_unknown_columns_are_counted_named_and_left_out(
    config: Config, validate: Validate, capsys: pytest.CaptureFixture[str]
) -> None:
    """A logger may say more than is needed; somebody should know that it is not read."""
    tables = tables_of(FIRST)
    write(config.lake.raw, FIRST, {**tables, "users": tables["users"].append_column("age", pa.array([1] * N))})
    assert validate()["unknown_columns"] == 1
    assert "; columns left out: users.age\n" in capsys.readouterr().err


def test_what_is_known_when_is_filled_from_the_event(config: Config, validate: Validate) -> None:
    """Absent or null: then it was known when it happened."""
    tables = tables_of(FIRST)
    tables["impressions"] = tables["impressions"].drop_columns(["ingested_at"])
    tables["clicks"] = put(tables["clicks"], "ingested_at", None)
    write(config.lake.raw, FIRST, tables)
    validate()
    lake = Lake(config.lake.root)
    for table in ("impressions", "clicks"):
        published = lake.read(table, [FIRST])
        assert published.column("ingested_at").to_pylist()[7] == published.column("event_time").to_pylist()[7]


def test_late_events_are_fine(config: Config, validate: Validate) -> None:
    """Known two days after it happened is late, not wrong."""
    tables = tables_of(FIRST)
    tables["clicks"] = put(tables["clicks"], "ingested_at", datetime(2026, 1, 3, 12, tzinfo=UTC))
    write(config.lake.raw, FIRST, tables)
    assert validate()["failed"] == {}


def test_nothing_is_known_before_it_happened(config: Config, validate: Validate) -> None:
    """A dataset cut an hour before an event must not contain it, whatever the logger's clock said."""
    tables = tables_of(FIRST)
    happened = tables["clicks"].column("event_time")[7].as_py()
    tables["clicks"] = put(tables["clicks"], "ingested_at", happened - timedelta(hours=2))
    write(config.lake.raw, FIRST, tables)
    assert validate()["failed"] == {"clicks.ingested_at_not_before_event_time": 1}
    published = Lake(config.lake.root).read("clicks", [FIRST])
    assert published.column("ingested_at").to_pylist() == published.column("event_time").to_pylist()


def test_the_command_says_one_sentence_and_exits_65(config: Config) -> None:
    """What Airflow sees: which table and column, what was needed, what was found."""
    tables = tables_of(FIRST)
    positions = pa.array([str(n) for n in range(N)])
    write(config.lake.raw, FIRST, {**tables, "impressions": retyped(tables["impressions"], "position", positions)})
    command = [sys.executable, "-m", "jobs", "validate", "--day", FIRST.isoformat()]
    paths = {"TIDEGATE__LAKE__ROOT": str(config.lake.root), "TIDEGATE__LAKE__RAW": str(config.lake.raw)}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 65, done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith(
        "Refused: raw impressions of 2026-01-01 needs column position of type int32; found type string "
    )
    assert set(versions(config).values()) == {None}
