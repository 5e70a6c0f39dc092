"""Figures of a whole day: against the days before it, against its own hours, and of its tables against each other."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from jobs.config import Config
from jobs.errors import Refused
from jobs.flow import SNAPSHOTS
from jobs.lake.store import Lake
from jobs.lake.tables import EVENTS, RAW, TIME
from jobs.validate.batch import Past, key_columns
from jobs.validate.suites import Suites
from tests.jobs.validate.breaking import BREAKS, ROW, WARNINGS, Break, all_of, judge
from tests.jobs.validate.raw_days import FIRST, N, Tables, put, retyped, tables_of, write


def usual(rows: int) -> Past:
    """So many rows of every table on every day before, and none of their ids."""
    return Past(lambda _table, _day: None, lambda _table, _day: rows)


def used_by(tables: Tables) -> Past:
    """The day before logged these rows."""
    return Past(lambda t, d: tables[t].select(key_columns(t)) if d < FIRST else None, lambda _table, _day: None)


BIG = 1_200
"""Rows of a day that must have no silent hours; laid within one second."""
REFUSALS: dict[tuple[str, str], tuple[Break, str]] = {
    ("impressions", "has_rows"): (lambda rows: rows.slice(0, 0), "at least one row; found rows 0"),
    ("impressions", "shown_candidates_believable"): (
        lambda rows: retyped(rows, "item_id", rows.column("item_id").take(pa.array(range(N))[::-1])),
        "found shown_candidate_share 0;",
    ),
    ("clicks", "most_impressions_known"): (
        partial(all_of, column="impression_id", value="x"),
        "at least half of the named impressions known; found known_impression_share 0;",
    ),
    ("clicks", "most_clicked_items_agree"): (
        lambda rows: retyped(rows, "item_id", rows.column("item_id").take(pa.array(range(N))[::-1])),
        "found clicked_item_share 0;",
    ),
}
SELDOM = ("purchases", "feedback")
"""Events that no hour needs to have."""
FROM_HISTORY = {(table, "volume_believable") for table in RAW} | {
    (table, "no_half_day_silence") for table in EVENTS if table not in SELDOM
}
FROM_YESTERDAY = {(table, f"{RAW[table].key[0]}_new") for table in EVENTS}


@pytest.mark.parametrize("case", REFUSALS, ids=".".join)
def test_a_day_that_cannot_be_believed_is_refused_whole(suites: Suites, case: tuple[str, str]) -> None:
    """No row of it is bad by itself: together they are."""
    corrupt, found = REFUSALS[case]
    tables = tables_of(FIRST)
    tables[case[0]] = corrupt(tables[case[0]])
    with pytest.raises(Refused, match=f"raw {case[0]} of {FIRST} needs .*{found}"):
        judge(suites, {FIRST: tables})


@pytest.mark.parametrize("table", RAW)
def test_a_day_far_from_the_last_good_days_is_refused_and_a_small_one_warned_of(suites: Suites, table: str) -> None:
    """A few rows a day stray by chance, so a small source is not judged; many do not."""
    tables = {FIRST: tables_of(FIRST)}
    assert judge(suites, tables, past=usual(99))[FIRST][table].failed() == {}
    few = {
        name: rows.slice(0, 30) if name == table else tables_of(FIRST, 120)[name]
        for name, rows in tables_of(FIRST, 120).items()
    }
    snapshot = table in SNAPSHOTS
    assert "volume_usual" not in judge(suites, {FIRST: tables_of(FIRST, 120)}, past=usual(120))[FIRST][table].failed()
    with pytest.raises(Refused, match=f"raw {table} of {FIRST} needs .* times the rows of a usual day .*found volume"):
        judge(suites, {FIRST: few}, past=usual_but(table, 400))
    warned = judge(suites, {FIRST: tables_of(FIRST, 120)}, past=usual_but(table, 150 if snapshot else 300))
    assert warned[FIRST][table].failed() == {"volume_usual": 1}


def usual_but(table: str, rows: int) -> Past:
    """120 rows a day, but of one table so many."""
    return Past(lambda _table, _day: None, lambda t, _day: rows if t == table else 120)


def test_two_good_days_are_no_history(suites: Suites) -> None:
    """The first days of a lake have nothing to be held against."""
    past = Past(lambda _table, _day: None, lambda _table, day: 4_000 if day >= FIRST - timedelta(days=2) else None)
    assert judge(suites, {FIRST: tables_of(FIRST)}, past=past)[FIRST]["impressions"].failed() == {}


def test_the_last_good_days_are_those_of_the_lake_and_of_this_run(
    config: Config, validate: Callable[..., dict[str, Any]]
) -> None:
    """A bootstrap of many days judges each as if it had come alone."""
    days = [FIRST + timedelta(days=n) for n in range(4)]
    for day in days:
        write(config.lake.raw, day, tables_of(day, 120))
    write(config.lake.raw, days[3], {"purchases": tables_of(days[3])["purchases"].slice(0, 6)})
    for since in (FIRST, None):
        with pytest.raises(
            Refused, match=f"raw purchases of {days[3]} needs 0.1 to 10 times .*found volume_ratio 0.05;"
        ):
            validate(days[3], since=since)
        assert Lake(config.lake.root).days("purchases") == days[:3]


@pytest.mark.parametrize("table", [table for table in EVENTS if table not in SELDOM])
def test_a_logger_that_died_at_ten_refuses_the_day(suites: Suites, table: str) -> None:
    """More than a thousand events and none in half of the day: published, the rest would count as never happened."""
    tables = {name: spread(rows) if name != table else rows for name, rows in tables_of(FIRST, BIG).items()}
    with pytest.raises(
        Refused, match=f"raw {table} of {FIRST} needs no 12 hours without .*found longest_silence_hours"
    ):
        judge(suites, {FIRST: tables})
    tables[table] = spread(tables_of(FIRST, BIG)[table], hours=15)
    assert judge(suites, {FIRST: tables})[FIRST][table].failed()["no_long_silence"] == 1


def spread(rows: pa.Table, hours: int = 24) -> pa.Table:
    """The same rows, their events over so many hours."""
    if "event_time" not in rows.column_names:
        return rows
    start = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
    times = [start + n * timedelta(hours=hours) / len(rows) for n in range(len(rows))]
    rows = retyped(rows, "event_time", pa.array(times, TIME))
    return rows if "ingested_at" not in rows.column_names else retyped(rows, "ingested_at", pa.array(times, TIME))


@pytest.mark.parametrize("table", EVENTS)
def test_an_id_of_yesterday_is_set_aside(suites: Suites, table: str) -> None:
    """Joins by id look back a day: an id that two days share finds the wrong row."""
    yesterday = tables_of(FIRST - timedelta(days=1))
    key = RAW[table].key[0]
    yesterday[table] = put(yesterday[table], key, tables_of(FIRST)[table].column(key)[ROW].as_py())
    judged = judge(suites, {FIRST: tables_of(FIRST)}, past=used_by(yesterday))[FIRST][table].judged
    assert judged.aside.column("expectation").to_pylist() == [f"{key}_new"]
    assert judged.aside.column("row_key").to_pylist() == [tables_of(FIRST)[table].column(key)[ROW].as_py()]
    assert (judged.broken, len(judged.good)) == (1, N - 1)


def test_no_expectation_goes_untested(suites: Suites) -> None:
    """A rule nobody has seen fail may not work at all."""
    rules = {(t, e.name): e for t in RAW for scope in ("day", "row") for e in suites.expectations(t, scope)}
    critical = {name for name, rule in rules.items() if rule.severity == "critical"}
    assert critical == set(BREAKS) | set(REFUSALS) | FROM_HISTORY | FROM_YESTERDAY
    columns = {(table, "columns_known") for table in RAW}  # types and required columns have tests of their own
    volumes = {(table, "volume_usual") for table in RAW}
    silences = {(table, "no_long_silence") for table in EVENTS if table not in SELDOM}
    assert (set(rules) - critical) | columns == set(WARNINGS) | volumes | silences
