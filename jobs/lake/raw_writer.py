"""The raw lake's files: `<raw>/<table>/date=YYYY-MM-DD/hour=HH/*.parquet`, a day of a table swapped in whole.

A day's own rows are `part-0.parquet`; what arrived on a later day L is `late-<L>.parquet` beside them. Killed anywhere,
a table's day is the old one or the new one; only a day of seven tables is seven swaps, which running it again
completes.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import Refused
from jobs.lake.swap import swap
from jobs.lake.tables import EVENTS, RAW, Tables

OWN = "part-0.parquet"
WRITERS = 2
DEAD_AFTER_SECONDS = 3600
LAST = "impressions"
"""Swapped in last: where it is there, the day is."""


def folder(raw: Path, table: str, day: date) -> Path:
    """Where a day of a table lies."""
    return raw / table / f"date={day.isoformat()}"


def has_day(raw: Path, day: date) -> bool:
    """Whether the day has impressions of its own (late arrivals alone do not make a day)."""
    return any(folder(raw, LAST, day).glob(f"hour=*/{OWN}"))


@contextmanager
def alone(raw: Path) -> Iterator[None]:
    """One writer at a time: a day swapped in must not lose the late events another run is laying into its folder.

    The system lets go of the lock when its holder dies.
    """
    raw.mkdir(parents=True, exist_ok=True)
    with (raw / ".writing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_day(raw: Path, day: date, tables: Tables) -> int:
    """Replace the day's own rows of all tables, late arrivals kept; returns how many rows.

    A table that is not given had none; `Refused` where that is the impressions.
    """
    if LAST not in tables:
        raise Refused(f"a source needs to give {LAST} of {day}; found {', '.join(tables) or 'no table'}")
    tables = {name: table.schema.empty_table() for name, table in RAW.items()} | dict(tables)
    drafts = {name: _draft(raw, name, day) for name in RAW}
    try:
        jobs = [job for name, draft in drafts.items() for job in _by_hour(name, tables[name], draft)]
        _write(jobs)
        for name in sorted(RAW, key=lambda name: name == LAST):
            _keep_late(folder(raw, name, day), drafts[name])
            swap(drafts[name], folder(raw, name, day))
    finally:
        for draft in drafts.values():
            shutil.rmtree(draft, ignore_errors=True)
    return sum(len(tables[name]) for name in RAW)


def write_late(raw: Path, day: date, arrived: date, tables: Tables) -> int:
    """Lay what arrived on `arrived` beside the day's own rows, each file replaced at once; returns how many rows."""
    drafts, targets = [], []
    for name, table in tables.items():
        for part, path in _by_hour(name, table, folder(raw, name, day)):
            targets.append(path.with_name(f"late-{arrived.isoformat()}.parquet"))
            drafts.append((part, path.with_name(f".late-{uuid.uuid4().hex[:8]}.draft")))
    _write(drafts)
    for (_, draft), target in zip(drafts, targets, strict=True):
        os.replace(draft, target)
    return sum(len(table) for table in tables.values())


def days_after(day: date, count: int) -> list[date]:
    """The next `count` days."""
    return [day + timedelta(days=n) for n in range(1, count + 1)]


def _draft(raw: Path, table: str, day: date) -> Path:
    """A hidden sibling of the day's folder: same file system, seen by no reader. Those of dead runs are cleared."""
    for left in (raw / table).glob(f".date={day.isoformat()}.*"):
        if left.stat().st_mtime < time.time() - DEAD_AFTER_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    path = raw / table / f".date={day.isoformat()}.{uuid.uuid4().hex[:8]}"
    path.mkdir(parents=True)
    return path


def _by_hour(name: str, table: pa.Table, draft: Path) -> Iterator[tuple[pa.Table, Path]]:
    """Slices of a time-sorted table, one per hour with rows; snapshots and empty tables lie under hour 00."""
    if name not in EVENTS or not len(table):
        yield table, draft / "hour=00" / OWN
        return
    hours = pc.hour(table.column("event_time")).to_numpy()
    edges = np.searchsorted(hours, np.arange(25))
    for hour in np.unique(hours):
        start, end = int(edges[hour]), int(edges[hour + 1])
        yield table.slice(start, end - start), draft / f"hour={hour:02d}" / OWN


def _write(jobs: list[tuple[pa.Table, Path]]) -> None:
    for _, path in jobs:
        path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(WRITERS) as pool:
        # Writing statistics of lists and strings nobody filters on costs a third of the time.
        list(pool.map(lambda job: pq.write_table(job[0], job[1], write_statistics=False), jobs))


def _keep_late(old: Path, draft: Path) -> None:
    """Carry over what later days left in the folder that is about to be replaced."""
    for path in old.glob("hour=*/late-*.parquet"):
        (draft / path.parent.name).mkdir(exist_ok=True)
        shutil.copy2(path, draft / path.parent.name / path.name)
