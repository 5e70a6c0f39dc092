"""A small published lake with a known truth, for the jobs of models: users like one category, items differ in appeal.

Nothing here calls the code under test: features, examples and candidates are written down as `assemble` and
`featurize` would publish them.
"""

import shutil
import zlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import config, tracking
from jobs.config import Config
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake, Lineage, midnight
from jobs.lake.tables import LAKE, TIME, VALUES
from models.features import INTEREST_BUCKETS
from models.rankers.features import ITEM_NUMBERS, SEPARATOR, USER_NUMBERS

DAY = date(2026, 1, 8)
"""The newest complete day; its test day is the one before, for the click window is embargoed."""
TEST_DAY = DAY - timedelta(days=1)
USERS, ITEMS, CATEGORIES, CANDIDATES, SLATE = 120, 40, 4, 8, 3
LINEAGE = Lineage("test", "run0", "code", "settings")
BUCKETS = [zlib.crc32(f"category-{c}".encode()) % INTEREST_BUCKETS for c in range(CATEGORIES)]


@cache
def empty_mlflow(folder: Path) -> Path:
    """One initialised MLflow database a session: creating its tables takes seconds."""
    path = folder / "empty.db"
    tracking.champion(config.load({"TIDEGATE_ENV": "test", "TIDEGATE__TRACKING__URI": f"sqlite:///{path}"}))
    return path


def settings(root: Path, session: Path, **overrides: str) -> Config:
    """Test settings with everything below `root`, and an MLflow database of its own."""
    root.mkdir(parents=True, exist_ok=True)
    database = root / "mlflow.db"
    if not database.exists():
        shutil.copy(empty_mlflow(session), database)
    return config.load(
        {
            "TIDEGATE_ENV": "test",
            "TIDEGATE__SOURCE__NAME": "parquet",
            "TIDEGATE__LAKE__ROOT": str(root / "lake"),
            "TIDEGATE__LAKE__RAW": str(root / "raw"),
            "TIDEGATE__BUNDLES": str(root / "bundles"),
            "TIDEGATE__TRACKING__URI": f"sqlite:///{database}",
            "TIDEGATE__TRACKING__ARTIFACTS": str(root / "artifacts"),
            "TIDEGATE__ENDPOINT__STATE": str(root / "endpoint"),
            "TIDEGATE__GATE__MAX_LATENCY_MS": "10000",  # a busy machine is no reason to hold
            **{f"TIDEGATE__{name.upper()}": value for name, value in overrides.items()},
        }
    )


def a_run(stage: str, settings: Config, day: date = DAY, mode: Any = "full") -> Run:
    """A run of a stage as `python -m jobs` would start it."""
    return Run(STAGES[stage], settings, day, mode=mode)


@dataclass
class World:
    """Tastes and appeal; `p_click` is the truth that examples are drawn from."""

    seed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.taste = rng.integers(0, CATEGORIES, USERS)
        self.category = np.arange(ITEMS) % CATEGORIES
        self.appeal = rng.normal(0, 0.7, ITEMS)
        self.segment = np.array(["a", "b"])[self.taste % 2]

    def p_click(self, user: np.ndarray, item: np.ndarray, position: np.ndarray) -> np.ndarray:
        likes = (self.taste[user] == self.category[item]) * 2.0
        return 1 / (1 + np.exp(-(-2.2 + likes + self.appeal[item] - 0.5 * (position - 1))))

    def requests(self, day: date, n: int) -> dict[str, np.ndarray]:
        """Who asked, the candidates, and a logged Plackett-Luce slate with its exact propensities."""
        rng = np.random.default_rng([self.seed, day.toordinal()])
        user = rng.integers(0, USERS, n)
        candidates = np.array([rng.permutation(ITEMS)[:CANDIDATES] for _ in range(n)])
        logit = 0.5 * self.appeal[candidates]
        order = np.argsort(-(logit + rng.gumbel(size=logit.shape)), axis=1)[:, :SLATE]
        left = np.exp(logit)
        propensity = np.empty((n, SLATE))
        for place in range(SLATE):
            taken = order[:, [place]]
            propensity[:, place] = (np.take_along_axis(left, taken, 1) / left.sum(1, keepdims=True))[:, 0]
            np.put_along_axis(left, taken, 0.0, 1)
        item = np.take_along_axis(candidates, order, 1)
        clicked = rng.random((n, SLATE)) < self.p_click(user[:, None], item, np.arange(1, SLATE + 1))
        return {"user": user, "candidates": candidates, "item": item, "propensity": propensity, "clicked": clicked}


def user_ids(user: np.ndarray) -> list[str]:
    return [f"u{n:06d}" for n in user]


def item_ids(item: np.ndarray) -> list[str]:
    return [f"i{n:06d}" for n in item]


def known_from(day: date) -> datetime:
    """When the features of a day count as known: at six in the morning of the next."""
    return midnight(day + timedelta(days=1)) + timedelta(hours=6)


def user_features(world: World, day: date) -> pa.Table:
    interests = np.full((USERS, INTEREST_BUCKETS), 1.0, np.float32)
    interests[np.arange(USERS), np.array(BUCKETS)[world.taste]] = 3.0
    return pa.table(
        {
            "user_id": user_ids(np.arange(USERS)),
            "available_at": [known_from(day)] * USERS,
            "impressions": np.arange(USERS, dtype=float),
            "clicks": np.full(USERS, 1.0),
            "click_rate": np.full(USERS, 0.1),
            "days_since_click": pa.array([None if n % 7 == 0 else n / 10 for n in range(USERS)], pa.float64()),
            "interests": pa.array(list(interests), pa.list_(pa.float32())),
            "last_items": [item_ids(np.array([n % ITEMS])) for n in range(USERS)],
            "last_buckets": pa.array([[BUCKETS[n % CATEGORIES]] for n in range(USERS)], pa.list_(pa.int32())),
            "session_events": np.arange(USERS) % 5 + 1.0,
            "session_clicks": np.arange(USERS) % 2 * 1.0,
            "session_seconds": np.arange(USERS) % 7 * 10.0,
            "session_buckets": pa.array(
                [[BUCKETS[n % CATEGORIES], BUCKETS[0]] for n in range(USERS)], pa.list_(pa.int32())
            ),
            "days_since_session": np.arange(USERS) / 10,
            "outcomes": pa.nulls(USERS, VALUES),
        },
        schema=LAKE["user_features"].schema,
    )


def item_features(world: World, day: date) -> pa.Table:
    rate = 1 / (1 + np.exp(1.5 - world.appeal))
    return pa.table(
        {
            "item_id": item_ids(np.arange(ITEMS)),
            "available_at": [known_from(day)] * ITEMS,
            "impressions": np.full(ITEMS, 100.0),
            "clicks": rate * 100,
            "click_rate": rate,
            "click_rate_7d": rate,
            "click_rate_1d": rate,
            "click_rate_1h": rate,
            "purchase_rate": np.full(ITEMS, 0.1),
            "outcomes": pa.nulls(ITEMS, VALUES),
            "age_days": np.full(ITEMS, float((day - date(2026, 1, 1)).days)),
            "price": pa.array([None if n % 5 == 0 else float(n) for n in range(ITEMS)], pa.float64()),
            "category": [f"category-{c}" for c in world.category],
            "vector": pa.nulls(ITEMS, pa.list_(pa.float32())),
            "interest_bucket": pa.array([BUCKETS[c] for c in world.category], pa.int32()),
        },
        schema=LAKE["item_features"].schema,
    )


def encodings(day: date) -> pa.Table:
    """The categories' rates, and their rates on the home surface."""
    rows = [("category", f"category-{c}", 0.1 + 0.01 * c) for c in range(CATEGORIES)]
    rows += [("surface_category", f"home{SEPARATOR}category-{c}", 0.2 + 0.01 * c) for c in range(CATEGORIES)]
    return pa.table(
        {
            "encoding": [name for name, _, _ in rows],
            "value": [value for _, value, _ in rows],
            "available_at": [known_from(day)] * len(rows),
            "impressions": np.full(len(rows), 100.0),
            "clicks": np.full(len(rows), 10.0),
            "click_rate": [rate for _, _, rate in rows],
        },
        schema=LAKE["encodings"].schema,
    )


FEATURES = {
    "user_features": user_features,
    "item_features": item_features,
    "encodings": lambda _, day: encodings(day),
}
"""Every feature table of a world and a day."""


def feature_tables(world: World, day: date) -> dict[str, pa.Table]:
    """All of them, by name."""
    return {name: of(world, day) for name, of in FEATURES.items()}


def publish_features(settings: Config, world: World, day: date) -> None:
    """As `featurize` would."""
    for name, rows in feature_tables(world, day).items():
        publish(settings, name, rows, day=str(day))


def items(world: World) -> pa.Table:
    return pa.table(
        {
            "item_id": item_ids(np.arange(ITEMS)),
            "created_at": pa.nulls(ITEMS, LAKE["items"].schema.field("created_at").type),
            "category": [f"category-{c}" for c in world.category],
            "price": pa.nulls(ITEMS, pa.float64()),
            "title": pa.nulls(ITEMS, pa.string()),
            "removed": pa.nulls(ITEMS, pa.bool_()),
            "feature_vector": pa.nulls(ITEMS, pa.list_(pa.float64())),
            "attributes": pa.array(
                [[("tier", "basic" if n % 2 else "plus")] for n in range(ITEMS)],
                LAKE["items"].schema.field("attributes").type,
            ),
        },
        schema=LAKE["items"].schema,
    )


def requests_table(world: World, day: date, n: int) -> pa.Table:
    drawn = world.requests(day, n)
    return pa.table(
        {
            "request_id": request_ids(day, n),
            "event_time": times(day, n),
            "user_id": user_ids(drawn["user"]),
            "surface": ["home"] * n,
            "policy": ["logging"] * n,
            "candidates": [item_ids(row) for row in drawn["candidates"]],
            "slate_size": pa.array([SLATE] * n, pa.int32()),
        },
        schema=LAKE["requests"].schema,
    )


def request_ids(day: date, n: int) -> list[str]:
    return [f"r{day:%Y%m%d}-{k:06d}" for k in range(n)]


def times(day: date, n: int) -> list[datetime]:
    """Round the clock."""
    return [midnight(day) + timedelta(seconds=86_400 * k // n) for k in range(n)]


def examples(world: World, day: date, split: str, n: int) -> pa.Table:
    """The impressions of one day, one row per placement: features of the day before, of one more in the small hours."""
    drawn = world.requests(day, n)
    user, item = np.repeat(drawn["user"], SLATE), drawn["item"].ravel()
    users = user_features(world, day - timedelta(days=1))
    catalogue = pa.concat_tables([item_features(world, day - timedelta(days=back)) for back in (2, 1)])
    listed = item + ITEMS * np.repeat([at >= known_from(day - timedelta(days=1)) for at in times(day, n)], SLATE)
    position = np.tile(np.arange(1, SLATE + 1), n)
    names = np.repeat(request_ids(day, n), SLATE)
    interest = np.where(world.taste[user] == world.category[item], 3.0, 1.0)
    columns: dict[str, Any] = {
        "impression_id": [f"{r}-{p}" for r, p in zip(names, position, strict=True)],
        "request_id": names.tolist(),
        "event_time": np.repeat(times(day, n), SLATE).tolist(),
        "user_id": user_ids(user),
        "item_id": item_ids(item),
        "surface": ["home"] * len(user),
        "position": pa.array(position, pa.int32()),
        "propensity": drawn["propensity"].ravel(),
        "policy": ["logging"] * len(user),
        "split": [split] * len(user),
        "clicked": drawn["clicked"].ravel(),
        "converted": pa.nulls(len(user), pa.bool_()),
        "conversion_heard_at": pa.nulls(len(user), TIME),
        "outcomes": pa.nulls(len(user), VALUES),
        "weight": np.ones(len(user)),
        "user_item_interest": interest,
        "user_last5_share": (user % CATEGORIES == world.category[item]) * 1.0,
        "user_last10_share": (user % CATEGORIES == world.category[item]) * 1.0,
        "user_session_share": ((user % CATEGORIES == world.category[item]) * 1.0 + (world.category[item] == 0)) / 2,
        "user_clicked_item": (user % ITEMS == item) * 1.0,
        "encoded_category": 0.1 + 0.01 * world.category[item],
        "encoded_surface_category": 0.2 + 0.01 * world.category[item],
        "encoded_source_category": 0.1 + 0.01 * world.category[item],
        "encoded_query_category": 0.1 + 0.01 * world.category[item],
        "source_same_category": np.zeros(len(user)),
        "last_items": users["last_items"].take(pa.array(user)),
        "item_vector": pa.nulls(len(user), pa.list_(pa.float32())),
        "task_type": ["recommend"] * len(user),
        "query": pa.nulls(len(user), pa.string()),
        "source_item_id": pa.nulls(len(user), pa.string()),
        "device": np.where(np.arange(len(user)) // SLATE % 2, "phone", "desktop").tolist(),
        "region": pa.nulls(len(user), pa.string()),
        "attributes": pa.array(
            [
                [
                    ("daypart", "night" if k // SLATE % 2 else "noon"),
                    ("user.segment", str(world.segment[u])),
                    ("item.tier", "basic" if i % 2 else "plus"),
                ]
                for k, (u, i) in enumerate(zip(user, item, strict=True))
            ],
            LAKE["examples"].schema.field("attributes").type,
        ),
    }
    for name in USER_NUMBERS:
        columns[f"user_{name}"] = users[name].take(pa.array(user))
    for name in (*ITEM_NUMBERS, "category"):
        columns[f"item_{name}"] = catalogue[name].take(pa.array(listed))
    return pa.table({name: columns[name] for name in LAKE["examples"].columns}, schema=LAKE["examples"].schema)


def publish(settings: Config, table: str, rows: pa.Table, **partition: str) -> None:
    """Replace one partition, as the stage that owns the table would."""
    Lake(settings.lake.root).publish(table, partition, rows, LINEAGE)


def publish_all(
    settings: Config, world: World, day: date = DAY, mode: str = "full", n: int = 300, train_days: int = 4
) -> None:
    """Examples of `day` and mode, and everything the backtest needs to replay its test day."""
    test = day - timedelta(days=1)
    days = [test - timedelta(days=k) for k in range(train_days + 1, 0, -1)]
    parts = [examples(world, d, "train", n) for d in days[:-1]]
    parts += [examples(world, days[-1], "validate", n), examples(world, test, "test", 2 * n)]
    publish(settings, "examples", pa.concat_tables(parts), day=str(day), mode=mode)
    publish(settings, "requests", requests_table(world, test, 2 * n), day=str(test))
    for back in (2, 1):
        publish_features(settings, world, test - timedelta(days=back))
    publish(settings, "items", items(world), day=str(test - timedelta(days=1)))


def publish_served(
    settings: Config, world: World, day: date, n: int, candidate_id: str, live: float
) -> tuple[pa.Table, pa.Table]:
    """A day of impressions with labels; a share of users meets the endpoint, a tenth of their requests its fallback."""
    rows = examples(world, day, "test", n)
    user = np.array([int(u[1:]) for u in rows["user_id"].to_pylist()])
    request = np.arange(len(rows)) // SLATE
    served = user < live * USERS
    policy = np.where(served, np.where(request % 10 == 0, candidate_id + "+fallback", candidate_id), "logging")
    spec = LAKE["impressions"]
    maps = [[pair for pair in entries if "." not in pair[0]] for entries in rows["attributes"].to_pylist()]
    columns = {name: rows[name] for name in spec.columns if name in rows.column_names}
    columns |= {"policy": policy.tolist(), "ingested_at": rows["event_time"]}
    columns |= {"attributes": pa.array(maps, spec.schema.field("attributes").type)}
    shown = pa.table({name: columns[name] for name in spec.columns}, schema=spec.schema)
    mature = [at + timedelta(days=1) for at in rows["event_time"].to_pylist()]
    clicked = rows["clicked"]
    fields: dict[str, Any] = {name: rows[name] for name in LAKE["labels"].columns if name in rows.column_names}
    fields |= {"known_at": rows["event_time"], "click_known_at": rows["event_time"], "click_matures_at": mature}
    fields |= {"converted": [False] * len(rows), "conversion_known_at": [None] * len(rows), "matures_at": mature}
    fields |= {"conversion_credit": [0.0] * len(rows), "conversion_value": [0.0] * len(rows), "clicked": clicked}
    fields |= dict.fromkeys(("click_superseded", "conversion_superseded", "outcomes"), [None] * len(rows))
    labels = pa.table({name: fields[name] for name in LAKE["labels"].columns}, schema=LAKE["labels"].schema)
    publish(settings, "impressions", shown, day=str(day))
    publish(settings, "labels", labels, day=str(day))
    return shown, labels


def users(world: World) -> pa.Table:
    kind = LAKE["users"].schema
    return pa.table(
        {
            "user_id": user_ids(np.arange(USERS)),
            "created_at": pa.nulls(USERS, kind.field("created_at").type),
            "attributes": pa.array([[("segment", str(s))] for s in world.segment], kind.field("attributes").type),
        },
        schema=kind,
    )
