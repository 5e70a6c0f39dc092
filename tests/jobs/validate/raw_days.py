"""A raw lake small enough to read, and one row of it to break at a time."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.tables import RAW

N = 40
"""Rows of every table of a day: one bad row is 2.5%, below the share that refuses a day; three are above it."""
FIRST = date(2026, 1, 1)
Tables = dict[str, pa.Table]


def tables_of(day: date) -> Tables:
    """A flawless day: 10 requests of 4 impressions, each clicked and bought, all known within a second."""
    start = datetime(day.year, day.month, day.day, 10, tzinfo=UTC)
    times = [start + timedelta(seconds=n) for n in range(N)]
    known = [time + timedelta(seconds=1) for time in times]
    tag = day.strftime("%d")
    ids = {name: [f"{name[0]}{tag}-{n:02d}" for n in range(N)] for name in RAW}
    items = [f"i{n:02d}" for n in range(N)]
    users = [f"u{n:02d}" for n in range(N)]
    columns: dict[str, dict[str, list[Any]]] = {
        "impressions": {
            "impression_id": ids["impressions"],
            "request_id": [ids["requests"][n // 4] for n in range(N)],
            "event_time": times,
            "ingested_at": known,
            "user_id": users,
            "item_id": items,
            "surface": ["home"] * N,
            "position": [n % 4 + 1 for n in range(N)],
            "propensity": [0.25] * N,
            "policy": ["logging"] * N,
            "device": ["mobile"] * N,
            "region": ["north"] * N,
            "query": [None] * N,
            "source_item_id": [None] * N,
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
            "value": [9.5] * N,
        },
        "requests": {
            "request_id": ids["requests"],
            "event_time": times,
            "user_id": users,
            "surface": ["home"] * N,
            "policy": ["logging"] * N,
            "candidates": [items] * N,
            "slate_size": [4] * N,
        },
        "items": {
            "item_id": items,
            "created_at": [start] * N,
            "category": ["toys"] * N,
            "price": [9.5] * N,
            "title": ["a toy"] * N,
        },
        "users": {"user_id": users, "created_at": [start] * N},
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
