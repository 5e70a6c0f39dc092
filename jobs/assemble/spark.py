"""`jobs.assemble.core`, step by step in hash buckets of each step's own key; the same rows as on one machine."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from jobs.asof.spark import in_shared_buckets, read_parts, refusals
from jobs.assemble import core
from jobs.tables import LAKE


def write_examples(
    spark: SparkSession,
    files: Mapping[str, Sequence[str]],
    users: pa.Table,
    items: pa.Table,
    data: core.Dataset,
    buckets: int,
    folder: Path,
) -> None:
    """Write the examples as part files into `folder`; each holds some users' rows, by event time.

    `files` names the part files of impressions, labels, user_features and item_features; `users` and `items` are
    `core.prefixed` snapshots.
    """
    frames = {table: read_parts(spark, files[table], schema) for table, schema in core.SCHEMAS.items()}
    labelled = in_shared_buckets(
        frames["impressions"],
        ["impression_id"],
        frames["labels"],
        ["impression_id"],
        buckets,
        partial(core.labelled, data=data),
        core.LABELLED,
    )
    for key, snapshot in (("user", users), ("item", items)):
        labelled = labelled.join(spark.createDataFrame(snapshot), f"{key}_id", "left")
    with_items = in_shared_buckets(
        labelled,
        ["item_id"],
        frames["item_features"],
        ["item_id"],
        buckets,
        core.with_items,
        core.WITH_ITEMS,
    )
    examples = in_shared_buckets(
        with_items,
        # Unknown users have no features to meet: they are spread by what they have.
        [F.coalesce("user_id", "impression_id")],
        frames["user_features"],
        ["user_id"],
        buckets,
        core.examples,
        LAKE["examples"].schema,
    )
    with refusals():
        examples.write.mode("append").parquet(str(folder))
