"""A team's own tools read the lake: every table, its rows, types, partition columns and older versions, as Delta."""

from collections.abc import Iterator
from typing import Any

import pytest

from jobs.config import SparkSettings
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.places import write_parquet
from tests.exactly_once import outside
from tests.exactly_once.any_rows import LINEAGE, rows, slot


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Every table: a day, an empty day, the first day replaced, a day in two part files."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for table in LAKE.values():
        lake.publish(table.name, slot(table, 1), rows(table, 40, 1), LINEAGE)
        lake.publish(table.name, slot(table, 2), rows(table, 0, 2), LINEAGE)
        lake.publish(table.name, slot(table, 1), rows(table, 30, 3), LINEAGE)
        folder = lake.staging(table.name, "run").joinpath(*(f"{k}={v}" for k, v in slot(table, 3).items()))
        parts = [folder / f"part-{seed}.parquet" for seed in (4, 5)]
        for path, seed in zip(parts, (4, 5), strict=True):
            write_parquet(rows(table, 10, seed), path, coerce_timestamps="us")
        lake.publish(table.name, slot(table, 3), parts, LINEAGE)
    return lake


@pytest.mark.parametrize("table", LAKE)
def test_duckdb_reads_every_table_as_delta(lake: Lake, table: str) -> None:
    """Rows equal the lake's own reader, now and at the first version; types are what the contract says."""
    found, types = outside.by_duckdb(lake, table)
    assert found == outside.published(lake, table)
    assert len(found) == 50
    assert types == outside.types(table, outside.in_duckdb)
    assert outside.by_duckdb(lake, table, version=0)[0] == outside.published(lake, table, version=0)


@pytest.mark.parametrize("table", LAKE)
def test_polars_reads_every_table_as_delta(lake: Lake, table: str) -> None:
    """The same by Polars."""
    found, types = outside.by_polars(lake, table)
    assert found == outside.published(lake, table)
    assert types == outside.types(table, outside.in_polars)
    assert outside.by_polars(lake, table, version=0)[0] == outside.published(lake, table, version=0)


@pytest.mark.parametrize("table", LAKE)
def test_pyarrow_reads_the_files_the_log_names(lake: Lake, table: str) -> None:
    """Who knows nothing of Delta can still be handed a list of Parquet files."""
    kept = list(LAKE[table].columns)
    expected = outside.plain({name: row[name] for name in kept} for row in lake.read(table).to_pylist())
    assert outside.by_pyarrow(lake, table) == expected


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """One session for the file."""
    from jobs.spark import session

    with session(SparkSettings(driver_memory_mb=768, partitions=1), "outside") as opened:
        yield opened


@pytest.mark.spark
def test_spark_reads_the_files_the_log_names(lake: Lake, spark: Any) -> None:
    """Without Delta's jars Spark takes the file list, as the distributed stages do; a partition is told by its path."""
    for table, spec in LAKE.items():
        frame = spark.read.parquet(*(path for path, _ in lake.files(table)))
        assert frame.columns == list(spec.columns), table
        found = outside.plain(frame.toArrow().to_pylist())
        kept = outside.plain({name: row[name] for name in spec.columns} for row in lake.read(table).to_pylist())
        assert found == kept, table
