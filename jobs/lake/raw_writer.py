"""The raw lake's files: `<raw>/<table>/date=YYYY-MM-DD/hour=HH/*.parquet`, a day of a table swapped in whole.

A day's own rows are `part-0.parquet`; what arrived on a later day L is `late-<L>.parquet` beside them. Killed anywhere,
a table's day is the old one or the new one; only a day of seven tables is seven swaps, which running it again
completes. On S3, where nothing can be swapped, see `jobs.lake.raw_bucket`.
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
from jobs.lake import collected, raw_bucket
from jobs.lake.swap import swap
from jobs.lake.tables import EVENTS, RAW, Tables
from jobs.places import Place, S3Path

OWN = "part-0.parquet"
WRITERS = 2
DEAD_AFTER_SECONDS = 3600
LAST = "impressions"
"""Swapped in last: where it is there, the day is."""


def has_day(raw: Place, day: date) -> bool:
    """Whether the day has impressions of its own (late arrivals alone do not make a day)."""
    if isinstance(raw, S3Path):
        return any(file.endswith(f"/{OWN}") for file in raw_bucket.named(raw / LAST / _date(day)) or ())
    return any((raw / LAST / _date(day)).glob(f"hour=*/{OWN}"))


@contextmanager
def alone(raw: Place) -> Iterator[None]:
    """One writer at a time: a day swapped in must not lose the late events another run is laying into its folder.

    The system lets go of the lock when its holder dies. On S3 nobody waits: a manifest is only put over the one that
    was read.
    """
    if isinstance(raw, S3Path):
        yield
        return
    raw.mkdir(parents=True, exist_ok=True)
    with (raw / ".writing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_day(raw: Place, day: date, tables: Tables) -> int:
    """Replace the day's own rows of all tables, late arrivals kept; returns how many rows.

    A table that is not given had none; `Refused` where that is the impressions.
    """
    if LAST not in tables:
        raise Refused(f"a source needs to give {LAST} of {day}; found {', '.join(tables) or 'no table'}")
    if found := [name for name in RAW if collected.opened(raw, name) is not None]:
        raise Refused(
            f"a source that writes days needs a raw lake of its own; found {', '.join(found)} collected in {raw}"
        )
    tables = {name: table.schema.empty_table() for name, table in RAW.items()} | dict(tables)
    order = sorted(RAW, key=lambda name: name == LAST)
    if isinstance(raw, S3Path):
        _put_day(raw, day, {name: tables[name] for name in order})
    else:
        _swap_day(raw, day, {name: tables[name] for name in order})
    return sum(len(tables[name]) for name in RAW)


def _put_day(raw: S3Path, day: date, tables: Tables) -> None:
    """All objects before any manifest, and the manifests in the tables' order."""
    folders = {name: raw / name / _date(day) for name in tables}
    keys = {name: raw_bucket.put(folders[name], _by_hour(name, table, OWN)) for name, table in tables.items()}
    for name, own in keys.items():
        raw_bucket.reveal(folders[name], own, instead_of=OWN)


def _swap_day(raw: Path, day: date, tables: Tables) -> None:
    """All files before any folder is swapped, and the folders in the tables' order."""
    drafts = {name: _draft(raw, name, day) for name in tables}
    try:
        _write([
            (part, drafts[name] / file)
            for name, table in tables.items()
            for file, part in _by_hour(name, table, OWN).items()
        ])  # fmt: skip
        for name, draft in drafts.items():
            _keep_late(raw / name / _date(day), draft)
            swap(draft, raw / name / _date(day))
    finally:
        for draft in drafts.values():
            shutil.rmtree(draft, ignore_errors=True)


def write_late(raw: Place, day: date, arrived: date, tables: Tables) -> int:
    """Lay what arrived on `arrived` beside the day's own rows, each file replaced at once; returns how many rows."""
    late = f"late-{arrived.isoformat()}.parquet"
    parts = {(name, file): part for name, table in tables.items() for file, part in _by_hour(name, table, late).items()}
    if isinstance(raw, S3Path):
        for name in tables:
            folder = raw / name / _date(day)
            keys = raw_bucket.put(folder, {file: part for (of, file), part in parts.items() if of == name})
            raw_bucket.reveal(folder, keys)
    else:
        targets = [raw / name / _date(day) / file for name, file in parts]
        drafts = [path.with_name(f".late-{uuid.uuid4().hex[:8]}.draft") for path in targets]
        _write(list(zip(parts.values(), drafts, strict=True)))
        for draft, target in zip(drafts, targets, strict=True):
            os.replace(draft, target)
    return sum(len(table) for table in tables.values())


def _date(day: date) -> str:
    return f"date={day.isoformat()}"


def days_after(day: date, count: int) -> list[date]:
    """The next `count` days."""
    return [day + timedelta(days=n) for n in range(1, count + 1)]


def _draft(raw: Path, table: str, day: date) -> Path:
    """A hidden sibling of the day's folder: same file system, seen by no reader. Those of dead runs are cleared."""
    for left in (raw / table).glob(f".date={day.isoformat()}.*"):
        if left.stat().st_mtime < time.time() - DEAD_AFTER_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    path = raw / table / f".{_date(day)}.{uuid.uuid4().hex[:8]}"
    path.mkdir(parents=True)
    return path


def _by_hour(name: str, table: pa.Table, file: str) -> dict[str, pa.Table]:
    """Slices of a time-sorted table by `hour=HH/<file>`, of hours with rows; snapshots and empty tables: hour 00."""
    if name not in EVENTS or not len(table):
        return {f"hour=00/{file}": table}
    hours = pc.hour(table.column("event_time")).to_numpy()
    edges = np.searchsorted(hours, np.arange(25))
    return {
        f"hour={hour:02d}/{file}": table.slice(int(edges[hour]), int(edges[hour + 1] - edges[hour]))
        for hour in np.unique(hours)
    }


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
