"""On Spark days get the verdicts they get in one process; suites of any size about some days are one job."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config import SparkSettings
from jobs.errors import NotReady, Refused
from jobs.lake import raw
from jobs.lake.tables import LAKE, RAW
from jobs.validate import batch
from jobs.validate.batch import NOTHING, Before, Found, Past, Report, Rules, Verdict, Written, unreported, verdicts
from jobs.validate.core import Judged
from jobs.validate.results import document
from jobs.validate.suites import FOLDER, Suites
from tests.jobs.validate.damaged_day import damaged
from tests.jobs.validate.raw_days import FIRST, N, put, retyped, tables_of, write

pytestmark = pytest.mark.spark
SECOND = FIRST + timedelta(days=1)
BUCKETS = 3


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """One session for the file."""
    from jobs.spark import session

    with session(SparkSettings(partitions=BUCKETS), "test-validate-spark") as spark:
        yield spark


def on_spark(spark: Any, rules: Rules, lake: Path, days: Sequence[date], past: Past = NOTHING) -> dict:
    """The verdicts on all days."""
    return dict(found_on_spark(spark, rules, lake, days, past))


def found_on_spark(spark: Any, rules: Rules, lake: Path, days: Sequence[date], past: Past = NOTHING) -> Found:
    """Every day on Spark, part files below `lake/parts`."""
    from jobs.validate.spark import Large, judge_days

    def elsewhere(left: Sequence[date], before: Callable[[date], Before], report: Report) -> Found:
        files = {day: {table: raw.files(lake, table, day) for table in RAW} for day in left}
        folders = {table: lake / "parts" / table for table in (*RAW, "quarantine")}
        large = Large(files, {day: dict.fromkeys(RAW, "") for day in left}, folders)
        return judge_days(spark, rules, large, before, report, BUCKETS)

    return verdicts(rules, days, lambda table, day: raw.read(lake, table, day), past, unreported, elsewhere)


def in_one_process(rules: Rules, lake: Path, days: Sequence[date]) -> dict[date, dict[str, Verdict]]:
    """The same days here."""
    return dict(verdicts(rules, days, lambda table, day: raw.read(lake, table, day), NOTHING))


def rows_of(verdict: Verdict, which: str, table: str) -> list[dict[str, Any]]:
    """The good rows or those set aside, in an order of their own content."""
    found = getattr(verdict.judged, which)
    if isinstance(found, tuple):
        schema = LAKE[table].schema
        found = pa.concat_tables([schema.empty_table(), *(pq.ParquetFile(path).read().cast(schema) for path in found)])
    return sorted(found.to_pylist(), key=repr)


@pytest.fixture(scope="module")
def both(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """Two damaged days, the second with the first's ids and clicks on the first's impressions; files of two shapes.

    In a folder whose name Spark would take for a pattern.
    """
    lake, rules = tmp_path_factory.mktemp("raw") / "run[1]{a,b}*?", Rules(Suites(tuple(RAW)), 1.0, 1)
    write(lake, FIRST, damaged(FIRST))
    second = damaged(SECOND)
    first_ids = tables_of(FIRST)["clicks"].column("impression_id")
    second["clicks"] = pa.concat_tables(
        [second["clicks"], retyped(tables_of(FIRST)["clicks"], "impression_id", first_ids).slice(20, 5)]
    )
    write(lake, SECOND, second)
    noon = tables_of(SECOND)["purchases"].drop_columns(["value"])
    noon = retyped(noon, "purchase_id", pa.array([f"noon-{n}" for n in range(N)]))
    write(lake, SECOND, {"purchases": noon.append_column("note", pa.array(["x"] * N))}, hour=12)
    return in_one_process(rules, lake, [FIRST, SECOND]), on_spark(spark, rules, lake, [FIRST, SECOND])


@pytest.mark.parametrize("day", [FIRST, SECOND])
@pytest.mark.parametrize("table", RAW)
def test_the_same_rows_are_good_and_the_same_are_set_aside(both: tuple[dict, dict], day: date, table: str) -> None:
    """Row for row, with the same reasons; nothing is lost between buckets and nothing is in two of them."""
    here, there = (verdict[day][table] for verdict in both)
    assert isinstance(here.judged, Judged)
    assert isinstance(there.judged, Written)
    assert here.judged.aside_rows > 0
    assert rows_of(there, "good", table) == rows_of(here, "good", table)
    assert rows_of(there, "aside", "quarantine") == rows_of(here, "aside", "quarantine")
    assert there.counts() == here.counts()


@pytest.mark.parametrize("day", [FIRST, SECOND])
@pytest.mark.parametrize("table", RAW)
def test_every_expectation_finds_the_same(both: tuple[dict, dict], day: date, table: str) -> None:
    """Verdicts, counts and the day's figures; which twenty values are quoted is the buckets' choice."""
    here, there = (document(table, day, verdict[day][table].findings, "run") for verdict in both)
    assert there["statistics"] == here["statistics"]
    for ours, theirs in zip(here["results"], there["results"], strict=True):
        quoted = [entry["result"].pop("partial_unexpected_list", []) for entry in (ours, theirs)]
        assert theirs == ours
        if ours["expectation_config"]["meta"]["scope"] == "day":
            assert quoted[1] == pytest.approx(quoted[0])
        else:
            assert len(quoted[1]) == len(quoted[0])


@pytest.mark.parametrize("table", RAW)
def test_the_profile_is_that_of_the_rows(both: tuple[dict, dict], table: str) -> None:
    """Buckets merge to what one process found: exactly, where a column has few values."""
    here, there = (verdict[FIRST][table].profile for verdict in both)
    exact = ["column", "kind", "rows", "nulls", "minimum", "maximum", "quantile_values", "quantile_weights"]
    assert there.select(exact).equals(here.select(exact))
    for name in ("mean", "distinct"):
        values = [np.array(one.column(name).to_pylist(), np.float64) for one in (there, here)]
        assert np.allclose(*values, rtol=1e-3, equal_nan=True)


def test_suites_of_any_size_about_some_days_are_one_job(spark: Any, tmp_path: Path) -> None:
    """Five expectations and sixty, two days, counted by Spark itself."""
    from jobs.validate.spark import job_group

    sizes = dict.fromkeys(RAW, 5) | {"impressions": 60}
    folder = tmp_path / "suites"
    folder.mkdir()
    for table, size in sizes.items():
        suite = json.loads((FOLDER / f"{table}.json").read_text())
        rules = [rule for rule in suite["expectations"] if rule["meta"]["scope"] == "row"]
        chosen = [rules[n % len(rules)] for n in range(size)]
        (folder / f"{table}.json").write_text(json.dumps({**suite, "expectations": chosen}))
    suites = Suites(tuple(RAW), folder)
    assert {table: len(suites.expectations(table, "row")) for table in RAW} == sizes
    days = [FIRST + timedelta(days=n) for n in (9, 10)]
    for day in days:
        write(tmp_path / "raw", day, tables_of(day))
    assert [*on_spark(spark, Rules(suites, 1.0, 1), tmp_path / "raw", days)] == days
    assert len(spark.sparkContext.statusTracker().getJobIdsForGroup(job_group(days))) == 1


def test_what_a_worker_refuses_is_refused_in_the_same_words(spark: Any, tmp_path: Path) -> None:
    """A value that its column cannot hold is only seen by whoever reads it."""
    tables = tables_of(FIRST)
    tables["impressions"] = retyped(tables["impressions"], "position", pa.array([2**40] * N))
    write(tmp_path, FIRST, tables)
    rules = Rules(Suites(tuple(RAW)), 0.05, 1)
    with pytest.raises(Refused) as here:
        in_one_process(rules, tmp_path, [FIRST])
    with pytest.raises(Refused) as there:
        on_spark(spark, rules, tmp_path, [FIRST])
    assert str(there.value) == str(here.value)


def test_days_before_one_that_a_worker_refuses_are_told_first(spark: Any, tmp_path: Path) -> None:
    """They were judged in one job with it; they are judged again without."""
    write(tmp_path, FIRST, tables_of(FIRST))
    tables = tables_of(SECOND)
    write(tmp_path, SECOND, tables)
    (path,) = raw.files(tmp_path, "purchases", SECOND)
    path.write_bytes(path.read_bytes()[:-200] + b"x" * 192 + path.read_bytes()[-8:])
    found = found_on_spark(spark, Rules(Suites(tuple(RAW)), 0.05, 1), tmp_path, [FIRST, SECOND])
    assert next(found)[0] == FIRST
    with pytest.raises(Refused, match=r"^raw file .*/purchases/.* needs to be Parquet"):
        next(found)


def test_a_file_that_is_replaced_meanwhile_is_waited_for(spark: Any, tmp_path: Path) -> None:
    """A worker's `NotReady` stays one: the run is tried again, and nobody looks for a bug."""
    from jobs.parcels.spark import Out, Steps

    steps = Steps(spark, BUCKETS)
    out = Out(RAW["users"].schema, ("user_id",))
    gone = steps.work([tmp_path / "part-0.parquet"], lambda path: [[raw.parse(path)]], [out])
    with pytest.raises(NotReady, match=rf"^raw file {tmp_path}/part-0\.parquet needs to stay .*: run again$"):
        steps.told(gone, lambda _bucket, rows: len(rows))


def test_too_many_bad_rows_in_all_buckets_together_refuse_the_day(spark: Any, tmp_path: Path) -> None:
    """The share is the day's, not a bucket's; a source without requests has impressions all the same."""
    tables = {table: rows for table, rows in tables_of(FIRST).items() if table != "requests"}
    for row in (3, 5, 7):
        tables["impressions"] = put(tables["impressions"], "position", 0, row)
    write(tmp_path, FIRST, tables)
    with pytest.raises(Refused, match=r"at least 95\.00% good rows; found 3 of 40 bad: position_from_one \(3 rows"):
        on_spark(spark, Rules(Suites(tuple(RAW)), 0.05, 1), tmp_path, [FIRST])


def test_the_driver_sends_and_receives_as_much_whatever_the_rows(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of the day, of its snapshots and of the day before meet on workers: a day of any size fits the driver."""
    from pyspark import RDD, SparkContext

    seen: list[int] = []

    def counted(function: Any, size: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            seen.append(size(arguments, result))
            return result

        return call

    monkeypatch.setattr(SparkContext, "parallelize", counted(SparkContext.parallelize, lambda a, _: len(a[1])))
    monkeypatch.setattr(RDD, "collect", counted(RDD.collect, lambda _, found: sum(map(len, found))))
    monkeypatch.setattr(raw, "parse", counted(raw.parse, lambda _, rows: len(rows)))
    monkeypatch.setattr(batch, "read_part", counted(batch.read_part, lambda _, rows: len(rows)))
    traffic = []
    for n in (N, 10 * N):
        lake = tmp_path / str(n)
        for day in (FIRST, SECOND):
            write(lake, day, tables_of(day, n))
        past = Past(lambda table, day, lake=lake: tuple(raw.files(lake, table, day)), lambda _table, _day: None)
        seen.clear()
        found = on_spark(spark, Rules(Suites(tuple(RAW)), 0.05, 1), lake, [SECOND], past=past)
        assert {verdict.judged.good_rows for verdict in found[SECOND].values()} == {n}
        traffic.append(list(seen))
    assert traffic[0] == traffic[1]
    assert max(traffic[0]) < N
