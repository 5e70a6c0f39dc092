"""The lake: Delta tables that readers always see whole; a stage replaces its own partition, once, at commit.

Engines write Parquet part files; delta-rs commits them in one atomic log entry. Part files of a run that died are
never named by the log, so no reader sees them. Data is read from the files the log names, by pyarrow or Spark, never
through delta-rs. Source of the protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

import json
import re
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, CommitProperties, PostCommitHookProperties, create_table_with_add_actions

from jobs.errors import Misconfigured, NotReady, Refused, if_never, one_line
from jobs.lake import log, remembered
from jobs.lake.mirror import Mirror, NotCopied
from jobs.lake.parts import read_part
from jobs.lake.tables import LAKE, Table, conform
from jobs.places import Object, Place, S3Path, footer, place, write_parquet

COMMIT_TRIES = 20
"""Commits to other partitions of the same table collide now and then; each try starts from the newest version."""
MISREAD = re.compile(r"\\|%[0-9A-Fa-f]{2}|[\x00-\x1f\x7f]")
"""What delta-rs takes for something else in a path: it would write a log where nobody looks for it."""
NEVER = -1
"""The version of a table that does not exist yet."""
ENTRIES = 4096
"""So many of a log's entries are kept in memory."""
SNAPSHOTS = 64
"""So many versions of tables are kept open, those asked for last."""
# delta-rs would delete log entries older than 30 days with every hundredth commit: lineage and old versions stay.
KEEP_LOG = PostCommitHookProperties(cleanup_expired_logs=False)
NO_MORE = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)

Partition = Mapping[str, str]
"""Partition column to value, days as `YYYY-MM-DD`: `{"day": "2026-01-08", "mode": "full"}`."""


@dataclass(frozen=True)
class Lineage:
    """What a commit remembers: enough to say which code, settings and table versions made the rows."""

    stage: str
    run_id: str
    code_version: str
    config_hash: str
    inputs: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def properties(self, partition: Partition, rows: int) -> dict[str, str]:
        """The commit's custom metadata, flat strings as Delta wants them."""
        return {
            "tidegate.stage": self.stage,
            "tidegate.partition": json.dumps(dict(partition), sort_keys=True),
            "tidegate.run_id": self.run_id,
            "tidegate.code_version": self.code_version,
            "tidegate.config_hash": self.config_hash,
            "tidegate.inputs": json.dumps(dict(self.inputs), sort_keys=True),
            "tidegate.counts": json.dumps(dict(self.counts), sort_keys=True),
            "tidegate.notes": json.dumps(dict(self.notes), sort_keys=True),
            "tidegate.rows": str(rows),
        }


class Lake:
    """Read and replace partitions of the tables in `jobs.lake.tables.LAKE` below one place.

    A version of a table, once opened, is not opened again; of S3 no entry of a log is asked for twice.
    """

    def __init__(self, root: Place | str) -> None:
        self.root = place(root)
        self._opened: OrderedDict[tuple[str, int], deltalake.DeltaTable] = OrderedDict()
        self._mirrors: dict[str, Mirror] = {}
        self._fronts: dict[str, deltalake.DeltaTable | None] = {}
        """The tables of a disk as they were last seen, and those on S3 whose log cannot be mirrored."""
        self._own: set[tuple[str, int, str]] = set()
        """Table, version and run of the commits made here."""
        self._read: dict[tuple[str, int], log.Actions] = {}
        if isinstance(self.root, S3Path):
            return
        misread = MISREAD.search(str(self.root.absolute()))
        if misread:
            raise Misconfigured(
                "lake.root needs a path that Delta reads as it is, without \\, %20 and the like or control characters; "
                f"found {misread.group()!a} in {one_line(self.root.absolute())}"
            )
        if self.root.exists() and not self.root.is_dir():
            raise Misconfigured(f"lake.root must be a folder; found a file at {root}")

    # -- looking ----------------------------------------------------------------------------------
    def version(self, table: str) -> int | None:
        """The newest version of a table, None where it does not exist yet."""
        delta = self._open(table, None)
        return None if delta is None else int(delta.version())

    def partitions(self, table: str, version: int | None = None) -> list[dict[str, str]]:
        """The published partitions, sorted; an empty partition was published with no rows."""
        seen = {tuple(sorted(values.items())) for _, values in self._files(table, version)}
        return [dict(values) for values in sorted(seen)]

    def days(self, table: str, version: int | None = None) -> list[date]:
        """The published days, oldest first; raises `Refused` where another writer left what is none."""
        found = sorted({partition["day"] for partition in self.partitions(table, version)})
        try:
            return [date.fromisoformat(day) for day in found]
        except ValueError as error:
            raise Refused(f"table {table} needs days YYYY-MM-DD; found {', '.join(found)[:300]}") from error

    def files(
        self,
        table: str,
        days: Iterable[date] | None = None,
        where: Partition | None = None,
        version: int | None = None,
    ) -> list[tuple[str, dict[str, str]]]:
        """(absolute path, partition values) of the part files of `days` (all by default) that match `where`.

        Raises `NotReady` naming the days that were asked for and are not published, `Refused` naming a part file that
        cannot be read as it lies there.
        """
        delta = self._open(table, version)
        if delta is None and days is None:
            return []
        found = [] if delta is None else log.files(delta, self.root, table)
        if where:
            found = [(path, values) for path, values in found if all(values[k] == v for k, v in where.items())]
        if days is not None:
            found = _of_days(table, found, {d.isoformat() for d in days}, where)
        if delta is not None:
            log.refuse_unreadable(delta, self.root, table, found)
        return found

    def named(self, table: str) -> set[Place]:
        """Every part file that any version names which can still be read."""
        named = {place(path) for path, _ in self._files(table, None)}
        for version in log.checkpoints(log.contents(self.root / table)):
            named |= {place(path) for path, _ in self._files(table, version)}
        for entry in (self.root / table / log.FOLDER).glob("*.json"):
            with suppress(FileNotFoundError):  # cut off meanwhile: no version that is kept needs it
                adds = (action["add"]["path"] for action in log.actions(entry, table) if "add" in action)
                named |= {self.root / table / unquote(path) for path in adds}
        return named

    def read(
        self,
        table: str,
        days: Iterable[date] | None = None,
        where: Partition | None = None,
        columns: list[str] | None = None,
        rows: pc.Expression | None = None,
        version: int | None = None,
    ) -> pa.Table:
        """The rows as one Arrow table of the contract's types, partition columns (strings) last.

        `rows`, in terms of the columns read, keeps those it is true for; the others are dropped as they are read, so
        few rows of a large table take the memory of few.
        """
        return self.read_files(table, self.files(table, days, where, version), columns, rows)

    def read_files(
        self,
        table: str,
        files: Iterable[tuple[str, dict[str, str]]],
        columns: list[str] | None = None,
        rows: pc.Expression | None = None,
    ) -> pa.Table:
        """`read` of what `files` found."""
        spec = _spec(table)
        names = list(spec.columns) if columns is None else columns
        parts = []
        for path, values in files:
            part = read_part(path, table, names, rows)
            for key in spec.partition:
                part = part.append_column(key, pa.array([values[key]] * len(part), pa.string()))
            parts.append(part)
        if parts:
            return pa.concat_tables(parts)
        fields = [
            *(spec.schema.field(name) for name in names),
            *(pa.field(k, pa.string()) for k in spec.partition),
        ]
        return pa.schema(fields).empty_table()

    def history(self, table: str) -> list[dict[str, Any]]:
        """Commits, newest first, with the lineage each recorded."""
        return list(self._infos(table, self.version(table)))

    def lineage(self, table: str, partition: Partition, version: int | None = None) -> dict[str, Any] | None:
        """The lineage of the commit that last replaced a partition; None where it was never published.

        `version` is the newest commit that counts (the newest there is by default).
        """
        wanted = json.dumps(dict(partition), sort_keys=True)
        for info in self._infos(table, self.version(table) if version is None else version):
            if info.get("tidegate.partition") == wanted:
                return {k.removeprefix("tidegate."): v for k, v in info.items() if k.startswith("tidegate.")}
        return None

    def lineages(self, table: str, days: Iterable[date], version: int | None = None) -> dict[date, dict[str, Any]]:
        """Of a table of days, the lineage of the commit that last replaced each of these days, in one pass of the log.

        Days never published are not in it. `version` is the newest commit that counts (the newest there is by default).
        """
        wanted, found = set(days), dict[date, dict[str, Any]]()
        for info in self._infos(table, self.version(table) if version is None else version):
            partition = json.loads(info.get("tidegate.partition", "{}"))  # none: another engine tidied up
            day = date.fromisoformat(partition["day"]) if "day" in partition else None
            if day is not None and day in wanted - set(found):
                found[day] = {k.removeprefix("tidegate."): v for k, v in info.items() if k.startswith("tidegate.")}
            if len(found) == len(wanted):
                break
        return found

    # -- writing ----------------------------------------------------------------------------------
    def staging(self, table: str, run_id: str) -> Place:
        """A fresh folder inside the table for an engine's part files; invisible until published.

        Below it, part files lie as `day=2026-01-08/[mode=full/]part-….parquet` (what Spark's `partitionBy` writes):
        some Delta readers take partition values from the path.
        """
        folder = self.root / table / "parts" / f"{run_id}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        return folder

    def publish(
        self,
        table: str,
        partition: Partition,
        data: pa.Table | Iterable[Place],
        lineage: Lineage,
        base_version: int | None = None,
    ) -> int:
        """Replace one partition with `data` (an Arrow table, or part files below the table's folder); returns rows.

        One atomic commit. `base_version` is the version the writer started from (the newest now by default, `NEVER`
        where there was no table); where another run has committed to the same partition since then it raises
        `NotReady`, and nothing is replaced. Raises `Refused` where the data does not fit or the log cannot be read.
        """
        spec = _spec(table)
        if set(partition) != set(spec.partition):
            raise Misconfigured(f"table {table} is partitioned by {spec.partition}; found {dict(partition)}")
        if isinstance(data, pa.Table) or not (parts := list(data)):
            # A zero-row part keeps an empty day apart from a day that never came.
            table = data if isinstance(data, pa.Table) else spec.schema.empty_table()
            actions, rows = [self._write(spec, table, partition, lineage.run_id)], len(table)
        else:
            footers = {path: footer(path) for path in parts}
            for found in footers.values():
                conform(found.schema.to_arrow_schema().empty_table(), spec)
            counted = {path: int(found.num_rows) for path, found in footers.items()}
            actions = [self._add(spec, path, Object.of(path), n, partition) for path, n in counted.items()]
            rows = sum(counted.values())
        self._commit(spec, actions, partition, lineage, rows, base_version)
        return rows

    def _write(self, spec: Table, data: pa.Table, partition: Partition, run_id: str) -> AddAction:
        folder = self.staging(spec.name, run_id).joinpath(*(f"{key}={partition[key]}" for key in spec.partition))
        path = folder / "part-0.parquet"
        written = write_parquet(conform(data, spec), path, coerce_timestamps="us")
        return self._add(spec, path, written, len(data), partition)

    def _add(self, spec: Table, path: Place, stat: Object, rows: int, partition: Partition) -> AddAction:
        return AddAction(
            path=path.relative_to(self.root / spec.name).as_posix(),  # type: ignore[arg-type]  # both are of one kind
            size=stat.st_size,
            partition_values={key: partition[key] for key in spec.partition},
            modification_time=int(stat.st_mtime * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": rows}),
        )

    def _commit(
        self,
        spec: Table,
        actions: list[AddAction],
        partition: Partition,
        lineage: Lineage,
        rows: int,
        base_version: int | None,
    ) -> None:
        # Left to itself, delta-rs repeats a commit on top of a faster one: two first publications of a partition
        # would then both stay, every row twice. Here each repeat looks at what came in between.
        properties = CommitProperties(custom_metadata=lineage.properties(partition, rows), max_commit_retries=0)
        # On S3 to ask what is newest is a request: a stage, which says what it began with, hears it from its commit.
        delta = self._open(spec.name, None) if base_version is None else self._known(spec.name)
        base = _version(delta) if base_version is None else base_version
        for _ in range(COMMIT_TRIES):
            tried = _version(delta)
            if self._taken(spec.name, tried, base, partition, lineage.run_id):
                raise NotReady(
                    f"table {spec.name} {dict(partition)} needs to be as this run found it (version {base}); another "
                    "writer committed first and stays, nothing of this run was published there: run the stage again"
                )
            try:
                self._attempt(spec, actions, partition, properties, delta)
                self._own.add((spec.name, tried + 1, lineage.run_id))
                return
            except (DeltaError, OSError) as error:
                delta = self._open(spec.name, None)
                if self._landed(spec.name, actions, _version(delta), tried):
                    return
                if _version(delta) == tried:
                    raise log.blamed(f"table {spec.name} needs a log that takes commits", error) from error
        raise NotReady(f"table {spec.name} is too busy: {COMMIT_TRIES} commits collided; run the stage again")

    def _taken(self, table: str, newest: int, base: int, partition: Partition, run_id: str) -> bool:
        """Whether another run touched the partition after version `base`; also where the log no longer tells."""
        others = [version for version in range(newest, base, -1) if (table, version, run_id) not in self._own]
        try:
            entries = [self._entry(table, version) for version in others]
        except FileNotFoundError:
            return True
        return any(
            log.info(actions).get("tidegate.run_id") != run_id and _touches(actions, partition) for actions in entries
        )

    def _landed(self, table: str, parts: list[AddAction], newest: int, base: int) -> bool:
        """Whether the commit is in the log though nobody said so: S3's answer was lost, and the put was tried again."""
        mine = {part.path for part in parts}
        return any(
            "add" in action and unquote(action["add"]["path"]) in mine
            for actions in self._entries(table, newest, base)
            for action in actions
        )

    def _attempt(
        self,
        spec: Table,
        actions: list[AddAction],
        partition: Partition,
        properties: CommitProperties,
        delta: deltalake.DeltaTable | None,
    ) -> None:
        """One commit on top of exactly the version `delta` holds; raises delta-rs's error if somebody was faster."""
        fields = [*spec.schema, *(pa.field(k, pa.string(), nullable=False) for k in spec.partition)]
        schema = deltalake.Schema.from_arrow(pa.schema(fields))
        mirror = self._mirror(spec.name)
        hooks = KEEP_LOG if mirror is None else NO_MORE
        if delta is None:
            create_table_with_add_actions(
                str(self.root / spec.name if mirror is None else mirror.where),
                schema,
                actions,
                mode="error",
                partition_by=list(spec.partition),
                configuration=None if isinstance(self.root, Path) else log.CHECKPOINTS,
                storage_options=log.options(self.root) if mirror is None else None,
                commit_properties=properties,
                post_commithook_properties=hooks,
            )
        else:
            delta.create_write_transaction(
                actions,
                "overwrite",
                schema,
                list(spec.partition),
                [(key, "=", partition[key]) for key in spec.partition],
                commit_properties=properties,
                post_commithook_properties=hooks,
            )
        if mirror is not None:
            mirror.put(_version(delta) + 1)

    def _open(self, table: str, version: int | None) -> deltalake.DeltaTable | None:
        """The newest version is looked for each time, one that is named is kept open; of `NEVER` there is none."""
        name = _spec(table).name
        if version == NEVER:
            return None
        if version is None:
            return self._front(name)
        mirror = self._mirror(name)
        front = self._fronts.get(name) if mirror is None else mirror.seen
        if front is not None and front.version() == version:
            return front
        delta = self._opened.get((name, version)) or (mirror and mirror.at(version))
        delta = delta or log.opened(self.root, name, version)
        if delta is not None:
            self._opened[name, version] = delta
            self._opened.move_to_end((name, version))
            while len(self._opened) > SNAPSHOTS:
                self._opened.popitem(last=False)
        return delta

    def _mirror(self, table: str) -> Mirror | None:
        """Of a table on S3, where its log can be mirrored."""
        folder = self.root / table
        if table in self._fronts or not isinstance(folder, S3Path):
            return None
        if table not in self._mirrors:
            self._mirrors[table] = Mirror(folder)
        return self._mirrors[table]

    def _front(self, table: str) -> deltalake.DeltaTable | None:
        """A table as it is now: opened once, then moved on by what came since. The same object each time."""
        mirror = self._mirror(table)
        if mirror is not None:
            try:
                return mirror.now()
            except NotCopied:
                del self._mirrors[table]
        front = self._fronts.get(table)
        newest = None if front is None else log.newest(self.root / table, int(front.version()))
        if front is None or newest is None:
            front = self._fronts[table] = log.opened(self.root, table)
        elif newest > front.version():
            log.move_on(front, table)
        return front

    def _known(self, table: str) -> deltalake.DeltaTable | None:
        """A table on S3 as it was last seen, with this lake's own commits; elsewhere as it is now."""
        mirror = self._mirror(table)
        return mirror.seen if mirror is not None and mirror.seen is not None else self._open(table, None)

    def _entries(self, table: str, newest: int | None, base: int = NEVER) -> Iterator[log.Actions]:
        """As `log.entries`: those of S3 are read once."""
        return log.entries(NEVER if newest is None else newest, base, lambda version: self._entry(table, version))

    def _infos(self, table: str, newest: int | None) -> Iterator[dict[str, Any]]:
        """What each commit said of itself, newest first; of those that the log lacks, what is remembered of them."""
        yield from map(log.info, self._entries(table, newest))
        if newest is not None:
            yield from remembered.until(self.root / table, newest)

    def _entry(self, table: str, version: int) -> log.Actions:
        if isinstance(self.root, Path):
            return log.actions(self.root / table / log.FOLDER / log.ENTRY.format(version), table)
        if (table, version) not in self._read:
            if len(self._read) >= ENTRIES:
                self._read.clear()
            mirror = self._mirror(table)
            there = self.root / table / log.FOLDER / log.ENTRY.format(version)
            self._read[table, version] = log.actions(mirror.entry(version) if mirror else there, table)
        return self._read[table, version]

    def _files(self, table: str, version: int | None) -> list[log.File]:
        """The part files of a version, whether they can be read or not."""
        delta = self._open(table, version)
        return [] if delta is None else log.files(delta, self.root, table)


def _of_days(table: str, found: list[log.File], wanted: set[str], where: Partition | None) -> list[log.File]:
    """The files of some days; raises `NotReady` naming those that are not published."""
    have = sorted({values["day"] for _, values in found})
    missing = sorted(wanted - set(have))
    if missing:
        span = f"{have[0]}..{have[-1]}" if have else "nothing"
        parts = ", ".join(f"{name} {value}" for name, value in (where or {}).items() if name != "day")
        narrowed = f" of {parts}" if parts else ""
        never = if_never(missing[0]) if _spec(table).partition == ("day",) else ""
        raise NotReady(f"table {table}{narrowed} needs {', '.join(missing)}; published: {span}{never}")
    return [(path, values) for path, values in found if values["day"] in wanted]


def _version(delta: deltalake.DeltaTable | None) -> int:
    return NEVER if delta is None else int(delta.version())


def _touches(actions: list[dict[str, Any]], partition: Partition) -> bool:
    """Whether a log entry, whoever wrote it, adds rows to a partition or takes some away; its rows in other files are
    the same rows.
    """
    files = (action.get("add") or action.get("remove") or {} for action in actions)
    changed = (file for file in files if file.get("dataChange", True))
    return any(file.get("partitionValues") == dict(partition) for file in changed)


def _spec(table: str) -> Table:
    if table not in LAKE:
        raise Misconfigured(f"the lake has the tables {', '.join(LAKE)}; found {table!r}")
    return LAKE[table]


def midnight(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
