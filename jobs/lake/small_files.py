"""Partitions of many small part files become partitions of one, with the same rows in the same order.

Spark leaves a file a bucket, and most days are small. The commit says that it changes no rows (`dataChange` false) and
names no partition as published: whoever asks what a partition was made of, by whom and from what, hears the stage that
made its rows, and a stage that replaces a partition meanwhile does so. Versions before it stay as they were.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote

import deltalake
import pyarrow as pa
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction

from jobs.lake import log
from jobs.lake.parts import read_part
from jobs.lake.store import KEEP_LOG, Lake
from jobs.lake.tables import LAKE
from jobs.places import write_parquet

SMALL_BYTES = 1 << 25
"""A partition's files are small where they are no more together: one file of them is read in one request or few."""
QUIET = timedelta(days=1)
"""What was written since may be written again: late events do that."""


@dataclass(frozen=True)
class Part:
    """A part file as the log has it."""

    path: str
    size: int
    partition: dict[str, str]
    written_ms: int


def compact(lake: Lake, table: str, now: datetime) -> int:
    """Make one file of the small ones of each quiet partition, in one commit; returns how many partitions.

    0 where another writer committed meanwhile, too: the next maintenance finds them again.
    """
    delta = log.opened(lake.root, table)
    found = [] if delta is None else _worth(delta, lake, table, now)
    if delta is None or not found:
        return 0
    run = f"compacted-{uuid.uuid4().hex[:12]}"
    adds = [_merged(lake, table, parts, run) for parts in found]
    gone = [RemoveAction(part.path, False, _ms(now), part.size, part.partition) for parts in found for part in parts]
    schema = deltalake.Schema.from_arrow(pa.schema(delta.schema()))
    try:
        delta.create_write_transaction(
            [*adds, *gone],
            "append",
            schema,
            list(LAKE[table].partition),
            commit_properties=CommitProperties({"tidegate.maintenance": "compact"}, max_commit_retries=0),
            post_commithook_properties=KEEP_LOG,
        )
    except (DeltaError, OSError) as error:
        if _moved(lake, table, int(delta.version())):
            return 0
        raise log.blamed(f"table {table} needs a log that takes commits", error) from error
    return len(found)


def _moved(lake: Lake, table: str, version: int) -> bool:
    now = log.opened(lake.root, table)
    return now is not None and int(now.version()) > version


def _worth(delta: deltalake.DeltaTable, lake: Lake, table: str, now: datetime) -> list[list[Part]]:
    """The parts of each partition that has several, all small and quiet, in the order they are read in."""
    by: dict[tuple[tuple[str, str], ...], list[Part]] = {}
    for part in _parts(delta):
        by.setdefault(tuple(sorted(part.partition.items())), []).append(part)
    quiet = _ms(now - QUIET)
    found = [
        sorted(parts, key=lambda part: unquote(part.path))
        for _, parts in sorted(by.items())
        if len(parts) > 1
        and sum(part.size for part in parts) <= SMALL_BYTES
        and all(part.written_ms <= quiet for part in parts)
    ]
    if found:
        # Rows that a vector deletes must not come back.
        log.refuse_unreadable(delta, lake.root, table, log.files(delta, lake.root, table))
    return found


def _parts(delta: deltalake.DeltaTable) -> Iterator[Part]:
    batch = pa.table(delta.get_add_actions(flatten=False))
    names = ["path", "size_bytes", "partition", "modification_time"]
    for row in batch.select(names).to_pylist() if batch.num_rows else []:
        values = {key: str(value) for key, value in row["partition"].items()}
        yield Part(row["path"], int(row["size_bytes"]), values, int(row["modification_time"]))


def _merged(lake: Lake, table: str, parts: Sequence[Part], run: str) -> AddAction:
    names, folder = LAKE[table].schema.names, lake.root / table
    rows = pa.concat_tables([read_part(folder / unquote(part.path), table, names) for part in parts])
    where = [f"{key}={parts[0].partition[key]}" for key in LAKE[table].partition]
    path = (folder / "parts" / run).joinpath(*where, "part-0.parquet")
    written = write_parquet(rows, path, coerce_timestamps="us")
    return AddAction(
        path=path.relative_to(folder).as_posix(),  # type: ignore[arg-type]  # both are of one kind
        size=written.st_size,
        partition_values=parts[0].partition,
        modification_time=int(written.st_mtime * 1000),
        data_change=False,
        stats=json.dumps({"numRecords": len(rows)}),
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
