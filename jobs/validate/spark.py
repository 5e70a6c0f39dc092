"""A day too large for one process: the same suites in hash buckets, one Spark job a table and day whatever their size.

Two steps inside the job. Rows meet what their facts need where they share its key: impressions and requests by request,
clicks and impressions by impression. Then all rows of one id meet: there a bucket judges its rows, writes the good ones
and those set aside as part files, and hands back sums. The driver adds the sums up, and only then is the day refused or
published. Files are read by the workers (`jobs.lake.raw`): what they refuse, the day is refused for.

One job more a day lets the ids that events name meet those that the snapshots of items and users list.

The driver holds paths, counts and sums, however many rows there are: ids of the day, of snapshots and of earlier days
are read by workers and meet in shuffles. Only earlier days that one process has judged, few rows by that, pass through.

One process decides one thing otherwise: two impressions of one id in different requests are counted at one place, here
at both.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial, reduce
from operator import add

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, GroupedData, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.asof.spark import (
    BUCKET,
    bucket_of,
    by_bucket,
    fitted,
    read_by_workers,
    read_parts,
    refusals,
)
from jobs.flow import SNAPSHOTS
from jobs.lake import raw
from jobs.lake.tables import RAW
from jobs.places import Place, write_parquet
from jobs.validate import core, evaluate, facts, profile
from jobs.validate.batch import NULLABLE_SHOWN, Before, Keys, Report, Rules, Verdict, Written, key_columns
from jobs.validate.columns import ROW_ATTRIBUTES, filled, holds_nothing, shape, shaped
from jobs.validate.evaluate import Outcome
from jobs.validate.facts import Neighbours
from jobs.validate.figures import Moments, Sum
from jobs.validate.references import LISTED, NAMED, listed_in, named_in
from jobs.validate.suites import Finding, Suites

SUMS, TODAY = "_sums", "_today"
CARRIED = {
    "impressions": ("others_at_position", "others_of_item", "among_candidates"),
    "requests": ("places_shown",),
    "clicks": ("seconds_since_impression",),
}
"""Facts from other tables' rows; they travel with the row to the bucket of its id."""
PLACED = ["impression_id", "request_id", "item_id", "position", "propensity"]
FOUND = pa.schema([("found", pa.binary())])
"""What a bucket found, pickled: from this job's workers to its driver, as Spark sends everything else."""

Sums = dict[str, Sum]


@dataclass(frozen=True)
class Large:
    """A day's raw files by table, and where their part files go."""

    day: date
    files: Mapping[str, Sequence[Place]]
    fingerprints: Mapping[str, str]
    folders: Mapping[str, Place]
    """Staging folders of the tables and of quarantine."""


@dataclass(frozen=True)
class Bucket:
    """What a worker found in one bucket: counts and part files."""

    outcomes: list[Outcome]
    sums: list[Sums]
    profile: pa.Table
    written: Written


@dataclass(frozen=True)
class Judge:
    """What a worker needs to judge a bucket of a table."""

    suites: Suites
    table: str
    day: date
    folders: Mapping[str, Place]

    def neighbours(self, tables: Mapping[str, pa.Table], shown_before: pa.Table | None = None) -> Neighbours:
        """A bucket's share of the other tables; of snapshots none, since figures about those are `_references`."""
        before = NULLABLE_SHOWN.empty_table() if shown_before is None else shown_before
        snapshots = {name: _schema(name).empty_table() for name in SNAPSHOTS}
        return Neighbours({**snapshots, **tables}, before)


def judge_day(
    spark: SparkSession, rules: Rules, large: Large, before: Before, report: Report, buckets: int
) -> dict[str, Verdict]:
    """The verdict on the tables of a day, their rows in part files; raises `Refused`."""
    # Stages of an adaptive plan are submitted as jobs of their own.
    spark.conf.set("spark.sql.adaptive.enabled", "false")
    columns = {table: _columns(rules.suites, table, large, report) for table in RAW}
    frames = {table: _frame(spark, rules.suites, table, large) for table in RAW}
    references = _references(spark, large)
    verdicts = {}
    for table in RAW:
        judge = Judge(rules.suites, table, large.day, large.folders)
        spark.sparkContext.setJobGroup(job_group(table, large.day), f"suite of {table}, {large.day}")
        found = []
        if sum(map(raw.rows_of, large.files[table])):
            with refusals():
                found = _judged(spark, judge, _met(spark, judge, frames, before, buckets), before, buckets)
        verdicts[table] = _verdict(
            rules, judge, found, references[table], columns[table], before, report, large.fingerprints[table]
        )
    return verdicts


def job_group(table: str, day: date) -> str:
    """The name of a table's and day's Spark jobs."""
    return f"validate {table} {day}"


# -- reading ------------------------------------------------------------------------------------------
def _schema(table: str) -> pa.Schema:
    """The contract's columns, all nullable: what is null is for the suite to say."""
    fields = [(name, column.type) for name, column in RAW[table].columns.items()]
    if RAW[table].extra_prefix:
        fields.append((ROW_ATTRIBUTES, pa.map_(pa.string(), pa.string())))
    return pa.schema(fields)


def _read(suites: Suites, table: str, day: date, path: Place) -> pa.Table:
    """One file in the contract's columns; raises `Refused` where its columns or their values do not fit."""
    rows = raw.parse(path)
    fit = shaped(rows, RAW[table])
    core.refuse_columns(table, day, rows.schema, str(path), suites.judge_columns(table, facts.of_columns(fit.rows)))
    return filled(fit.rows)


def _columns(suites: Suites, table: str, large: Large, report: Report) -> tuple[list[Finding], tuple[str, ...]]:
    """The findings about the columns of all files together, and the names that are not known; from footers."""
    unknown: set[str] = set()
    empty = _schema(table).empty_table()
    for path in large.files[table]:
        schema = raw.schema(path)
        fit = shape(schema, RAW[table], partial(_is_empty, table, path))
        findings = suites.judge_columns(table, facts.of_columns(fit.rows))
        report(table, large.day, findings)
        core.refuse_columns(table, large.day, schema, str(path), findings)
        unknown.update(fit.unknown)
    names = tuple(sorted(unknown))
    return suites.judge_columns(table, facts.of_columns(empty, names)), names


def _is_empty(table: str, path: Place, column: str) -> bool:
    return all(holds_nothing(group, RAW[table].columns[column].type) for group in raw.groups(path, column))


def _frame(spark: SparkSession, suites: Suites, table: str, large: Large) -> DataFrame:
    """A table's rows, each file read by a worker."""
    day = large.day
    return read_by_workers(spark, large.files[table], lambda path: _read(suites, table, day, path), _schema(table))


def _earlier(spark: SparkSession, table: str, days: Sequence[Keys]) -> DataFrame:
    """The `key_columns` of an event table of earlier days, part files read by workers."""
    names = key_columns(table)
    schema = pa.schema([_schema(table).field(name) for name in names])
    files = [str(path) for keys in days if not isinstance(keys, pa.Table) for path in keys]
    frame = read_parts(spark, files, table, names)
    for keys in days:
        if isinstance(keys, pa.Table):
            frame = frame.unionByName(spark.createDataFrame(keys.cast(schema), from_arrow_schema(schema)))
    return frame


# -- what snapshots list ------------------------------------------------------------------------------


def _references(spark: SparkSession, large: Large) -> dict[str, Sums]:
    """The figures of `facts.REFERENCES` by table: every id that is named meets every id that is listed."""

    def ids(table: str, of_file: Callable[[str, Place], pa.Table], schema: pa.Schema) -> DataFrame:
        return read_by_workers(spark, large.files[table], partial(of_file, table), schema)

    named = reduce(DataFrame.unionByName, (ids(table, named_in, NAMED) for table in facts.REFERENCES))
    listed = reduce(DataFrame.unionByName, (ids(table, listed_in, LISTED) for table in SNAPSHOTS))
    known = listed.distinct().withColumn("known", F.lit(1))
    # Left to itself Spark might broadcast them: all ids through the driver.
    met = named.join(known.hint("merge"), ["snapshot", "id"], "left")
    sums = met.groupBy("table", "figure").agg(F.sum("times").alias("n"), F.sum(F.col("times") * F.col("known")))
    spark.sparkContext.setJobGroup(job_group("references", large.day), f"ids that events name, {large.day}")
    with refusals():
        found = {(table, figure): (n, total or 0) for table, figure, n, total in sums.collect()}
    empty = {name for name in SNAPSHOTS if not sum(map(raw.rows_of, large.files[name]))}
    references: dict[str, Sums] = {table: {} for table in RAW}
    for table, figures in facts.REFERENCES.items():
        for figure, (_, snapshot) in figures.items():
            n, total = (0, 0) if snapshot in empty else found.get((table, figure), (0, 0))
            references[table][figure] = Moments(n, float(total), float(total))
    return references


# -- what rows need of other tables -------------------------------------------------------------------
def _met(spark: SparkSession, judge: Judge, frames: Mapping[str, DataFrame], before: Before, buckets: int) -> DataFrame:
    """The table's rows with their `CARRIED` facts; and, in rows of their own, the sums of each bucket."""
    table = judge.table
    if table == "impressions":
        asked = frames["requests"].select("request_id", "candidates")
        return _together(judge, frames[table], "request_id", asked, "request_id", buckets, _with_requests)
    if table == "requests":
        placed = frames["impressions"].select(PLACED)
        return _together(judge, frames[table], "request_id", placed, "request_id", buckets, _with_impressions)
    if table == "clicks":
        names = ["impression_id", "event_time", "item_id"]
        earlier = _earlier(spark, "impressions", before.shown).withColumn("item_id", F.lit(None).cast("string"))
        shown = frames["impressions"].select(names).withColumn(TODAY, F.lit(True))
        shown = shown.unionByName(earlier.withColumn(TODAY, F.lit(False)))
        key = F.coalesce("impression_id", "click_id")
        return _together(judge, frames[table], key, shown, "impression_id", buckets, _with_shown)
    return frames[table].withColumn(SUMS, F.lit(None).cast("binary"))


Meet = Callable[[Judge, pa.Table, pa.Table], Neighbours]


def _with_requests(judge: Judge, impressions: pa.Table, requests: pa.Table) -> Neighbours:
    return judge.neighbours({"impressions": impressions, "requests": requests})


def _with_impressions(judge: Judge, requests: pa.Table, impressions: pa.Table) -> Neighbours:
    return judge.neighbours({"impressions": impressions, "requests": requests})


def _with_shown(judge: Judge, _clicks: pa.Table, shown: pa.Table) -> Neighbours:
    today = shown.filter(shown.column(TODAY))
    earlier = shown.filter(pc.invert(shown.column(TODAY))).select(NULLABLE_SHOWN.names)
    return judge.neighbours({"impressions": today}, earlier.cast(NULLABLE_SHOWN))


def _together(
    judge: Judge, left: DataFrame, left_key: str | Column, right: DataFrame, right_key: str, buckets: int, meet: Meet
) -> DataFrame:
    """Both sides in buckets of their keys, and of each bucket the left rows with what `meet` lets them know."""
    schema = _schema(judge.table)
    out = schema
    for name in CARRIED[judge.table]:
        out = out.append(pa.field(name, pa.float64()))
    out = out.append(pa.field(SUMS, pa.binary()))

    def apply(some: pa.Table, others: pa.Table) -> pa.Table:
        rows = some.select(schema.names).cast(schema).combine_chunks()
        neighbours = meet(judge, rows, others.drop_columns([BUCKET]).combine_chunks())
        sums = facts.sums(judge.table, rows, judge.day, neighbours)
        for name, values in facts.of_neighbours(judge.table, rows, neighbours).items():
            rows = rows.append_column(name, pa.array(values))
        rows = rows.append_column(SUMS, pa.nulls(len(rows), pa.binary()))
        mark = {SUMS: pickle.dumps(sums)}
        return fitted(pa.concat_tables([rows, pa.Table.from_pylist([mark], schema=rows.schema)]), out)

    grouped = _bucketed(left, left_key, buckets).cogroup(_bucketed(right, right_key, buckets))
    return grouped.applyInArrow(apply, from_arrow_schema(out))


def _bucketed(frame: DataFrame, key: str | Column, buckets: int) -> GroupedData:
    return by_bucket(frame, bucket_of([key], buckets), buckets)


# -- judging ------------------------------------------------------------------------------------------
def _judged(spark: SparkSession, judge: Judge, met: DataFrame, before: Before, buckets: int) -> list[Bucket]:
    """What the buckets of the ids found, in the buckets' order."""
    key = RAW[judge.table].key[0]
    if judge.table in before.used:
        used = _earlier(spark, judge.table, [before.used[judge.table]]).select(key)
    else:
        used = spark.createDataFrame([], f"{key} string")

    def apply(bucket: tuple[pa.Scalar, ...], rows: pa.Table, earlier: pa.Table) -> pa.Table:
        found = _bucket(judge, bucket[0].as_py(), rows.combine_chunks(), earlier.column(key).combine_chunks())
        return pa.table({"found": pa.array([pickle.dumps((bucket[0].as_py(), found))], pa.binary())})

    grouped = _bucketed(met, key, buckets).cogroup(_bucketed(used, key, buckets))
    collected = grouped.applyInArrow(apply, from_arrow_schema(FOUND)).collect()
    found = sorted((pickle.loads(row["found"]) for row in collected), key=lambda one: one[0])
    return [bucket for _, bucket in found]


def _bucket(judge: Judge, bucket: int, rows: pa.Table, ids_before: pa.Array) -> Bucket:
    """One bucket of ids on a worker: judged, profiled and written."""
    table, schema = judge.table, _schema(judge.table)
    sums = [pickle.loads(mark) for mark in rows.column(SUMS).drop_null().to_pylist()]
    rows = rows.filter(rows.column(SUMS).is_null())
    own = rows.select(schema.names).cast(schema)
    if table not in CARRIED:
        sums = [facts.sums(table, own, judge.day, judge.neighbours({table: own}))]
    known = facts.of_own(table, own, judge.day, ids_before)
    known |= {name: np.asarray(rows.column(name), np.float64) for name in CARRIED.get(table, ())}
    outcomes = judge.suites.outcomes(table, "row", known)
    findings = judge.suites.findings(table, "row", outcomes)
    judged = core.judged(table, judge.day, own, known, findings, max_share=1.0)
    about = f"day={judge.day.isoformat()}"
    name = f"part-{bucket:05d}.parquet"
    return Bucket(
        [evaluate.merged([outcome]) for outcome in outcomes],
        sums,
        profile.profile(judged.good),
        Written(
            good=_write(judged.good, judge.folders[table] / about / name),
            aside=_write(judged.aside, judge.folders["quarantine"] / about / f"table={table}" / name),
            good_rows=len(judged.good),
            aside_rows=len(judged.aside),
            raw=judged.raw,
            broken=judged.broken,
            copies=judged.copies,
            conflicts=judged.conflicts,
        ),
    )


def _write(rows: pa.Table, path: Place) -> tuple[Place, ...]:
    """A part file, whole or not at all: a task that Spark runs twice writes the same rows again."""
    if not len(rows):
        return ()
    write_parquet(rows, path, coerce_timestamps="us")
    return (path,)


def _verdict(
    rules: Rules,
    judge: Judge,
    buckets: Sequence[Bucket],
    references: Sums,
    columns: tuple[list[Finding], tuple[str, ...]],
    before: Before,
    report: Report,
    fingerprint: str,
) -> Verdict:
    """The buckets of a table as one; raises `Refused` where together they broke too much."""
    table, day, suites = judge.table, judge.day, rules.suites
    nothing = _nothing(judge)
    sums = [one for bucket in buckets for one in bucket.sums] or nothing.sums
    whole: Sums = reduce(lambda a, b: {name: a[name] + b[name] for name in a}, sums)  # type: ignore[operator]
    figures = facts.figures(whole | references, before.rows.get(table, ()))
    of_figures = suites.judge(table, "day", {name: np.array([value]) for name, value in figures.items()})
    outcomes = zip(*(bucket.outcomes for bucket in [nothing, *buckets]), strict=True)
    of_rows = suites.findings(table, "row", [evaluate.merged(parts) for parts in outcomes])
    findings = (*columns[0], *of_figures, *of_rows)
    report(table, day, findings)
    core.refuse_day(table, day, figures, of_figures)
    written = reduce(add, (bucket.written for bucket in [nothing, *buckets]))
    core.refuse_share(table, day, of_rows, written.broken + written.conflicts, written.raw, rules.max_quarantine_share)
    merged = profile.merged([bucket.profile for bucket in [nothing, *buckets]])
    return Verdict(written, merged, findings, columns[1], fingerprint)


def _nothing(judge: Judge) -> Bucket:
    """A bucket without rows: what an empty table comes to."""
    rows = _schema(judge.table).empty_table()
    empty = {name: _schema(name).empty_table() for name in RAW}
    neighbours = judge.neighbours({**empty, judge.table: rows})
    known = facts.of_rows(judge.table, rows, judge.day, neighbours)
    return Bucket(
        judge.suites.outcomes(judge.table, "row", known),
        [facts.sums(judge.table, rows, judge.day, neighbours)],
        profile.profile(core.judged(judge.table, judge.day, rows, known, [], max_share=1.0).good),
        Written(),
    )
