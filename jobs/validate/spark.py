"""Days too large for one process: the same suites in hash buckets, one Spark job for a range of days and all tables.

    requests      impressions' places and requests, by request: facts of slates; the requests are judged
    by id         those facts, impressions and clicks, by impression: judged, and what clicks need of them;
                  purchases, feedback, items and users, by their own ids: judged;
                  ids that are named and ids that snapshots list, by id: which are known
    clicks        with that, by click: judged

The middle step is of one piece because a worker is sent all that was sent together, whatever it asks for.

A bucket takes its days in their order, since a day is held against the good rows of the days before it; it writes the
good rows and those set aside as part files, and tells sums (`jobs.validate.buckets`). The driver adds those up, and
only then is each day refused or published. Workers read the files (`jobs.lake.raw`): what they refuse, is refused.

The driver holds paths, counts and sums, however many rows there are: ids of the days, of snapshots and of earlier days
are read by workers and meet in shuffles. Only earlier days that one process has judged, few rows by that, pass through.

One process decides one thing otherwise: two impressions of one id in different requests are counted at one place, here
at both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from jobs.errors import NotReady, Refused
from jobs.flow import SNAPSHOTS
from jobs.lake import raw
from jobs.lake.parts import read_part
from jobs.lake.tables import RAW, TIME
from jobs.parcels.spark import Out, Rows, Steps
from jobs.places import Place
from jobs.validate import core, facts
from jobs.validate.batch import Before, Found, Keys, Report, Rules, Verdict, key_columns, unreported
from jobs.validate.buckets import (
    AROUND,
    ASKED,
    CLICKED,
    DAY,
    EARLIER,
    FOUND,
    PLACED,
    ROW,
    SHOWN,
    Judge,
    Piece,
    contract,
    heard,
    placed_in_time,
    references,
)
from jobs.validate.columns import filled, holds_nothing, shape, shaped
from jobs.validate.figures import Moments
from jobs.validate.references import LISTED, NAMED, listed_in, named_in
from jobs.validate.suites import Finding, Suites

WHOLE = ("impressions", "clicks", "purchases", "feedback", "items", "users")
"""Tables that are sent once, whole; requests are too, before them."""
OTHERS = WHOLE[2:]
PLACES = replace(
    RAW["impressions"], columns={name: RAW["impressions"].columns[name] for name in PLACED}, extra_prefix=None
)
BY_ID = ("id",)
Columns = tuple[list[Finding], tuple[str, ...]]
"""The findings about the columns of all files of a table and day, and the names that are not known."""


@dataclass(frozen=True)
class Large:
    """Some days' raw files by day and table, and where their part files go."""

    files: Mapping[date, Mapping[str, Sequence[Place]]]
    fingerprints: Mapping[date, Mapping[str, str]]
    folders: Mapping[str, Place]
    """Staging folders of the tables and of quarantine."""


@dataclass(frozen=True)
class File:
    """A raw file of a day, and how many there are before it."""

    table: str
    day: date
    path: Place
    number: int


def judge_days(
    spark: SparkSession,
    rules: Rules,
    large: Large,
    before: Callable[[date], Before],
    report: Report,
    buckets: int,
) -> Found:
    """The verdicts on the days up to the first that is refused: days before that are told first.

    Rows lie in part files by then. Where a worker refuses a file, the older half of the days is tried, so that whoever
    asks for the next days again comes to the day that fails by itself. Raises `Refused`.
    """
    days, columns = _in_shape(rules.suites, large, report)
    while True:
        try:
            pieces = _pieces(spark, rules, large, days, before, buckets)
            return _verdicts(rules, large, pieces, columns, before, report)
        except (Refused, NotReady):
            if len(days) == 1:
                raise
            days = days[: len(days) // 2]


def job_group(days: Sequence[date]) -> str:
    """The name of some days' Spark job."""
    return f"validate {days[0]}..{days[-1]}"


def _pieces(
    spark: SparkSession,
    rules: Rules,
    large: Large,
    days: tuple[date, ...],
    before: Callable[[date], Before],
    buckets: int,
) -> dict[date, dict[str, Piece]]:
    """What all buckets found, by day and table: one job."""
    judge = Judge(rules.suites, days, rules.click_window_days, large.folders)
    steps = Steps(spark, buckets)
    found = _steps(steps, judge, large, before)
    spark.sparkContext.setJobGroup(job_group(days), f"suites of {days[0]}..{days[-1]}")
    told = steps.told(found, lambda _bucket, *tables: heard(*tables))
    pieces = {day: {table: judge.nothing(table, day) for table in RAW} for day in days}
    for piece in (piece for some in told for piece in some):
        nothing = pieces[piece.day][piece.table]
        # Figures in the order of those of nothing: the number of rows comes first.
        pieces[piece.day][piece.table] = Piece.whole([nothing, piece])
    for day in days:
        for table, figures in facts.REFERENCES.items():
            unknown = {
                figure: Moments(0, 0.0, 0.0)
                for figure, (_, snapshot) in figures.items()
                if not pieces[day][snapshot].written.raw
            }
            pieces[day][table] = replace(pieces[day][table], sums={**pieces[day][table].sums, **unknown})
    return pieces


def _steps(steps: Steps, judge: Judge, large: Large, before: Callable[[date], Before]) -> list[Rows]:
    """Everything up to what is told of each table and day."""
    files = [File(*one) for one in _listed(large, judge.days)]
    about, suites = ("about",), judge.suites
    shown, asked = steps.work(
        [file for file in files if file.table in ("impressions", "requests")],
        partial(_requests, suites),
        [Out(SHOWN, ("request_id",)), Out(ASKED, ("request_id",))],
    )
    outs = {table: Out(placed_in_time(contract(table)), RAW[table].key) for table in WHOLE}
    outs["clicks"] = Out(outs["clicks"].schema, ("impression_id", "click_id"))
    *whole, named, listed = steps.work(
        [file for file in files if file.table in WHOLE],
        partial(_whole, suites),
        [*outs.values(), Out(NAMED, BY_ID), Out(LISTED, BY_ID)],
    )
    used = _earlier(steps, judge.days, before)
    around, of_requests, requests = steps.joint_by_bucket(
        [shown, asked, used["requests"]],
        partial(_by_request, judge),
        [Out(AROUND, ("impression_id",)), Out(NAMED, BY_ID), Out(FOUND, about)],
    )
    clicked, by_id = steps.joint_by_bucket(
        [used["impressions"], used["others"], of_requests, named, listed, around, *whole],
        partial(_by_id, judge),
        [Out(CLICKED, ("click_id",)), Out(FOUND, about)],
    )
    [clicks] = steps.joint_by_bucket([clicked, used["others"]], partial(_clicks, judge), [Out(FOUND, about)])
    return [requests, by_id, clicks]


def _by_request(
    judge: Judge, bucket: int, shown: pa.Table, asked: pa.Table, earlier: pa.Table
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """`AROUND` of the impressions, `NAMED` by the requests, and `FOUND`."""
    around, found = judge.requests(bucket, shown, asked, earlier)
    return around, _named_by("requests", asked, judge.days), found


def _by_id(
    judge: Judge,
    bucket: int,
    before: pa.Table,
    others_before: pa.Table,
    of_requests: pa.Table,
    named: pa.Table,
    listed: pa.Table,
    around: pa.Table,
    impressions: pa.Table,
    clicks: pa.Table,
    *others: pa.Table,
) -> tuple[pa.Table, pa.Table]:
    """`CLICKED` of the clicks on these impressions; and `FOUND` of all tables but clicks."""
    clicked, found = judge.impressions(bucket, around, impressions, clicks, before)
    of_others = judge.others(bucket, dict(zip(OTHERS, others, strict=True)), others_before)
    known = references(judge.days, [of_requests, named], listed)
    return clicked, pa.concat_tables([found, of_others, known])


def _clicks(judge: Judge, bucket: int, clicked: pa.Table, earlier: pa.Table) -> list[pa.Table]:
    return [judge.others(bucket, {"clicks": clicked}, earlier)]


def _named_by(table: str, rows: pa.Table, days: Sequence[date]) -> pa.Table:
    """`NAMED` by rows that are `placed_in_time`."""
    parts = [named_in(table, day, rows.filter(pc.equal(rows.column(DAY), facts.day_number(day)))) for day in days]
    return pa.concat_tables([NAMED.empty_table(), *parts])


# -- reading ------------------------------------------------------------------------------------------
def _listed(large: Large, days: Sequence[date]) -> Iterator[tuple[str, date, Place, int]]:
    """A day's files table by table, so that those of every few tasks are of all tables."""
    number = 0
    for day in days:
        for table, paths in large.files[day].items():
            for path in paths:
                yield table, day, path, number
                number += 1


def _read(suites: Suites, file: File) -> pa.Table:
    """One file in the contract's columns; raises `Refused` where its columns or their values do not fit."""
    rows = raw.parse(file.path)
    fit = shaped(rows, RAW[file.table])
    findings = suites.judge_columns(file.table, facts.of_columns(fit.rows))
    core.refuse_columns(file.table, file.day, rows.schema, str(file.path), findings)
    schema = contract(file.table)
    return filled(fit.rows).select(schema.names).cast(schema)


def _requests(suites: Suites, file: File) -> Iterator[list[pa.Table]]:
    """Of a file of impressions their places; of one of requests all of it."""
    if file.table == "requests":
        yield [SHOWN.empty_table(), _in_time(_read(suites, file), file)]
        return
    places = shaped(raw.columns(file.path, PLACED), PLACES).rows
    if places.schema.names != list(PLACED) or places.schema.types != SHOWN.types[: len(PLACED)]:
        places = _read(suites, file).select(PLACED)  # which says what is wrong with it
    yield [_in_time(places, file), ASKED.empty_table()]


def _whole(suites: Suites, file: File) -> Iterator[list[pa.Table]]:
    """A file's rows on the side of its table, the ids it names, and those it lists."""
    rows = _read(suites, file)
    sides = [_in_time(rows, file) if table == file.table else _nothing(table) for table in WHOLE]
    listed = listed_in(file.table, file.day, rows) if file.table in SNAPSHOTS else LISTED.empty_table()
    yield [*sides, named_in(file.table, file.day, rows), listed]


@cache  # to make one takes as long as to read a small file
def _nothing(table: str) -> pa.Table:
    return placed_in_time(contract(table)).empty_table()


def _in_time(rows: pa.Table, file: File) -> pa.Table:
    day = pa.repeat(pa.scalar(facts.day_number(file.day), pa.int32()), len(rows))
    place = pa.array((file.number << 32) + np.arange(len(rows), dtype=np.int64))
    return rows.append_column(DAY, day).append_column(ROW, place)


def _in_shape(suites: Suites, large: Large, report: Report) -> tuple[tuple[date, ...], dict[date, dict[str, Columns]]]:
    """The days up to the first whose columns do not fit, by the footers of their files; raises where that is the first.

    That day is judged when it comes: those before it are published first.
    """
    found: dict[date, dict[str, Columns]] = {}
    for day in large.files:
        try:
            # Of days after the first nothing is reported before their verdict, which says all of it.
            told = unreported if found else report
            found[day] = {table: _columns(suites, table, day, large.files[day][table], told) for table in RAW}
        except (Refused, NotReady):
            if not found:
                raise
            break
    return tuple(found), found


def _columns(suites: Suites, table: str, day: date, files: Sequence[Place], report: Report) -> Columns:
    unknown, plain = set[str](), set[pa.Schema]()
    for path in files:
        schema = raw.schema(path)
        if schema in plain:
            continue  # as a file before it, which was not looked into
        looked: list[str] = []
        fit = shape(schema, RAW[table], partial(_is_empty, table, path, looked))
        if not looked:
            plain.add(schema)
        findings = suites.judge_columns(table, facts.of_columns(fit.rows))
        report(table, day, findings)
        core.refuse_columns(table, day, schema, str(path), findings)
        unknown.update(fit.unknown)
    names = tuple(sorted(unknown))
    return suites.judge_columns(table, facts.of_columns(contract(table).empty_table(), names)), names


def _is_empty(table: str, path: Place, looked: list[str], column: str) -> bool:
    looked.append(column)
    return all(holds_nothing(group, RAW[table].columns[column].type) for group in raw.groups(path, column))


def _earlier(steps: Steps, days: Sequence[date], before: Callable[[date], Before]) -> dict[str, Rows]:
    """`EARLIER` ids that these days are held against, but for those of the days themselves."""
    items: dict[tuple[str, date], Keys] = {}
    for day in days:
        found = before(day)
        items |= {("impressions", of): keys for of, keys in found.shown.items()}
        yesterday = date.fromordinal(day.toordinal() - 1)
        items |= {(table, yesterday): keys for table, keys in found.used.items()}
    parts = [
        (table, day, part)
        for (table, day), keys in sorted(items.items(), key=lambda item: item[0])
        if day not in days
        for part in ([keys] if isinstance(keys, pa.Table) else keys)
    ]
    rows = steps.work(parts, _ids, [Out(EARLIER, ("key",))] * 3)
    return dict(zip(("requests", "impressions", "others"), rows, strict=True))


def _ids(part: tuple[str, date, Any]) -> Iterator[list[pa.Table]]:
    table, day, keys = part
    rows = keys if isinstance(keys, pa.Table) else read_part(keys, table, key_columns(table))
    columns = {
        "table": pa.repeat(table, len(rows)),
        "key": rows.column(RAW[table].key[0]),
        "event_time": rows.column("event_time").cast(TIME),
        DAY: pa.repeat(pa.scalar(facts.day_number(day), pa.int32()), len(rows)),
    }
    side = {"requests": 0, "impressions": 1}.get(table, 2)
    yield [pa.table(columns).cast(EARLIER) if n == side else EARLIER.empty_table() for n in range(3)]


# -- verdicts -----------------------------------------------------------------------------------------
def _verdicts(
    rules: Rules,
    large: Large,
    pieces: Mapping[date, Mapping[str, Piece]],
    columns: Mapping[date, Mapping[str, Columns]],
    before: Callable[[date], Before],
    report: Report,
) -> Found:
    for day, tables in pieces.items():
        rows = before(day).rows
        yield (
            day,
            {
                table: _verdict(
                    rules,
                    piece,
                    columns[day][table],
                    rows.get(table, ()),
                    report,
                    large.fingerprints[day][table],
                )
                for table, piece in tables.items()
            },
        )


def _verdict(
    rules: Rules, found: Piece, columns: Columns, before: Sequence[int], report: Report, fingerprint: str
) -> Verdict:
    """What all buckets of a table found; raises `Refused` where together they broke too much."""
    table, day, suites = found.table, found.day, rules.suites
    figures = facts.figures(found.sums, before)
    of_figures = suites.judge(table, "day", {name: np.array([value]) for name, value in figures.items()})
    of_rows = suites.findings(table, "row", list(found.outcomes))
    findings = (*columns[0], *of_figures, *of_rows)
    report(table, day, findings)
    core.refuse_day(table, day, figures, of_figures)
    written = found.written
    core.refuse_share(table, day, of_rows, written.broken + written.conflicts, written.raw, rules.max_quarantine_share)
    return Verdict(written, found.profiles[0], findings, columns[1], fingerprint)
