"""`source.mapping`: a team's own names, epochs, zones and lists become the contract's, of files and of databases."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from jobs import warehouse
from jobs.__main__ import main
from jobs.config import load
from jobs.errors import Misconfigured, NotReady, UsageError
from jobs.lake.tables import RAW
from jobs.mapping import ColumnMapping, TableMapping
from jobs.sources import open_source
from jobs.sources._columns import conformed
from jobs.warehouse import adbc
from jobs.warehouse.adbc import Adbc
from jobs.warehouse.bigquery import BigQuery
from tests.jobs.databases import KINDS, address

DAY = date(2026, 3, 2)
VIEWS: dict[str, Any] = {
    "impression_id": "view",
    "request_id": "search",
    "event_time": {"column": "shown_ms", "unit": "ms"},
    "item_id": "sku",
    "surface": {"value": "search"},
    "position": {"column": "rank", "plus": 1},
    "policy": {"value": "shop"},
    "context_depth": "depth",
}


def at(hour: float, day: date = DAY) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def views(*hours: float) -> pa.Table:
    """A row an hour, in the team's names."""
    n = range(len(hours))
    return pa.table(
        {
            "view": [f"v{hour}" for hour in hours],
            "search": [1000 + i for i in n],
            "shown_ms": [round(at(hour).timestamp() * 1000) for hour in hours],
            "sku": [f"00{i}" for i in n],
            "rank": list(n),
            "depth": [0.5 + i for i in n],
        }
    )


def opened(data: Path | None = None, url: str | None = None, **tables: Any) -> Any:
    """The source of a mapping, by the settings alone."""
    given = {"name": "mapped", "data": data and str(data), "url": url, "mapping": tables}
    return open_source(load({"TIDEGATE__SOURCE": json.dumps(given)}))


def whole(stream: Iterator[pa.Table]) -> pa.Table:
    """All rows of a table that comes some at once."""
    return pa.concat_tables(stream)


# -- files ------------------------------------------------------------------------------------------------------------
def test_parquet_becomes_the_contracts_by_day(tmp_path: Path) -> None:
    """Ids that were numbers are words, positions count from 1, a number of the team's own stays one; a day is a day."""
    for n, hours in enumerate([(-0.001, 0, 5), (23.999, 24, 30)]):
        (tmp_path / "views").mkdir(exist_ok=True)
        pq.write_table(views(*hours), tmp_path / "views" / f"{n}.parquet")
    source = opened(tmp_path, impressions={"files": "views/*.parquet", "columns": VIEWS})
    assert source.span() == (DAY - timedelta(days=1), DAY + timedelta(days=1))
    rows = whole(source.day(DAY)["impressions"])
    assert rows.column("impression_id").to_pylist() == ["v0", "v5", "v23.999"]
    assert rows.column("request_id").to_pylist() == ["1001", "1002", "1000"]
    assert rows.column("position").to_pylist() == [2, 3, 1]
    assert rows.column("event_time").to_pylist() == [at(0), at(5), at(23.999)]
    assert rows.column("context_depth").type == pa.float64()
    fits = {name: kind.type for name, kind in RAW["impressions"].columns.items() if name in rows.column_names}
    assert {name: rows.schema.field(name).type for name in fits} == fits
    with pytest.raises(UsageError, match=r"mapped has the days 2026-03-01..2026-03-03; found --day 2026-03-04"):
        source.day(DAY + timedelta(days=2))


def test_a_csv_keeps_its_ids_and_its_lists(tmp_path: Path) -> None:
    """`007` is an id; a list between bars is one; a time in the shop's own format is in the shop's own zone."""
    (tmp_path / "log.csv").write_text("id,when,who,shown\n007,02.03.2026 00:30,ann,p1| p2\n008,02.03.2026 23:59,bob,\n")
    (tmp_path / "log2.csv").write_text("id,when,who,shown\n009,01.03.2026 23:59,ann,p3\n")
    columns = {
        "request_id": "id",
        "event_time": {"column": "when", "format": "%d.%m.%Y %H:%M"},
        "user_id": "who",
        "surface": {"value": "search"},
        "policy": {"value": "shop"},
        "candidates": {"column": "shown", "separator": "|"},
        "slate_size": {"value": 2},
    }
    shown = {**VIEWS, "event_time": columns["event_time"], "impression_id": "id", "request_id": "id", "item_id": "who"}
    shown |= {"position": {"value": 1}, "context_depth": "who"}
    source = opened(
        tmp_path,
        requests={"files": "log*.csv", "zone": "Europe/Berlin", "columns": columns},
        impressions={"files": "log*.csv", "zone": "Europe/Berlin", "columns": shown},
    )
    assert source.span() == (date(2026, 3, 1), DAY)
    (row,) = whole(source.day(DAY)["requests"]).to_pylist()
    assert (row["request_id"], row["event_time"], row["candidates"]) == ("008", at(22 + 59 / 60), [])
    rows = whole(source.day(date(2026, 3, 1))["requests"]).to_pylist()
    assert [(row["request_id"], row["candidates"]) for row in rows] == [("009", ["p3"]), ("007", ["p1", "p2"])]


@pytest.mark.parametrize("told", ["shown_ms", "shown_text"])
def test_a_day_in_pieces_is_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    """However few rows are in memory at once, rows and their order are those of the whole day; so where only the
    mapping can read the time, and the day is sorted once it is converted.
    """
    rng = np.random.default_rng(3)
    hours = [float(hour) for hour in rng.choice(np.arange(-4.0, 30.0, 0.001), 9_000, replace=False)]
    rows = views(*hours)
    rows = rows.append_column("shown_text", pa.array([f"{at(hour):%d.%m.%Y %H:%M:%S}" for hour in hours]))
    for n in range(3):
        pq.write_table(rows.slice(n * 3_000, 3_000), tmp_path / f"{n}.parquet")
    time = {"column": told} | ({"unit": "ms"} if told == "shown_ms" else {"format": "%d.%m.%Y %H:%M:%S"})
    mapping = {"files": "*.parquet", "columns": {**VIEWS, "event_time": time}}
    day = list(opened(tmp_path, impressions=mapping).day(DAY)["impressions"])
    monkeypatch.setattr(adbc, "AT_ONCE", 1)
    pieces = list(opened(tmp_path, impressions=mapping).day(DAY)["impressions"])
    assert len(day) == 1
    assert len(pieces) == 4, "DuckDB gives 2,048 rows at once"
    assert whole(iter(pieces)).equals(day[0])
    of = TableMapping.model_validate(mapping)
    by_hand = conformed(rows, "impressions", of).sort_by([("event_time", "ascending"), ("impression_id", "ascending")])
    times = by_hand["event_time"]
    assert day[0].equals(by_hand.filter(pc.and_(pc.greater_equal(times, at(0)), pc.less(times, at(24)))))


# -- databases --------------------------------------------------------------------------------------------------------
class Shop(NamedTuple):
    """The address of a database with a table of views, `seen` a time with a zone, `local_seen` one without."""

    url: str
    table: str
    named: Callable[[str], str]
    """A name as the database has one that was made without marks around it."""

    def columns(self, **columns: Any) -> dict[str, Any]:
        """How its views become impressions."""
        theirs = {"impression_id": "view_id", "request_id": "view_id", "item_id": "view_id", **columns}
        constants = {"surface": {"value": "search"}, "position": {"value": 1}, "policy": {"value": "shop"}}
        return {name: self.named(of) for name, of in theirs.items()} | constants


TYPES = {
    "duckdb": ("varchar", "timestamptz", "timestamp", "decimal(9,2)"),
    "postgresql": ("varchar", "timestamptz", "timestamp", "decimal(9,2)"),
    "snowflake": ("varchar", "timestamp_ltz", "timestamp_ntz", "number(9,2)"),
    "bigquery": ("string", "timestamp", "datetime", "numeric"),
}


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Views an hour before a day, in it, and at its end."""
    url = address(request.param, tmp_path)
    with warehouse.connected(SecretStr(url), read_only=False) as database:
        name = database.table(f"views_{os.getpid()}")
        database.do(f"drop table if exists {name}")
        columns = zip(("view_id", "seen", "local_seen", "price"), TYPES[request.param], strict=True)
        database.do(f"create table {name} ({', '.join(map(' '.join, columns))})")
        for hour in (-1, 0, 12, 23.75, 24):
            local = at(hour + 1).replace(tzinfo=None)
            database.do(f"insert into {name} values ('v{hour}', '{at(hour)}', '{local}', 1.25)")
    yield Shop(url, name, str.upper if request.param == "snowflake" else str)
    with warehouse.connected(SecretStr(url), read_only=False) as database:
        database.do(f"drop table {name}")


@pytest.mark.parametrize("column", ["seen", "local_seen"])
def test_a_database_is_asked_a_day_at_a_time(shop: Shop, column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of time give the same rows, and no query of a day brings all of them."""
    columns = shop.columns(event_time=column, context_depth="price")
    query = f"select * from {shop.table}"
    source = opened(url=shop.url, impressions={"query": query, "zone": "Europe/Berlin", "columns": columns})
    assert source.span() == (DAY - timedelta(days=1), DAY + timedelta(days=1))
    brought = []
    for kind in (Adbc, BigQuery):

        def watched(database: Any, query: str, batches: Any = kind.batches) -> Iterator[pa.Table]:
            brought.extend(batches(database, query))
            return iter(brought)

        monkeypatch.setattr(kind, "batches", watched)
    rows = whole(source.day(DAY)["impressions"])
    assert rows.column("impression_id").to_pylist() == ["v0", "v12", "v23.75"]
    assert rows.column("event_time").to_pylist() == [at(0), at(12), at(23.75)]
    assert sum(map(len, brought)) == 3


def test_a_query_is_told_its_day(shop: Shop) -> None:
    """Snapshots have no time: their query says which it wants."""
    shown = {"query": f"select * from {shop.table}", "columns": shop.columns(event_time="seen")}
    items = (
        f"select distinct view_id as sku, price from {shop.table} where seen < '{{end}}+00' and seen >= '{{start}}+00'"
    )
    sku = {"item_id": shop.named("sku"), "price": shop.named("price")}
    source = opened(url=shop.url, impressions=shown, items={"query": items, "columns": sku})
    assert whole(source.day(DAY)["items"]).to_pylist() == [
        {"item_id": f"v{hour}", "price": 1.25} for hour in ("0", "12", "23.75")
    ]


def test_a_database_says_what_is_wrong_without_its_password(shop: Shop, tmp_path: Path) -> None:
    """A query it refuses is a setting; one that does not answer is asked again."""
    source = opened(url=shop.url, impressions={"query": "select * from no_such_table", "columns": VIEWS})
    with pytest.raises(Misconfigured, match=r"needs a query that it can answer; found: .*(?i:no_such_table)"):
        source.span()
    with pytest.raises(NotReady, match="postgresql needs to answer") as said:
        opened(url="postgresql://me:secret@127.0.0.1:9/x", impressions={"query": "select 1", "columns": VIEWS}).span()
    assert "secret" not in str(said.value)
    assert "secret" not in load({"TIDEGATE__SOURCE__URL": "postgresql://me:secret@127.0.0.1/x"}).model_dump_json()


def test_a_database_without_a_driver_is_named() -> None:
    """With the package it needs; another address with those there are."""
    packages = {"snowflake://u:p@account/db": "adbc-driver-snowflake", "bigquery://p/d": "google-cloud-bigquery"}
    for url, package in packages.items():
        if find_spec(package.replace("-", "_") if url.startswith("snowflake") else "google.cloud") is None:
            with pytest.raises(Misconfigured, match=f"needs the package {package}; found no .*: pip install"):
                opened(url=url, impressions={"query": "select 1", "columns": VIEWS}).span()
    with pytest.raises(Misconfigured, match="needs to begin with one of duckdb, postgresql, snowflake, bigquery"):
        opened(url="oracle://x", impressions={"query": "select 1", "columns": VIEWS}).span()


# -- what is wrong ----------------------------------------------------------------------------------------------------
def test_a_mapping_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    """Every column that is not the contract's and every one that is missing, of every table, at once."""
    with pytest.raises(Misconfigured) as said:
        opened(
            tmp_path / "not there",
            impressions={"files": "x.csv", "columns": {"impression_id": "a", "colour": "b", "context_x": "c"}},
            clicks={"files": "y.csv", "columns": {"click_id": "a", "item_id": "b"}},
        )
    for part in (
        "impressions.colour: no such column, unless it begins with context_",
        "impressions.item_id: not mapped",
        "clicks.event_time: not mapped",
    ):
        assert part in str(said.value)
    with pytest.raises(Misconfigured, match=r"source.mapping of impressions at least; found clicks"):
        opened(clicks={"query": "select 1", "columns": {"click_id": "a", "event_time": "t", "item_id": "b"}})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"columns": {}}, "needs one of `files`, `query` and `topic`"),
        ({"files": "a.csv", "query": "b", "columns": {}}, "needs one of `files`, `query` and `topic`"),
        ({"files": "a.csv", "zone": "Mars/Olympus", "columns": {}}, "needs an IANA name"),
        ({"files": "a.csv", "columns": {"item_id": {"column": "a", "value": "b"}}}, "and not both"),
        ({"files": "a.csv", "columns": {"item_id": {}}}, "needs `column`"),
        ({"files": "a.csv", "columns": {"event_time": {"column": "t", "unit": "minutes"}}}, "'s', 'ms', 'us' or 'ns'"),
    ],
)
def test_a_mapping_that_says_two_things_is_no_setting(given: dict[str, Any], sentence: str) -> None:
    """Nor one that says nothing."""
    with pytest.raises(ValidationError, match=sentence):
        TableMapping.model_validate(given)


def test_every_column_that_does_not_fit_is_named() -> None:
    """With the type that was found."""
    rows = pa.table({"t": [1], "p": ["first"], "i": [1.5], "c": ["a|b"]})
    columns = {"event_time": "t", "position": "p", "item_id": "i", "surface": "not_there", "request_id": "c"}
    of = TableMapping.model_validate({"files": "x.csv", "columns": columns})
    with pytest.raises(Misconfigured) as said:
        conformed(rows, "impressions", of)
    for part in (
        "event_time: from 't', int64: a time that is a number needs its `unit`",
        "position: from 'p', string: Failed to parse",
        "item_id: from 'i', double: an id or a word needs to be text or a whole number",
        "surface: no column not_there among t, p, i, c",
    ):
        assert part in str(said.value)


# -- laws -------------------------------------------------------------------------------------------------------------
@settings(deadline=None)
@given(
    st.lists(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), min_size=1, max_size=5),
    st.sampled_from(["s", "ms", "us", "ns", "iso", "naive", "zoned"]),
    st.sampled_from(["UTC", "Asia/Kolkata", "America/Sao_Paulo"]),
)
def test_a_time_is_the_same_however_it_is_told(times: list[datetime], told: str, zone: str) -> None:
    """As an epoch in any unit, as a text, as a timestamp with and without a zone."""
    times = [time.replace(microsecond=0) for time in times]
    column = pa.array(times, pa.timestamp("us", "UTC"))
    seconds = column.cast(pa.int64()).to_numpy() // 10**6
    theirs: Any = {
        "iso": pa.array([time.isoformat() for time in times]),
        "naive": column.cast(pa.timestamp("us")),
        "zoned": column.cast(pa.timestamp("ns", "Asia/Tokyo")),
    }.get(told)
    said = {"column": "t"}
    if theirs is None:
        said["unit"] = told
        theirs = pa.array(seconds * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[told])
    of = TableMapping.model_validate(
        {
            "files": "x.csv",
            "zone": "UTC" if told == "naive" else zone,
            "columns": {"click_id": {"value": "c"}, "event_time": said, "item_id": {"value": "i"}},
        }
    )
    assert conformed(pa.table({"t": theirs}), "clicks", of).column("event_time").to_pylist() == times


def test_an_hour_that_came_twice_is_the_first(tmp_path: Path) -> None:
    """Clocks of Berlin went back at 01:00 UTC of 25 October 2026; an hour that never came is after the jump."""
    said = ColumnMapping(column="t")
    of = TableMapping(files="x.csv", zone="Europe/Berlin", columns={"event_time": said, "click_id": said})
    rows = pa.table({"t": ["2026-10-25T02:30:00", "2026-03-29T02:30:00"]})
    found = conformed(rows, "clicks", of).column("event_time").to_pylist()
    assert found == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)]


def test_a_mapped_day_is_looked_at_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` reads the team's own files as the mapping has them, and leaves nothing behind."""
    pq.write_table(views(-70, 1, 5, 6), tmp_path / "views.parquet")
    mapping = {"impressions": {"files": "views.parquet", "columns": VIEWS}}
    given = {"name": "mapped", "data": str(tmp_path), "mapping": mapping}
    monkeypatch.setenv("TIDEGATE__SOURCE", json.dumps(given))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(["check"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert page.startswith("source.mapping, 2026-03-02: validate would publish the day")
    assert "impressions of 4 days, 2026-02-27..2026-03-02" in page, "of the source, not of this look"
    assert "impressions: attributes that are numbers: depth" in page
    assert [path.name for path in tmp_path.iterdir()] == ["views.parquet"]
