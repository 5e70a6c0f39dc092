"""Buckets on Spark: every partition works, and a heavy user does not make one of them wait for the others."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.config import SparkSettings
from jobs.parcels.core import Pair
from jobs.parcels.spark import Steps
from jobs.spark import session


@pytest.mark.spark
def test_buckets_lie_on_partitions_of_their_own_and_a_heavy_user_is_spread() -> None:
    """Events are bucketed by user and item, so a user with a fifth of all of them is in every bucket."""

    def seen(_bucket: int, rows: pa.Table) -> tuple[int, int]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        return context.partitionId(), len(rows)

    rng = np.random.default_rng(0)
    users, n = 500, 20_000
    user = np.where(rng.random(n) < 0.2, 0, rng.integers(0, users, n))
    events = pa.table({"user": user.astype(str), "item": rng.integers(0, 300, n).astype(str)})
    with session(SparkSettings(master="local[2]", driver_memory_mb=768), "test") as spark:
        for buckets in (2, 4):
            steps = Steps(spark, buckets)
            found = dict(steps.told([steps.send(events, Pair(("user",), "item"))], seen))
            assert sorted(found) == list(range(buckets))
            assert sum(found.values()) == n
            assert max(found.values()) < 1.2 * n / buckets
