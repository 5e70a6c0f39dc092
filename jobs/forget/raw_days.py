"""Raw days without a person: their files, and the lake's word on which files a day was published from.

`validate` publishes a day again whose files are not those it was published from. A day that was published from just
these files stays published: its tables say so of the new files before these are put there. Killed in between, running
it again makes the same files. A day whose late events nobody has looked at yet is left to `validate`, as it was.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from jobs.errors import NotReady, Refused
from jobs.flow import SNAPSHOTS
from jobs.forget import rewritten, tables
from jobs.lake import raw, raw_bucket, raw_quarantine, raw_writer
from jobs.lake.formats import table_format
from jobs.lake.store import Lake
from jobs.lake.swap import write_whole
from jobs.lake.tables import RAW
from jobs.places import Place, S3Path

HOLDERS = (*(name for name, table in RAW.items() if rewritten.USER in table.columns), raw_quarantine.NAME)
Content = Mapping[Place, bytes]


@dataclass
class Forgotten:
    """Of one raw table: days and files that were written again, and the rows that went."""

    days: int = 0
    files: int = 0
    rows: int = 0


def forget(lake: Lake, folder: Place, table: str, user: str, published: tables.Forgotten) -> Forgotten:
    """Remove a user from a raw table, and from what was `published` of it.

    Raises `NotReady` where `validate` or `ingest` is at the same day.
    """
    done = Forgotten()
    logged = table_format(folder / table) is not None  # it says how many bytes a file has
    with raw_writer.alone(folder):
        for day in raw.days(folder / table):
            counts = {path: rewritten.found(path, user) for path in _files(folder / table / f"date={day}")}
            held = {path: n for path, n in counts.items() if n}
            if not held:
                continue
            made = {path: _made(path.read_bytes(), user, logged) for path in held}
            for of in _published_from(lake, folder, table, day):
                if (rows := _agreed(lake, folder, table, of, made, user)) is not None:
                    published.partitions, published.rows = published.partitions + 1, published.rows + rows
            _put(folder / table / f"date={day}", made)
            done.days, done.files, done.rows = done.days + 1, done.files + len(made), done.rows + sum(held.values())
    return done


def _made(content: bytes, user: str, logged: bool) -> bytes:
    same = rewritten.as_large(content, user) if logged else None
    return rewritten.without(content, user, statistics=False) if same is None else same


def _files(folder: Place) -> list[Place]:
    """Every Parquet file of a day, those that a later day laid beside them and drafts of runs that died among them."""
    drafts = [] if isinstance(folder, S3Path) else [*folder.parent.glob(f".{folder.name}.*")]
    return sorted((path for one in (folder, *drafts) for path in one.rglob("*.parquet")), key=str)


def _published_from(lake: Lake, folder: Place, table: str, day: date) -> list[date]:
    """The published days that are read from a day's folder: of a snapshot those without one of their own, too."""
    if table not in RAW:
        return []
    published = lake.days(table)
    if table not in SNAPSHOTS:
        return [day] if day in published else []
    later = min((there for there in raw.days(folder / table) if there > day), default=date.max)
    return [there for there in published if day <= there < later]


def _agreed(lake: Lake, folder: Place, table: str, day: date, made: Content, user: str) -> int | None:
    """Where a day was published from the files there are, it says that it was from those there will be: how many rows
    went with that.
    """
    partition = {"day": day.isoformat()}
    lineage = lake.lineage(table, partition)
    said = json.loads(lineage["notes"]).get("raw_files") if lineage else None
    try:
        now, then = (raw.fingerprint(folder, table, day, instead) for instead in ({}, made))
    except (Refused, NotReady):
        return None  # nor was it published from what lies there
    return tables.again(lake, table, partition, user, {"raw_files": then}) if said == now != then else None


def _put(folder: Place, made: Content) -> None:
    if isinstance(folder, S3Path) and (named := raw_bucket.named(folder)) is not None:
        _put_named(folder, named, made)
        return
    for path, content in made.items():
        write_whole(path, content)


def _put_named(folder: S3Path, named: raw_bucket.Named, made: Content) -> None:
    """Objects of other names, the manifest over the one that was read; then what it no longer names is gone."""
    raw_bucket.reveal(folder, raw_bucket.stored(folder, {
        file: made[folder / key] for file, key in named.items() if folder / key in made
    }))  # fmt: skip
    for path in made:
        path.unlink()
