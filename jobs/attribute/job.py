"""`labels`: what came of every impression, for the run's days and the earlier days that changed since."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import chain
from typing import Any

import pyarrow as pa

from jobs import memory
from jobs.attribute import core
from jobs.attribute.told import Told, by_day, put
from jobs.config import AttributionSettings
from jobs.lake.parts import read_part, whole
from jobs.lake.run import Run
from jobs.lake.tables import LAKE
from jobs.places import Place, footer, listed
from models.settings import whole_days

REPORTED = ("impressions", "clicked", "converted", "attributed", "unattributed", "duplicates", "late")

ROWS_PER_BUCKET = 500_000
"""So many events of one table meet in one call on Spark: a few hundred MB in one Python worker, however many days."""
BYTES_A_ROW = 500
"""Of memory that one process takes for an event it reads, its label included."""
Parts = dict[date, list[str]]
"""Part files by day."""


def run(run: Run) -> dict[str, Any]:
    """Publish the labels of the run's days, and of the earlier days whose labels events known since have changed.

    A purchase can come `late_days` after its own day, and reach back from there to impressions a window and a click
    window before: those days are computed again together with the run's, and published only if their rows differ. Days
    before the first published one are simply absent; events of days after the run's, where a rerun finds them
    published, count as well.
    """
    parts = {table: _parts(run, table) for table in ("clicks", "purchases")}
    anonymous = any(_has_nulls(file, "user_id") for file in chain.from_iterable(parts["clicks"].values()))
    parts["impressions"] = _parts(run, "impressions", anonymous)
    if run.config.outcomes:
        parts["feedback"] = _parts(run, "feedback")
    days = [day for day in _computed(run) if day in parts["impressions"]]
    events = sum(_row_count(chain.from_iterable(found.values())) for found in parts.values())
    distributed = run.config.spark.distributes(events, BYTES_A_ROW, memory.at_hand())
    engine = on_spark if distributed else in_one_process
    run.say(f"labels of {len(days)} days to compute, {days[0]}..{days[-1]}, from {events} events: {engine.__name__}")
    staging, there = run.staging("labels"), run.published_days("labels")
    published = [day for day in days if day in there and day not in run.days]
    parts["labels"] = {day: [path for path, _ in run.files("labels", [day])] for day in published}
    told = engine(run, parts, days, staging)
    run.say("labels are computed")
    totals, republished = Counter[str](), []
    for day in days:
        if day in published and str(day) not in told.changed:
            continue
        counts = told.of_day(str(day))
        counts["duplicates"] = _copies(parts, day, counts)
        files = listed(staging / f"day={day}", "*.parquet")
        run.publish("labels", {"day": day.isoformat()}, files, dict(counts))
        if day in run.days:
            totals.update(counts)
        else:
            republished.append(day.isoformat())
    run.say(f"published {len(run.days)} days, and {len(republished)} earlier ones that changed")
    return {**{name: totals[name] for name in REPORTED}, "republished": republished}


def in_one_process(run: Run, parts: Mapping[str, Parts], days: list[date], folder: Place) -> Told:
    """Write each day's labels below `folder`."""
    events = {
        table: _read(table, columns, chain.from_iterable(parts[table].values()))
        for table, columns in core.LOOKED_AT.items()
        if table in parts
    }
    labels, earned = core.attribute(**events, settings=run.config.attribution, outcomes=run.config.outcomes)
    told = [Told.of({}, {}, core.counted(earned), run.config.outcomes)]
    for day, rows in by_day(labels, map(str, days)).items():
        put(rows, folder / f"day={day}" / "part-0.parquet")
        files = parts["labels"].get(date.fromisoformat(day))
        there = {} if files is None else {day: _read("labels", LAKE["labels"].schema.names, files)}
        told.append(Told.of({day: rows}, there, core.COUNTED.empty_table(), run.config.outcomes))
    return Told.whole(told)


def on_spark(run: Run, parts: Mapping[str, Parts], days: list[date], folder: Place) -> Told:
    """The same rows, by Spark."""
    from jobs.attribute.spark import write_labels
    from jobs.spark import session

    events = {table: sorted(chain.from_iterable(found.values())) for table, found in parts.items()}
    with session(run.config.spark, run.stage.name) as spark:
        run.say("Spark is up")
        names, published = ([day.isoformat() for day in some] for some in (days, parts["labels"]))
        rules, rows = (run.config.attribution, run.config.outcomes), max(map(_row_count, events.values()))
        buckets = run.config.spark.buckets(rows, ROWS_PER_BUCKET)
        return write_labels(spark, events, names, published, *rules, buckets, folder)


def _read(table: str, columns: Sequence[str], files: Iterable[str]) -> pa.Table:
    return whole(table, columns, (read_part(file, table, columns) for file in files))


def _computed(run: Run) -> list[date]:
    """The run's days, and those before them whose labels an event known since may change."""
    reach = max(_reach_days(run.config.attribution), _widest_days(run.config.outcomes))
    first = run.days[0] - timedelta(days=run.config.attribution.late_days + reach)
    return [first + timedelta(days=n) for n in range((run.day - first).days + 1)]


def _reach_days(settings: AttributionSettings) -> int:
    """From an impression to the last purchase it can earn."""
    return settings.click_days + settings.purchase_days


def _widest_days(outcomes: core.Outcomes) -> int:
    """The longest window of a further outcome."""
    return max((whole_days(of.span) for of in outcomes.values()), default=0)


def read_days(
    table: str,
    first: date,
    last: date,
    settings: AttributionSettings,
    anonymous: bool = True,
    outcomes: core.Outcomes = core.NONE,
) -> tuple[date, date]:
    """The days of an event table (both included) that can tell in any way on the labels of `first`..`last`.

    A purchase is shared among the clicks of a window before it, the latest of which may lie a click window after the
    impression; an anonymous click's user is known from its impression, a click window from it either side (without
    such clicks fewer impressions tell); and whether an event counts is told by copies up to `late_days` away. An event
    of a further outcome lies within its window either side of its impression, and may name another one that far away.
    """
    window, click_window, late = settings.purchase_days, settings.click_days, settings.late_days
    before = {"purchases": click_window, "clicks": click_window + window}
    widest = _widest_days(outcomes)
    before["impressions"] = max(2 * click_window + window if anonymous else click_window, widest)
    before["feedback"] = widest
    reach_days = _reach_days(settings)
    after = {"purchases": reach_days, "clicks": reach_days, "feedback": widest}
    after["impressions"] = max(reach_days + click_window, 2 * widest)
    reach = timedelta(days=after[table] + late)
    return first - timedelta(days=before[table] + late), last + reach


def _parts(run: Run, table: str, anonymous: bool = True) -> Parts:
    """The part files the computed days depend on; raises `NotReady` where one of the run's own days is missing."""
    run.files(table, run.days)
    rules = run.config.attribution, anonymous, run.config.outcomes
    first, last = read_days(table, _computed(run)[0], run.day, *rules)
    found: Parts = {}
    for path, partition in run.files(table):
        day = date.fromisoformat(partition["day"])
        if first <= day <= last:
            found.setdefault(day, []).append(path)
    return found


def _copies(parts: Mapping[str, Parts], day: date, counts: Mapping[str, int]) -> int:
    """How many rows of a day's events were further copies of one already counted; of `feedback` nobody counts them."""
    rows = sum(_row_count(parts[table].get(day, [])) for table in core.COLUMNS)
    return rows - sum(counts[name] for name in ("impressions", "clicks", "attributed", "unattributed"))


def _has_nulls(file: str, name: str) -> bool:
    """Whether a column of a part file may hold a null; yes, where the file does not say."""
    metadata = footer(file)
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    columns = [group.column(n) for group in groups for n in range(group.num_columns)]
    told = [column.statistics for column in columns if column.path_in_schema == name]
    return any(one is None or one.null_count is None or one.null_count > 0 for one in told)


def _row_count(files: Iterable[str]) -> int:
    return sum(footer(file).num_rows for file in files)
