"""The newest feature row known before each example, Parquet to Parquet: the kernel, DuckDB's ASOF join, and Feast."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.lake.tables import TIME

MAIN, SMALLER = "2M examples, 10M feature rows", "1M examples, 5M feature rows"
CASES = {MAIN: (2_000_000, 200_000, 50), SMALLER: (1_000_000, 100_000, 50)}
"""Examples, users, days; every user has a feature row at every midnight."""
SMALL = {MAIN: (20_000, 2_000, 20), SMALLER: (10_000, 1_000, 20)}
VALUES = ("impressions", "click_rate", "days_since_click")
START_US = 1_767_225_600_000_000
DAY_US = 86_400_000_000


def prepare(folder: Path) -> None:
    """Examples of skewed users at any time of the days; those of the first day have no row before them."""
    for case, (examples, users, days) in CASES.items():
        rng = np.random.default_rng(7)
        ids = pa.array(np.char.add("u", np.char.zfill(np.arange(users).astype(str), 8)))
        weight = np.arange(1, users + 1) ** -0.5
        who = rng.choice(users, examples, p=weight / weight.sum())
        at = np.sort(rng.integers(0, days * DAY_US, examples))
        number = pa.array(np.char.add("e", np.char.zfill(np.arange(examples).astype(str), 8)))
        rows = {"example_id": number, "user_id": ids.take(pa.array(who)), "event_time": _times(at)}
        pq.write_table(pa.table(rows), _path(folder, case, "examples"))
        midnight = np.repeat(np.arange(1, days + 1) * DAY_US, users)
        rows = {"user_id": ids.take(pa.array(np.tile(np.arange(users), days))), "available_at": _times(midnight)}
        rows |= {name: pa.array(rng.random(users * days)) for name in VALUES}
        pq.write_table(pa.table(rows), _path(folder, case, "features"))


def kernel(folder: Path, case: str) -> int:
    """`jobs.asof.core` on whole tables, as the stage takes it below `spark.from_rows`."""
    from jobs.asof.core import latest, take

    # Through ParquetFile, as the lake's parts are read: a dataset's reader loads pandas first.
    examples, features = (pq.ParquetFile(_path(folder, case, table)).read() for table in ("examples", "features"))
    known = take(features.select(VALUES), latest(examples, features, ["user_id"], right_time="available_at"))
    for name in VALUES:
        examples = examples.append_column(name, known.column(name))
    pq.write_table(examples, folder / "kernel.parquet")
    return _found(folder / "kernel.parquet")


def duckdb(folder: Path, case: str) -> int:
    """DuckDB's ASOF JOIN on the same files."""
    import duckdb

    examples, features = (_path(folder, case, table) for table in ("examples", "features"))
    out = folder / "duckdb.parquet"
    duckdb.sql(
        f"copy (select e.*, {', '.join(VALUES)} from '{examples}' e asof left join '{features}' f "
        f"on e.user_id = f.user_id and e.event_time >= f.available_at) to '{out}'"
    )
    return _found(out)


def feast(engine: str) -> Callable[[Path, str], int]:
    """Feast's get_historical_features with an offline engine of its own."""

    def peer(folder: Path, case: str) -> int:
        from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
        from feast.types import Float64

        store = FeatureStore(
            config=RepoConfig(
                project="bench",
                provider="local",
                registry=str(folder / f"{engine}.registry.db"),
                offline_store={"type": engine},
                online_store={"type": "sqlite", "path": str(folder / f"{engine}.online.db")},
                entity_key_serialization_version=3,
            )
        )
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        source = FileSource(path=str(_path(folder, case, "features")), timestamp_field="available_at")
        schema = [Field(name=name, dtype=Float64) for name in VALUES]
        # No expiry: past a time to live the default engine would leave whole examples out.
        view = FeatureView(name="users", entities=[user], schema=schema, source=source, ttl=timedelta(0))
        store.apply([user, view])
        examples = pq.read_table(_path(folder, case, "examples")).rename_columns(
            ["example_id", "user_id", "event_timestamp"]
        )
        names = [f"users:{name}" for name in VALUES]
        joined = store.get_historical_features(entity_df=examples.to_pandas(), features=names).to_arrow()
        pq.write_table(joined, folder / f"{engine}.parquet")
        return _found(folder / f"{engine}.parquet")

    return peer


PEERS = {
    "kernel": kernel,
    "duckdb asof": duckdb,
    "feast, default (dask)": feast("dask"),
    "feast, duckdb": feast("duckdb"),
}
TIMES = {"feast, default (dask)": 1}
INSTEAD: dict[tuple[str, str], tuple[str, float] | None] = {
    (MAIN, "feast, default (dask)"): (SMALLER, 2.0),  # in proportion to the rows, which is kind to a join
    (SMALLER, "feast, default (dask)"): None,
}


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What issue 3 asks, and what was found."""
    seconds = {row["peer"]: row["seconds"] for row in rows if row["case"] == MAIN}
    ours = seconds["kernel"]
    found = [("at most 1.0 x DuckDB's ASOF join", round(ours / seconds["duckdb asof"], 2), 1.0, -1)]
    for peer in ("feast, default (dask)", "feast, duckdb"):
        found.append((f"at least 10 x faster than {peer}", round(seconds[peer] / ours, 1), 10, 1))
    return [
        {"goal": goal, "found": ratio, "met": (ratio - limit) * better >= 0} for goal, ratio, limit, better in found
    ]


def _times(us: np.ndarray) -> pa.Array:
    return pa.array(START_US + us, pa.int64()).cast(TIME)


def _path(folder: Path, case: str, table: str) -> Path:
    return folder / f"{case.replace(', ', '-').replace(' ', '-')}.{table}.parquet"


def _found(path: Path) -> int:
    """Examples that met a feature row, as they were written."""
    return int(pq.ParquetFile(path).read(columns=[VALUES[0]])[VALUES[0]].is_valid().to_numpy().sum())
