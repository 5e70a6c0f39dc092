"""`jobs.assemble.core`, step by step in hash buckets of each step's own key; the same rows as on one machine."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.storagelevel import StorageLevel

from jobs.asof.spark import fitted, in_shared_buckets, read_parts, refusals
from jobs.assemble import core, negatives, selection
from jobs.assemble.inputs import Inputs
from jobs.tables import LAKE


def write_dataset(spark: SparkSession, given: Inputs, buckets: int, folders: Mapping[str, Path]) -> pa.Table:
    """Write examples and negatives as part files into their folders; returns `selection.LEFT_OUT`.

    Each part file of the examples holds some users' rows, by event time.
    """
    frames = {table: read_parts(spark, given.files[table], schema) for table, schema in core.SCHEMAS.items()}
    labelled = in_shared_buckets(
        frames["impressions"],
        ["impression_id"],
        frames["labels"],
        ["impression_id"],
        buckets,
        partial(core.labelled, data=given.data),
        core.LABELLED,
    )
    with refusals():
        # Read more than once from here on, unless there is nothing to choose and nothing to draw.
        if given.settings.selection.any or given.settings.retrieval.per_click:
            labelled = labelled.persist(StorageLevel.DISK_ONLY)
        selected, left_out = _selected(spark, labelled, given, buckets)
        if given.settings.retrieval.per_click:
            drawn = _negatives(selected, labelled, frames["item_features"], given, buckets)
            drawn.write.mode("append").parquet(str(folders["retrieval_negatives"]))
        examples = _examples(spark, selected, frames, given, buckets)
        examples.write.mode("append").parquet(str(folders["examples"]))
    return left_out


def _selected(spark: SparkSession, labelled: DataFrame, given: Inputs, buckets: int) -> tuple[DataFrame, pa.Table]:
    """`selection.selected`, its first three rules by user and the last by row."""
    settings = given.settings.selection
    if not settings.any:
        weighted = labelled.withColumn("weight", F.lit(1.0)).select(core.SELECTED.names)
        return weighted, selection.LEFT_OUT.empty_table()
    labels = read_parts(spark, given.files["clicks"], selection.CLICK_LABELS)
    rule = partial(selection.marked, identity=given.identity, settings=settings, last_train_day=given.last_train_day)
    marked = in_shared_buckets(
        labelled,
        [_user()],
        labels.where("clicked and user_id is not null").select(selection.CLICKS.names),
        ["user_id"],
        buckets,
        rule,
        selection.MARKED,
    ).persist(StorageLevel.DISK_ONLY)
    rates = selection.surface_rates(_added(marked, selection.totals, selection.TOTALS), settings)
    thinned = _by_row(marked, partial(selection.thinned, rates=rates, seed=settings.seed), selection.MARKED)
    left_out = _added(thinned, selection.left_out, selection.LEFT_OUT)
    return thinned.where("left_out is null").select(core.SELECTED.names), left_out


def _negatives(selected: DataFrame, labelled: DataFrame, features: DataFrame, given: Inputs, buckets: int) -> DataFrame:
    """`negatives.drawn` day by day, then `negatives.unseen` by user."""
    clicks = _by_row(selected, negatives.clicked, negatives.CLICKED)
    drawn = in_shared_buckets(
        clicks,
        [F.to_date("event_time")],
        features.select(negatives.CATALOGUE.names),
        [F.to_date("available_at")],
        buckets,
        partial(negatives.drawn, settings=given.settings.retrieval),
        negatives.NEGATIVES,
    )
    shown = _by_row(labelled, negatives.shown, negatives.SHOWN)
    rule = partial(negatives.unseen, identity=given.identity)
    return in_shared_buckets(drawn, ["user_id"], shown, ["user_id"], buckets, rule, negatives.NEGATIVES)


def _examples(
    spark: SparkSession, selected: DataFrame, frames: Mapping[str, DataFrame], given: Inputs, buckets: int
) -> DataFrame:
    """The three point-in-time joins."""
    for key, snapshot in (("user", given.users), ("item", given.items)):
        selected = selected.join(spark.createDataFrame(snapshot), f"{key}_id", "left")
    with_items = in_shared_buckets(
        selected, ["item_id"], frames["item_features"], ["item_id"], buckets, core.with_items, core.WITH_ITEMS
    )
    with_sources = in_shared_buckets(
        with_items,
        # Few impressions have a source: the others are spread by what they have.
        [F.coalesce("source_item_id", "impression_id")],
        frames["item_features"],
        ["item_id"],
        buckets,
        core.with_sources,
        core.WITH_SOURCES,
    )
    return in_shared_buckets(
        with_sources,
        [_user()],
        frames["user_features"],
        ["user_id"],
        buckets,
        partial(core.examples, encodings=given.encodings, tasks=given.tasks),
        LAKE["examples"].schema,
    )


def _user() -> Column:
    """Unknown users have no history and no features to meet: they are spread by what they have."""
    return F.coalesce("user_id", "impression_id")


def _by_row(frame: DataFrame, function: Callable[[pa.Table], pa.Table], out: pa.Schema) -> DataFrame:
    """`function` on any part of the rows: it looks at each on its own."""

    def apply(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from fitted(function(pa.Table.from_batches([batch])), out).to_batches()

    return frame.mapInArrow(apply, from_arrow_schema(out))


def _added(frame: DataFrame, count: Callable[[pa.Table], pa.Table], out: pa.Schema) -> pa.Table:
    """Counts of all rows from counts of parts; `out` has names first and int64 figures after them."""
    parts = _by_row(frame, count, out).toArrow().select(out.names)
    names = [field.name for field in out if not pa.types.is_integer(field.type)]
    figures = [name for name in out.names if name not in names]
    return parts.group_by(names).aggregate([(name, "sum") for name in figures]).rename_columns(out.names).cast(out)
