"""Everything a dataset is made of, found and checked before any engine starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.assemble import core
from jobs.config import DatasetSettings
from jobs.errors import Refused
from jobs.flow import FEATURES
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from jobs.moment.identity import IDENTIFYING, identities
from models.settings import TaskSettings

Files: TypeAlias = dict[str, list[str]]

ROWS_PER_BUCKET = 250_000
"""So many rows of one table meet in one call of a core: a few hundred MB in one Python worker, whatever the dataset."""


@dataclass(frozen=True)
class Inputs:
    """What an engine is handed; the same for each."""

    data: core.Dataset
    settings: DatasetSettings
    files: Files
    """Part files of impressions, labels, the feature tables, and `clicks`: labels of the days before too."""
    users: pa.Table
    items: pa.Table
    """`core.prefixed` snapshots."""
    identity: pa.Table
    """`jobs.moment.identity.IDENTITY`."""
    encodings: pa.Table
    """Every midnight's: a few thousand rows a day."""
    tasks: TaskSettings

    @property
    def last_train_day(self) -> date:
        """The day before the first held-out one."""
        return self.data.splits["train"][-1]

    def rows(self, table: str) -> int:
        """Rows of a table's part files."""
        return sum(pq.read_metadata(file).num_rows for file in self.files[table])

    def buckets(self, at_least: int) -> int:
        """Into how many buckets Spark spreads the rows, so that none outgrows a worker."""
        most = max(self.rows(table) for table in self.files)
        return max(at_least, -(-most // ROWS_PER_BUCKET))


def inputs(run: Run, data: core.Dataset, published: Sequence[date]) -> Inputs:
    """Raises `NotReady` for a missing day, `Refused` for features that claim to be earlier than they are."""
    settings = run.config.dataset
    files = _files(run, data, published)
    files["clicks"] = _click_files(run, data, published) if settings.selection.active_clicks else []
    (users, _), (items, identifying) = _snapshot(run, "user"), _snapshot(run, "item")
    known = [pq.ParquetFile(file).read(core.ENCODINGS.names).cast(core.ENCODINGS) for file in files["encodings"]]
    encodings = pa.concat_tables([core.ENCODINGS.empty_table(), *known])
    identity = identities(identifying, settings.selection)
    return Inputs(data, settings, files, users, items, identity, encodings, run.config.tasks)


def _files(run: Run, data: core.Dataset, published: Sequence[date]) -> Files:
    """Features are needed of every day with impressions from the one before the first example on; before the start of
    history there are none to need.
    """
    days = data.days
    files = {table: [path for path, _ in run.files(table, days)] for table in ("impressions", "labels")}
    first, last = days[0] - timedelta(days=1), days[-1] - timedelta(days=1)
    known = [day for day in published if first <= day <= last]
    for table in FEATURES:
        found = run.files(table, known)
        for path, partition in found:
            _refuse_early(path, table, date.fromisoformat(partition["day"]))
        files[table] = [path for path, _ in found]
    return files


def _refuse_early(path: str, table: str, day: date) -> None:
    """Raise `Refused` where a feature row of `day` claims to have been available before that day was over."""
    earliest = pc.min(pq.ParquetFile(path).read(["available_at"]).column(0)).as_py()
    if earliest is not None and earliest < midnight(day + timedelta(days=1)):
        raise Refused(f"{table} of {day} need available_at at or after the midnight that ends it; found {earliest}")


def _click_files(run: Run, data: core.Dataset, published: Sequence[date]) -> list[str]:
    """Labels whose clicks can have been known in the `active_days` before some train day."""
    train = data.splits["train"]
    reach = run.config.dataset.selection.active_days + run.config.attribution.click_window_days
    days = [day for day in published if train[0] - timedelta(days=reach) <= day <= train[-1]]
    return [path for path, _ in run.files("labels", days)]


def _snapshot(run: Run, key: str) -> tuple[pa.Table, pa.Table]:
    """`core.prefixed` attributes as of the run's day, and all that identifies; a source without the table has none."""
    table = f"{key}s"
    names = IDENTIFYING if key == "item" else [f"{key}_id", "attributes"]
    schema = pa.schema([LAKE[table].schema.field(name) for name in names])
    known = any(day <= run.day for day in run.published_days(table))
    snapshot = run.newest(table, names).select(names) if known else schema.empty_table()
    return core.prefixed(snapshot, key), snapshot
