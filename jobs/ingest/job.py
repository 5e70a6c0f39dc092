"""`ingest`: a source's own files become the raw lake, a day at a time; what arrived late joins the day it belongs to.

Running a day again replaces only that day's own files, with the same rows. What a source gives some at once is
written so: `mapped` is read in order of time, whatever a day has, and of files that have `spark.from_rows` rows or more
Spark's workers write the hours. Samples of real logs and the simulated world are whole days in memory. An incremental
reader of a team's own store is one class with the methods of `jobs.sources.Source`.
"""

from collections import Counter
from datetime import date, timedelta
from functools import partial
from typing import Any

from jobs.ingest import hours
from jobs.lake import raw_writer
from jobs.lake.run import Run
from jobs.lake.tables import Streams
from jobs.parcels.workers import started
from jobs.sources import LATE_DAYS, Source, open_source


def run(run: Run) -> dict[str, Any]:
    """Write `run.days` to the raw lake; returns counts."""
    source = open_source(run.config)
    live = late = 0
    if run.since is None and not raw_writer.has_day(run.config.lake.raw, run.day):  # a day once written is history
        live = source.go_live(run.day)
    for day in run.days:
        tables = source.day(day)
        if tables is None:
            run.say(f"{day}: already in the raw lake")
            continue
        with raw_writer.alone(run.config.lake.raw):
            rows = _write_own(run, day, tables)
            late += _write_late(run, source, day)
        run.rows += sum(rows.values())
        run.say(f"{day}: {sum(rows.values())} rows, {rows['impressions']} impressions")
    run.rows += late
    return {"source": run.config.source.name, "days": len(run.days), "late_rows": late, "live_requests": live}


def _write_own(run: Run, day: date, tables: Streams) -> Counter[str]:
    """Replace the day's own rows: this process, or with it Spark's workers those of large tables."""
    parts = hours.parts_of(tables, run.config.spark)
    if not parts:
        return raw_writer.write_day(run.config.lake.raw, day, tables)
    run.say(f"{day}: in parts: {', '.join(f'{name} {len(of)}' for name, of in parts.items())}")
    with started(run, sum(map(len, parts.values()))):
        return raw_writer.write_day(run.config.lake.raw, day, tables, partial(hours.laid, parts=parts, each=run.each))


def _write_late(run: Run, source: Source, day: date) -> int:
    """Lay the day's late events beside the days they belong to, and beside it what later days brought.

    Every file again, there or not: a run that died may have left some of them.
    """
    lake = run.config.lake.raw
    pairs = [(day - timedelta(days=n), day) for n in range(1, LATE_DAYS + 1)]
    pairs += [(day, later) for later in raw_writer.days_after(day, LATE_DAYS)]
    rows = 0
    for own, arrived in pairs:
        if raw_writer.has_day(lake, own) and raw_writer.has_day(lake, arrived):
            rows += raw_writer.write_late(lake, own, arrived, source.late(own, arrived))
    return rows
