"""Everything a dataset is made of, found and checked before any engine starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeAlias

import pyarrow as pa

from jobs.asof.clock import instants, published_at, refuse_early
from jobs.asof.core import Indices
from jobs.assemble import core
from jobs.config import DatasetSettings, SparkSettings
from jobs.flow import FEATURES
from jobs.lake.run import Run
from jobs.lake.tables import LAKE, TIME
from jobs.moment.identity import IDENTIFYING, identities
from jobs.places import footer, parquet
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
    """Every publication's: a few thousand rows a day."""
    publications: Indices
    """When each publication the rows may see became available, see `jobs.asof.clock.instants`."""
    tasks: TaskSettings

    @property
    def last_train_day(self) -> date:
        """The day before the first held-out one."""
        return self.data.splits["train"][-1]

    def rows(self, table: str) -> int:
        """Rows of a table's part files."""
        return sum(footer(file).num_rows for file in self.files[table])

    def buckets(self, settings: SparkSettings) -> int:
        """Into how many buckets Spark spreads the rows, so that none outgrows a worker."""
        return settings.buckets(max(self.rows(table) for table in self.files), ROWS_PER_BUCKET)


def inputs(run: Run, data: core.Dataset, published: Sequence[date]) -> Inputs:
    """Raises `NotReady` for a missing day, `Refused` for features that claim to be earlier than they are."""
    settings = run.config.dataset
    files, available = _files(run, data, published)
    files["clicks"] = _click_files(run, data, published) if settings.selection.active_clicks else []
    (users, _), (items, identifying) = _snapshot(run, "user"), _snapshot(run, "item")
    known = [parquet(file).read(core.ENCODINGS.names).cast(core.ENCODINGS) for file in files["encodings"]]
    encodings = pa.concat_tables([core.ENCODINGS.empty_table(), *known])
    identity = identities(identifying, settings.selection)
    publications = instants(available)
    return Inputs(data, settings, files, users, items, identity, encodings, publications, run.config.tasks)


def _files(run: Run, data: core.Dataset, published: Sequence[date]) -> tuple[Files, list[datetime]]:
    """The part files of each table, and when each feature day became available.

    Features are needed of every day with impressions from the newest on that the first example's day began with; before
    the start of history there are none to need.
    """
    days = data.days
    files = {table: [path for path, _ in run.files(table, days)] for table in ("impressions", "labels")}
    first = max((day for day in published if day < days[0] - timedelta(days=1)), default=days[0] - timedelta(days=1))
    known = [day for day in published if first <= day < days[-1]]
    found = {table: run.files(table, known) for table in FEATURES}
    files |= {table: [path for path, _ in parts] for table, parts in found.items()}
    available = {day: _available(found, day) for day in known}
    for day, columns in available.items():
        refuse_early(day, columns, run.config.features)
    return files, [published_at(day, columns, run.config.features) for day, columns in available.items()]


def _available(found: Mapping[str, Sequence[tuple[str, dict[str, str]]]], day: date) -> dict[str, pa.ChunkedArray]:
    """Each feature table's `available_at` of a day."""
    paths = {table: [path for path, of in parts if of["day"] == day.isoformat()] for table, parts in found.items()}
    return {
        table: pa.chunked_array(
            [chunk for path in mine for chunk in parquet(path).read(["available_at"]).column(0).chunks], TIME
        )
        for table, mine in paths.items()
    }


def _click_files(run: Run, data: core.Dataset, published: Sequence[date]) -> list[str]:
    """Labels whose clicks can have been known in the `active_days` before some train day."""
    train = data.splits["train"]
    reach = run.config.dataset.selection.active_days + run.config.attribution.click_days
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
