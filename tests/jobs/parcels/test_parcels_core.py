"""Rows go into parcels and come out as they were; equal keys meet whatever task they were in."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.lake.tables import ATTRIBUTES, TIME
from jobs.parcels.core import MOST_ROWS, Keys, Lying, Packer, Pair, Parcel, added, bucket_of, opened

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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of every example one folder: the files of tasks have names of their own."""
    return tmp_path_factory.mktemp("parcels")


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


def packed(rows: pa.Table, keys: Keys, buckets: int, folder: str | None = None) -> list[tuple[int, Parcel]]:
    with Packer(folder) as packer:
        return list(packer.packed(rows, keys, buckets))


@given(ROWS, st.integers(1, 5), st.integers(0, 4), st.booleans())
@settings(deadline=None)
def test_what_goes_in_comes_out_once(
    shared: Path, rows: list[tuple[object, ...]], buckets: int, skip: int, lying: bool
) -> None:
    """No row is lost, doubled or changed on the way, lists, maps and nulls of sliced tables included; in files too."""
    some = table(rows).slice(skip)
    for keys in (("id",), ("user", "id"), Pair(("user", "id"), "id")):
        parcels = packed(some, keys, buckets, str(shared) if lying else None)
        assert all(isinstance(parcel, Lying) == lying for _, parcel in parcels)
        found = opened((parcel for _, parcel in parcels), SCHEMA)
        assert sorted(found.to_pylist(), key=str) == sorted(some.to_pylist(), key=str)
        for number, parcel in parcels:
            assert set(bucket_of(opened([parcel], SCHEMA), keys, buckets).tolist()) == {number}


def test_a_bucket_of_many_rows_is_several_parcels_in_their_order() -> None:
    """What Spark holds at once is bounded, whatever a bucket holds."""
    rows = pa.table({"id": pa.array(["a"] * (MOST_ROWS + 1)), "n": pa.array(range(MOST_ROWS + 1))})
    parcels = [parcel for _, parcel in packed(rows, ("id",), 3)]
    assert len(parcels) == 2
    assert opened(parcels, rows.schema).equals(rows)


def test_a_task_has_a_file_of_its_own_which_is_read_where_it_lies(tmp_path: Path) -> None:
    """A task that runs twice writes over nobody's; rows outlive what they were read by, without a copy of them."""
    rows = pa.table({"id": pa.array(map(str, range(20_000))), "n": pa.array(range(20_000))})
    for _ in range(2):
        with Packer(str(tmp_path)) as packer:
            parcels = [parcel for _ in range(2) for _, parcel in packer.packed(rows, ("id",), 2)]
        before = pa.total_allocated_bytes()
        found = opened(parcels, rows.schema)
        assert pa.total_allocated_bytes() - before < rows.nbytes
        assert sorted(found.to_pylist(), key=str) == sorted(rows.to_pylist() * 2, key=str)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_parcel_for_a_socket_is_compressed() -> None:
    """Each socket on the way copies it; rows in a file are mapped as they are."""
    rows = pa.table({"key": ["a"] * 10_000, "kind": pa.array([7] * 10_000), "since": pa.array([1.0] * 10_000)})
    with Packer(None) as packer:
        [(_, parcel)] = packer.packed(rows, ("key",), 2)
    assert isinstance(parcel, bytes)
    assert len(parcel) < rows.nbytes / 2
    assert opened([parcel], rows.schema).equals(rows)


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
    assert bucket_of(keys, ("id",), 2**20).tolist() == [268199, 154820, 575971, 0]


def test_one_user_s_items_and_one_item_s_users_are_spread_and_each_pair_meets() -> None:
    """Whoever has two per cent of all traffic is no bucket of two per cent."""
    users, items = ["u"] * 400 + [f"u{n}" for n in range(400)], [f"i{n}" for n in range(400)] + ["i"] * 400
    pairs = pa.table({"user": users, "item": items})
    found = bucket_of(pairs, Pair(("user",), "item"), 4)
    for half in (found[:400], found[400:]):
        assert np.bincount(half, minlength=4).min() > 50
    other = pairs.rename_columns(["who", "what"])
    assert bucket_of(other, Pair(("who",), "what"), 4).tolist() == found.tolist()


@pytest.mark.parametrize("parts", [[], [0], [0, 1, 2]])
def test_counts_of_parts_add_up(parts: list[int]) -> None:
    schema = pa.schema([("name", pa.string()), ("n", pa.int64())])
    tables = [pa.table({"name": ["x", "y"], "n": [part, 1]}, schema=schema) for part in parts]
    found = {row["name"]: row["n"] for row in added(tables, schema).to_pylist()}
    assert found == ({"x": sum(parts), "y": len(parts)} if parts else {})
