"""A bucket's rows come in parcels, in any order: what is published of them is that of rows in order of their files."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.lake.tables import RAW
from jobs.validate.buckets import DAY, EARLIER, ROW, Judge, contract, placed_in_time
from jobs.validate.facts import day_number
from jobs.validate.suites import Suites
from tests.jobs.validate.raw_days import FIRST, tables_of

DAYS = (FIRST, FIRST + timedelta(days=1))


def in_place() -> pa.Table:
    """Purchases of two days as a step sends them; every second row is a copy of the one before it."""
    parts = []
    for n, day in enumerate(DAYS):
        rows = tables_of(day)["purchases"].cast(contract("purchases"))
        rows = rows.take(np.repeat(np.arange(len(rows)), 2))
        places = (n << 32) + np.arange(len(rows))
        parts.append(rows.append_column(DAY, pa.array([day_number(day)] * len(rows), pa.int32())))
        parts[-1] = parts[-1].append_column(ROW, pa.array(places))
    return pa.concat_tables(parts).cast(placed_in_time(contract("purchases"))).combine_chunks()


def published(folder: Path, parcels: Sequence[pa.Table]) -> dict[str, bytes]:
    """Every part file."""
    folders = {table: folder / table for table in ("purchases", "quarantine")}
    judge = Judge(Suites(tuple(RAW)), DAYS, 7, folders)
    judge.others(0, {"purchases": pa.concat_tables(parcels)}, EARLIER.empty_table())
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


@pytest.mark.parametrize("overlap", [False, True])
def test_parcels_in_any_order_are_judged_as_rows_in_order(tmp_path: Path, overlap: bool) -> None:
    """Parcels of several tasks may hold rows of the same files, one between the other's."""
    rows = in_place()
    n, rng = len(rows), np.random.default_rng(7)
    of = rng.integers(0, 4, n) if overlap else np.arange(n) * 4 // n
    parcels = [rows.take(np.flatnonzero(of == number)) for number in (2, 0, 3, 1)]
    whole = published(tmp_path / "whole", [rows])
    assert len(whole) == 2 * len(DAYS)  # good rows, and their copies
    assert published(tmp_path / "parcels", parcels) == whole
