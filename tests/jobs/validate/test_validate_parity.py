"""Tidegate's evaluator says what Great Expectations says: verdict, counts, quoted values and the failing rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.config import SparkSettings
from jobs.errors import Misconfigured
from jobs.validate import evaluate
from jobs.validate.kinds import ROW_KINDS, TABLE_KINDS, Frame, refuse_unsupported
from jobs.validate.suites import Suites
from tests.jobs.validate.damaged_day import damaged
from tests.jobs.validate.great_expectations_oracle import arrow_table, on_pandas, on_spark, pandas_frame
from tests.jobs.validate.raw_days import FIRST, write
from tests.jobs.validate.watched_suites import entries, watched
from tests.jobs.validate.watched_suites import ours as verdicts_of

NUMBERS = [None, float("inf"), float("-inf"), -0.0, 0.0, 1.0, 2.0, 2.5, -5.0, 1e300]
TEXTS = [None, "", " ", "a", "A", "ab", "a b", "a\n", "é", "e\u0301", "日本", "😀b", "null", "1"]


def _entry(type_: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{type_}", "kwargs": kwargs}


def _bounds(**kwargs: Any) -> list[dict[str, Any]]:
    """A range, closed and open at either end."""
    ends = [{}, {"strict_min": True}, {"strict_max": True}, {"strict_min": True, "strict_max": True}]
    return [kwargs | end for end in ends]


RULES = [
    _entry("column_values_to_not_be_null", column="a"),
    _entry("column_values_to_not_be_null", column="s", mostly=0.5),
    _entry("column_values_to_be_null", column="a"),
    _entry("column_values_to_be_null", column="t", mostly=0.3),
    *(_entry("column_values_to_be_between", **k) for k in _bounds(column="a", min_value=0, max_value=2)),
    *(_entry("column_values_to_be_between", column="a", **k) for k in ({"min_value": 1.0}, {"max_value": 2})),
    _entry("column_values_to_be_between", column="a", min_value=0, strict_min=True, mostly=0.75),
    _entry("column_values_to_be_between", column="b", max_value=2.5, strict_max=True),
    _entry("column_values_to_be_in_set", column="a", value_set=[0, 1.0, 2]),
    _entry("column_values_to_be_in_set", column="s", value_set=["a", "ab", "日本"], mostly=0.5),
    _entry("column_values_to_be_in_set", column="s", value_set=[]),
    _entry("column_values_to_not_be_in_set", column="b", value_set=[0, -5]),
    _entry("column_values_to_not_be_in_set", column="s", value_set=["", "null", "é"]),
    _entry("column_values_to_not_be_in_set", column="t", value_set=[]),
    _entry("column_values_to_match_regex", column="s", regex="^[a-zA-Z]+$"),
    _entry("column_values_to_match_regex", column="t", regex="b", mostly=0.5),
    _entry("column_values_to_not_match_regex", column="s", regex="^a|日"),
    *(_entry("column_value_lengths_to_be_between", **k) for k in _bounds(column="s", min_value=1, max_value=2)),
    _entry("column_value_lengths_to_be_between", column="t", min_value=2),
    _entry("column_value_lengths_to_be_between", column="t", max_value=2, strict_max=True, mostly=0.9),
    _entry("column_value_lengths_to_equal", column="s", value=1),
    _entry("column_values_to_be_unique", column="a"),
    _entry("column_values_to_be_unique", column="s", mostly=0.6),
    *(
        _entry("compound_columns_to_be_unique", column_list=["a", "s"], ignore_row_if=how)
        for how in ("any_value_is_missing", "all_values_are_missing", "never")
    ),
    _entry("compound_columns_to_be_unique", column_list=["s", "t", "b"]),
    _entry("column_pair_values_to_be_equal", column_A="a", column_B="b"),
    _entry("column_pair_values_to_be_equal", column_A="a", column_B="b", ignore_row_if="either_value_is_missing"),
    _entry("column_pair_values_to_be_equal", column_A="s", column_B="t", ignore_row_if="either_value_is_missing"),
    *(
        _entry(
            "column_pair_values_a_to_be_greater_than_b",
            column_A=left,
            column_B=right,
            or_equal=or_equal,
            ignore_row_if="either_value_is_missing",
        )
        for left, right in (("a", "b"), ("s", "t"))
        for or_equal in (True, False)
    ),
    _entry("table_row_count_to_be_between", min_value=3, max_value=6),
]


def _frame(numbers: list[list[float | None]], texts: list[list[str | None]]) -> Frame:
    floats = {name: np.array(values, np.float64) for name, values in zip("ab", numbers, strict=True)}
    return floats | {name: pa.array(values, pa.string()) for name, values in zip("st", texts, strict=True)}


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Two columns of numbers and two of text, few rows, many ties."""
    n = draw(st.integers(0, 8))
    numbers = st.lists(st.sampled_from(NUMBERS), min_size=n, max_size=n)
    text = st.one_of(st.sampled_from(TEXTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=3))
    texts = st.lists(text, min_size=n, max_size=n)
    return _frame([draw(numbers), draw(numbers)], [draw(texts), draw(texts)])


def ours(rule: dict[str, Any], frame: Frame) -> dict[str, Any]:
    """What Tidegate says, in the oracle's words."""
    outcome = evaluate.on_rows(rule["type"], rule["kwargs"], frame)
    if rule["type"] == evaluate.ROW_COUNT:
        held, result = evaluate.in_range(rule["kwargs"], outcome.elements), {"observed_value": outcome.elements}
    else:
        held, result = evaluate.held(rule["kwargs"], outcome), evaluate.of_outcome(rule["type"], outcome)
    return {"success": held, **result, "rows": outcome.rows.tolist(), "raised": None}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frames())
def test_on_any_frame_as_great_expectations_on_pandas(frame: Frame) -> None:
    """Nulls, NaN, infinities, empty frames, ties, any Unicode; every supported type, with and without its options."""
    for rule, expected in zip(RULES, on_pandas(RULES, pandas_frame(frame)), strict=True):
        assert ours(rule, frame) == expected, rule


def test_every_supported_type_is_held_to_great_expectations() -> None:
    """A type nobody compared may mean something else."""
    assert {rule["type"] for rule in RULES} == {*ROW_KINDS, evaluate.ROW_COUNT}
    for rule in RULES:
        refuse_unsupported(rule["type"], rule["kwargs"])


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """One small session for the file."""
    from jobs.spark import session

    with session(SparkSettings(master="local[1]", partitions=1), "test-validate-parity") as spark:
        yield spark


@pytest.mark.spark
def test_on_one_wide_frame_as_great_expectations_on_spark(spark: Any) -> None:
    """Every number meets every other, every text every other; Spark has its own order, equality, length and regex."""
    rng = np.random.default_rng(7)
    numbers, texts = np.array(NUMBERS, np.float64), np.array(TEXTS, dtype=object)
    pairs = [rng.permutation(len(numbers) ** 2)[:70], rng.permutation(len(texts) ** 2)[:70]]
    frame = _frame(
        [list(numbers[pairs[0] // len(numbers)]), list(numbers[pairs[0] % len(numbers)])],
        [list(texts[pairs[1] // len(texts)]), list(texts[pairs[1] % len(texts)])],
    )
    for rule, expected in zip(RULES, on_spark(spark, RULES, arrow_table(frame)), strict=True):
        found = ours(rule, frame)
        found.pop("partial_unexpected_list", None), expected.pop("partial_unexpected_list", None)  # any twenty
        assert found == expected, rule


@pytest.mark.spark
def test_the_impressions_suite_as_great_expectations_on_spark(spark: Any, tmp_path: Path) -> None:
    """Every real rule about impressions, on the rows of a damaged day."""
    write(tmp_path, FIRST, damaged(FIRST))
    frame = next(frame for table, scope, frame in watched(tmp_path, 1) if (table, scope) == ("impressions", "row"))
    rules = entries("impressions", "row")
    columns = {name for rule in Suites(("impressions",)).expectations("impressions", "row") for name in rule.columns}
    theirs = on_spark(spark, rules, arrow_table({name: frame[name] for name in columns}))
    for rule, found, expected in zip(rules, verdicts_of("impressions", "row", frame), theirs, strict=True):
        found.pop("partial_unexpected_list"), expected.pop("partial_unexpected_list")
        assert found == expected, rule


@settings(max_examples=25, deadline=None)
@given(frames(), st.integers(2, 4))
def test_parts_that_share_no_key_merge_to_the_whole(frame: Frame, parts: int) -> None:
    """What Spark's buckets find adds up to what one process finds; uniqueness because a key never spans two."""
    keys = [str(value) for value in frame["s"].to_pylist()]
    bucket = np.array([sum(key.encode()) % parts for key in keys], dtype=np.int64)
    for rule in RULES:
        if "unique" in rule["type"] and "s" not in rule["kwargs"].get("column_list", [rule["kwargs"].get("column")]):
            continue  # not the key: values repeat across buckets
        found = []
        for n in range(parts):
            rows = np.flatnonzero(bucket == n)
            part = {
                name: values[rows] if isinstance(values, np.ndarray) else values.take(pa.array(rows))
                for name, values in frame.items()
            }
            found.append(evaluate.on_rows(rule["type"], rule["kwargs"], part))
        whole, merged = evaluate.on_rows(rule["type"], rule["kwargs"], frame), evaluate.merged(found)
        assert (merged.elements, merged.missing, merged.unexpected) == (whole.elements, whole.missing, whole.unexpected)
        assert len(merged.examples) == len(whole.examples)


@pytest.mark.parametrize(
    ("type_", "kwargs", "message"),
    [
        (
            "expect_column_mean_to_be_between",
            {"column": "a"},
            "needs one of the types .*expect_column_values_to_be_between",
        ),
        ("expect_column_values_to_be_between", {"column": "a"}, "at least one bound"),
        (
            "expect_column_values_to_be_between",
            {"column": "a", "min_value": 2, "max_value": 1},
            "min_value <= max_value",
        ),
        (
            "expect_column_values_to_be_between",
            {"column": "a", "min_value": 0, "max_value": "b"},
            "max_value to be a number",
        ),
        ("expect_column_values_to_be_between", {"column": "a", "min": 1}, "may have min_value, .*found column, min"),
        ("expect_column_values_to_be_between", {"column": "a", "min_value": True}, "min_value to be a number"),
        ("expect_column_values_to_not_be_null", {"column": "a", "mostly": 1.5}, "share between 0 and 1; found 1.5"),
        (
            "expect_column_values_to_not_be_null",
            {"column": "a", "row_condition": "a > 1"},
            "found column, row_condition",
        ),
        ("expect_column_values_to_not_be_null", {}, "needs column"),
        ("expect_column_values_to_be_in_set", {"column": "a", "value_set": [None]}, "without null"),
        ("expect_column_values_to_match_regex", {"column": "s", "regex": "("}, "regular expression"),
        (
            "expect_column_pair_values_to_be_equal",
            {"column_A": "a", "column_B": "b", "ignore_row_if": "neither"},
            "one of either_value_is_missing, both_values_are_missing; found 'neither'",
        ),
        ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "a", "column_B": "b"}, "ignore_row_if"),
        ("expect_column_type_to_be", {"column": "a", "type_": "varchar"}, "one of string, "),
    ],
)
def test_what_is_not_supported_is_refused_before_any_row_is_read(
    type_: str, kwargs: dict[str, Any], message: str
) -> None:
    """An argument that silently does nothing would let bad rows pass."""
    with pytest.raises(Misconfigured, match=message):
        refuse_unsupported(type_, kwargs)


@pytest.mark.parametrize(
    "rule",
    [
        _entry("column_values_to_be_between", column="s", min_value=1),
        _entry("column_values_to_match_regex", column="a", regex="1"),
        _entry("column_value_lengths_to_equal", column="a", value=1),
        _entry("column_pair_values_to_be_equal", column_A="a", column_B="s"),
    ],
)
def test_a_rule_that_does_not_fit_its_column_is_misconfigured(rule: dict[str, Any]) -> None:
    """Great Expectations raises on some engines and guesses on others."""
    with pytest.raises(Misconfigured, match="needs"):
        evaluate.on_rows(rule["type"], rule["kwargs"], _frame([[1.0], [1.0]], [["a"], ["b"]]))


def test_types_about_tables_are_all_told_apart() -> None:
    """Each has its own rule in `evaluate`."""
    assert set(TABLE_KINDS) == {
        evaluate.ROW_COUNT,
        "expect_table_columns_to_match_set",
        "expect_column_type_to_be",
    }
