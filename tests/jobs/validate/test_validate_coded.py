"""Texts by their distinct values come to what they come to one by one, however a file holds them."""

import re
from datetime import timedelta
from pathlib import Path

import datasketches
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.lake import raw
from jobs.lake.tables import RAW, STR
from jobs.validate import coded, sketches
from jobs.validate.batch import NOTHING, Rules, Verdict, verdicts
from jobs.validate.coded import CODED
from jobs.validate.patterns import found_in, rewritten
from jobs.validate.suites import Suites
from tests.jobs.validate.damaged_day import damaged
from tests.jobs.validate.raw_days import FIRST, Tables, tables_of
from tests.jobs.validate.test_validate_parity import RULES, frames, ours

TEXTS = st.lists(
    st.sampled_from([None, "", "a", "b", "ab", "é", "a\n", "null", "x" * 600, "x" * 599 + "y"]), max_size=9
)
PATTERNS = [
    r"^[a-z0-9_-]+$",
    r"^[^b]$",
    "(a|b)$",
    "a*",
    "^$",
    "",
    "a$|^b",
    "[\u00e0-\u00ff]$",
    "(ab){1,2}",
    r"\w$",
    "(?i)A",
]


def as_codes(texts: list[str | None], values: list[str | None]) -> pa.Array:
    """Codes of a dictionary that has other values first, some of them unused, twice or null."""
    every = [*values, *texts]
    places = [None if text is None else len(every) - 1 - every[::-1].index(text) for text in texts]
    return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(every, STR))


@settings(max_examples=40, deadline=None)
@given(frames(), TEXTS)
def test_every_rule_says_of_codes_what_it_says_of_texts(frame: dict, values: list[str | None]) -> None:
    """Values that no row has break nothing; outcomes, quoted values and positions are the same."""
    texts = {name: column for name, column in frame.items() if not isinstance(column, np.ndarray)}
    parts = [pa.table({name: as_codes(column.to_pylist(), values) for name, column in texts.items()})]
    whole = coded.whole(parts, "s")
    unused = {
        name: pa.DictionaryArray.from_arrays(
            pa.array(
                [
                    None if code is None else code + 1
                    for code in whole.column(name).combine_chunks().indices.to_pylist()
                ],
                pa.int32(),
            ),
            pa.concat_arrays([pa.array(["\x00 unused"]), whole.column(name).combine_chunks().dictionary]),
        )
        for name in texts
    }
    for rule in RULES:
        expected = ours(rule, frame)
        assert ours(rule, {**frame, **{name: whole.column(name).combine_chunks() for name in texts}}) == expected, rule
        assert ours(rule, {**frame, **unused}) == expected, rule


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.sampled_from(["texts", "codes", "twice"])), min_size=1, max_size=4), TEXTS)
def test_parts_become_one_whatever_their_dictionaries(parts: list, values: list[str | None]) -> None:
    """Every value once and none null, in the key's column and any other; lists too."""
    tables = []
    for texts, how in parts:
        column = pa.array(texts, STR) if how == "texts" else as_codes(texts, values if how == "twice" else [])
        lists = pa.array([[text, "a", text] if text else None for text in texts], pa.list_(STR))
        tables.append(pa.table({"key": column, "of": column, "lists": lists}))
    whole = coded.whole(tables, "key")
    expected = [text for texts, _ in parts for text in texts]
    assert whole.column("key").to_pylist() == whole.column("of").to_pylist() == expected
    assert whole.column("lists").to_pylist() == [[text, "a", text] if text else None for text in expected]
    assert coded.plain(whole).schema.types == [STR, STR, pa.list_(STR)]
    for name in ("key", "of"):
        held = whole.column(name).combine_chunks()
        assert held.type == CODED
        assert len(set(held.dictionary.to_pylist())) == len(held.dictionary)
        assert held.dictionary.null_count == 0


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, st.booleans(), st.booleans())
def test_the_first_row_of_a_value_is_found(mine: list, theirs: list, first: bool, second: bool) -> None:
    """Whichever side is longer, and whichever is codes."""
    values, among = (
        coded.whole([pa.table({"t": pa.array(some, STR)})], "").column("t") if codes else pa.array(some, STR)
        for some, codes in ((mine, first), (theirs, second))
    )
    expected = [theirs.index(value) if value is not None and value in theirs else -1 for value in mine]
    assert coded.row_of(values, among).tolist() == expected
    assert coded.is_among(values, among).tolist() == [row >= 0 for row in expected]


@given(st.lists(st.integers(-3, 3) | st.integers(-(2**62), 2**62), max_size=20))
def test_rows_in_order_of_numbers_keep_their_own(numbers: list[int]) -> None:
    """Small spans are sorted with the row in the number, wide ones are not."""
    expected = sorted(range(len(numbers)), key=numbers.__getitem__)
    assert coded.ascending(np.array(numbers, np.int64)).tolist() == expected


def told_one_by_one(values: list) -> bytes:
    """The library's own sketch."""
    sketch = datasketches.hll_sketch(sketches.LOG_REGISTERS)
    for value in values:
        sketch.update(value)
    return bytes(sketch.serialize_compact())


@pytest.mark.parametrize("n", [0, 1, 7, 300, 5_000, 60_000])
def test_a_sketch_of_a_column_is_that_of_its_values(n: int) -> None:
    """To the last byte: lists, sets and registers; texts of any length and script, any number."""
    rng = np.random.default_rng(n)
    ids = rng.integers(0, 2**40, n)
    texts = list(
        dict.fromkeys(["é" * int(k % 30) + "i" * int(k % 37) + str(k) for k in ids] + ["", "x" * 600, "x" * 512])
    )
    assert sketches.of_texts(pa.array(["cut off", *texts], STR).slice(1)) == told_one_by_one(texts)
    order = rng.permutation(len(texts))
    assert sketches.of_texts(pa.array(texts, STR), order) == told_one_by_one([texts[k] for k in order])
    floats = np.concatenate([rng.normal(size=n), [0.0, -0.0, np.nan, np.inf, -np.inf][:n]])
    for numbers in (
        floats,
        rng.integers(-50, 50, n),
        np.sort(rng.integers(-(2**60), 2**60, n)),
        np.repeat(ids, 40)[:n],
    ):
        assert sketches.of_numbers(pa.array(numbers)) == told_one_by_one(numbers.tolist())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.text(st.sampled_from("ab1_\n\x00 éßA\u2028日"), max_size=4), max_size=6),
    st.sampled_from(PATTERNS),
)
def test_a_pattern_is_found_where_python_finds_it(texts: list[str | None], pattern: str) -> None:
    """Line breaks at the end, null characters, any script; patterns RE2 writes otherwise, and those it cannot."""
    expected = [text is not None and re.search(pattern, text) is not None for text in texts]
    assert found_in(pattern, pa.array(texts, STR)).tolist() == expected


@pytest.mark.parametrize("pattern", [r"\d", "(?i)a", ".", "a$b", "(?=a)", r"\bx", "a*?", "(a)\\1", "[\\w-]", "a{200}"])
def test_what_re2_may_mean_otherwise_is_asked_of_python(pattern: str) -> None:
    """RE2 would answer, and differently."""
    assert rewritten(pattern) is None


def test_the_suites_patterns_are_rewritten() -> None:
    """A rule of the suites is asked of RE2: of a million texts `re` takes a second."""
    rules = [rule for table in RAW for rule in Suites(tuple(RAW)).expectations(table, "row") if "regex" in rule.kwargs]
    assert rules
    assert all(rewritten(rule.kwargs["regex"]) for rule in rules)


def lay(folder: Path, tables: Tables, how: str) -> None:
    """A day in three files a table, of many row groups or one, with dictionaries or without, or now and then."""
    for table, rows in tables.items():
        for n, at in enumerate(range(0, len(rows), len(rows) // 3 + 1)):
            part = rows.slice(at, len(rows) // 3 + 1)
            path = folder / table / f"date={FIRST}" / f"hour={n:02d}" / "part-0.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            uses = how == "codes" or (how == "both" and n != 1)
            pq.write_table(part, path, use_dictionary=uses, row_group_size=47 if uses else None)


def said(folder: Path) -> dict[str, Verdict]:
    """The verdicts on that day."""
    rules = Rules(Suites(tuple(RAW)), max_quarantine_share=1.0, click_window_days=1)
    ((_, found),) = verdicts(rules, [FIRST], lambda table, day: raw.read(folder, table, day), NOTHING)
    return found


def test_a_day_is_judged_alike_however_its_files_hold_texts(tmp_path: Path) -> None:
    """Rows that are published and set aside, findings with their examples, profiles: to the last digit."""
    more = [tables_of(FIRST + timedelta(days=n)) for n in range(1, 6)]
    tables = {name: pa.concat_tables([rows, *(day[name] for day in more)]) for name, rows in damaged(FIRST).items()}
    found = {}
    for how in ("texts", "codes", "both"):
        lay(tmp_path / how, tables, how)
        found[how] = said(tmp_path / how)
    held = {
        how: raw.read(tmp_path / how, "impressions", FIRST).parts[0].rows.schema.field("policy").type for how in found
    }
    assert held == {"texts": STR, "codes": CODED, "both": STR}
    for table, expected in found["texts"].items():
        for how in ("codes", "both"):
            verdict = found[how][table]
            assert verdict.judged.good.equals(expected.judged.good)
            assert verdict.judged.aside.equals(expected.judged.aside)
            assert verdict.profile.equals(expected.profile)
            assert verdict.counts() == expected.counts()
            assert [repr(f) for f in verdict.findings] == [repr(f) for f in expected.findings]
