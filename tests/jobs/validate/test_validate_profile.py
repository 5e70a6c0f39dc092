"""Profiles add up: the merged profiles of parts are the profile of the rows together, within the bounds stated."""

import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.lake.tables import ATTRIBUTES, LAKE, TIME
from jobs.validate.profile import POINTS, RANK_ERROR, merged, profile, quantiles

EXACT = ["column", "kind", "rows", "nulls", "minimum", "maximum"]
RANKS = np.linspace(0, 1, 101)
values = st.one_of(st.none(), st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1.0, float("inf")]))
parts = st.lists(st.lists(values, max_size=20), min_size=1, max_size=4)


def table(numbers: list[float | None]) -> pa.Table:
    """The same values as numbers and as text."""
    texts = [None if value is None else repr(value) for value in numbers]
    return pa.table({"number": pa.array(numbers, pa.float64()), "text": pa.array(texts, pa.string())})


def column(found: pa.Table, name: str) -> dict:
    """One row of a profile."""
    return next(row for row in found.to_pylist() if row["column"] == name)


def rank_error(found: pa.Table, numbers: np.ndarray) -> float:
    """How far the worst quantile is from the rank it was asked for; a tie covers all of its ranks."""
    ordered, answers = np.sort(numbers), quantiles(found, "number", RANKS)
    low = np.searchsorted(ordered, answers, "left") / len(ordered)
    high = np.searchsorted(ordered, answers, "right") / len(ordered)
    return float(np.max(np.maximum(low - RANKS, RANKS - high).clip(0)))


@settings(max_examples=60, deadline=None)
@given(parts)
@example([[0.0, 0.0, sys.float_info.max]])
@example([[sys.float_info.max, 0.0], [0.0, 1.0]])
def test_merged_parts_are_the_whole(numbers: list[list[float | None]]) -> None:
    """Counts and bounds to the digit; the mean to rounding; few values are kept as they are."""
    whole = profile(table([value for part in numbers for value in part]))
    found = merged([profile(table(part)) for part in numbers])
    assert found.select(EXACT).equals(whole.select(EXACT))
    exact, together = column(whole, "number"), column(found, "number")
    assert together["quantile_values"] == exact["quantile_values"]
    if exact["mean"] is None or not np.isfinite(exact["mean"]):
        assert (exact["mean"] is None) == (together["mean"] is None)
    else:
        scale = max(abs(exact["minimum"]), abs(exact["maximum"]))
        assert together["mean"] == pytest.approx(exact["mean"], rel=1e-9, abs=1e-12 * scale)
    for name in ("number", "text"):
        assert column(found, name)["distinct"] == pytest.approx(column(whole, name)["distinct"], rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(parts, st.randoms())
def test_the_order_and_the_grouping_of_parts_do_not_matter(numbers: list[list[float | None]], random: object) -> None:
    """Days may arrive in any order, and a month may be merged from weeks."""
    found = [profile(table(part)) for part in numbers]
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    names = [*EXACT, "distinct", "quantile_values", "quantile_weights"]
    assert merged(shuffled).select(names).equals(merged(found).select(names))
    grouped = merged([merged(found[:2]), merged(found[2:])]) if len(found) > 2 else merged([merged(found)])
    assert grouped.select(names).equals(merged(found).select(names))


def test_quantiles_of_a_week_are_within_the_stated_error() -> None:
    """Days of different size and shape; ties, tails and infinities included."""
    rng = np.random.default_rng(7)
    days = [rng.lognormal(n / 3, 1 + n / 5, 3_000 * (n + 1)) for n in range(7)]
    days[3][:500] = 2.0
    days[5][:7] = np.inf
    for day in days:
        assert rank_error(profile(table(day.tolist())), day) <= RANK_ERROR + 1 / len(day)
    week = merged([profile(table(day.tolist())) for day in days])
    assert rank_error(week, np.concatenate(days)) <= RANK_ERROR + len(days) / sum(map(len, days))
    assert len(column(week, "number")["quantile_values"]) == 7 * POINTS


def test_distinct_values_are_counted_within_the_stated_error() -> None:
    """Two parts that share half their values are not counted twice; 1.6% is one standard error, three are allowed."""
    first, second = range(20_000), range(10_000, 30_000)
    found = merged([profile(table([float(n) for n in part])) for part in (first, second)])
    for name in ("number", "text"):
        assert column(found, name)["distinct"] == pytest.approx(30_000, rel=3 * 1.04 / 64)


def test_every_published_column_has_a_profile() -> None:
    """Lists and maps are only counted; times are microseconds since 1970."""
    at = datetime(2026, 1, 1, 10, tzinfo=UTC)
    rows = pa.table(
        {
            "position": pa.array([1, None], pa.int32()),
            "event_time": pa.array([at, at], TIME),
            "attributes": pa.array([[("a", "1")], None], ATTRIBUTES),
        }
    )
    found = profile(rows)
    assert found.schema.equals(LAKE["profiles"].schema)
    assert found.column("column").to_pylist() == ["attributes", "event_time", "position"]
    assert column(found, "attributes")["nulls"] == 1
    assert column(found, "attributes")["distinct"] is None
    assert column(found, "event_time")["minimum"] == at.timestamp() * 1e6
    assert (column(found, "position")["mean"], column(found, "position")["nulls"]) == (1.0, 1)


def test_of_no_rows_nothing_is_claimed() -> None:
    """An empty day has no bounds, no mean and no quantiles."""
    found = profile(table([]))
    row = column(found, "number")
    assert (row["rows"], row["minimum"], row["mean"], row["distinct"]) == (0, None, None, 0.0)
    assert np.isnan(quantiles(found, "number", [0.5])).all()


def test_the_same_rows_have_the_same_profile() -> None:
    """A stage that runs twice publishes the same bytes; no coin is tossed."""
    rng = np.random.default_rng(7)
    rows = table(rng.normal(size=20_000).tolist())
    assert profile(rows).equals(profile(rows))
    first, second = profile(rows.slice(0, 9_000)), profile(rows.slice(9_000))
    assert merged([first, second]).equals(merged([first, second]))
