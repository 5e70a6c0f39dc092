"""Raw tables that are collected from a stream: plain Parquet in `date=…/hour=…`, appended in Delta commits.

    <raw>/<table>/date=YYYY-MM-DD/hour=HH/<name>.parquet     rows of a batch
    <raw>/<table>/_delta_log/                                which files count

A commit has the rows of a batch and how far the stream was read for them, as Delta's own application transactions: both
are there or neither is. It is put on top of exactly the version that was looked at; of two writers at a time one wins,
and the other looks again. So a row is there once, whoever died or stands beside.

Three numbers are kept by partition of the stream or by table: the offset that comes next, the newest event time (in
microseconds), and the newest day that was handed over to `validate`.
Source of the protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, CommitProperties, Transaction

from jobs.errors import NotReady
from jobs.lake import log
from jobs.places import Object, Place, S3Path, place, write_parquet

NAME = "tidegate.collected"
"""Of the Delta tables that are ours; any other one in the raw lake is refused."""
PARTITION = ("date", "hour")
TRIES = 20
HANDED = "handed-over"
Numbers = Mapping[str, int]
"""What a commit keeps: by name, see `offset_of` and `newest_of`."""


def offset_of(partition: object) -> str:
    """The name under which the offset that comes next is kept."""
    return f"{partition}/offset"


def newest_of(partition: object) -> str:
    """The name under which the newest event time is kept."""
    return f"{partition}/newest"


@dataclass(frozen=True)
class Seen:
    """A collected table at a version."""

    delta: deltalake.DeltaTable

    def number(self, name: str) -> int | None:
        """What is kept under a name; None where nothing is."""
        found = self.delta.transaction_version(name)
        return None if found is None else int(found)

    @property
    def handed_over(self) -> date | None:
        """The newest day that went to `validate`."""
        found = self.number(HANDED)
        return None if found is None else date.fromordinal(found)

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Those of its files, with their types."""
        fields = pa.schema(self.delta.schema().to_arrow())
        return {field.name: field.type for field in fields if field.name not in PARTITION}


class Collected:
    """One table below `raw`."""

    def __init__(self, raw: Place, name: str, schema: pa.Schema) -> None:
        self._raw, self._name, self._schema = raw, name, schema

    def seen(self) -> Seen | None:
        """The newest version; None where nothing was ever collected. Raises as `log.opened` does."""
        delta = log.opened(self._raw, self._name)
        return None if delta is None else Seen(delta)

    def made(self) -> Seen:
        """The newest version of the table, which is made where there is none."""
        found = self.seen()
        if found is not None:
            return found
        fields = [
            *(field.with_nullable(True) for field in self._schema),
            *(pa.field(k, pa.string()) for k in PARTITION),
        ]
        try:
            deltalake.DeltaTable.create(
                str(self._raw / self._name),
                deltalake.Schema.from_arrow(pa.schema(fields)),
                mode="ignore",
                partition_by=list(PARTITION),
                name=NAME,
                configuration=log.CHECKPOINTS if isinstance(self._raw, S3Path) else None,
                storage_options=log.options(self._raw),
            )
        except (DeltaError, OSError) as error:
            if self.seen() is None:  # nobody else made it meanwhile
                raise log.blamed(f"raw {self._name} needs a log that takes commits", error) from error
        return self.made()

    def widened(self, seen: Seen, rows: pa.Table) -> Seen:
        """The table with columns for all that `rows` have; a commit of its own, which changes no row."""
        known = seen.columns
        new = [field.with_nullable(True) for field in rows.schema if field.name not in known]
        if not new:
            return seen
        try:
            seen.delta.alter.add_columns(list(deltalake.Schema.from_arrow(pa.schema(new)).fields))
        except (DeltaError, OSError) as error:
            again = self.made()
            if again.delta.version() == seen.delta.version():
                raise log.blamed(f"raw {self._name} needs a log that takes commits", error) from error
        return self.made()

    def written(self, rows: pa.Table, by: pa.Table) -> list[AddAction]:
        """Files of the rows, one for each `date` and `hour` of `by`, which has as many; seen by nobody yet."""
        keys = pa.table({name: by.column(name) for name in PARTITION})
        order = pc.sort_indices(keys, [(name, "ascending") for name in PARTITION])
        rows, keys = rows.take(order), keys.take(order)
        both = pc.binary_join_element_wise(keys["date"], keys["hour"], " ").to_pylist()
        starts = [n for n in range(len(both)) if n == 0 or both[n] != both[n - 1]]
        ends = [*starts[1:], len(both)] if starts else []
        return [
            self._written(rows.slice(start, end - start), dict(zip(PARTITION, both[start].split(" "), strict=True)))
            for start, end in zip(starts, ends, strict=True)
        ]

    def _written(self, rows: pa.Table, of: Mapping[str, str]) -> AddAction:
        folder = self._raw / self._name
        for key in PARTITION:
            folder = folder / f"{key}={of[key]}"
        path = folder / f"{uuid.uuid4().hex}.parquet"
        # Writing statistics of lists and strings nobody filters on costs a third of the time.
        stat: Object = write_parquet(rows, path, coerce_timestamps="us", write_statistics=False)
        return AddAction(
            path=path.relative_to(self._raw / self._name).as_posix(),  # type: ignore[arg-type]  # both are of one kind
            size=stat.st_size,
            partition_values=dict(of),
            modification_time=int(stat.st_mtime * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": len(rows)}),
        )

    def committed(self, seen: Seen, files: Sequence[AddAction], numbers: Numbers, notes: Mapping[str, Any]) -> bool:
        """Whether files and numbers are in the log now; False where anybody committed after the version `seen`.

        Also where nobody said so: S3's answer may be lost on its way, and the caller looks again. Raises as
        `log.blamed` says where the log takes no commit.
        """
        said = {"tidegate.collected": json.dumps(dict(notes), sort_keys=True)}
        kept = [Transaction(name, number) for name, number in sorted(numbers.items())]
        try:
            seen.delta.create_write_transaction(
                list(files),
                "append",
                seen.delta.schema(),
                list(PARTITION),
                commit_properties=CommitProperties(custom_metadata=said, app_transactions=kept, max_commit_retries=0),
            )
        except (DeltaError, OSError) as error:
            before = int(seen.delta.version())
            if self.made().delta.version() == before:
                raise log.blamed(f"raw {self._name} needs a log that takes commits", error) from error
            return False
        return True

    def hand_over(self, day: date) -> None:
        """From now on what comes of `day` is late; nothing where that is known."""
        for _ in range(TRIES):
            seen = self.made()
            if seen.handed_over is not None and seen.handed_over >= day:
                return
            if self.committed(seen, [], {HANDED: day.toordinal()}, {"handed_over": day.isoformat()}):
                return
        raise too_busy(self._name)


def too_busy(name: str) -> NotReady:
    """Where other writers never stop."""
    return NotReady(f"raw {name} is too busy: {TRIES} commits collided; run it again")


def opened(raw: Place, table: str) -> deltalake.DeltaTable | None:
    """The log of a raw table, where it is one that is collected; None where it is not."""
    delta = log.opened(raw, table)
    return delta if delta is not None and delta.metadata().name == NAME else None


def files(raw: Place, table: str, day: date) -> list[Place] | None:
    """The files of a day that count, sorted; None where the table is not one that is collected."""
    delta = opened(raw, table)
    if delta is None:
        return None
    found = [file for file in log.files(delta, raw, table) if file[1]["date"] == day.isoformat()]
    log.refuse_unreadable(delta, raw, table, found)
    return sorted((place(path) for path, _ in found), key=lambda path: path.parts[-2:])


def days(raw: Place, table: str) -> list[date]:
    """Days of which something was collected, oldest first."""
    delta = opened(raw, table)
    found = [] if delta is None else log.files(delta, raw, table)
    return sorted({date.fromisoformat(values["date"]) for _, values in found})


def vacuumed(raw: Place, table: str, hours: int) -> int | None:
    """Delete files that no commit names and nobody has touched for `hours`; None where the table is not collected."""
    delta = opened(raw, table)
    if delta is None:
        return None
    gone = delta.vacuum(retention_hours=hours, enforce_retention_duration=False, dry_run=False, full=True)
    if isinstance(raw, Path):
        for draft in (raw / table).glob("date=*/hour=*/.*.draft"):
            if draft.stat().st_mtime < time.time() - hours * 3600:
                draft.unlink()
    return len(gone)


def by_hour(times: pa.ChunkedArray) -> pa.Table:
    """`date` and `hour` of event times."""
    return pa.table({"date": pc.strftime(times, "%Y-%m-%d"), "hour": pc.strftime(times, "%H")})


def newest_by(numbers: Sequence[int], times: pa.ChunkedArray) -> dict[int, int]:
    """The newest of the times of each number, in microseconds since 1970."""
    whole = times.cast(pa.int64()).to_numpy()
    found = np.asarray(numbers)
    return {int(number): int(whole[found == number].max()) for number in np.unique(found)}
