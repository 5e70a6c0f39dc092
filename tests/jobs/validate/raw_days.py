"""A raw lake small enough to read, and one row of it to break at a time."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.lake.tables import RAW

N = 40
"""Rows of every table of a day: one bad row is 2.5%, below the share that refuses a day; three are above it."""
FIRST = date(2026, 1, 1)
Tables = dict[str, pa.Table]


def tables_of(day: date, n: int = N) -> Tables:
    """A flawless day of n rows a table: n / 2 requests that place both of their candidates, either order as likely.

    Each impression is clicked, bought and liked, all known within a second. The other half of the requests showed none.
    """
    start = datetime(day.year, day.month, day.day, 10, tzinfo=UTC)
    numbers = range(n)
    times = [start + timedelta(seconds=k) for k in numbers]
    known = [time + timedelta(seconds=1) for time in times]
    tag = day.strftime("%d")
    ids = {name: [f"{name[0]}{tag}-{k:02d}" for k in numbers] for name in RAW}
    items = [f"i{k:02d}" for k in numbers]
    users = [f"u{k:02d}" for k in numbers]
    columns: dict[str, dict[str, list[Any]]] = {
        "impressions": {
            "impression_id": ids["impressions"],
            "request_id": [ids["requests"][k // 2] for k in numbers],
            "event_time": times,
            "ingested_at": known,
            "user_id": users,
            "item_id": items,
            "surface": ["home"] * n,
            "position": [k % 2 + 1 for k in numbers],
            "propensity": [0.5 if k % 2 == 0 else 1.0 for k in numbers],
            "policy": ["logging"] * n,
            "device": ["mobile"] * n,
            "region": ["north"] * n,
            "query": [None] * n,
            "source_item_id": [None] * n,
        },
        "clicks": {
            "click_id": ids["clicks"],
            "impression_id": ids["impressions"],
            "event_time": known,
            "ingested_at": known,
            "user_id": users,
            "item_id": items,
        },
        "purchases": {
            "purchase_id": ids["purchases"],
            "event_time": known,
            "ingested_at": known,
            "user_id": users,
            "item_id": items,
            "value": [9.5] * n,
        },
        "feedback": {
            "feedback_id": ids["feedback"],
            "outcome": ["like"] * n,
            "impression_id": ids["impressions"],
            "event_time": known,
            "ingested_at": known,
            "user_id": users,
            "item_id": items,
            "value": [9.5] * n,
        },
        "requests": {
            "request_id": ids["requests"],
            "event_time": times,
            "user_id": users,
            "surface": ["home"] * n,
            "policy": ["logging"] * n,
            "candidates": [[items[2 * k % n], items[2 * k % n + 1]] for k in numbers],
            "slate_size": [2] * n,
        },
        "items": {
            "item_id": items,
            "created_at": [start] * n,
            "category": ["toys"] * n,
            "price": [9.5] * n,
            "title": ["a toy"] * n,
            "removed": [k % 9 == 4 for k in numbers],
            "feature_vector": [[0.5, float(k)] if k % 2 else None for k in numbers],
        },
        "users": {"user_id": users, "created_at": [start] * n},
    }
    return {
        name: pa.table({c: pa.array(values, RAW[name].columns[c].type) for c, values in columns[name].items()})
        for name in RAW
    }


def put(rows: pa.Table, column: str, value: Any, row: int = 7) -> pa.Table:
    """The table with one value replaced."""
    values = rows.column(column).to_pylist()
    values[row] = value
    kind = rows.schema.field(column).type
    return rows.set_column(rows.column_names.index(column), column, pa.array(values, kind))


def retyped(rows: pa.Table, column: str, values: pa.Array) -> pa.Table:
    """The table with one column replaced, type and all."""
    return rows.set_column(rows.column_names.index(column), column, values)


def write(raw: Path, day: date, tables: Tables, file: str = "part-0.parquet", hour: int = 10) -> None:
    """Lay tables into the raw lake as a logger would."""
    for name, rows in tables.items():
        folder = raw / name / f"date={day.isoformat()}" / f"hour={hour:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, folder / file)
