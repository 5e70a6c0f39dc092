"""Laws that hold for any rows whatever: none is lost, none doubled, none published that broke a critical rule."""

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import Refused
from jobs.lake import raw
from jobs.lake.raw import Part, RawDay
from jobs.lake.tables import LAKE, RAW
from jobs.validate.batch import NOTHING, Rules, Verdict, verdicts
from jobs.validate.suites import Suites
from tests.jobs.validate.corruptions import file_of
from tests.jobs.validate.raw_days import FIRST, Tables, tables_of, write

AT = datetime(FIRST.year, FIRST.month, FIRST.day, 10, tzinfo=UTC)
TEXTS = ["a", "b", "c", "r", "i00", "", "null", " a", "a\u200b", "\x00", "x" * 300, "\U0001f600", None]
TIMES = [AT, AT + timedelta(hours=1), AT + timedelta(days=1), AT - timedelta(days=9_000), None]
NUMBERS = [0.0, -0.0, 0.5, 1.0, 1.0 + 1e-12, -1.0, 5e-324, 1e308, float("inf"), float("-inf"), float("nan"), None]
WHOLES = [0, 1, 2, -1, 1_000, 1_001, 2**31 - 1, -(2**31), None]
FLAGS = [True, False, None]
LISTS = [[], ["a"], ["a", "a"], ["a", None], ["", "b"], ["i00", "b"], ["x" * 300], None]
VECTORS = [[], [0.5], [0.5, -1.0], [0.5, None], [float("nan"), 1.0], [float("inf")], [0.0] * 300, None]
POOLS = {"string": TEXTS, "timestamp[us, tz=UTC]": TIMES, "double": NUMBERS, "int32": WHOLES, "bool": FLAGS}
POOLS |= {"list<item: double>": VECTORS}


def rows(table: str) -> st.SearchStrategy[pa.Table]:
    """One to eight rows of nasty values, few enough that ids meet."""
    columns = RAW[table].columns
    row = st.fixed_dictionaries(
        {name: st.sampled_from(POOLS.get(str(column.type), LISTS)) for name, column in columns.items()}
    )
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    return st.lists(row, min_size=1, max_size=8).map(lambda some: pa.Table.from_pylist(some, schema))


DAYS = st.fixed_dictionaries({table: rows(table) for table in RAW})
RULES = Rules(Suites(tuple(RAW)), max_quarantine_share=1.0, click_window_days=1)


def judged(tables: Tables) -> dict[str, Verdict]:
    """A day from memory; nothing is refused for its share of bad rows."""

    def read(table: str, _day: date) -> RawDay:
        return RawDay((Part(Path("part-0.parquet"), tables[table]),), "")

    ((_, found),) = verdicts(RULES, [FIRST], read, NOTHING)
    return found


def set_aside(verdict: Verdict) -> int:
    """Rows, each once however many rules it broke."""
    listed = verdict.judged.aside.to_pylist()
    times = Counter((row["payload"], row["expectation"]) for row in listed)
    return sum(max(n for (other, _), n in times.items() if other == payload) for payload in {p for p, _ in times})


@settings(max_examples=25, deadline=None)
@given(DAYS)
def test_any_rows_are_published_once_or_set_aside_with_a_reason(tables: Tables) -> None:
    """In any table: what comes in goes out, one way; what goes out good breaks nothing when judged again."""
    found = judged(tables)
    for table, verdict in found.items():
        result = verdict.judged
        assert len(result.good) + result.broken + result.copies == len(tables[table]) == result.raw
        assert set_aside(verdict) == result.broken + result.copies
        assert result.good.schema.equals(LAKE[table].schema)
        ids = result.good.column(RAW[table].key[0]).to_pylist()
        assert len(ids) == len(set(ids))
        assert all(json.loads(payload) for payload in result.aside.column("payload").to_pylist())
    if len(found["impressions"].judged.good):
        again = judged({table: verdict.judged.good.select(RAW[table].columns) for table, verdict in found.items()})
        assert all(verdict.judged.broken == verdict.judged.copies == 0 for verdict in again.values())


def test_a_damaged_file_is_refused_or_judged(tmp_path: Path) -> None:
    """Any one bit of it may be wrong: then a reader gets a sentence, or rows that the rules still account for."""
    write(tmp_path, FIRST, tables_of(FIRST))
    path = file_of(tmp_path, "impressions")
    data = path.read_bytes()
    refusals, judgements = [], 0
    for seed in range(150):
        at = seed * 7919 % len(data)
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << seed % 8)]) + data[at + 1 :])
        try:
            part = raw.read(tmp_path, "impressions", FIRST).parts[0]
            result = judged({**tables_of(FIRST), "impressions": part.rows})["impressions"].judged
            assert len(result.good) + result.broken + result.copies == len(part.rows)
            judgements += 1
        except Refused as refusal:
            refusals.append(str(refusal))
    assert judgements > 20
    assert len(refusals) > 20
    assert all(" needs " in sentence and "found " in sentence for sentence in refusals)
