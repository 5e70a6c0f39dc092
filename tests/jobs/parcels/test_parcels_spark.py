"""Buckets on Spark: every partition works, and a heavy user does not make one of them wait for the others."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark import SparkFiles

import jobs.spark
from jobs.config import SparkSettings
from jobs.parcels.core import Pair
from jobs.parcels.spark import TASKS_A_CORE, Steps
from jobs.spark import session


@pytest.mark.spark
def test_buckets_lie_on_partitions_of_their_own_and_a_heavy_user_is_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are bucketed by user and item, so a user with a fifth of all of them is in every bucket.

    More buckets than cores can use share tasks. Their rows lie in files for as long as anybody can ask for them.
    Workers are forked from a process that has what steps need: none of them has to import it. They keep the memory
    that they have used. An archive of classes that is none is passed over.
    """
    damaged = tmp_path / "an archive.jsa"
    damaged.write_bytes(b"none")
    monkeypatch.setattr(jobs.spark, "ARCHIVE", damaged)

    def seen(bucket: int, rows: pa.Table) -> tuple[int, int, int, bool]:
        import os

        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        forked = b"\0jobs.parcels\0" in Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
        # Of themselves, not of whoever runs this: the allocators read it when a process starts.
        keeps = b"MIMALLOC_PURGE_DELAY=-1" in Path(f"/proc/{os.getppid()}/environ").read_bytes()
        return bucket, context.partitionId(), len(rows), forked and keeps

    rng = np.random.default_rng(0)
    users, n = 500, 20_000
    user = np.where(rng.random(n) < 0.2, 0, rng.integers(0, users, n))
    events = pa.table({"user": user.astype(str), "item": rng.integers(0, 300, n).astype(str)})
    with session(SparkSettings(master="local[2]", driver_memory_mb=768, partitions=2), "test") as spark:
        for buckets in (2, 4):
            steps = Steps(spark, buckets)
            found = steps.told([steps.send(events, Pair(("user",), "item"))], seen)
            numbers, partitions, rows, forked = zip(*found, strict=True)
            assert sorted(numbers) == sorted(partitions) == list(range(buckets))
            assert sum(rows) == n
            assert max(rows) < 1.2 * n / buckets
            assert all(forked)
        steps = Steps(spark, 9)
        sent = steps.send(events, Pair(("user",), "item"))
        numbers, partitions, rows, _ = zip(*steps.told([sent], seen), strict=True)
        assert sorted(numbers) == list(range(9))
        assert len(set(partitions)) == 2 * TASKS_A_CORE
        assert sum(rows) == n
        [files] = Path(SparkFiles.getRootDirectory()).glob("parcels-*")  # those of steps that are over are gone
        assert list(files.iterdir())
        del steps
        assert files.exists()
        del sent
        assert not files.exists()
