"""Rows of any table of the lake that use what each type allows: nulls, empty lists and maps, odd text."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.lake import tables
from jobs.lake.store import Lineage
from jobs.lake.tables import ATTRIBUTES, TIME, Table

LINEAGE = Lineage("test", "run0", "code", "settings")
VALUES: dict[pa.DataType, list[Any]] = {
    pa.string(): ["plain", "", "naïve 'quoted' \"twice\"", "a,b\nc\\d", "東京", " = / %20"],
    TIME: [datetime(2026, 1, 8, 23, 59, 59, 999_999, UTC), datetime(1969, 12, 31, tzinfo=UTC)],
    pa.float64(): [0.1, -0.0, 1e308, 5e-324, float("inf")],
    pa.float32(): [0.5, -1.25],
    pa.int32(): [0, -(2**31), 2**31 - 1],
    pa.int64(): [2**63 - 1, -5],
    pa.bool_(): [True, False],
    pa.binary(): [b"", bytes(range(256))],
    ATTRIBUTES: [[("a", "1"), ("b.c", "ü")], [], [("", "")]],
    tables.VALUES: [[("like", 1.0), ("watch_time", 1e308)], [], [("", -0.0)]],
}


def values(type_: pa.DataType) -> list[Any]:
    """What a type allows; nested types are made of it."""
    if type_ in VALUES:
        return VALUES[type_]
    if pa.types.is_struct(type_):
        parts = {field.name: values(field.type) for field in type_}
        return [{name: part[n % len(part)] for name, part in parts.items()} for n in range(2)]
    inner = values(type_.value_type)
    return [inner, [], inner[:1] * 32]


def rows(table: Table, n: int, seed: int) -> pa.Table:
    """So many rows of the contract's types, the same for the same seed."""
    rng = np.random.default_rng(seed)
    columns = []
    for field in table.schema:
        known = values(field.type)
        drawn = [known[k] for k in rng.integers(0, len(known), n)]
        if field.nullable:
            drawn = [None if missing else value for missing, value in zip(rng.random(n) < 0.3, drawn, strict=True)]
        columns.append(pa.array(drawn, field.type))
    return pa.table(columns, schema=table.schema)


def slot(table: Table, day: int) -> dict[str, str]:
    """A partition of the table."""
    other = {"mode": "full", "table": "clicks"}
    return {key: other.get(key, f"2026-01-{day:02}") for key in table.partition}
