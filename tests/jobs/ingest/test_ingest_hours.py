"""Hours of a day that others write are the day that one process writes: the same names, the same bytes."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jobs.config import Config, load
from jobs.errors import Misconfigured
from jobs.flow import STAGES
from jobs.ingest import hours, job
from jobs.ingest.hours import Part, parts_of
from jobs.lake import raw, raw_bucket, raw_writer
from jobs.lake.raw_writer import Laid
from jobs.lake.run import Run
from jobs.places import S3Path
from jobs.sources import Hour, open_source
from tests import moto_server

FALL, SPRING, PLAIN = date(2026, 10, 25), date(2026, 3, 29), date(2026, 3, 2)
"""Days on which clocks of Berlin are set back and forward, and one on which they are not."""
COLUMNS: dict[str, Any] = {
    "impression_id": "view",
    "request_id": "search",
    "item_id": "sku",
    "surface": {"value": "search"},
    "position": "rank",
    "policy": {"value": "shop"},
    "context_depth": "depth",
}
KINDS: dict[str, dict[str, Any]] = {
    "parquet, zoned": {"files": "*.parquet", "time": "zoned"},
    "parquet, a clock's": {"files": "*.parquet", "time": "local", "zone": "Europe/Berlin"},
    "parquet, seconds": {"files": "*.parquet", "time": {"column": "seconds", "unit": "s"}},
    "csv, a clock's": {"files": "*.csv", "time": "local", "zone": "Europe/Berlin"},
    "csv, epochs": {"files": "*.csv", "time": {"column": "ms", "unit": "ms"}},
}
EVERY_HOUR = [float(hour) for hour in np.arange(-3, 28, 0.25)]


def views(day: date, times: Sequence[float]) -> pa.Table:
    """A row a time, in hours since the day began, in the team's names; some have no time, some ids come twice."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    at = [begin + timedelta(seconds=round(hour * 3600, 3)) for hour in times]
    n = range(len(at))
    zoned = pa.array([None if i % 11 == 7 else time for i, time in enumerate(at)], pa.timestamp("us", "UTC"))
    local = [
        None if i % 11 == 7 else time.astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
        for i, time in enumerate(at)
    ]
    seconds = [None if i % 11 == 7 else time.timestamp() - 1e-7 for i, time in enumerate(at)]
    return pa.table(
        {
            "view": [f"v{i // 2 if i % 5 == 1 else i}" for i in n],
            "search": [1000 + i // 3 for i in n],
            "zoned": zoned,
            "local": pa.array(local, pa.timestamp("us")),
            "seconds": pa.array(seconds, pa.float64()),
            "ms": pa.array([None if value is None else round(value * 1000) for value in seconds], pa.int64()),
            "sku": [f"00{i}" for i in n],
            "rank": [i % 7 + 1 for i in n],
            "depth": [0.5 + i for i in n],
        }
    )


def config(home: Path, kind: str, lake: Any = None, **spark: Any) -> Config:
    """Of a team whose files lie in `home`."""
    told = KINDS[kind]
    mapping = {
        "files": told["files"],
        "zone": told.get("zone", "UTC"),
        "columns": COLUMNS | {"event_time": told["time"]},
    }
    source = {"name": "mapped", "data": str(home), "mapping": {"impressions": mapping}}
    places = {"TIDEGATE__LAKE__ROOT": str(home / "lake"), "TIDEGATE__LAKE__RAW": str(lake or home / "raw")}
    return load({**places, "TIDEGATE__SOURCE": json.dumps(source), "TIDEGATE__SPARK": json.dumps(spark)})


def landed(home: Path, kind: str, rows: pa.Table, files: int) -> None:
    """Its rows in so many files."""
    home.mkdir(exist_ok=True)
    for n in range(files):
        some = rows.slice(n * len(rows) // files, (n + 1) * len(rows) // files - n * len(rows) // files)
        if KINDS[kind]["files"] == "*.csv":
            pyarrow.csv.write_csv(some.drop_columns(["zoned", "seconds"]), home / f"{n}.csv")
        else:
            pq.write_table(some, home / f"{n}.parquet", row_group_size=16)


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def one_after_another(function: Callable[[Part], Laid], asked: Sequence[Part]) -> list[Laid]:
    """What workers do, the last part first, and the first twice."""
    function(asked[0])
    return [function(part) for part in reversed(asked)][::-1]


def both_ways(settings: Config, day: date) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The raw lake of one process, and of hours that are written alone, each over an older day with late rows."""
    tables = open_source(settings).day(day)
    parts = parts_of(tables, settings.spark)
    assume(parts)  # where no row of a text file has a time, DuckDB takes it for words
    late = {"impressions": next(iter(tables["impressions"])).slice(0, 1)}
    found = []
    for way in (None, lambda folders, given: hours.laid(folders, given, parts, one_after_another)):
        lake = settings.lake.raw / str(way is None)
        for given_now in ({"impressions": late["impressions"]}, tables):
            raw_writer.write_day(lake, day, given_now, way if given_now is tables else None)
            raw_writer.write_late(lake, day, day + timedelta(days=1), late)
        found.append(written(lake))
    return found[0], found[1]


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(KINDS)),
    day=st.sampled_from([FALL, SPRING, PLAIN]),
    times=st.just(EVERY_HOUR) | st.lists(st.floats(-3, 28), min_size=1, max_size=60).map(lambda found: [0.0, *found]),
    most=st.integers(1, 6),
    files=st.integers(1, 3),
    order=st.randoms(),
)
def test_hours_alone_are_the_day(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    day: date,
    times: list[float],
    most: int,
    files: int,
    order: Any,
) -> None:
    """Of files in any order, with hours without a row, rows of the neighbouring days, clocks that are set, times that
    are not known and such as round to the next hour, rows that came late and hours of several files.
    """
    monkeypatch.setattr(raw_writer, "PART_ROWS", 3)
    home = tmp_path_factory.mktemp("shop")
    rows = views(day, times)
    landed(home, kind, rows.take(order.sample(range(len(rows)), len(rows))), files)
    alone, apart = both_ways(config(home, kind, from_rows=0, partitions=most), day)
    assert any("late-" in name for name in alone)
    assert alone == apart


def test_a_day_that_rounds_is_not_torn(tmp_path: Path) -> None:
    """A time a tenth of a microsecond before an hour is that hour's, and asked for with it."""
    landed(tmp_path, "parquet, seconds", views(PLAIN, [1, 2, 3]), 1)
    alone, apart = both_ways(config(tmp_path, "parquet, seconds", from_rows=0, partitions=24), PLAIN)
    assert [name for name in apart if "impressions" in name and "part-" in name] == [
        f"impressions/date={PLAIN}/hour=0{hour}/part-0.parquet" for hour in (1, 2, 3)
    ]
    assert alone == apart


@given(rows=st.lists(st.integers(0, 1000), min_size=24, max_size=24), most=st.integers(1, 40))
def test_parts_are_all_hours_in_their_order(rows: list[int], most: int) -> None:
    """Each once, and no part is larger than its share by more than an hour."""
    of = [Hour(n, count) for n, count in enumerate(rows)]
    parts = hours.together(of, most)
    assert [hour for part in parts for hour in part] == of
    assert len(parts) <= most
    assert all(sum(hour.rows for hour in part[1:]) <= (sum(rows) + 24) / most + max(rows) for part in parts)


def test_a_day_below_the_setting_stays_in_one_process(tmp_path: Path) -> None:
    """So does each where nothing is set, and of times that only the mapping can read: nobody else finds their hours."""
    kind = "parquet, zoned"
    landed(tmp_path, kind, views(PLAIN, [hour + 0.1 for hour in EVERY_HOUR]), 2)
    day = open_source(config(tmp_path, kind)).day(PLAIN)
    count = sum(map(len, day["impressions"]))
    for from_rows, parts in ((count, 1), (count + 1, 0), (None, 0)):
        assert len(parts_of(day, config(tmp_path, kind, from_rows=from_rows).spark)) == parts
    text = config(tmp_path, kind, from_rows=0)
    mapping = text.source.mapping["impressions"]
    (tmp_path / "text.csv").write_text("view,search,at,sku,rank,depth\nv,s,02.03.2026 00:30,i,1,1\n")
    told = {**COLUMNS, "event_time": {"column": "at", "format": "%d.%m.%Y %H:%M"}}
    mapping = mapping.model_validate({"files": "text.csv", "columns": told})
    source = text.source.model_copy(update={"mapping": {"impressions": mapping}})
    day = open_source(text.model_copy(update={"source": source})).day(PLAIN)
    assert parts_of(day, text.spark) == {}
    assert sum(map(len, day["impressions"])) == 1


def test_a_file_of_other_hours_is_not_opened(tmp_path: Path) -> None:
    """Each hour of text files names those that have its rows."""
    kind = "csv, epochs"
    landed(tmp_path, kind, views(PLAIN, [0.5, 1.5, 1.6, 2.5]), 4)
    found = open_source(config(tmp_path, kind)).day(PLAIN)["impressions"].hours()
    assert [[Path(file).name for file in hour.files] for hour in found[:4]] == [
        ["0.csv"],
        ["1.csv", "2.csv"],
        ["3.csv"],
        [],
    ]
    assert [hour.rows for hour in found[:4]] == [1, 2, 1, 0]


def test_on_s3_both_ways_name_the_same_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named by what they hold: what a try that failed has put is put again, and named once."""
    kind = "parquet, zoned"
    monkeypatch.setattr(raw_writer, "PART_ROWS", 3)
    landed(tmp_path, kind, views(PLAIN, EVERY_HOUR), 2)
    with moto_server.serving() as moto:
        for name, value in moto.bucket("hours").items():
            monkeypatch.setenv(name, value)
        settings = config(tmp_path, kind, "s3://hours/raw", from_rows=0, partitions=5)
        tables = open_source(settings).day(PLAIN)
        parts = parts_of(tables, settings.spark)
        named = []
        for folder, way in (("a", None), ("b", lambda given, rows: hours.laid(given, rows, parts, one_after_another))):
            lake = settings.lake.raw / folder
            assert isinstance(lake, S3Path)
            raw_writer.write_day(lake, PLAIN, tables, way)
            named.append(raw_bucket.named(lake / "impressions" / f"date={PLAIN}"))
        assert named[0]
        assert named[0] == named[1]


@pytest.fixture
def large(tmp_path: Path) -> Config:
    """A day that Spark takes, with an hour of two files."""
    rng = np.random.default_rng(4)
    kind = "parquet, zoned"
    rows = views(PLAIN, [5.5, 6.5, 6.75, 23.5])
    # Most of them in one hour.
    many = rows.take(pa.array(rng.choice([0, 1, 2, 3], raw_writer.PART_ROWS + 20_000, p=[0.98, 0.01, 0.005, 0.005])))
    names = pa.array([f"v{n}" for n in range(len(many))])
    landed(tmp_path, kind, many.set_column(0, "view", names), 3)
    return config(tmp_path, kind, from_rows=1000, partitions=3)


@pytest.mark.spark
@pytest.mark.timeout(600)
def test_spark_writes_the_day_of_one_process(large: Config) -> None:
    """Through `ingest` itself; a value that fits no column is told as one process tells it, and nothing changes."""
    from jobs.spark import session

    with session(large.spark, "test-ingest"):
        job.run(Run(STAGES["ingest"], large, PLAIN))
        by_spark, mark = written(large.lake.raw), raw.fingerprint(large.lake.raw, "impressions", PLAIN)
        mapping = large.source.mapping["impressions"]
        wrong = mapping.columns["position"].model_copy(update={"column": "view"})
        mapping = mapping.model_copy(update={"columns": {**mapping.columns, "position": wrong}})
        source = large.source.model_copy(update={"mapping": {"impressions": mapping}})
        with pytest.raises(Misconfigured, match=r"impressions\.position: from 'view', string: Failed to parse"):
            job.run(Run(STAGES["ingest"], large.model_copy(update={"source": source}), PLAIN))
    assert written(large.lake.raw) == by_spark
    alone = large.model_copy(update={"spark": large.spark.model_copy(update={"from_rows": None})})
    job.run(Run(STAGES["ingest"], alone, PLAIN))
    assert written(large.lake.raw) == by_spark
    assert raw.fingerprint(large.lake.raw, "impressions", PLAIN) == mark
    assert any(name.endswith("part-1.parquet") for name in by_spark)
