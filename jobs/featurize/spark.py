"""Spark's part of featurize: events meet their item's bucket, go to their user's bucket, and core does the rest there.

Each user bucket is one call of `core.user_features`; it writes its own part files (one per feature day) into the
staging folder and hands back their paths, so that the wide rows never travel through the JVM.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn

from jobs.asof.spark import by_bucket, read_parts, refusals
from jobs.featurize.categories import NO_SLOT
from jobs.featurize.core import DAY_US, FEEDBACK, HOUR_US, PARTS, Window, day_number
from jobs.featurize.encodings import CLICK_DAY, KEYS
from jobs.featurize.events import FED, UserEvents
from jobs.featurize.items import ItemCounts, Overall
from jobs.featurize.users import user_features
from jobs.places import Place, place, write_parquet

Writer = Callable[[tuple[pa.Scalar, ...], pa.Table], pa.Table]


@dataclass(frozen=True)
class Part:
    """One published-to-be part file."""

    day: date
    path: Place
    rows: int


@refusals()
def item_counts(spark: SparkSession, files: dict[str, list[str]], window: Window) -> ItemCounts:
    """How many events of each kind per item, event day, day known and last hour; small enough for one machine."""
    kinds = [
        _known(spark, kind, paths, window).withColumn("kind", fn.lit(kind)).withColumn("n", fn.lit(1))
        for kind, paths in files.items()
        if kind != FEEDBACK
    ]
    if FEEDBACK in files:
        fed = _fed(spark, files[FEEDBACK], window)
        named = fn.concat_ws(".", fn.lit(FEEDBACK), "outcome")
        kinds.append(fed.withColumn("kind", named).withColumnRenamed("parts", "n").drop("outcome"))
    union = kinds[0]
    for other in kinds[1:]:
        union = union.unionByName(other, allowMissingColumns=True)
    last_hour = fn.pmod("event_us", fn.lit(DAY_US)) >= DAY_US - HOUR_US
    keys = ("kind", "item_id", "event_day", "start_day", "last_hour")
    grouped = union.withColumn("last_hour", last_hour).groupBy(*keys).agg(fn.sum("n").alias("n"))
    return ItemCounts.of(grouped.toArrow())


@refusals()
def context_counts(spark: SparkSession, files: dict[str, list[str]], history: pa.Table, window: Window) -> pa.Table:
    """What `encodings` counts: impressions whose item had a category, by context, days and when a click was known."""
    shown = _known(
        spark, "impressions", files["impressions"], window, "impression_id", "surface", "query", "source_item_id"
    )
    clicks = _known(spark, "clicks", files["clicks"], window, "impression_id")
    clicks = clicks.where(fn.col("impression_id").isNotNull())
    first = clicks.groupBy("impression_id").agg(fn.min("start_day").alias(CLICK_DAY))
    listed = spark.createDataFrame(history)
    rows = _with_category(shown, listed, "item_id", "item_category").where(fn.col("item_category").isNotNull())
    rows = _with_category(rows, listed, "source_item_id", "source_category").join(first, "impression_id", "left")
    counted: pa.Table = rows.groupBy(*KEYS).agg(fn.count("*").alias("n")).toArrow()
    return counted


def _with_category(events: DataFrame, listed: DataFrame, key: str, name: str) -> DataFrame:
    """Each event with the category of the item `key` names on the event's day as `name`."""
    spans = listed.select(fn.col("item_id").alias("_listed"), fn.col("category").alias(name), "from_day", "until_day")
    within = (
        (fn.col(key) == fn.col("_listed"))
        & (fn.col("event_day") >= fn.col("from_day"))
        & (fn.col("event_day") < fn.col("until_day"))
    )
    return events.join(fn.broadcast(spans), within, "left").drop("_listed", "from_day", "until_day")


@refusals()
def user_parts(
    spark: SparkSession,
    files: dict[str, list[str]],
    history: pa.Table,
    prior: Overall,
    window: Window,
    folder: Place,
    buckets: int,
) -> list[Part]:
    """Writes `day=…/part-<bucket>.parquet` below `folder`, `buckets` of them per day at most, sorted by user inside."""
    shown = _known(spark, "impressions", files["impressions"], window).withColumn("clicked", fn.lit(False))
    clicked = _known(spark, "clicks", files["clicks"], window).withColumn("clicked", fn.lit(True))
    slots = spark.createDataFrame(history).withColumnRenamed("item_id", "listed_id")
    within = (
        (fn.col("item_id") == fn.col("listed_id"))
        & (fn.col("event_day") >= fn.col("from_day"))
        & (fn.col("event_day") < fn.col("until_day"))
    )
    both = shown.unionByName(clicked)
    more: Sequence[str] = ()
    if FEEDBACK in files:
        fed = _fed(spark, files[FEEDBACK], window).withColumn("clicked", fn.lit(False))
        both, more = both.unionByName(fed, allowMissingColumns=True), FED
    events = (
        both.where(fn.col("user_id").isNotNull())
        .join(fn.broadcast(slots), within, "left")
        .select(
            "user_id",
            fn.when(fn.col("clicked"), fn.col("item_id")).alias("item_id"),
            "clicked",
            fn.coalesce("slot", fn.lit(NO_SLOT)).alias("slot"),
            "event_us",
            "start_day",
            *more,
        )
    )
    write = _writer(folder, prior, window)
    grouped = by_bucket(events, fn.pmod(fn.crc32("user_id"), fn.lit(buckets)), buckets)
    found = grouped.applyInArrow(write, "day string, path string, rows long").collect()
    parts = [Part(date.fromisoformat(row["day"]), place(row["path"]), int(row["rows"])) for row in found]
    return sorted(parts, key=lambda part: part.path.as_posix())


def _fed(spark: SparkSession, paths: Sequence[str], window: Window) -> DataFrame:
    """Known events of declared outcomes, with `parts` for `value`: how much each counts, in thousandths."""
    events = _known(spark, FEEDBACK, paths, window, "outcome", "value").where(
        fn.col("outcome").isin([*window.outcomes])
    )
    value = fn.floor(fn.coalesce("value", fn.lit(0.0)) * PARTS + 0.5)
    parts = fn.when(fn.col("outcome").isin(window.values), value).otherwise(PARTS)
    return events.withColumn("parts", parts.cast("long")).drop("value")


def _known(spark: SparkSession, table: str, paths: Sequence[str], window: Window, *more: str) -> DataFrame:
    """Events that count for some feature day: item, user where there is one, event time, day known, `more`."""
    frame = read_parts(spark, paths, table, ("item_id", "user_id", "event_time", "ingested_at", *more))
    event_day = fn.unix_date(fn.to_date("event_time"))
    last = day_number(window.days[-1])
    return (
        frame.select(
            "item_id",
            "user_id",
            fn.unix_micros("event_time").alias("event_us"),
            event_day.alias("event_day"),
            fn.greatest(event_day, fn.unix_date(fn.to_date("ingested_at"))).alias("start_day"),
            *more,
        )
        .where(fn.col("start_day") <= last)
        .where(fn.col("event_day") > window.first - window.long_term_days)
    )


def _writer(folder: Place, prior: Overall, window: Window) -> Writer:
    """What runs on a worker for one user bucket."""

    def write(key: tuple[pa.Scalar, ...], events: pa.Table) -> pa.Table:
        found: dict[str, list[str | int]] = {"day": [], "path": [], "rows": []}
        tables = user_features(UserEvents.of(events), prior, window)
        for day, table in zip(window.days, tables, strict=True):
            if not len(table):
                continue
            path = folder / f"day={day.isoformat()}" / f"part-{key[0].as_py():05d}.parquet"
            # A task that Spark runs twice writes the same rows; the file is whole either way.
            write_parquet(table, path, coerce_timestamps="us")
            for name, value in (("day", day.isoformat()), ("path", str(path)), ("rows", len(table))):
                found[name].append(value)
        return pa.table(found, schema=pa.schema([("day", pa.string()), ("path", pa.string()), ("rows", pa.int64())]))

    return write
