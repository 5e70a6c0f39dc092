"""The as-of kernel on one machine against DuckDB's ASOF JOIN and Polars' join_asof: latest click before a purchase."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CASES = {"1M x 100k, 50k users": (1_000_000, 100_000, 50_000)}


def prepare(folder: Path) -> None:
    """Clicks and purchases with skewed users, written once as Parquet."""
    for case, (clicks, purchases, users) in CASES.items():
        rng = np.random.default_rng(7)
        for name, n in (("right", clicks), ("left", purchases)):
            key = np.minimum(rng.zipf(1.3, n), users).astype(np.int64)
            # Whole milliseconds, distinct times: ties are the tests' business, not the clock's.
            time = rng.choice(30 * 86_400_000, n, replace=False).astype("datetime64[ms]").astype("datetime64[us]")
            pq.write_table(pa.table({"key": key, "time": time}), folder / f"{case}.{name}.parquet")


def tidegate(folder: Path, case: str) -> int:
    """jobs.asof.core on Arrow columns."""
    from jobs.asof.core import latest

    left, right = (pq.read_table(folder / f"{case}.{side}.parquet") for side in ("left", "right"))
    return int((latest(left, right, ["key"], "time", "time") >= 0).sum())


def duckdb(folder: Path, case: str) -> int:
    """DuckDB's ASOF JOIN on the same files."""
    import duckdb

    found = duckdb.sql(
        f"select count(*) from '{folder}/{case}.left.parquet' l asof join '{folder}/{case}.right.parquet' r "
        "on l.key = r.key and l.time >= r.time"
    ).fetchall()
    return int(found[0][0])


def polars(folder: Path, case: str) -> int:
    """Polars' join_asof on the same files."""
    import polars as pl

    left, right = (pl.read_parquet(folder / f"{case}.{side}.parquet").sort("time") for side in ("left", "right"))
    joined = left.join_asof(
        right.with_columns(pl.col("time").alias("found")), on="time", by="key", check_sortedness=False
    )
    return int(joined["found"].is_not_null().sum())


PEERS = {"tidegate": tidegate, "duckdb": duckdb, "polars": polars}
