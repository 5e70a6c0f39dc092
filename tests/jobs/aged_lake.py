"""A lake of many days, written by the lake's own writer, whose files say that they were written on these days."""

import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.lake import expiry
from jobs.lake.store import Lake, Lineage, midnight
from jobs.lake.tables import LAKE, TIME
from jobs.lake.vacuum import vacuum_table

DAY_SECONDS = 86_400
REOPENED = {"labels": 7, "impressions": 2, "clicks": 2, "user_features": 0}
"""By table, how many earlier days a day publishes again: late events."""


def rows(table: str, n: int, day: date, words: str = "") -> pa.Table:
    """Rows of a table that differ in every text; all else is as little as may be."""

    def column(name: str, kind: pa.DataType, nullable: bool) -> pa.Array:
        if nullable:
            return pa.nulls(n, kind)
        if pa.types.is_string(kind):
            return pa.array([f"{name}-{day}-{words}-{row:04d}" for row in range(n)], kind)
        if kind == TIME:
            return pa.array([midnight(day) + timedelta(seconds=row) for row in range(n)], kind)
        plain: Any = [] if pa.types.is_nested(kind) else False if pa.types.is_boolean(kind) else 0
        return pa.array([plain] * n, kind)

    schema = LAKE[table].schema
    return pa.table([column(field.name, field.type, field.nullable) for field in schema], schema=schema)


def lay(
    root: Path, first: date, days: int, ends: float, n: int = 20, tables: Mapping[str, int] = REOPENED
) -> Iterator[tuple[date, float]]:
    """Publish day by day, the last one at `ends` (seconds since 1970); gives each day that is there, and its time."""
    lake, seen = Lake(root), set[Path]()
    for number in range(days):
        day, at = first + timedelta(days=number), ends - (days - 1 - number) * DAY_SECONDS
        for table, reopened in tables.items():
            for back in range(min(reopened, number), -1, -1):
                partition = {"day": str(day - timedelta(days=back))}
                lineage = Lineage("validate", f"run-{number}", "code", "cfg", notes={"raw_files": f"{back}"})
                lake.publish(table, partition, rows(table, n, day - timedelta(days=back), f"r{back}"), lineage)
        stamp(root, seen, at)
        yield day, at
        stamp(root, seen, at)


def stamp(root: Path, seen: set[Path], at: float) -> None:
    """What was written since says that it was written then."""
    new = {path for folder in root.glob("*/*") for path in folder.iterdir()} - seen
    seen |= new
    for path in new:
        for one in (*path.rglob("*"), path):
            os.utime(one, (at, at))


def age(root: Path, hours: float) -> None:
    """Everything was written so much earlier."""
    for path in sorted(root.rglob("*"), reverse=True):
        at = path.stat().st_mtime - hours * 3600
        os.utime(path, (at, at))


def held(root: Path) -> int:
    """Bytes below a place."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def live(lake: Lake, tables: Mapping[str, int] = REOPENED) -> int:
    """Bytes of the part files that the newest versions name."""
    return sum(Path(path).stat().st_size for table in tables for path, _ in lake.files(table))


def entries(root: Path, tables: Mapping[str, int] = REOPENED) -> int:
    """How many entries the logs have."""
    return sum(len(list((root / table / "_delta_log").glob("*.json"))) for table in tables)


def opened(root: Path, tables: Mapping[str, int] = REOPENED) -> float:
    """Seconds that the slowest of the tables takes to say where a day's files are, opened by itself."""
    worst = 0.0
    for table in tables:
        started = time.perf_counter()
        lake = Lake(root)
        lake.files(table, lake.days(table)[-1:])
        worst = max(worst, time.perf_counter() - started)
    return worst


def moment(at: float) -> datetime:
    """On the clock of the lake."""
    return datetime.fromtimestamp(at, UTC)


def maintain(root: Path, at: float, days: int, *pinned: int, table: str = "labels") -> int:
    """As `maintain` does of a table, at a time, keeping the versions of so many days; returns how many entries went."""
    now = moment(at)
    cut = expiry.expire(Lake(root), table, pinned, now - timedelta(days=days), now)
    vacuum_table(Lake(root), table, at)
    return cut
