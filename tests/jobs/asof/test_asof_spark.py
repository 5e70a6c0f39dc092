"""Buckets on Spark: every partition works, and a heavy user does not make one of them wait for the others."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.asof.spark import in_buckets
from jobs.config import SparkSettings
from jobs.spark import session


@pytest.mark.spark
def test_buckets_lie_on_partitions_of_their_own_and_a_heavy_user_is_spread() -> None:
    """Spark places groups by a hash: three of the buckets 0, 1, 2, 3 would share one partition of four.

    Events are bucketed by user and item, so a user with a fifth of all of them is in every bucket.
    """

    def seen(rows: pa.Table) -> pa.Table:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        return pa.table({"partition": pa.array([context.partitionId()]), "rows": pa.array([len(rows)])})

    rng = np.random.default_rng(0)
    users, n = 500, 20_000
    user = np.where(rng.random(n) < 0.2, 0, rng.integers(0, users, n))
    events = pa.table({"user": user.astype(str), "item": rng.integers(0, 300, n).astype(str)})
    out = pa.schema([("partition", pa.int64()), ("rows", pa.int64())])
    for partitions in (2, 4):
        with session(SparkSettings(master="local[2]", driver_memory_mb=768, partitions=partitions), "test") as spark:
            spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")  # 20,000 rows would fit in one
            frame = spark.createDataFrame(events)
            found = in_buckets(frame, ["user", "item"], partitions, seen, out).toArrow()
        assert sorted(found["partition"].to_pylist()) == list(range(partitions))
        assert sum(found["rows"].to_pylist()) == n
        assert max(found["rows"].to_pylist()) < 1.2 * n / partitions
