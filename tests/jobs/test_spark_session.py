"""What Spark is told: paths that mean one file, whatever characters people put into their names."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config import SparkSettings
from jobs.errors import Misconfigured
from jobs.spark import as_named, session

ODD = ("run[1]", "a{b,c}d", "st*r", "wh?t", "back\\slash", "per%20cent", "hash#", "day=2026-01-01", "^{-}!(x)", "10:30")


@pytest.mark.spark
def test_a_path_is_read_as_itself_and_never_as_a_pattern(tmp_path: Path) -> None:
    """`run[1]` is no pattern for the `run1` beside it, whose rows Spark would read in silence."""
    decoys = ("run1", "ab", "acd", "star", "what", "back", "backslash")
    for n, name in enumerate((*ODD, *decoys)):
        folder = tmp_path / name
        folder.mkdir()
        pq.write_table(pa.table({"v": [n]}), folder / "part-0.parquet")
    with session(SparkSettings(driver_memory_mb=768), "test-paths") as spark:
        for n, name in enumerate(ODD):
            folder = tmp_path / name
            for path in (folder, folder / "part-0.parquet"):
                assert [row.v for row in spark.read.parquet(as_named(path)).collect()] == [n], path


@pytest.mark.parametrize("path", ["/data/2026-01-01T10:30.parquet", "/data/10:30/run[1]/part-0.parquet"])
def test_a_colon_that_hadoop_cannot_read_is_said_in_a_sentence(path: str) -> None:
    """Hadoop's own words for it are `Relative path in absolute URI` and a stack of forty lines."""
    with pytest.raises(Misconfigured, match=r"without a colon, which Hadoop takes for a scheme; found /data/"):
        as_named(path)


def test_a_relative_path_has_no_scheme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`run:1/part` alone would be a file system called `run`."""
    monkeypatch.chdir(tmp_path)
    assert as_named("run:1/part") == f"{tmp_path}/run:1/part"
