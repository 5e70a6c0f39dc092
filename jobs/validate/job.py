"""`validate`: a day's raw tables are held against their suites, all before any is published.

Rows that break a critical expectation go to `quarantine` with its name, the reason and their content; a day whose
columns, figures or share of bad rows break one is refused whole. Days are taken oldest first, and the first refused day
ends the run. Earlier days whose raw files changed since (late arrivals) are taken again. What the suites found of a
day, refused or not, is left as Great Expectations results (`jobs.validate.results`).

A crash between two commits misleads nobody: of each table quarantine and profile are committed before the table itself,
and of the tables `impressions` comes last. Every stage downstream needs the day's impressions, so a first
publication that died half-way is `NotReady` there; one that died replacing a day is taken again by the next run, since
the raw files of the day are not those its commits name.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from functools import cache
from typing import Any, TypeAlias

from jobs import memory
from jobs.config import SparkSettings
from jobs.lake import raw
from jobs.lake.run import Run
from jobs.lake.tables import RAW
from jobs.places import Place, footer, place
from jobs.validate import results
from jobs.validate.batch import Before, Elsewhere, Found, Keys, Past, Report, Rules, Verdict, verdicts
from jobs.validate.columns import listed
from jobs.validate.suites import Finding, Suites

ROWS_PER_BUCKET = 500_000
"""So many rows of one table are judged in one call: a few hundred MB in one Python worker, however large the day."""
PARTS_AT_ONCE = 200
"""Days times buckets of one job: what they found is what the driver holds at once."""
BYTES_A_ROW = 1_200
"""Of memory that one process takes for a row of a day, of any table."""
Files: TypeAlias = Mapping[date, Mapping[str, list[Place]]]
"""Of each day and raw table."""
PUBLISHED = tuple(sorted(RAW, key=lambda table: table == "impressions"))
"""The order in which a day's tables are committed."""


def run(run: Run) -> dict[str, Any]:
    """Publish the validated tables of `run.days`, and again those of earlier days that changed; returns counts."""
    lake = run.config.lake.raw
    # A day that has not come is said before any work; one that has is judged as it was first seen.
    files = {day: raw.refuse_missing(lake, day, run.config.source.daily) for day in run.days}
    again = _changed(run)
    files |= {day: {table: raw.files(lake, table, day) for table in RAW} for day in again}
    days = [*again, *run.days]
    rules = Rules(Suites(tuple(RAW)), run.config.validation.max_quarantine_share, run.config.attribution.click_days)
    has_aside = {(p["day"], p["table"]) for p in run.partitions("quarantine")}
    totals: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    run.say(f"{days[0]}..{days[-1]}: days through the suites: {len(days)}")

    def read(table: str, day: date) -> raw.RawDay:
        return raw.read_files(files[day][table])

    with ExitStack() as session:
        report = session.enter_context(_Told(run))
        elsewhere = _elsewhere(run, rules, files, session)
        for day, tables in verdicts(rules, days, read, _past(run), report, elsewhere):
            report.write()
            for table in PUBLISHED:
                verdict = tables[table]
                _publish(run, table, day, verdict, (day.isoformat(), table) in has_aside)
                totals.update(verdict.counts())
                failed.update({f"{table}.{name}": n for name, n in verdict.failed().items()})
            run.say(_line(day, tables))
    return {
        "days": len(run.days),
        "revisited": [day.isoformat() for day in again],
        **totals,
        "failed": dict(sorted(failed.items())),
    }


class _Told:
    """What the suites found last of a table and day, written once: when the day is judged, or refused."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._findings: dict[tuple[str, date], Sequence[Finding]] = {}

    def __call__(self, table: str, day: date, findings: Sequence[Finding]) -> None:
        self._findings[table, day] = findings

    def write(self) -> None:
        """Put what was told since the last time."""
        for (table, day), findings in self._findings.items():
            results.write(self._run.config.lake.results, table, day, findings, self._run.run_id)
        self._findings.clear()

    def __enter__(self) -> "_Told":
        return self

    def __exit__(self, *_: object) -> None:
        self.write()


def _elsewhere(run: Run, rules: Rules, files: Files, stack: ExitStack) -> Elsewhere:
    """Takes days of too many rows for one process to Spark, all in one session that `stack` closes."""
    settings = run.config.spark
    opened: list[Any] = []

    @cache  # a day is looked at by every range that ends before it
    def rows_of(day: date) -> dict[str, int]:
        return {table: raw.rows(paths) for table, paths in files[day].items()}

    def judge(days: Sequence[date], before: Callable[[date], Before], report: Report) -> Found | None:
        taken, buckets = one_job(days, rows_of, settings, memory.at_hand())
        if not taken:
            return None
        from jobs.spark import session
        from jobs.validate import spark as distributed

        if not opened:
            opened.append(stack.enter_context(session(settings, "validate")))
        run.say(f"{taken[0]}..{taken[-1]}: {len(taken)} days in {buckets} buckets, on Spark")
        large = distributed.Large(
            files={day: files[day] for day in taken},
            fingerprints={
                day: {table: raw.fingerprint_of(paths) for table, paths in files[day].items()} for day in taken
            },
            folders={table: run.staging(table) for table in (*RAW, "quarantine")},
        )
        return distributed.judge_days(opened[0], rules, large, before, report, buckets)

    return judge


def one_job(
    days: Sequence[date], rows_of: Callable[[date], Mapping[str, int]], settings: SparkSettings, at_hand: int
) -> tuple[list[date], int]:
    """The first of the days that are large, as many as one job takes, and in how many buckets; none of a small first.

    `rows_of` counts a day's rows by table; `at_hand` is memory in bytes.
    """
    rows: Counter[str] = Counter()
    taken: list[date] = []
    buckets = 0
    for day in days:
        of_day = rows_of(day)
        if not settings.distributes(sum(of_day.values()), BYTES_A_ROW, at_hand):
            break
        more = settings.buckets(max((rows + Counter(of_day)).values(), default=0), ROWS_PER_BUCKET)
        if taken and more * (len(taken) + 1) > PARTS_AT_ONCE:
            break
        rows.update(of_day)
        taken, buckets = [*taken, day], more
    return taken, buckets


def _changed(run: Run) -> list[date]:
    """Published days just before the run's own whose raw files are not those they were published from."""
    first = run.days[0]
    before = [first - timedelta(days=n) for n in range(run.config.attribution.late_days, 0, -1)]
    published = set(run.published_days("impressions"))
    lake = run.config.lake.raw
    return [
        day
        for day in before
        if day in published
        and raw.arrived(lake, day, run.config.source.daily)
        and any(raw.fingerprint(lake, table, day) != _published_from(run, table, day) for table in RAW)
    ]


def _published_from(run: Run, table: str, day: date) -> str | None:
    """The fingerprint of the raw files a table of a day was last published from."""
    lineage = run.lineage(table, {"day": day.isoformat()})
    return None if lineage is None else json.loads(lineage["notes"]).get("raw_files")


def _publish(run: Run, table: str, day: date, verdict: Verdict, has_aside: bool) -> None:
    """What was set aside and what the good rows look like, then the rows themselves."""
    counts = verdict.counts()
    notes = {
        "raw_files": verdict.raw_files,
        "failed": json.dumps(verdict.failed(), sort_keys=True),
        "warnings": json.dumps(verdict.warnings(), sort_keys=True),
    }
    about = {"day": day.isoformat(), "table": table}
    if verdict.judged.aside_rows or has_aside:
        run.publish("quarantine", about, verdict.judged.aside, counts, notes)
    run.publish("profiles", about, verdict.profile, counts, notes)
    run.publish(table, {"day": day.isoformat()}, verdict.judged.good, counts, notes)


def _line(day: date, tables: dict[str, Verdict]) -> str:
    good = ", ".join(f"{table} {verdict.judged.good_rows}" for table, verdict in tables.items())
    aside = sum(verdict.judged.aside_rows for verdict in tables.values())
    failed = sorted(f"{table}.{name}" for table, verdict in tables.items() for name in verdict.failed())
    left = [f"{table}.{name}" for table, verdict in tables.items() for name in verdict.unknown]
    read = f"; columns left out: {listed(left)}" if left else ""
    return f"{day}: {good}; set aside {aside}; failed: {', '.join(failed) or 'none'}{read}"


def _past(run: Run) -> Past:
    """What earlier runs published."""
    published = {table: set(run.published_days(table)) for table in RAW}

    def keys(table: str, day: date) -> Keys | None:
        return tuple(place(path) for path, _ in run.files(table, [day])) if day in published[table] else None

    def rows(table: str, day: date) -> int | None:
        if day not in published[table]:
            return None
        return int(sum(footer(path).num_rows for path, _ in run.files(table, [day])))

    return Past(keys, rows)
