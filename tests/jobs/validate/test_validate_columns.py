"""Raw columns take the contract's types only where nothing is lost."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import Refused
from jobs.lake.tables import RAW, STR, TIME
from jobs.validate.columns import attributes, lossless, shaped

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
    assert dict(done.rows.column("attributes")[0].as_py()) == {"age": "7", "vip": "true"}
    assert done.unknown == ("feature_vector", "shoe_size")


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.one_of(st.none(), st.text(max_size=3))] * 3), max_size=8))
def test_attributes_are_the_rows_own_values(rows: list[tuple[str | None, ...]]) -> None:
    """Against the plain Python of it: no value moves to another row or key, nulls have no key."""
    names = ("a", "b", "c")
    columns = {name: pa.chunked_array([pa.array([row[n] for row in rows], STR)]) for n, name in enumerate(names)}
    found = [dict(m) for m in attributes(columns, len(rows)).to_pylist()]
    assert found == [{name: v for name, v in zip(names, row, strict=True) if v is not None} for row in rows]
