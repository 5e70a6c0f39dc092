"""Raw columns take the contract's types only where nothing is lost."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import Refused
from jobs.lake.tables import RAW, STR, TIME
from jobs.validate.columns import attributes, listed, lossless, shaped
from models.probabilities import ROUNDING

AT = datetime(2026, 1, 1, 10, tzinfo=UTC)
TEXTS = pa.list_(STR)
KEPT = [
    (pa.array([AT.replace(tzinfo=None)], pa.timestamp("ns")), TIME, [AT]),
    (pa.array([AT.replace(tzinfo=None)], pa.timestamp("ms")), TIME, [AT]),
    (pa.array([AT], pa.timestamp("s", "Europe/Berlin")), TIME, [AT]),
    (pa.array([1, None], pa.int64()), pa.int32(), [1, None]),
    (pa.array([1.0, float("nan")], pa.float64()), pa.int32(), [1, None]),
    (pa.array([0.5, float("nan")], pa.float64()), pa.float64(), [0.5, None]),
    (pa.array([3], pa.int32()), pa.float64(), [3.0]),
    (pa.array(["a", None], pa.large_string()), STR, ["a", None]),
    (pa.array(["a", None]).dictionary_encode(), STR, ["a", None]),
    (pa.nulls(2), STR, [None, None]),
    (pa.array([["a"]], pa.large_list(pa.large_string())), TEXTS, [["a"]]),
    (pa.array([["a", "b"]], pa.list_(pa.dictionary(pa.int8(), STR))), TEXTS, [["a", "b"]]),
    # No value, nothing to lose, whatever the writer took the column for.
    (pa.array([float("nan"), None]), STR, [None, None]),
    (pa.array([float("nan")]), TIME, [None]),
    (pa.nulls(1, pa.binary(16)), TIME, [None]),
    (pa.nulls(1, pa.struct([("a", STR)])), pa.float64(), [None]),
    (pa.nulls(1, pa.uuid()), STR, [None]),
    (pa.nulls(1, pa.dictionary(pa.int8(), pa.int64())), TEXTS, [None]),
    (pa.array([], pa.timestamp("us")), STR, []),
    (pa.array([[], None], pa.list_(pa.int32())), TEXTS, [[], None]),  # DuckDB's empty list is one of integers
    (pa.array([[], [None]], pa.large_list(pa.float64())), TEXTS, [[], [None]]),
]
LOST = [
    (pa.array([1], pa.timestamp("ns")), TIME),  # a nanosecond has no place
    (pa.array([2**31], pa.int64()), pa.int32()),
    (pa.array([1.5]), pa.int32()),
    (pa.array(["1"]), pa.int32()),
    (pa.array([1]), STR),
    (pa.array([True]), pa.float64()),
    (pa.array([2**60 + 1]), pa.float64()),
    (pa.array([Decimal("1.10")]), pa.float64()),
    (pa.array([AT.date()]), TIME),
    (pa.array([[1]]), TEXTS),
    (pa.array([[], [1]]), TEXTS),
    (pa.array([["a"], ["b"]], pa.list_view(STR)), TEXTS),  # Arrow's cast makes [["a"], []] of it
    (pa.array([None, 7.5]), STR),
    (pa.array([None, float("nan"), 7.5]), TIME),
    (pa.array([None, bytes(16)], pa.uuid()), STR),
    (pa.array(["i1,i2"]), TEXTS),
]


@pytest.mark.parametrize(("found", "needed", "values"), KEPT, ids=[f"{f.type}->{n}" for f, n, _ in KEPT])
def test_lossless_casts_are_made(found: pa.Array, needed: pa.DataType, values: list[object]) -> None:
    """Loggers differ in units, widths and encodings, not in what they say."""
    column = lossless(pa.chunked_array([found]), needed)
    assert column.type == needed
    assert column.to_pylist() == values


@pytest.mark.parametrize(("found", "needed"), LOST, ids=[f"{f.type}->{n}" for f, n in LOST])
def test_whatever_would_lose_or_guess_stays_as_it_is(found: pa.Array, needed: pa.DataType) -> None:
    """Then the suite refuses it by name."""
    assert lossless(pa.chunked_array([found]), needed).type == found.type


def test_two_columns_of_one_name_are_refused() -> None:
    """Nobody can say which of them is meant."""
    rows = pa.table([pa.array(["u1"]), pa.array(["u2"])], names=["user_id", "user_id"])
    with pytest.raises(Refused, match="raw users needs each column once; found user_id more than once"):
        shaped(rows, RAW["users"])


def test_prefixed_columns_are_folded_and_others_left_out() -> None:
    """Values become text; what cannot be text, and what has no prefix, is named as unknown."""
    rows = pa.table(
        {"user_id": ["u1"], "feature_age": [7], "feature_vip": [True], "feature_vector": [[1.0]], "shoe_size": [44]}
    )
    done = shaped(rows, RAW["users"])
    assert dict(done.rows.column("attributes")[0].as_py()) == {"age:number": "7", "vip": "true"}
    assert done.unknown == ("feature_vector", "shoe_size")


def test_a_missing_number_is_no_attribute_called_nan() -> None:
    """Pandas has NaN for nothing, in whole numbers too: `7` must not be `7.0` in the hours in which one is missing."""
    rows = pa.table({"user_id": ["u1", "u2"], "feature_age": [7.0, float("nan")], "feature_x": pa.nulls(2)})
    done = shaped(rows, RAW["users"])
    assert [dict(row) for row in done.rows.column("attributes").to_pylist()] == [{"age:number": "7"}, {}]


def test_an_instant_has_one_text_whatever_the_zone() -> None:
    """Also of a zone that this system has never heard of."""
    zones = ("UTC", "Europe/Berlin", "GMT+1", "+01:00")
    rows = pa.table({"user_id": ["u1"], **{f"feature_{z}": pa.array([0], pa.timestamp("s", z)) for z in zones}})
    (texts,) = shaped(rows, RAW["users"]).rows.column("attributes").to_pylist()
    assert {text for _, text in texts} == {"1970-01-01 00:00:00Z"}


def test_context_by_the_name_of_a_column_is_left_out_and_named() -> None:
    """In a request's context `device` is the column: a model that learned `attributes.device` would never be shown it.

    Items and users keep such names: theirs are served as `attributes.item.price`.
    """
    base = pa.table({"impression_id": ["i"], "context_device": ["phone"], "context_surface": ["s"], "context_a": ["b"]})
    done = shaped(base, RAW["impressions"])
    assert done.unknown == ("context_device", "context_surface")
    assert done.rows.column("attributes").to_pylist() == [[("a", "b")]]
    done = shaped(pa.table({"item_id": ["i"], "feature_price": [9]}), RAW["items"])
    assert done.unknown == ()
    assert done.rows.column("attributes").to_pylist() == [[("price:number", "9")]]


@pytest.mark.parametrize("above", [0.0, 2.0**-52, 2.0**-23, ROUNDING])
def test_a_probability_that_rounding_left_above_one_is_one(above: float) -> None:
    """Beyond it a probability is what it says, for the suite to set aside; other numbers are never touched."""
    values = [1 + above, 0.5, None, 1 + 2 * ROUNDING, 2.0]
    rows = pa.table({"propensity": values, "position": pa.array([1] * 5, pa.int32())})
    assert shaped(rows, RAW["impressions"]).rows.column("propensity").to_pylist() == [1.0, *values[1:]]
    assert shaped(pa.table({"value": [1 + above]}), RAW["purchases"]).rows.column("value").to_pylist() == [1 + above]


@pytest.mark.parametrize("name", ["a\nb", "tab\t", "\x00", "größe", "x" * 1000])
def test_names_of_columns_fit_into_a_sentence(name: str) -> None:
    """Whatever a writer called them, one line, and no thousand of them."""
    text = listed([name] * 1000)
    assert text.isprintable()
    assert len(text) < 3_000
    assert text.endswith(" and 960 more")


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.one_of(st.none(), st.text(max_size=3))] * 3), max_size=8))
def test_attributes_are_the_rows_own_values(rows: list[tuple[str | None, ...]]) -> None:
    """Against the plain Python of it: no value moves to another row or key, nulls have no key."""
    names = ("a", "b", "c")
    columns = {name: pa.chunked_array([pa.array([row[n] for row in rows], STR)]) for n, name in enumerate(names)}
    found = [dict(m) for m in attributes(columns, len(rows)).to_pylist()]
    assert found == [{name: v for name, v in zip(names, row, strict=True) if v is not None} for row in rows]
