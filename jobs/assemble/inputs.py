"""Where everything that a dataset is made of lies, found and checked before any engine starts."""

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
from jobs.lake.parts import read_part
from jobs.lake.run import Run
from jobs.lake.tables import LAKE, TIME
from jobs.places import footer, parquet
from models.settings import TaskSettings

Files: TypeAlias = dict[str, list[str]]

AVAILABLE = "available_at"
ROWS_PER_BUCKET = 250_000
"""So many rows of one table meet in one call of a core: a few hundred MB in one Python worker, whatever the dataset."""


@dataclass(frozen=True)
class Inputs:
    """What an engine is handed; the same for each."""

    data: core.Dataset
    settings: DatasetSettings
    files: Files
    """Part files of impressions, labels, the feature tables, the newest snapshots of users and items, and `clicks`:
    labels of the days before too.
    """
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
    files |= {table: _snapshot(run, table) for table in ("users", "items")}
    return Inputs(data, settings, files, instants(available), run.config.tasks)


def read(files: Sequence[str], schema: pa.Schema) -> pa.Table:
    """All rows of part files."""
    parts = (parquet(file).read(schema.names).select(schema.names).cast(schema) for file in files)
    return pa.concat_tables([schema.empty_table(), *parts])


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
    """Each feature table's earliest and latest `available_at` of a day, file by file."""
    paths = {table: [path for path, of in parts if of["day"] == day.isoformat()] for table, parts in found.items()}
    return {table: pa.chunked_array(list(map(_span, mine)), TIME) for table, mine in paths.items()}


def _span(path: str) -> pa.Array:
    """The earliest and the latest `available_at` of a part file as its footer tells them; all, where that does not."""
    told = footer(path)
    if not told.num_rows:
        return pa.array([], TIME)
    groups = [told.row_group(n) for n in range(told.num_row_groups)]
    columns = [group.column(n) for group in groups for n in range(group.num_columns)]
    spans = [column.statistics for column in columns if column.path_in_schema == AVAILABLE]
    if len(spans) < len(groups) or not all(span is not None and span.has_min_max for span in spans):
        return parquet(path).read([AVAILABLE]).column(0).combine_chunks().cast(TIME)
    return pa.array([time for span in spans for time in (span.min, span.max)], TIME)


def _click_files(run: Run, data: core.Dataset, published: Sequence[date]) -> list[str]:
    """Labels whose clicks can have been known in the `active_days` before some train day."""
    train = data.splits["train"]
    reach = run.config.dataset.selection.active_days + run.config.attribution.click_days
    days = [day for day in published if train[0] - timedelta(days=reach) <= day <= train[-1]]
    return [path for path, _ in run.files("labels", days)]


def _snapshot(run: Run, table: str) -> list[str]:
    """The part files of a snapshot table as of the run's day; a source without the table has none."""
    days = [day for day in run.published_days(table) if day <= run.day]
    return [path for path, _ in run.files(table, days[-1:])]


def snapshot(files: Sequence[str], table: str, columns: Sequence[str]) -> pa.Table:
    """The rows of a snapshot; raises as `jobs.lake.parts.read_part` does."""
    schema = pa.schema([LAKE[table].schema.field(name) for name in columns])
    return pa.concat_tables([schema.empty_table(), *(read_part(path, table, columns) for path in files)])
