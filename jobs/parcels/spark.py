"""Steps of Arrow functions over buckets of rows. Spark moves parcels and never looks into one.

Turning every row from Arrow to Java's and back at each step took nearly all the time of a join whose own work is done
in a tenth of it, the more so the more maps and lists a row has. So did planning: a step is one stage of an RDD, and a
chain of steps is one job, which SQL's planner and code generator, seconds of work, never see. A bucket is what has to
fit into one worker. Whatever two later steps read of one is computed once: Spark keeps what it has sent.

Where all workers are on this machine a parcel is a place in a file, which they map. Bytes that go through Spark are
copied at every socket, packed and unpacked by Python and Java each, and written to a file by Java in the end.
"""

import os
import re
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
from pyspark import RDD, SparkFiles
from pyspark.sql import SparkSession

from jobs.asof.spark import fitted, refusals
from jobs.gathered import gathered
from jobs.lake.parts import batches, read_part
from jobs.lake.tables import LAKE
from jobs.parcels.core import Keys, Packer, Parcel, added, opened
from jobs.places import Place, footer, parquet, write_parquet

T = TypeVar("T")
R = TypeVar("R")
Core = Callable[..., pa.Table]
Sent = tuple[int, tuple[int, Parcel]]
"""A bucket, and of which rows it holds some: their tag and a parcel."""
TASKS_A_CORE = 2
"""Of a step on this machine: so that none waits long for the last."""
LOCAL = re.compile(r"local(?:\[(\*|\d+)(?:,\d+)?\])?")
PIECE_ROWS = 1 << 18
"""So many rows that a task reads are put in parcels together: in smaller pieces there are many parcels of few rows."""


def fork_workers() -> None:
    """Be the process that forks workers; what they all need is imported here once, not in each of them.

    Nothing may run on a thread of ours before a fork. Arrow's allocators have one each, and see to it themselves.
    """
    import pandas  # noqa: F401 (Arrow asks for it whenever it makes an array of a list)
    import pyarrow.parquet  # noqa: F401
    import pyspark.worker  # noqa: F401
    from pyspark.daemon import manager

    import jobs.config  # noqa: F401

    manager()


class Out(NamedTuple):
    """What rows become: their columns, and what keys they are sent by."""

    schema: pa.Schema
    keys: Keys


@dataclass(frozen=True)
class Rows:
    """Rows somewhere on the workers, in parcels by the keys they were last sent with."""

    parcels: "RDD[Sent]"
    schema: pa.Schema
    tag: int
    """Tells them from others that were sent together with them."""
    scratch: "Scratch | None"
    """Holds what they lie in."""


class Scratch:
    """A folder for parcels that lasts as long as anybody holds this, and never longer than the session."""

    def __init__(self) -> None:
        # Spark's own folder, which goes with the application.
        self.folder = Path(mkdtemp(prefix="parcels-", dir=SparkFiles.getRootDirectory()))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @classmethod
    def of(cls, spark: SparkSession) -> "Scratch | None":
        """None where workers are on other machines."""
        return cls() if LOCAL.fullmatch(spark.sparkContext.master) else None


def _cores(spark: SparkSession) -> int:
    """That a session on this machine works with."""
    found = LOCAL.fullmatch(spark.sparkContext.master)
    cores = "1" if found is None or found[1] is None else found[1]
    return os.cpu_count() or 1 if cores == "*" else int(cores)


@dataclass(frozen=True)
class Steps:
    """What can be done with rows; every result has rows that share a key in one bucket."""

    spark: SparkSession
    buckets: int
    _tags: Iterator[int] = field(default_factory=count, compare=False, repr=False)

    @cached_property
    def _scratch(self) -> Scratch | None:
        return Scratch.of(self.spark)

    @cached_property
    def _tasks(self) -> int:
        """Of a step. Each costs Java and Python a few hundredths of a second, however few rows it has; where parcels
        lie in files a task can have many buckets, since it opens them one after another.
        """
        return self.buckets if self._scratch is None else min(self.buckets, TASKS_A_CORE * _cores(self.spark))

    def work(
        self, items: Sequence[T], make: Callable[[T], Iterable[Sequence[pa.Table]]], outs: Sequence[Out]
    ) -> list[Rows]:
        """What `make` makes of each item, on whichever worker: some times one table for each of `outs`.

        They are sent `PIECE_ROWS` together, of however many items.
        """
        sent = self._sending(outs)

        def parts(mine: Iterator[T]) -> Iterator[Sent]:
            held: list[Sequence[pa.Table]] = []
            rows = 0
            with sent.packer() as packer:
                for tables in chain.from_iterable(map(make, mine)):
                    held.append(tables)
                    rows += sum(map(len, tables))
                    if rows >= PIECE_ROWS:
                        yield from sent.of(_gathered(held, outs), packer)
                        held, rows = [], 0
                yield from sent.of(_gathered(held, outs), packer)

        return self._rows(self._spread(items).mapPartitions(parts), sent)

    def joint(self, sides: Sequence[Rows], make: Callable[..., Sequence[pa.Table]], outs: Sequence[Out]) -> list[Rows]:
        """What `make` makes of each bucket's rows of all sides, a table each: one table for each of `outs`."""
        return self.joint_by_bucket(sides, lambda _, *tables: make(*tables), outs)

    def joint_by_bucket(
        self, sides: Sequence[Rows], make: Callable[..., Sequence[pa.Table]], outs: Sequence[Out]
    ) -> list[Rows]:
        """`joint` of a `make` that is told the number of the bucket first."""
        sent, wanted = self._sending(outs), _wanted(sides)

        def apply(parcels: Iterator[Sent]) -> Iterator[Sent]:
            with sent.packer() as packer:
                for bucket, tables in _opened(parcels, wanted):
                    yield from sent.of(make(bucket, *tables), packer)

        return self._rows(_together(sides).mapPartitions(apply), sent)

    def told(self, sides: Sequence[Rows], function: Callable[..., T]) -> list[T]:
        """What `function` tells of each bucket that has rows, by its number and tables; runs. Raises `Refused`."""
        wanted = _wanted(sides)

        def apply(parcels: Iterator[Sent]) -> Iterator[T]:
            for bucket, tables in _opened(parcels, wanted):
                yield function(bucket, *tables)

        with refusals():
            found: list[T] = _together(sides).mapPartitions(apply).collect()
        return found

    def ask(self, items: Sequence[T], function: Callable[[T], R]) -> list[R]:
        """What `function` says of each item, on whichever worker, in their order; runs. Raises `Refused`."""
        if not items:
            return []
        with refusals():
            found: list[R] = self._spread(items).map(function).collect()
        return found

    # -- of these -----------------------------------------------------------------------------------
    def read(self, files: Sequence[str], schema: pa.Schema, keys: Keys) -> Rows:
        """The rows of Parquet part files as the columns of `schema`, row group by row group."""

        def groups(path: str) -> Iterator[list[pa.Table]]:
            file = parquet(path)
            for group in range(file.num_row_groups):
                yield [file.read_row_group(group, schema.names).select(schema.names).cast(schema)]

        return self.work(files, groups, [Out(schema, keys)])[0]

    def parts(self, files: Sequence[str], table: str, columns: Sequence[str], keys: Keys) -> Rows:
        """Columns of a table's part files, all of them nullable. Raises as `jobs.lake.parts.batches` does."""
        schema = pa.schema([(name, LAKE[table].schema.field(name).type) for name in columns])
        return self.work(files, lambda path: ([rows] for rows in pieces(path, table, columns)), [Out(schema, keys)])[0]

    def send(self, rows: pa.Table, keys: Keys) -> Rows:
        """Rows that the driver has."""
        return self.work([rows], lambda table: [[table]], [Out(rows.schema, keys)])[0]

    def each(self, rows: Rows, function: Core, out: pa.Schema, keys: Keys) -> Rows:
        """`function` on any part of the rows: it looks at each row on its own."""
        return self.meet([rows], function, out, keys)

    def meet(self, sides: Sequence[Rows], function: Core, out: pa.Schema, keys: Keys) -> Rows:
        """`function` on each bucket's rows of all sides, a table each: equal keys meet in one call."""
        return self.joint(sides, lambda *tables: [function(*tables)], [Out(out, keys)])[0]

    def write(self, sides: Sequence[Rows], function: Core, out: pa.Schema, folder: Place) -> None:
        """`meet`, its results as one Parquet file a bucket; a task that runs twice leaves one. Raises `Refused`."""

        def put(bucket: int, *tables: pa.Table) -> int:
            made = fitted(function(*tables), out)
            write_parquet(made, folder / f"part-{bucket:05d}.parquet", coerce_timestamps="us")
            return len(made)

        self.told(sides, put)

    def count(self, rows: Rows, function: Core, out: pa.Schema) -> pa.Table:
        """The `added` counts that `function` makes of parts of the rows, in the driver. Raises `Refused`."""
        return added(self.told([rows], lambda _, table: fitted(function(table), out)), out)

    # -- below --------------------------------------------------------------------------------------
    def _sending(self, outs: Sequence[Out]) -> "_Sending":
        folder = None if self._scratch is None else str(self._scratch.folder)
        return _Sending(tuple((next(self._tags), out) for out in outs), self.buckets, folder)

    def _spread(self, items: Sequence[T]) -> "RDD[T]":
        """Over as many tasks as a step has, or cores, whichever are more."""
        context = self.spark.sparkContext
        tasks = min(len(items), max(self._tasks, context.defaultParallelism))
        return context.parallelize(items, max(tasks, 1))

    def _rows(self, parcels: "RDD[Sent]", sent: "_Sending") -> list[Rows]:
        # One function for all: Spark knows by it that buckets of two steps are the same, and unites them as they lie.
        shuffled = parcels.partitionBy(self._tasks, int)
        return [Rows(shuffled, out.schema, tag, self._scratch) for tag, out in sent.tagged]


@dataclass(frozen=True)
class _Sending:
    """How a task sends its results: it goes to the workers."""

    tagged: Sequence[tuple[int, Out]]
    buckets: int
    folder: str | None

    def packer(self) -> Packer:
        """Of one task."""
        return Packer(self.folder)

    def of(self, tables: Sequence[pa.Table], packer: Packer) -> Iterator[Sent]:
        """A table for each of what is `tagged`."""
        for table, (tag, out) in zip(tables, self.tagged, strict=True):
            if len(table):
                for bucket, parcel in packer.packed(_as(table, out.schema), out.keys, self.buckets):
                    yield bucket, (tag, parcel)


def _as(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    return rows if rows.schema.equals(schema) else rows.select(schema.names).cast(schema)


def _gathered(held: Sequence[Sequence[pa.Table]], outs: Sequence[Out]) -> list[pa.Table]:
    """All rows on each side."""
    return [
        pa.concat_tables([out.schema.empty_table(), *(_as(some[n], out.schema) for some in held if len(some[n]))])
        for n, out in enumerate(outs)
    ]


def pieces(path: str, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of a part file, `PIECE_ROWS` rows at once and a few more; raises as `jobs.lake.parts.batches` does."""
    if footer(path).num_rows <= PIECE_ROWS:
        yield read_part(path, table, columns)
        return
    for some in gathered(batches(path, table, columns), PIECE_ROWS):
        yield pa.concat_tables(some)


def _wanted(sides: Sequence[Rows]) -> list[tuple[int, pa.Schema]]:
    return [(side.tag, side.schema) for side in sides]


def _together(sides: Sequence[Rows]) -> "RDD[Any]":
    """The parcels of all sides, each once; a bucket of the whole is made of that bucket of each."""
    different = list({id(side.parcels): side.parcels for side in sides}.values())
    whole = different[0]
    for other in different[1:]:
        whole = whole.union(other)
    return whole


def _opened(parcels: Iterator[Sent], wanted: Sequence[tuple[int, pa.Schema]]) -> Iterator[tuple[int, list[pa.Table]]]:
    """Each bucket of a task with a table for each side, if any of them has rows there."""
    buckets: dict[int, dict[int, list[Parcel]]] = {}
    for number, (tag, parcel) in parcels:
        if any(tag == of for of, _ in wanted):
            buckets.setdefault(number, {}).setdefault(tag, []).append(parcel)
    for number in sorted(buckets):
        streams = buckets.pop(number)
        yield number, [opened(streams.pop(tag, ()), schema) for tag, schema in wanted]
