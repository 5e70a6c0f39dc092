"""`jobs.attribute.core`, step by step in hash buckets of each step's own key; the same rows as on one machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.asof.core import first_known
from jobs.asof.spark import in_buckets, in_shared_buckets, read_parts
from jobs.attribute import core
from jobs.config import AttributionSettings
from jobs.tables import LAKE

BROADCAST_ROWS = 200_000
"""So many clicks without a known impression are sent to every worker rather than shuffled with all impressions."""

Facts = Mapping[str, int]
"""What was counted of a day."""


@dataclass(frozen=True)
class Events:
    """Part files of the three event tables, for all the days the labels may depend on."""

    impressions: list[str]
    clicks: list[str]
    purchases: list[str]


def write_labels(
    spark: SparkSession, events: Events, days: list[str], settings: AttributionSettings, buckets: int, folder: Path
) -> dict[str, Facts]:
    """Write the labels of `days` as `folder/day=…/part-….parquet`, sorted; returns what was counted of each day.

    Of its labels: `impressions`, `clicked`, `converted`, `digest` (equal where the rows are). Of its events:
    `attributed` and `unattributed` purchases, `clicks_without_impression`, `late` (known only after the day), and
    `events` (unique ones, so that the caller knows how many copies there were).
    """
    impressions = _read(spark, events.impressions, "impressions")
    clicks = _read(spark, events.clicks, "clicks")
    purchases = _read(spark, events.purchases, "purchases")
    earned = _credits(impressions, clicks, purchases, settings, buckets).persist()
    labels = in_shared_buckets(
        impressions,
        ["impression_id"],
        earned.where("shown_id is not null"),
        ["shown_id"],
        buckets,
        partial(_labels, settings),
        LAKE["labels"].schema,
    )
    wanted = labels.withColumn("day", _day()).where(F.col("day").isin(days))
    # One file per day, in the core's order.
    ordered = wanted.repartition("day").sortWithinPartitions("day", "event_time", "impression_id")
    ordered.write.mode("append").partitionBy("day").parquet(str(folder))
    facts = _label_facts(spark, folder, days)
    for day, counted in _credit_facts(earned, days).items():
        known = facts[day]
        facts[day] = {**known, **counted, "late": known["late"] + counted.get("late", 0)}
    earned.unpersist()
    return facts


def _labels(settings: AttributionSettings, impressions: pa.Table, earned: pa.Table) -> pa.Table:
    return core.labels(first_known(impressions, "impression_id"), earned, settings)


def _credits(
    impressions: DataFrame, clicks: DataFrame, purchases: DataFrame, settings: AttributionSettings, buckets: int
) -> DataFrame:
    """`core.CREDITS` of all clicks and purchases."""
    unique_clicks = in_buckets(clicks, ["click_id"], buckets, partial(first_known, key="click_id"), _schema("clicks"))
    unique_purchases = in_buckets(
        purchases, ["purchase_id"], buckets, partial(first_known, key="purchase_id"), _schema("purchases")
    )
    matched = in_shared_buckets(
        unique_clicks,
        [F.coalesce("impression_id", "click_id")],
        impressions,
        ["impression_id"],
        buckets,
        partial(_named, settings),
        core.MATCHED,
    ).persist()
    orphans = matched.where("shown_id is null and user_id is not null")
    count = orphans.count()
    if count:
        found = in_shared_buckets(
            orphans,
            ["user_id", "item_id"],
            _shown_to(orphans, count, impressions, buckets),
            ["user_id", "item_id"],
            buckets,
            partial(core.latest_impression, settings=settings),
            core.MATCHED,
        )
        matched = matched.where("shown_id is not null or user_id is null").unionByName(found)
    return in_shared_buckets(
        unique_purchases,
        ["user_id", "item_id"],
        matched,
        [F.coalesce("user_id", "shown_user_id"), "item_id"],
        buckets,
        partial(core.credits, settings=settings),
        core.CREDITS,
    )


def _named(settings: AttributionSettings, clicks: pa.Table, impressions: pa.Table) -> pa.Table:
    return core.named_impression(clicks, first_known(impressions, "impression_id"), settings)


def _shown_to(orphans: DataFrame, count: int, impressions: DataFrame, buckets: int) -> DataFrame:
    """The unique impressions of the orphans' users and items: few, so that not all are shuffled for a few clicks."""
    pairs = orphans.select("user_id", "item_id").distinct()
    if count <= BROADCAST_ROWS:
        pairs = F.broadcast(pairs)
    ids = impressions.join(pairs, ["user_id", "item_id"], "left_semi").select("impression_id")
    copies = impressions.join(ids, "impression_id", "left_semi").select(*core.COLUMNS["impressions"])
    unique = partial(first_known, key="impression_id")
    return in_buckets(copies, ["impression_id"], buckets, unique, _schema("impressions"))


def _label_facts(spark: SparkSession, folder: Path, days: list[str]) -> dict[str, Facts]:
    """Counts and a digest of the rows just written; a sum of row hashes does not depend on their order."""
    schema = LAKE["labels"].schema
    rows = read_parts(spark, [str(path) for path in sorted(folder.glob("day=*"))], schema).withColumn("day", _day())
    counted = rows.groupBy("day").agg(
        F.count(F.lit(1)).alias("impressions"),
        F.count_if("clicked").alias("clicked"),
        F.count_if("converted").alias("converted"),
        F.count_if(_late("known_at")).alias("late"),
        F.sum(F.xxhash64(*schema.names).cast("decimal(38,0)")).cast("string").alias("digest"),
    )
    empty = {"impressions": 0, "clicked": 0, "converted": 0, "late": 0, "digest": "0"}
    return _by_day(counted, days, empty)


def _credit_facts(earned: DataFrame, days: list[str]) -> dict[str, Facts]:
    purchase, click = F.col("kind") == "purchase", F.col("kind") == "click"
    counted = (
        earned.withColumn("day", _day())
        .groupBy("day")
        .agg(
            F.count_if(click).alias("clicks"),
            F.count_if(click & F.col("shown_id").isNull()).alias("clicks_without_impression"),
            F.count_if(purchase & F.col("paid")).alias("attributed"),
            F.count_if(purchase & ~F.col("paid")).alias("unattributed"),
            F.count_if(_late("ingested_at")).alias("late"),
        )
    )
    empty = {"clicks": 0, "clicks_without_impression": 0, "attributed": 0, "unattributed": 0, "late": 0}
    return _by_day(counted, days, empty)


def _by_day(counted: DataFrame, days: list[str], empty: Facts) -> dict[str, Facts]:
    found = {row["day"]: {name: int(row[name]) for name in empty} for row in counted.collect()}
    return {day: found.get(day, empty) for day in days}


def _day() -> Column:
    return F.date_format("event_time", "yyyy-MM-dd")


def _late(known_at: str) -> Column:
    """Known only after the UTC day it happened on."""
    return F.to_date(known_at) > F.to_date("event_time")


def _read(spark: SparkSession, paths: list[str], table: str) -> DataFrame:
    return read_parts(spark, paths, _schema(table))


def _schema(table: str) -> pa.Schema:
    return pa.schema([(name, LAKE[table].columns[name].type) for name in core.COLUMNS[table]])
