"""The raw lake's files: `<raw>/<table>/date=YYYY-MM-DD/hour=HH/*.parquet`, a day of a table swapped in whole.

An hour's own rows are `part-0.parquet` and, where they are many, `part-1.parquet` and so on; what arrived on a later
day L is `late-<L>.parquet` beside them. Killed anywhere, a table's day is the old one or the new one; only a day of
seven tables is seven swaps, which running it again completes. On S3, where nothing can be swapped, see
`jobs.lake.raw_bucket`.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import Refused
from jobs.gathered import gathered
from jobs.lake import collected, raw_bucket
from jobs.lake.swap import swap
from jobs.lake.tables import EVENTS, RAW, Streams, Tables
from jobs.places import Place, S3Path

OWN, NUMBERED = "part-", "part-{}.parquet"
"""What names of a day's own files begin with, and what they are."""
PART_ROWS = 1 << 18
"""Of a file at most, and so many of a table are in memory, or twice as many, whatever a day has."""
WRITERS = 2
DEAD_AFTER_SECONDS = 3600
LAST = "impressions"
"""Swapped in last: where it is there, the day is."""


def has_day(raw: Place, day: date) -> bool:
    """Whether the day has impressions of its own (late arrivals alone do not make a day)."""
    if isinstance(raw, S3Path):
        return any(f"/{OWN}" in file for file in raw_bucket.named(raw / LAST / _date(day)) or ())
    return any((raw / LAST / _date(day)).glob(f"hour=*/{OWN}*.parquet"))


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


class Laid(NamedTuple):
    """What some rows of a day's table became: files that nobody sees yet, by their names below the day's folder."""

    files: dict[str, str]
    """To where each lies below that folder."""
    rows: int


def write_day(raw: Place, day: date, tables: Streams, lay: "Lay | None" = None) -> Counter[str]:
    """Replace the day's own rows of all tables, late arrivals kept; returns how many rows each has.

    `lay` puts each table's rows, to be revealed together, into the folder given for it: this process, or others too.
    A table that is not given had none; `Refused` where that is the impressions, or where events are not in the order of
    their time.
    """
    if LAST not in tables:
        raise Refused(f"a source needs to give {LAST} of {day}; found {', '.join(tables) or 'no table'}")
    if found := [name for name in RAW if collected.opened(raw, name) is not None]:
        raise Refused(
            f"a source that writes days needs a raw lake of its own; found {', '.join(found)} collected in {raw}"
        )
    names = sorted(RAW, key=lambda name: name == LAST)
    # All files before any is revealed, and the tables in their order.
    with _unseen(raw, day, names) as folders:
        laid = (lay or laid_here)(folders, {name: tables.get(name, ()) for name in names})
        for name, folder in folders.items():
            _reveal(folder, raw / name / _date(day), laid[name].files)
    return Counter({name: some.rows for name, some in laid.items()})


Lay = Callable[[Mapping[str, Place], Streams], Mapping[str, Laid]]


def laid_here(folders: Mapping[str, Place], tables: Streams) -> dict[str, Laid]:
    """By this process, one table after another."""
    return {name: laid(folder, name, tables[name]) for name, folder in folders.items()}


def laid(folder: Place, name: str, rows: pa.Table | Iterable[pa.Table]) -> Laid:
    """Put a table's rows, in the order of their time, where nobody sees them; of none a file that says so."""
    count, files = 0, dict[str, str]()

    def counted() -> Iterator[pa.Table]:
        nonlocal count
        for some in [rows] if isinstance(rows, pa.Table) else rows:
            count += len(some)
            yield some

    for some in _together(_by_hour(name, counted(), NUMBERED, PART_ROWS)):
        files |= _put(folder, some)
    return Laid(files, count)


def laid_apart(folder: Place, name: str, rows: Iterable[pa.Table]) -> Laid:
    """`laid` of a part that is tried again where it fails: what each try has left is its own."""
    if isinstance(folder, S3Path):
        return laid(folder, name, rows)
    own = f".{uuid.uuid4().hex}"
    some = laid(folder / own, name, rows)
    return Laid({file: f"{own}/{lies}" for file, lies in some.files.items()}, some.rows)


def joined(parts: Sequence[Laid]) -> Laid:
    """Parts of a table that have no hour in common, as one."""
    having = [part for part in parts if part.rows] or parts[:1]
    return Laid({file: lies for part in having for file, lies in part.files.items()}, sum(part.rows for part in parts))


@contextmanager
def _unseen(raw: Place, day: date, names: Iterable[str]) -> Iterator[dict[str, Place]]:
    """A folder for each table's files; on S3 that of the day itself, in which only what a manifest names is seen."""
    if isinstance(raw, S3Path):
        yield {name: raw / name / _date(day) for name in names}
        return
    drafts = {name: _draft(raw, name, day) for name in names}
    try:
        yield dict(drafts)
    finally:
        for draft in drafts.values():
            shutil.rmtree(draft, ignore_errors=True)


def _put(folder: Place, files: Mapping[str, pa.Table]) -> dict[str, str]:
    """Write files into a folder of `_unseen`; returns where each lies below it."""
    # A file's bytes depend on how its columns lie in memory, which nobody means to tell.
    whole = {file: rows.combine_chunks() for file, rows in files.items()}
    if isinstance(folder, S3Path):
        return raw_bucket.put(folder, whole)
    _write([(rows, folder / file) for file, rows in whole.items()])
    return {file: file for file in files}


def _reveal(unseen: Place, folder: Place, files: Mapping[str, str]) -> None:
    """The day has these files, and those that came late."""
    if isinstance(folder, S3Path):
        raw_bucket.reveal(folder, files, instead_of=OWN)
    elif isinstance(unseen, Path):
        _gather(unseen, files)
        _keep_late(folder, unseen)
        swap(unseen, folder)


def _gather(draft: Path, files: Mapping[str, str]) -> None:
    """Files of `laid_apart` where they belong; what tries that failed have left is gone."""
    for file, lies in files.items():
        if file != lies:
            (draft / file).parent.mkdir(exist_ok=True)
            os.rename(draft / lies, draft / file)
    for left in draft.glob(".*"):
        shutil.rmtree(left)


def write_late(raw: Place, day: date, arrived: date, tables: Tables) -> int:
    """Lay what arrived on `arrived` beside the day's own rows, each file replaced at once; returns how many rows."""
    late = f"late-{arrived.isoformat()}.parquet"
    parts = {
        (name, file): rows
        for name, table in tables.items()
        for file, rows in _by_hour(name, [table], late, max(1, len(table)))
    }
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


def _by_hour(name: str, stream: Iterable[pa.Table], file: str, most: int) -> Iterator[tuple[str, pa.Table]]:
    """The files of a table, `hour=HH/<file>`, each of at most so many rows; of one without rows that of hour 00.

    Each comes once it is whole. Raises `Refused` where events are not in the order of their hours.
    """
    held: list[pa.Table] = []
    nothing, hour, number, files = RAW[name].schema.empty_table(), 0, 0, 0
    for table in stream:
        nothing = table.slice(0, 0)
        for at, rows in _hours(name, table):
            if at < hour:
                found = f"found {hour:02d} h before {at:02d} h"
                raise Refused(f"a source needs to give {name} in the order of their time; {found}")
            if at > hour and held:
                yield f"hour={hour:02d}/{file.format(number)}", pa.concat_tables(held)
                held, number, files = [], 0, files + 1
            hour = at
            held.append(rows)
            while sum(map(len, held)) > most:
                whole = pa.concat_tables(held)
                yield f"hour={hour:02d}/{file.format(number)}", whole.slice(0, most)
                held, number, files = [whole.slice(most)], number + 1, files + 1
    if held or not files:
        yield f"hour={hour:02d}/{file.format(number)}", pa.concat_tables(held or [nothing])


def _hours(name: str, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Slices of rows of one hour, in their order; snapshots are of hour 0."""
    hours = pc.hour(table.column("event_time")).to_numpy() if name in EVENTS else np.zeros(len(table), np.int64)
    edges = [*np.flatnonzero(np.diff(hours, prepend=-1)).tolist(), len(table)]
    for first, last in pairwise(edges):
        yield int(hours[first]), table.slice(first, last - first)


def _together(files: Iterable[tuple[str, pa.Table]]) -> Iterator[dict[str, pa.Table]]:
    """Files to write at once, of about `PART_ROWS` rows."""
    return map(dict, gathered(files, PART_ROWS, lambda file: len(file[1])))


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
