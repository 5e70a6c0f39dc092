"""Rows go into parcels and come out as they were; equal keys meet whatever task they were in."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.lake.tables import ATTRIBUTES, TIME
from jobs.parcels.core import PARCELS, added, bucket_of, opened, packed

SCHEMA = pa.schema(
    [("id", pa.string()), ("user", pa.string()), ("at", TIME), ("numbers", pa.list_(pa.int32())), ("map", ATTRIBUTES)]
)
TEXTS = st.one_of(st.none(), st.text("abü", max_size=2))
TIMES = st.one_of(
    st.none(), st.integers(0, 200).map(lambda hours: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours))
)
ROWS = st.lists(
    st.tuples(
        st.text("ab", min_size=1, max_size=3),
        TEXTS,
        TIMES,
        st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3)),
        st.one_of(st.none(), st.lists(st.tuples(st.text("k", min_size=1, max_size=2), TEXTS), max_size=2)),
    ),
    max_size=12,
)


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


@given(ROWS, ROWS, st.integers(1, 5), st.integers(0, 4))
@settings(deadline=None)
def test_what_goes_in_comes_out_once_on_its_side(
    left: list[object], right: list[object], buckets: int, skip: int
) -> None:
    """No row is lost, doubled or changed on the way, lists, maps and nulls of sliced tables included."""
    some, others = table(left).slice(skip), table(right)  # type: ignore[arg-type]
    parcels = pa.concat_tables([packed(some, ("id",), buckets), packed(others, ("user", "id"), buckets, side=1)])
    assert parcels.schema == PARCELS
    for side, rows in enumerate((some, others)):
        assert sorted(opened(parcels, SCHEMA, side).to_pylist(), key=str) == sorted(rows.to_pylist(), key=str)
    assert len(opened(parcels, SCHEMA, 2)) == 0


@given(ROWS, st.integers(1, 5))
@settings(deadline=None)
def test_equal_keys_share_a_bucket_whatever_the_table(rows: list[tuple[object, ...]], buckets: int) -> None:
    """Alone or among others, under another column's name, before or after: the bucket is the key's alone."""
    whole = table(rows)
    found = bucket_of(whole, ("user", "id"), buckets)
    assert all(0 <= bucket < buckets for bucket in found)
    for n, row in enumerate(rows):
        name = "id" if row[1] is None else "user"
        alone = pa.table({"key": pa.chunked_array([whole[name].combine_chunks().slice(n, 1)])})
        assert bucket_of(alone, ("key",), buckets)[0] == found[n]


def test_times_of_a_day_share_a_bucket_and_days_are_spread() -> None:
    """A midnight and the evening after it meet; thirty days do not all lie in one bucket."""
    noon = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in range(1, 31)]
    midnight = [time - timedelta(hours=12) for time in noon]
    found, same = (bucket_of(pa.table({"at": pa.array(times, TIME)}), ("at",), 4) for times in (noon, midnight))
    assert found.tolist() == same.tolist()
    assert set(found.tolist()) == {0, 1, 2, 3}


def test_the_bucket_of_a_key_is_pinned() -> None:
    """Two releases of a library that hash otherwise would send one key to two buckets in a cluster that has both."""
    keys = pa.table({"id": ["a", "b", "ü", ""]})
    assert bucket_of(keys, ("id",), 2**20).tolist() == [507856, 73439, 103371, 408134]


@pytest.mark.parametrize("parts", [[], [0], [0, 1, 2]])
def test_counts_of_parts_add_up(parts: list[int]) -> None:
    schema = pa.schema([("name", pa.string()), ("n", pa.int64())])
    tables = [pa.table({"name": ["x", "y"], "n": [part, 1]}, schema=schema) for part in parts]
    found = {row["name"]: row["n"] for row in added(tables, schema).to_pylist()}
    assert found == ({"x": sum(parts), "y": len(parts)} if parts else {})
