"""A dataset of a million impressions by the stage itself: one process against Spark, the same rows."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import config
from jobs.asof.clock import available_at
from jobs.config import Config, FeatureSettings
from jobs.flow import STAGES
from jobs.lake.store import Lake, Lineage, midnight
from jobs.lake.tables import LAKE
from models.features import ENCODINGS, INTEREST_BUCKETS

CASES = {"1M impressions, 30 days": (1_000_000, 30, 20_000, 2_000)}
"""Impressions, days, users, items."""
FIRST = date(2026, 1, 1)
LINEAGE = Lineage("bench", "run0", "code", "settings")


def prepare(folder: Path) -> None:
    """A validated lake with labels and features of every day, skewed users and items, two attributes an impression."""
    for case, (impressions, days, users, items) in CASES.items():
        rng = np.random.default_rng(7)
        lake = Lake(_config(folder, case).lake.root)
        user_id, item_id = (np.array([f"{k}{n:06d}" for n in range(size)]) for k, size in (("u", users), ("i", items)))
        for day in (FIRST + timedelta(days=n) for n in range(days + 1)):
            shown, labels = _shown(rng, day, impressions // days, user_id, item_id)
            for table, rows in (
                ("impressions", shown),
                ("labels", labels),
                ("user_features", _user_features(rng, day, user_id)),
                ("item_features", _item_features(rng, day, item_id)),
                ("encodings", _encodings(rng, day)),
            ):
                lake.publish(table, {"day": str(day)}, _complete(table, rows), LINEAGE)
        for table, key, ids in (("users", "user_id", user_id), ("items", "item_id", item_id)):
            segment = _maps(len(ids), {"segment": rng.choice(["a", "b"], len(ids))}, table)
            lake.publish(table, {"day": str(FIRST)}, _complete(table, {key: ids, "attributes": segment}), LINEAGE)


def one_process(folder: Path, case: str) -> int:
    """The core on whole tables."""
    return _assemble(folder, case, 2**62)


def spark(folder: Path, case: str) -> int:
    """The core in hash buckets."""
    return _assemble(folder, case, 0)


PEERS = {"one process": one_process, "spark": spark}


def _config(folder: Path, case: str, from_rows: int = 0) -> Config:
    root = folder / case.replace(" ", "-") / "lake"
    return config.load({"TIDEGATE__LAKE__ROOT": str(root), "TIDEGATE__SPARK__FROM_ROWS": str(from_rows)})


def _assemble(folder: Path, case: str, from_rows: int) -> int:
    from jobs.assemble import job
    from jobs.lake.run import Run

    day = FIRST + timedelta(days=CASES[case][1])
    run = Run(STAGES["assemble"], _config(folder, case, from_rows), day)
    job.run(run)
    return run.rows


def _shown(
    rng: np.random.Generator, day: date, n: int, user_id: np.ndarray, item_id: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A day's impressions and their labels; one in ten is clicked, one in ten of those bought."""
    at = midnight(day).timestamp() * 1e6 + np.sort(rng.integers(0, 86_400_000_000, n))
    user, item = (ids[np.minimum(rng.zipf(1.3, n), len(ids)) - 1] for ids in (user_id, item_id))
    shown: dict[str, Any] = {
        "impression_id": [f"{day:%m%d}-{k:07d}" for k in range(n)],
        "request_id": [f"{day:%m%d}-r{k // 4:07d}" for k in range(n)],
        "event_time": _times(at),
        "ingested_at": _times(at),
        "user_id": user,
        "item_id": item,
        "surface": rng.choice(["home", "search", "similar"], n),
        "position": np.arange(n) % 4 + 1,
        "propensity": rng.uniform(0.05, 0.9, n),
        "policy": ["logging"] * n,
        "device": rng.choice(["phone", "desktop"], n),
        "attributes": _maps(n, {"daypart": rng.choice(["noon", "night"], n), "page": rng.choice(list("abcd"), n)}),
    }
    clicked = rng.random(n) < 0.1
    bought = clicked & (rng.random(n) < 0.1)
    labels = {name: shown[name] for name in ("impression_id", "request_id", "event_time", "user_id", "item_id")} | {
        "known_at": _times(at),
        "clicked": clicked,
        "click_known_at": _times(at + 60e6, ~clicked),
        "click_matures_at": _times(at + 86_400e6),
        "converted": bought,
        "conversion_known_at": _times(at + 3_600e6, ~bought),
        "conversion_credit": bought.astype(float),
        "conversion_value": np.where(bought, 9.5, 0.0),
        "matures_at": _times(at + 8 * 86_400e6),
        "outcomes": pa.nulls(len(clicked), LAKE["labels"].schema.field("outcomes").type),
    }
    return shown, labels


def _user_features(rng: np.random.Generator, day: date, ids: np.ndarray) -> dict[str, Any]:
    interests = pa.array(rng.uniform(0.5, 2, (len(ids), INTEREST_BUCKETS)).astype(np.float32).ravel())
    offsets = pa.array(np.arange(len(ids) + 1, dtype=np.int32) * INTEREST_BUCKETS)
    return {
        "user_id": ids,
        "interests": pa.ListArray.from_arrays(offsets, interests),
        **_known("user_features", rng, day, len(ids)),
    }


def _item_features(rng: np.random.Generator, day: date, ids: np.ndarray) -> dict[str, Any]:
    bucket = rng.integers(0, INTEREST_BUCKETS, len(ids))
    known = _known("item_features", rng, day, len(ids))
    return {"item_id": ids, **known, "category": [f"c{b}" for b in bucket], "interest_bucket": bucket}


def _encodings(rng: np.random.Generator, day: date) -> dict[str, Any]:
    names = [(encoding, f"c{b}") for encoding in ENCODINGS for b in range(INTEREST_BUCKETS)]
    rows = dict(zip(("encoding", "value"), zip(*names, strict=True), strict=True))
    return rows | _known("encodings", rng, day, len(names))


def _known(table: str, rng: np.random.Generator, day: date, n: int) -> dict[str, Any]:
    """Available as promised; every number a random one."""
    numbers = [name for name, column in LAKE[table].columns.items() if column.type == pa.float64()]
    available = [available_at(day, FeatureSettings())] * n
    return {"available_at": available, **{name: rng.uniform(0, 50, n) for name in numbers}}


def _complete(table: str, rows: dict[str, Any]) -> pa.Table:
    """The table's columns; what `rows` lacks is null, or an empty list where null may not be."""
    schema, n = LAKE[table].schema, len(next(iter(rows.values())))
    columns = {
        f.name: pa.nulls(n, f.type) if f.nullable else pa.array([[]] * n, f.type) for f in schema if f.name not in rows
    }
    columns |= {name: pa.array(values, schema.field(name).type) for name, values in rows.items()}
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _times(microseconds: np.ndarray, unknown: np.ndarray | None = None) -> pa.Array:
    return pa.array(microseconds.astype(np.int64), pa.int64(), mask=unknown).cast(pa.timestamp("us", "UTC"))


def _maps(n: int, columns: dict[str, np.ndarray], table: str = "impressions") -> pa.Array:
    """One map a row with an entry for each of `columns`."""
    keys, values = np.tile(list(columns), n), np.stack(list(columns.values()), axis=1).ravel()
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * len(columns))
    return pa.MapArray.from_arrays(offsets, pa.array(keys), pa.array(values)).cast(
        LAKE[table].columns["attributes"].type
    )
