"""`jobs.attribute.core`, step by step in hash buckets of each step's own key; the same rows as on one machine."""

from collections.abc import Iterator, Mapping
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.asof.spark import (
    BUCKET,
    Two,
    bucket_of,
    by_bucket,
    fitted,
    in_buckets,
    in_shared_buckets,
    read_parts,
    refusals,
)
from jobs.attribute import core
from jobs.config import AttributionSettings
from jobs.lake.tables import LAKE
from jobs.places import Place, write_parquet

WRITTEN = pa.schema([("labels", pa.int64())])
BROADCAST_ROWS = 200_000
"""So many clicks without a known impression are sent to every worker rather than shuffled with all impressions."""


@refusals()
def write_labels(
    spark: SparkSession,
    events: Mapping[str, list[str]],
    days: list[str],
    settings: AttributionSettings,
    outcomes: core.Outcomes,
    buckets: int,
    folder: Place,
) -> pa.Table:
    """Write the labels of `days` as `folder/day=…/part-….parquet`, a file a bucket, each in the core's order.

    `events` names the part files of the event tables, `feedback` where a further outcome is declared.
    Returns `core.COUNTED` of parts: rows of a day add up. Raises `Refused` for a file that is no part of a table.
    """
    impressions = _read(spark, events["impressions"], "impressions")
    clicks = _read(spark, events["clicks"], "clicks")
    purchases = _read(spark, events["purchases"], "purchases")
    earned = _credits(impressions, clicks, purchases, settings, buckets)
    if "feedback" in events:
        feedback = _read(spark, events["feedback"], "feedback")
        earned = earned.unionByName(_feedback_credits(impressions, feedback, settings, outcomes, buckets))
    earned = earned.persist()
    shown = by_bucket(impressions, bucket_of(["impression_id"], buckets), buckets)
    met = shown.cogroup(by_bucket(earned.where("shown_id is not null"), bucket_of(["shown_id"], buckets), buckets))
    met.applyInArrow(partial(_written, settings, outcomes, days, folder), from_arrow_schema(WRITTEN)).collect()
    counts = earned.mapInArrow(_counted, from_arrow_schema(core.COUNTED)).toArrow()
    earned.unpersist()
    return counts.select(core.COUNTED.names)


def _counted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from core.counted(pa.Table.from_batches([batch])).combine_chunks().to_batches()


def _written(
    settings: AttributionSettings,
    outcomes: core.Outcomes,
    days: list[str],
    folder: Place,
    bucket: tuple[pa.Scalar, ...],
    impressions: pa.Table,
    earned: pa.Table,
) -> pa.Table:
    """The labels of one bucket of impressions, a part file a day."""
    seen = core.unique(impressions.drop_columns([BUCKET]), "impressions", settings)
    labels = fitted(core.labels(seen, earned.drop_columns([BUCKET]), settings, outcomes), LAKE["labels"].schema)
    shown_on = labels.column("event_time").cast(pa.date32()).cast(pa.string())
    for day in days:
        rows = labels.filter(pc.equal(shown_on, day))
        if len(rows):
            path = folder / f"day={day}" / f"part-{bucket[0].as_py():05d}.parquet"
            write_parquet(rows, path, coerce_timestamps="us")
    return pa.table([[len(labels)]], schema=WRITTEN)


def _credits(
    impressions: DataFrame, clicks: DataFrame, purchases: DataFrame, settings: AttributionSettings, buckets: int
) -> DataFrame:
    """`core.CREDITS` of all clicks and purchases."""
    matched = in_shared_buckets(
        _unique(clicks, "clicks", settings, buckets),
        [F.coalesce("impression_id", "click_id")],
        impressions,
        ["impression_id"],
        buckets,
        partial(_named, settings),
        core.MATCHED,
    )
    latest = partial(core.latest_impression, settings=settings)
    matched = _with_latest(matched, impressions, settings, buckets, latest, core.MATCHED)
    return in_shared_buckets(
        _unique(purchases, "purchases", settings, buckets),
        ["user_id", "item_id"],
        matched,
        [F.coalesce("user_id", "shown_user_id"), "item_id"],
        buckets,
        partial(core.credits, settings=settings),
        core.CREDITS,
    )


def _with_latest(
    matched: DataFrame,
    impressions: DataFrame,
    settings: AttributionSettings,
    buckets: int,
    function: Two,
    schema: pa.Schema,
) -> DataFrame:
    """`function`, a `latest_*` of the core, on the events that ask for another impression than the one they name."""
    matched = matched.persist()
    asking = F.col("user_id").isNotNull() & F.coalesce(F.col("shown_known_at") > F.col("ingested_at"), F.lit(True))
    orphans = matched.where(asking)
    count = orphans.count()
    if not count:
        return matched
    shown = _shown_to(orphans, count, impressions, settings, buckets)
    keys = ["user_id", "item_id"]
    found = in_shared_buckets(orphans, keys, shown, keys, buckets, function, schema)
    return matched.where(~asking).unionByName(found)


def _feedback_credits(
    impressions: DataFrame, feedback: DataFrame, settings: AttributionSettings, outcomes: core.Outcomes, buckets: int
) -> DataFrame:
    """`core.CREDITS` of all events of further outcomes."""
    fed = in_shared_buckets(
        _unique(feedback, "feedback", settings, buckets),
        [F.coalesce("impression_id", "feedback_id")],
        impressions,
        ["impression_id"],
        buckets,
        partial(_named_feedback, settings, outcomes),
        core.FED,
    )
    latest = partial(core.latest_feedback, settings=settings, outcomes=outcomes)
    fed = _with_latest(fed, impressions, settings, buckets, latest, core.FED)
    return in_buckets(fed, ["click_id"], buckets, core.feedback_credits, core.CREDITS)


def _named_feedback(
    settings: AttributionSettings, outcomes: core.Outcomes, feedback: pa.Table, impressions: pa.Table
) -> pa.Table:
    seen = core.unique(impressions, "impressions", settings)
    return core.named_feedback(feedback, seen, settings, outcomes)


def _named(settings: AttributionSettings, clicks: pa.Table, impressions: pa.Table) -> pa.Table:
    return core.named_impression(clicks, core.unique(impressions, "impressions", settings), settings)


def _shown_to(
    orphans: DataFrame, count: int, impressions: DataFrame, settings: AttributionSettings, buckets: int
) -> DataFrame:
    """The unique impressions of the orphans' users and items: few, so that not all are shuffled for a few clicks."""
    pairs = orphans.select("user_id", "item_id").distinct()
    if count <= BROADCAST_ROWS:
        pairs = F.broadcast(pairs)
    ids = impressions.join(pairs, ["user_id", "item_id"], "left_semi").select("impression_id")
    copies = impressions.join(ids, "impression_id", "left_semi")
    return _unique(copies, "impressions", settings, buckets)


def _unique(events: DataFrame, table: str, settings: AttributionSettings, buckets: int) -> DataFrame:
    function = partial(core.unique, table=table, settings=settings)
    return in_buckets(events, list(LAKE[table].key), buckets, function, _schema(table))


def _read(spark: SparkSession, paths: list[str], table: str) -> DataFrame:
    return read_parts(spark, paths, table, core.LOOKED_AT[table])


def _schema(table: str) -> pa.Schema:
    return pa.schema([(name, LAKE[table].columns[name].type) for name in core.LOOKED_AT[table]])
