"""Every critical expectation is fed data that breaks it: exactly that row, of exactly that day, is set aside."""

import json
import re
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from jobs.errors import Refused
from jobs.lake.tables import LAKE, RAW
from jobs.validate import core, facts
from jobs.validate.batch import Verdict
from jobs.validate.columns import shaped
from jobs.validate.suites import Suites
from models.probabilities import ROUNDING
from tests.jobs.validate.breaking import BREAKS, ROW, WARNINGS, judge
from tests.jobs.validate.raw_days import FIRST, N, Tables, put, retyped, tables_of

SECOND = FIRST + timedelta(days=1)


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
    values = [0.0, -0.2, 1.000001, float("inf"), 1.0, 1e-9, None]
    days = {FIRST + timedelta(days=n): tables_of(FIRST + timedelta(days=n)) for n in range(len(values))}
    for tables, value in zip(days.values(), values, strict=True):
        tables["impressions"] = put(tables["impressions"], "propensity", value)
    judged = [tables["impressions"].judged for tables in judge(suites, days).values()]
    assert [day.broken for day in judged] == [1, 1, 1, 1, 0, 0, 0]
    assert json.loads(judged[3].aside.column("payload")[0].as_py())["propensity"] == "inf"


@pytest.mark.parametrize("one", [np.nextafter(1.0, 2.0), 1 + 1e-9, np.nextafter(np.float32(1), np.float32(2))])
def test_a_certain_choice_that_rounding_put_above_one_is_certain(suites: Suites, one: float) -> None:
    """A softmax in 32 bits, a sum of shares: no fault of the log, and nobody downstream should divide by it."""
    tables = tables_of(FIRST)
    values = [0.5 if n % 2 == 0 else float(one) for n in range(N)]
    tables["impressions"] = retyped(tables["impressions"], "propensity", pa.array(values))
    verdict = judge(suites, {FIRST: tables})[FIRST]["impressions"]
    assert verdict.failed() == {}
    assert set(verdict.judged.good["propensity"].to_pylist()) == {0.5, 1.0}


@pytest.mark.parametrize("above", [1.000001, np.nextafter(1 + ROUNDING, 2)])
def test_a_message_has_the_digits_that_show_the_fault(suites: Suites, above: float) -> None:
    """`needs at most 1; found 1` would send whoever is paged after a ghost."""
    tables = tables_of(FIRST)
    tables["impressions"] = put(tables["impressions"], "propensity", float(above))
    (reason,) = judge(suites, {FIRST: tables})[FIRST]["impressions"].judged.aside["reason"].to_pylist()
    assert float(reason.rsplit(" ", 1)[1]) == above
    with pytest.raises(Refused, match=rf"at most 1; found {re.escape(repr(float(above)))}\)"):
        judge(suites, {FIRST: tables}, max_share=0.0)


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
