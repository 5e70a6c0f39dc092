"""Tables without a person: a new version of each partition that had them, and older versions without them as well.

The new version is a commit like any other, on top of what was read: readers see the old rows or the new. It says that
the same stage made the rows, of the same inputs, and when somebody was forgotten, so no later stage takes the day for
one to be done again. Then every other file of the table, of older versions and of runs that were ended, is replaced by
one of the same size without the person: those versions stay readable, for others as they were.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.errors import NotReady
from jobs.forget import rewritten
from jobs.lake.parts import read_part
from jobs.lake.run import now
from jobs.lake.store import Lake, Lineage
from jobs.lake.swap import write_whole
from jobs.lake.tables import LAKE
from jobs.places import Object, Place, place, read_anew, write_parquet

HOLDERS = tuple(name for name, table in LAKE.items() if rewritten.names(table.schema))
"""The tables that say whose a row is."""
TRIES = 5
STAGE = "forget"


@dataclass
class Forgotten:
    """Of one table: partitions of the newest version that were written again, the rows that went from them, files of
    older versions that were cleaned, and those that had to be deleted.
    """

    partitions: int = 0
    rows: int = 0
    older_files: int = 0
    older_files_deleted: int = 0


def forget(lake: Lake, table: str, user: str, done: Forgotten) -> None:
    """Remove a user from a table, and count that; raises `NotReady` where other writers never leave it alone."""
    for _ in range(TRIES):
        try:
            for partition in _partitions(lake, table, user):
                done.rows += again(lake, table, partition, user)
                done.partitions += 1
            break
        except NotReady as error:
            last = error
    else:
        raise last
    newest = {place(path) for path, _ in lake.files(table)}
    for path in _parts(lake.root / table):
        if path not in newest and rewritten.found(path, user):
            if _cleaned(path, user):
                done.older_files += 1
            else:
                done.older_files_deleted += 1
    read_anew()


def again(
    lake: Lake, table: str, partition: Mapping[str, str], user: str, notes: Mapping[str, str] | None = None
) -> int:
    """Publish a partition again without the user, whose `notes` its lineage has from then on; returns the rows gone.

    Raises `NotReady` where another writer was faster.
    """
    version = lake.version(table)
    files = [path for path, values in lake.files(table, where=partition, version=version) if values == partition]
    run_id = f"{STAGE}-{uuid.uuid4().hex[:12]}"
    folder = lake.staging(table, run_id).joinpath(*(f"{key}={partition[key]}" for key in LAKE[table].partition))
    before, parts = 0, list[Place]()
    for number, path in enumerate(files):
        rows = read_part(path, table, LAKE[table].schema.names)
        before += len(rows)
        parts.append(folder / f"part-{number:05d}.parquet")
        write_parquet(rewritten.kept(rows, user), parts[-1], coerce_timestamps="us")
    told = lake.lineage(table, partition, version) or {}
    lineage = _as_before(told, run_id, {"forgotten_at": now().isoformat(timespec="seconds"), **(notes or {})})
    return before - lake.publish(table, partition, parts, lineage, base_version=version)


def _as_before(told: Mapping[str, Any], run_id: str, notes: Mapping[str, str]) -> Lineage:
    """The lineage of the rows that stay."""
    inputs, counts, noted = (json.loads(told.get(name, "{}")) for name in ("inputs", "counts", "notes"))
    stage, code, settings = (str(told.get(name, STAGE)) for name in ("stage", "code_version", "config_hash"))
    return Lineage(stage, run_id, code, settings, inputs, counts, {**noted, **notes})


def _partitions(lake: Lake, table: str, user: str) -> Iterator[dict[str, str]]:
    """The partitions of the newest version that hold the user."""
    by: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for path, values in lake.files(table):
        by.setdefault(tuple(values.items()), []).append(path)
    for partition, paths in by.items():
        if any(rewritten.found(place(path), user) for path in paths):
            yield dict(partition)


def _parts(folder: Place) -> list[Place]:
    return sorted((folder / "parts").rglob("*.parquet"), key=str)


def _cleaned(path: Place, user: str) -> bool:
    """Replace a file by itself without the user; False where it had to be deleted."""
    made = rewritten.as_large(path.read_bytes(), user)
    if made is None:
        path.unlink()
        return False
    at = Object.of(path).st_mtime
    write_whole(path, made)
    if isinstance(path, Path):
        os.utime(path, (at, at))  # what nobody needs is as old as it was
    return True
