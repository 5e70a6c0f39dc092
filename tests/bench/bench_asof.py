"""The as-of kernel, reading and writing included, against DuckDB, Polars and the Spark range join it replaces.

The latest click of the user before each purchase, whatever the item, in skewed traffic with one user of 2 %. The range
join (join on the user, filter on time, number the rows) is measured at two smaller sizes; at the large one it is taken
to need twice what half the rows took, which is kind to it: its pairs grow with the square.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MAIN, HALF, FIFTH = "5M x 500k, 200k users", "2.5M x 250k, 100k users", "1M x 100k, 40k users"
CASES = {
    MAIN: (5_000_000, 500_000, 200_000),
    HALF: (2_500_000, 250_000, 100_000),
    FIFTH: (1_000_000, 100_000, 40_000),
}
SMALL = {MAIN: (50_000, 5_000, 2_000)}
HEAVY = 0.02
RANGE_JOIN = "spark range join"


def keys(clicks: int, purchases: int, users: int) -> dict[str, np.ndarray]:
    """The user of every click and purchase: Zipf-like, and one with 2 % of everything."""
    rng = np.random.default_rng(7)
    weight = np.arange(1, users + 1) ** -0.5
    found = {}
    for name, n in (("right", clicks), ("left", purchases)):
        drawn = rng.choice(users, n, p=weight / weight.sum())
        found[name] = np.where(rng.random(n) < HEAVY, 0, drawn)
    return found


def prepare(folder: Path) -> None:
    """Clicks and purchases, written once as Parquet."""
    rng = np.random.default_rng(8)
    for case, sizes in CASES.items():
        for name, key in keys(*sizes).items():
            # Whole milliseconds, distinct times: ties are the tests' business, not the clock's.
            time = (
                rng.choice(30 * 86_400_000, len(key), replace=False).astype("datetime64[ms]").astype("datetime64[us]")
            )
            rows = {"key": key.astype(np.int64), "time": time, "id": np.arange(len(key))}
            pq.write_table(pa.table(rows), folder / f"{case}.{name}.parquet")


def tidegate(folder: Path, case: str) -> int:
    """jobs.asof.core on Arrow columns."""
    from jobs.asof.core import latest, take

    left, right = (pq.read_table(folder / f"{case}.{side}.parquet") for side in ("left", "right"))
    found = take(right.select(["id"]), latest(left, right, ["key"], "time", "time"), "click_")
    pq.write_table(left.append_column("click_id", found.column(0)), folder / "tidegate.parquet")
    return _matched(folder / "tidegate.parquet")


def duckdb(folder: Path, case: str) -> int:
    """DuckDB's ASOF JOIN on the same files."""
    import duckdb

    out = folder / "duckdb.parquet"
    duckdb.sql(
        f"copy (select l.*, r.id as click_id from '{folder}/{case}.left.parquet' l asof left join "
        f"'{folder}/{case}.right.parquet' r on l.key = r.key and l.time >= r.time) to '{out}'"
    )
    return _matched(out)


def polars(folder: Path, case: str) -> int:
    """Polars' join_asof on the same files."""
    import polars as pl

    left, right = (pl.read_parquet(folder / f"{case}.{side}.parquet").sort("time") for side in ("left", "right"))
    clicks = right.rename({"id": "click_id"})
    joined = left.join_asof(clicks, on="time", by="key", check_sortedness=False)
    joined.write_parquet(folder / "polars.parquet")
    return _matched(folder / "polars.parquet")


def range_join(folder: Path, case: str) -> int:
    """What is written first on Spark."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    from jobs.config import SparkSettings
    from jobs.spark import session

    out = folder / "range_join.parquet"
    with session(SparkSettings(driver_memory_mb=4096, partitions=8), "bench") as spark:
        left, right = (spark.read.parquet(str(folder / f"{case}.{side}.parquet")) for side in ("left", "right"))
        clicks = right.select("key", F.col("time").alias("at"), F.col("id").alias("click_id"))
        newest = Window.partitionBy("id").orderBy(F.desc("at"))
        joined = left.join(clicks, "key").where(F.col("at") <= F.col("time"))
        first = joined.withColumn("n", F.row_number().over(newest)).where("n = 1").drop("n", "at")
        first.write.mode("overwrite").parquet(str(out))
    return _matched(out)


def _matched(path: Path) -> int:
    column = pq.read_table(path, columns=["click_id"]).column(0)
    return len(column) - int(column.null_count)


PEERS = {"tidegate": tidegate, "duckdb": duckdb, "polars": polars, RANGE_JOIN: range_join}
TIMES = {RANGE_JOIN: 1}
INSTEAD: dict[tuple[str, str], tuple[str, float] | None] = {(MAIN, RANGE_JOIN): None}


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Against the range join, in proportion to its rows, and against DuckDB."""
    seconds = {(row["case"], row["peer"]): row["seconds"] for row in rows}
    naive = 2 * seconds[HALF, RANGE_JOIN]
    ours, theirs = seconds[MAIN, "tidegate"], seconds[MAIN, "duckdb"]
    said = f"{naive / ours:.0f}x ({naive:.0f} s, twice what half the rows took)"
    return [
        {"goal": "at least 50x the Spark range join on the user", "found": said, "met": naive >= 50 * ours},
        {"goal": "within 3x of DuckDB", "found": f"{ours / theirs:.2f}x", "met": ours <= 3 * theirs},
    ]
