"""One run of one stage: what it may read and write, for which days, and the lineage of all it publishes."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property, partial
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import ROOT, Config
from jobs.errors import NotReady
from jobs.flow import Read, Stage
from jobs.lake import parts
from jobs.lake.store import NEVER, Lake, Lineage, Partition
from jobs.lake.tables import LAKE
from jobs.places import Place

Mode = Literal["full", "warm"]
R = TypeVar("R")
Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""What a function says of each item, in their order."""


@dataclass(frozen=True)
class Approval:
    """A person's yes: who, why, and what was read (a sha256, or its first digits); empty where nobody said so."""

    by: str = ""
    why: str = ""
    evidence_sha256: str = ""
    bundle_sha256: str = ""
    champion_sha256: str = ""
    """Of the champion the evidence compares with; the word none where no model was live."""


@cache
def code_version() -> str:
    """The commit the code runs from (`+` if the tree differs from it), or `unversioned` outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unversioned"


@dataclass
class Run:
    """Handed to a stage's `run(run)`: settings, the day, and the only way to the lake.

    `days` is `since..day` (just `day` without `since`); a stage publishes each of them separately. Tables, columns and
    days that `jobs.flow` does not name for the stage raise `PermissionError`: a bug, not an operating condition. Each
    table is seen at one version, the first this run met.
    """

    stage: Stage
    config: Config
    day: date
    since: date | None = None
    mode: Mode = "full"
    approval: Approval = Approval()
    step: str | None = None
    """Of a release: as far as `deploy` shall go (None: to the end), or the one that `watch` watches."""
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    rows: int = 0
    """Rows published so far."""
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    each: Each = map
    """Who goes through files: this process, one after another, or workers (`jobs.parcels.workers`)."""
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._lake = Lake(self.config.lake.root)
        # The versions this run starts from: a partition somebody else replaces meanwhile is theirs.
        found = {table: self._lake.version(table) for table in self.stage.writes if table != "raw"}
        self.outputs = {table: NEVER if version is None else version for table, version in found.items()}
        self._first = dict(self.outputs)  # one look serves reading too

    @property
    def days(self) -> list[date]:
        """The days to publish, oldest first."""
        first = self.since or self.day
        return [first + timedelta(days=n) for n in range((self.day - first).days + 1)]

    @cached_property
    def _config_hash(self) -> str:
        """As the settings were when it was first published."""
        return self.config.digest(self.stage.name)

    @property
    def partition(self) -> dict[str, str]:
        """This run's own partition of a table of models: its day and mode."""
        return {"day": self.day.isoformat(), "mode": self.mode}

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """One line of progress with the seconds since the start, on stderr."""
        print(f"[{self.stage.name} {self.seconds:6.1f}s] {text}", file=sys.stderr, flush=True)

    # -- reading ----------------------------------------------------------------------------------
    def read(
        self,
        table: str,
        days: Iterable[date] | None = None,
        where: Partition | None = None,
        columns: list[str] | None = None,
        rows: pc.Expression | None = None,
    ) -> pa.Table:
        """`Lake.read` at the version this run first saw, remembered as lineage."""
        found = self.files(table, days, where, LAKE[table].columns if columns is None else columns)
        return self._lake.read_files(table, found, columns, rows)

    def batches(
        self, table: str, days: Iterable[date] | None, where: Partition | None, columns: list[str]
    ) -> Iterator[pa.Table]:
        """The rows of `read` in order, some at once."""
        paths = [path for path, _ in self.files(table, days, where, columns)]
        return (batch for path in paths for batch in parts.batches(path, table, columns))

    def told(
        self,
        table: str,
        days: Iterable[date] | None,
        columns: list[str],
        function: Callable[[Iterator[pa.Table]], R],
    ) -> Iterator[R]:
        """What `function` tells of each part file of `read`, in their order, of rows that come some at once; by `each`.

        It looks at no other file, and what it tells must be little beside what it reads: it may come from elsewhere.
        """
        paths = [path for path, _ in self.files(table, days, None, columns)]
        return self.each(partial(parts.told, function, table, columns), paths)

    def _may_read(self, table: str, columns: Iterable[str]) -> None:
        for column in columns:
            if not self._reads(table).takes(column):
                raise PermissionError(f"jobs.flow does not let {self.stage.name} read {table}.{column}")

    def files(
        self,
        table: str,
        days: Iterable[date] | None = None,
        where: Partition | None = None,
        columns: Iterable[str] = (),
    ) -> list[tuple[str, dict[str, str]]]:
        """`Lake.files` at the version this run first saw, remembered as lineage; `columns` are to be read of them."""
        self._may_read(table, columns)
        found = self._lake.files(table, days, where, version=self._seen(table))
        allowed = self._reads(table).days
        own = {day.isoformat() for day in self.days}
        for _, values in found if allowed not in ("around", "ever") else ():
            if values["day"] > self.day.isoformat() or (allowed == "day" and values["day"] not in own):
                raise PermissionError(
                    f"jobs.flow lets {self.stage.name} read {allowed} of {table}; found {values['day']}"
                )
        return found

    def published_days(self, table: str) -> list[date]:
        """The days of a table, at the version this run first saw."""
        return self._lake.days(table, version=self._seen(table))

    def lineages(self, table: str, days: Iterable[date]) -> dict[date, dict[str, Any]]:
        """`Lake.lineages` at the version this run first saw, remembered as lineage."""
        return self._lake.lineages(table, days, self._seen(table))

    def newest(self, table: str, columns: list[str] | None = None, day: date | None = None) -> pa.Table:
        """A snapshot table as of `day` (the run's by default): its newest published day at or before it.

        Raises `NotReady` where there is none.
        """
        at = day or self.day
        days = [d for d in self.published_days(table) if d <= at]
        if not days:
            raise NotReady(f"table {table} needs a day at or before {at}; found none")
        return self.read(table, [days[-1]], columns=columns)

    def partitions(self, table: str) -> list[dict[str, str]]:
        """`Lake.partitions` at the version this run first saw."""
        return self._lake.partitions(table, version=self._seen(table))

    def lineage(self, table: str, partition: Partition) -> dict[str, Any] | None:
        """`Lake.lineage` of the commits up to the version this run first saw."""
        return self._lake.lineage(table, partition, self._seen(table))

    def _reads(self, table: str) -> Read:
        found = self.stage.read_of(table)
        if found is None:
            raise PermissionError(f"jobs.flow does not let {self.stage.name} read {table}")
        return found

    def _seen(self, table: str) -> int:
        """The version at which this run sees a table: `NEVER` where it was not there yet, and that is no lineage."""
        self._reads(table)
        if table in self.inputs:
            return self.inputs[table]
        if table not in self._first:
            version = self._lake.version(table)
            self._first[table] = NEVER if version is None else version
        if self._first[table] != NEVER:
            self.inputs[table] = self._first[table]
        return self._first[table]

    # -- writing ----------------------------------------------------------------------------------
    def publish(
        self,
        table: str,
        partition: Partition,
        data: pa.Table | Sequence[Place],
        counts: Mapping[str, int] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> int:
        """Replace one partition in one commit that carries this run's lineage; returns its rows."""
        if table not in self.stage.writes:
            raise PermissionError(f"jobs.flow does not let {self.stage.name} write {table}")
        lineage = Lineage(
            stage=self.stage.name,
            run_id=self.run_id,
            code_version=code_version(),
            config_hash=self._config_hash,
            inputs=self.inputs,
            counts=counts or {},
            notes=notes or {},
        )
        rows = self._lake.publish(table, partition, data, lineage, base_version=self.outputs[table])
        self._first.pop(table, None)  # whoever reads the table only now sees what was published
        self.rows += rows
        return rows

    def staging(self, table: str) -> Place:
        """A fresh folder for an engine's part files of `table`."""
        if table not in self.stage.writes:
            raise PermissionError(f"jobs.flow does not let {self.stage.name} write {table}")
        return self._lake.staging(table, self.run_id)


def now() -> datetime:
    """The wall clock, for ledger entries only: no row of data depends on it, but for how much risk a look may spend."""
    return datetime.now(UTC)
