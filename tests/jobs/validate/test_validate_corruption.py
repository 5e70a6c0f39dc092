"""Every critical expectation is fed data that breaks it: exactly that row, of exactly that day, is set aside."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.errors import Refused
from jobs.tables import EVENTS, LAKE, RAW, SNAPSHOTS, TIME
from jobs.validate import core, facts
from jobs.validate.batch import NOTHING, Past, Rules, Verdict, key_columns, verdicts
from jobs.validate.columns import shaped
from jobs.validate.raw import Part, RawDay
from jobs.validate.suites import Suites
from tests.jobs.validate.raw_days import FIRST, N, Tables, put, retyped, tables_of

Break = Callable[[pa.Table], pa.Table]
ROW = 7
SECOND = FIRST + timedelta(days=1)


def twice(rows: pa.Table) -> pa.Table:
    """One row logged again."""
    return pa.concat_tables([rows, rows.slice(ROW, 1)])


def a_day_later(rows: pa.Table) -> pa.Table:
    """One event filed under the day before its own."""
    return put(rows, "event_time", rows.column("event_time")[ROW].as_py() + timedelta(days=1))


def nulls(table: str, columns: str) -> dict[tuple[str, str], Break]:
    """One null in each of the columns."""
    return {(table, f"{name}_present"): partial(put, column=name, value=None) for name in columns.split()}


def words_for_nothing(table: str, columns: str) -> dict[tuple[str, str], Break]:
    """What loggers write for nothing, in each of the columns."""
    return {(table, f"{name}_real"): partial(put, column=name, value="null") for name in columns.split()}


def wrapped(table: str, columns: str) -> dict[tuple[str, str], Break]:
    """A space after what would be the right id, in each of the columns."""
    return {(table, f"{name}_tidy"): lambda rows, name=name: put(rows, name, f"{name}-7 ") for name in columns.split()}


def endless(table: str, columns: str, characters: int = 257) -> dict[tuple[str, str], Break]:
    """A document where a short text belongs, in each of the columns."""
    return {(table, f"{name}_short"): partial(put, column=name, value="x" * characters) for name in columns.split()}


def document(table: str) -> dict[tuple[str, str], Break]:
    """A row whose extra columns hold a document."""
    column = f"{RAW[table].extra_prefix}page"

    def corrupt(rows: pa.Table) -> pa.Table:
        return rows.append_column(column, pa.array(["x" * 20_001 if n == ROW else "x" for n in range(N)]))

    return {(table, "attributes_short"): corrupt}


def known(seconds: int) -> Break:
    """One row known so long after its event (before it, where negative)."""
    return lambda rows: put(rows, "ingested_at", rows.column("event_time")[ROW].as_py() + timedelta(seconds=seconds))


TIMED = ("impressions", "clicks", "purchases")
DAY_SECONDS = 86_400
BREAKS: dict[tuple[str, str], Break] = {
    **nulls("impressions", "impression_id request_id event_time item_id surface position policy"),
    **nulls("clicks", "click_id event_time item_id"),
    **nulls("purchases", "purchase_id event_time user_id item_id"),
    **nulls("requests", "request_id event_time surface policy candidates slate_size"),
    **nulls("items", "item_id"),
    **nulls("users", "user_id"),
    **words_for_nothing("impressions", "impression_id request_id item_id"),
    **words_for_nothing("clicks", "click_id item_id"),
    **words_for_nothing("purchases", "purchase_id user_id item_id"),
    **words_for_nothing("requests", "request_id"),
    **words_for_nothing("items", "item_id"),
    **words_for_nothing("users", "user_id"),
    **words_for_nothing("impressions", "user_id surface policy"),
    **words_for_nothing("clicks", "impression_id user_id"),
    **words_for_nothing("requests", "user_id surface policy"),
    **wrapped("impressions", "impression_id request_id item_id user_id"),
    **wrapped("clicks", "click_id impression_id item_id user_id"),
    **wrapped("purchases", "purchase_id user_id item_id"),
    **wrapped("requests", "request_id user_id"),
    **wrapped("items", "item_id"),
    **wrapped("users", "user_id"),
    **endless("impressions", "impression_id request_id user_id item_id surface policy device region source_item_id"),
    **endless("clicks", "click_id impression_id user_id item_id"),
    **endless("purchases", "purchase_id user_id item_id"),
    **endless("requests", "request_id user_id surface policy"),
    **endless("items", "item_id category"),
    **endless("users", "user_id"),
    **endless("impressions", "query", 10_001),
    **endless("items", "title", 10_001),
    **{name: corrupt for table in ("impressions", "items", "users") for name, corrupt in document(table).items()},
    **{(table, "ingested_at_believable"): known(-DAY_SECONDS - 1) for table in TIMED},
    **{
        (table, "created_at_believable"): partial(put, column="created_at", value=datetime(9999, 12, 31, tzinfo=UTC))
        for table in SNAPSHOTS
    },
    **{(table, f"{RAW[table].key[0]}_unique"): twice for table in RAW},
    **{(table, "event_time_in_partition"): a_day_later for table in EVENTS},
    ("impressions", "position_from_one"): partial(put, column="position", value=0),
    ("impressions", "propensity_in_unit_interval"): partial(put, column="propensity", value=1.5),
    ("purchases", "value_not_negative"): partial(put, column="value", value=-1.0),
    ("requests", "slate_size_positive"): partial(put, column="slate_size", value=0),
    ("requests", "has_candidates"): partial(put, column="candidates", value=[]),
    ("requests", "candidates_real"): partial(put, column="candidates", value=["i01", None, "i02"]),
    ("items", "price_not_negative"): partial(put, column="price", value=-0.01),
}


def all_of(rows: pa.Table, column: str, value: object) -> pa.Table:
    """One value everywhere."""
    return retyped(rows, column, pa.array([value] * len(rows), rows.schema.field(column).type))


def some_of(rows: pa.Table, column: str, value: object, count: int) -> pa.Table:
    """One value in the first rows."""
    for row in range(count):
        rows = put(rows, column, value, row)
    return rows


WARNINGS: dict[tuple[str, str], Break] = {
    **{
        (t, "columns_known"): lambda rows: rows.append_column("Event_Time", rows.column(rows.column_names[0]))
        for t in RAW
    },
    **{(table, "ingested_at_not_before_event_time"): known(-1) for table in TIMED},
    **{(table, "ingested_at_soon"): known(31 * DAY_SECONDS) for table in TIMED},
    **{(t, "user_share"): partial(all_of, column="user_id", value=None) for t in ("impressions", "clicks", "requests")},
    **{(t, "known_item_share"): partial(put, column="item_id", value="i999") for t in TIMED},
    ("impressions", "position_plausible"): partial(put, column="position", value=1001),
    ("impressions", "propensity_share"): partial(put, column="propensity", value=None),
    ("impressions", "known_user_share"): partial(all_of, column="user_id", value="u999"),
    ("impressions", "known_request_share"): partial(put, column="request_id", value="r999"),
    ("impressions", "requests_were_shown"): lambda rows: rows.slice(0, N - 2),
    ("impressions", "shown_candidate_share"): partial(put, column="item_id", value="i00"),
    ("impressions", "whole_propensity_share"): partial(put, column="propensity", value=None),
    ("impressions", "from_top_share"): partial(some_of, column="position", value=3, count=6),
    ("impressions", "propensities_not_too_small"): partial(all_of, column="propensity", value=0.01),
    ("impressions", "propensities_have_support"): lambda rows: all_of(all_of(rows, "propensity", 1.0), "position", 1),
    ("impressions", "last_choice_certain"): partial(put, column="propensity", value=0.5),
    ("impressions", "position_taken_once"): partial(put, column="position", value=1),
    ("impressions", "item_shown_once"): partial(put, column="item_id", value="i06"),
    ("clicks", "has_rows"): lambda rows: rows.slice(0, 0),
    ("clicks", "named_impression_share"): partial(all_of, column="impression_id", value=None),
    ("clicks", "known_impression_share"): partial(some_of, column="impression_id", value="x", count=5),
    ("clicks", "clicked_item_share"): partial(put, column="item_id", value="i00"),
    ("clicks", "has_impression_or_user"): lambda rows: put(put(rows, "impression_id", None), "user_id", None),
    ("clicks", "not_before_impression"): lambda rows: put(
        rows, "event_time", rows.column("event_time")[ROW].as_py() - timedelta(seconds=9)
    ),
    ("requests", "known_candidate_share"): partial(put, column="candidates", value=["i14", "i15", "i998", "i999"]),
    ("requests", "candidates_once"): partial(put, column="candidates", value=["i14", "i15", "i14"]),
    ("requests", "candidates_fill_slate"): partial(put, column="candidates", value=["i14"]),
    ("requests", "slate_holds_shown"): partial(put, column="slate_size", value=1),
    ("items", "has_rows"): lambda rows: rows.slice(0, 0),
    ("items", "category_share"): partial(all_of, column="category", value=None),
    ("users", "has_rows"): lambda rows: rows.slice(0, 0),
    **{
        (table, "created_at_not_in_future"): lambda rows: put(
            rows, "created_at", rows.column("created_at")[ROW].as_py() + timedelta(days=1)
        )
        for table in SNAPSHOTS
    },
    **{
        (table, "created_at_plausible"): partial(put, column="created_at", value=datetime(1970, 1, 1, tzinfo=UTC))
        for table in SNAPSHOTS
    },
}


def judge(
    suites: Suites, days: dict[date, Tables], max_share: float = 0.05, past: Past = NOTHING
) -> dict[date, dict[str, Verdict]]:
    """All days in one batch, as the stage does it, from memory."""

    def read(table: str, day: date) -> RawDay:
        return RawDay((Part(Path("part-0.parquet"), days[day][table]),), "")

    return dict(verdicts(Rules(suites, max_share, 1), list(days), read, past))


@pytest.fixture(scope="module")
def outcomes(suites: Suites) -> dict[tuple[str, str], tuple[Tables, dict[str, Verdict]]]:
    """A day per corruption, all in one batch: one day's damage must not spill over to another."""
    days, cases = {}, {}
    for n, ((table, name), corrupt) in enumerate({**BREAKS, **WARNINGS}.items()):
        day = FIRST + timedelta(days=n)
        days[day] = tables_of(day)
        days[day][table] = corrupt(days[day][table])
        cases[table, name] = day
    judged = judge(suites, days)
    return {case: (days[day], judged[day]) for case, day in cases.items()}


@pytest.mark.parametrize("case", BREAKS, ids=".".join)
def test_a_broken_row_is_set_aside_with_its_reason_and_the_others_are_good(
    outcomes: dict[tuple[str, str], tuple[Tables, dict[str, Verdict]]], case: tuple[str, str]
) -> None:
    """Never dropped silently, never published, and no other row goes with it."""
    table, name = case
    raw, tables = outcomes[case]
    verdict = tables[table]
    kept_one = name.endswith("_unique")
    assert name in verdict.failed()
    rows = [row for row in verdict.judged.aside.to_pylist() if row["expectation"] == name]
    assert len(rows) == 1
    assert rows[0]["reason"].startswith("needs ")
    assert "; found " in rows[0]["reason"]
    key = RAW[table].key[0]
    bad = raw[table].column(key)[ROW].as_py()
    assert (rows[0]["row_key"], json.loads(rows[0]["payload"])[key]) == (bad, bad)
    assert len(verdict.judged.good) == (N if kept_one else N - 1)
    assert verdict.judged.good.schema.equals(LAKE[table].schema)


@pytest.mark.parametrize("case", BREAKS, ids=".".join)
def test_the_other_tables_of_the_day_are_untouched(
    outcomes: dict[tuple[str, str], tuple[Tables, dict[str, Verdict]]], case: tuple[str, str]
) -> None:
    """Damage in one table costs the others nothing."""
    _, tables = outcomes[case]
    assert {t: len(v.judged.good) for t, v in tables.items() if t != case[0]} == {t: N for t in RAW if t != case[0]}


@pytest.mark.parametrize("case", WARNINGS, ids=".".join)
def test_a_warning_is_counted_and_the_rows_are_published(
    outcomes: dict[tuple[str, str], tuple[Tables, dict[str, Verdict]]], case: tuple[str, str]
) -> None:
    """Somebody should look, but nobody is stopped."""
    table, name = case
    raw, tables = outcomes[case]
    assert name in tables[table].failed()
    assert len(tables[table].judged.good) == len(raw[table])
    assert tables[table].counts()["failed_warning"] >= 1


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
FROM_HISTORY = {(table, "volume_believable") for table in RAW} | {
    (table, "no_half_day_silence") for table in EVENTS if table != "purchases"
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


@pytest.mark.parametrize("table", [table for table in EVENTS if table != "purchases"])
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
    silences = {(table, "no_long_silence") for table in EVENTS if table != "purchases"}
    assert (set(rules) - critical) | columns == set(WARNINGS) | volumes | silences


def test_a_flawless_day_fails_nothing(suites: Suites) -> None:
    """The corruption tests would prove nothing on data that fails anyway."""
    days = {FIRST + timedelta(days=n): tables_of(FIRST + timedelta(days=n)) for n in range(2)}
    for tables in judge(suites, days).values():
        assert {name: verdict.failed() for name, verdict in tables.items()} == {name: {} for name in RAW}


@pytest.mark.parametrize(
    ("table", "name"), [(t, n) for t in RAW for n, column in RAW[t].columns.items() if not column.optional]
)
def test_a_missing_column_is_named(suites: Suites, table: str, name: str) -> None:
    """Every later stage reads it by name."""
    rows = tables_of(FIRST)[table].drop_columns([name])
    with pytest.raises(Refused, match=rf"raw {table} of {FIRST} needs column {name} of type .*; found no such column"):
        refuse(suites, table, rows)


@pytest.mark.parametrize(("table", "name"), [(t, n) for t in RAW for n in RAW[t].columns])
def test_a_wrong_type_is_named(suites: Suites, table: str, name: str) -> None:
    """A type that only looks right (bytes for text, days for times) would be read as something else later."""
    rows = tables_of(FIRST)[table]
    rows = retyped(rows, name, pa.array([b"\x00"] * N, pa.binary()))
    with pytest.raises(Refused, match=rf"raw {table} of {FIRST} needs column {name} of type .*; found type binary"):
        refuse(suites, table, rows)


def refuse(suites: Suites, table: str, rows: pa.Table) -> None:
    """What the stage does with a table's columns."""
    findings = suites.judge_columns(table, facts.of_columns(shaped(rows, RAW[table]).rows))
    core.refuse_columns(table, FIRST, rows.schema, "part-0.parquet", findings)


def test_propensities_at_and_beyond_the_edges(suites: Suites) -> None:
    """Zero makes a weight infinite, infinity is no probability; one is a deterministic policy, null an unknown one."""
    values = [0.0, -0.2, 1.0000001, float("inf"), 1.0, 1e-9, None]
    days = {FIRST + timedelta(days=n): tables_of(FIRST + timedelta(days=n)) for n in range(len(values))}
    for tables, value in zip(days.values(), values, strict=True):
        tables["impressions"] = put(tables["impressions"], "propensity", value)
    judged = [tables["impressions"].judged for tables in judge(suites, days).values()]
    assert [day.broken for day in judged] == [1, 1, 1, 1, 0, 0, 0]
    assert json.loads(judged[3].aside.column("payload")[0].as_py())["propensity"] == "inf"


def test_a_row_that_breaks_two_rules_is_one_bad_row_with_two_reasons(suites: Suites) -> None:
    """Whoever repairs the logger wants to know all of it; the count is of rows."""
    tables = tables_of(FIRST)
    tables["impressions"] = put(put(tables["impressions"], "position", 0), "propensity", 2.0)
    judged = judge(suites, {FIRST: tables})[FIRST]["impressions"].judged
    assert (judged.broken, len(judged.aside), len(judged.good)) == (1, 2, N - 1)


def test_too_many_bad_rows_refuse_the_day(suites: Suites) -> None:
    """A few bad rows are noise; three of forty are a broken logger. The sentence says what and how many."""
    tables = tables_of(FIRST)
    for row in (3, 5, 7):
        tables["impressions"] = put(tables["impressions"], "position", 0, row)
    with pytest.raises(Refused, match=r"at least 95\.00% good rows; found 3 of 40 bad: position_from_one \(3 rows"):
        judge(suites, {FIRST: tables})


def test_of_copies_the_one_known_first_is_kept(suites: Suites) -> None:
    """Whatever the order of the files: a re-run must keep the same one."""
    days = {FIRST: tables_of(FIRST), SECOND: tables_of(SECOND)}
    for day, tables in days.items():
        rows = tables["impressions"]
        known = rows.column("ingested_at")[ROW].as_py()
        late = put(rows, "ingested_at", known + timedelta(days=1)).slice(ROW, 1)
        tables["impressions"] = pa.concat_tables([late, rows] if day == FIRST else [rows, late])
    for day, verdict in judge(suites, days).items():
        judged = verdict["impressions"].judged
        assert (judged.copies, judged.conflicts) == (1, 0)
        assert judged.good.column("ingested_at").to_pylist() == tables_of(day)["impressions"]["ingested_at"].to_pylist()


def test_true_copies_never_refuse_a_day_but_contradictions_do(suites: Suites) -> None:
    """A logger that delivers at least once is healthy; one id for different events loses them."""
    tables = tables_of(FIRST)
    tables["clicks"] = pa.concat_tables([tables["clicks"], tables["clicks"]])
    judged = judge(suites, {FIRST: tables})[FIRST]["clicks"].judged
    assert (len(judged.good), judged.copies, judged.conflicts) == (N, N, 0)
    tables["clicks"] = retyped(tables_of(FIRST)["clicks"], "click_id", pa.array(["c"] * N))
    with pytest.raises(Refused, match="found 39 of 40 bad: click_id_unique"):
        judge(suites, {FIRST: tables})


def test_a_bad_copy_does_not_take_the_good_one_with_it(suites: Suites) -> None:
    """Rows that break something are out before copies are looked for."""
    tables = tables_of(FIRST)
    rows = tables["impressions"]
    tables["impressions"] = pa.concat_tables([put(rows, "position", 0).slice(ROW, 1), rows])
    judged = judge(suites, {FIRST: tables})[FIRST]["impressions"].judged
    assert (len(judged.good), judged.broken, judged.copies) == (N, 1, 0)


def test_a_click_may_name_an_impression_of_the_day_before(suites: Suites) -> None:
    """A click after midnight is no orphan."""
    days = {FIRST: tables_of(FIRST), SECOND: tables_of(SECOND)}
    before = days[FIRST]["impressions"].column("impression_id")
    days[SECOND]["clicks"] = retyped(days[SECOND]["clicks"], "impression_id", before)
    assert judge(suites, days)[SECOND]["clicks"].failed() == {}
