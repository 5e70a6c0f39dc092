"""A small lake for the tests of assemble: who was shown what, features that say which day they are of."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import config
from jobs.assemble import job
from jobs.config import Config, DatasetSettings
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake, Lineage
from jobs.lake.tables import LAKE
from models.features import INTEREST_BUCKETS
from models.rankers.features import ITEM_NUMBERS, SEPARATOR, USER_NUMBERS
from models.settings import OutcomeSettings

FIRST, DAY = date(2026, 1, 1), date(2026, 1, 7)
"""Published days 1..7: with the test settings, 1..4 train (6 are wanted), 5 validates, 6 tests, 7 is embargoed."""
TRAIN, VALIDATE, TEST = ([date(2026, 1, n) for n in span] for span in ((1, 2, 3, 4), (5,), (6,)))
LINEAGE = Lineage("test", "run0", "code", "settings")
USERS, ITEMS = ("ann", "bob", "cat"), ("tea", "mug", "new")


def at(day: int, hour: float = 12.0) -> datetime:
    """A time in January 2026."""
    return datetime(2026, 1, day, tzinfo=UTC) + timedelta(hours=hour)


class World:
    """A lake under `root`: every user is shown items each day, features say which day they are of."""

    def __init__(self, root: Path) -> None:
        self.config: Config = config.load({"TIDEGATE_ENV": "test", "TIDEGATE__LAKE__ROOT": str(root / "lake")})
        self.lake = Lake(self.config.lake.root)
        self.shown: dict[date, list[dict[str, Any]]] = {}

    def put(self, table: str, day: date, rows: list[dict[str, Any]]) -> None:
        spec = LAKE[table]
        full = [{name: row.get(name) for name in spec.columns} for row in rows]
        self.lake.publish(table, {"day": str(day)}, pa.Table.from_pylist(full, spec.schema), LINEAGE)

    def impression(self, user: str | None, item: str, when: datetime, **more: Any) -> dict[str, Any]:
        row = {"impression_id": f"{user}-{item}-{when:%dT%H%M}", "request_id": "r", "event_time": when}
        row |= {"ingested_at": when, "user_id": user, "item_id": item, "surface": "home", "position": 2}
        return row | {"propensity": 0.25, "policy": "logging", "attributes": [("daypart", "noon")], **more}

    def label(self, shown: dict[str, Any], **more: Any) -> dict[str, Any]:
        row = {name: shown.get(name) for name in LAKE["labels"].columns}
        row |= {"known_at": shown["ingested_at"], "clicked": False, "converted": False}
        row |= {"conversion_credit": 0.0, "conversion_value": 0.0}
        row |= {"click_matures_at": shown["event_time"] + timedelta(days=1)}
        return row | {"matures_at": shown["event_time"] + timedelta(days=8), **more}

    def features(self, day: date, users: tuple[str, ...] = USERS, items: tuple[str, ...] = ITEMS[:2]) -> None:
        """Feature values are the day's number (users) and a hundred more (items): a row tells where it is from."""
        known: dict[str, Any] = {"available_at": at(day.day + 1, 6)}
        interests = [float(day.day * 100 + bucket) for bucket in range(INTEREST_BUCKETS)]
        user: dict[str, Any] = dict.fromkeys(("clicks", *USER_NUMBERS), float(day.day))
        user |= {"last_items": ["tea", "pot"], "last_buckets": [7, 3], "session_buckets": [3, 7, 7, -1]}
        item = dict.fromkeys(("clicks", *ITEM_NUMBERS), 100.0 + day.day)
        item |= {"price": 9.5, "category": "drinks", "interest_bucket": 7}
        vectors = {"tea": [day.day, 0.5], "mug": [1.0, 2.0, day.day]}
        rates = {("category", "drinks"): day.day / 100, ("source_category", f"drinks{SEPARATOR}drinks"): day.day / 50}
        keys = [dict(zip(("encoding", "value"), key, strict=True)) for key in rates]
        counts = {"impressions": 9.0, "clicks": 1.0}
        rows = [k | known | counts | {"click_rate": rate} for k, rate in zip(keys, rates.values(), strict=True)]
        self.put("encodings", day, rows)
        self.put("user_features", day, [{"user_id": u, **known, **user, "interests": interests} for u in users])
        self.put("item_features", day, [{"item_id": i, **known, **item, "vector": vectors.get(i)} for i in items])

    def fill(self, more: dict[date, list[dict[str, Any]]] | None = None, last: date = DAY) -> None:
        """Every day: two impressions a user, labels without outcome, features, and snapshots on the first."""
        for n in range((last - FIRST).days + 1):
            day = FIRST + timedelta(days=n)
            rows = [self.impression(u, i, at(day.day, 9 + k)) for u in USERS for k, i in enumerate(ITEMS[:2])]
            self.shown[day] = rows + (more or {}).get(day, [])
            self.put("impressions", day, self.shown[day])
            self.put("labels", day, [self.label(row) for row in self.shown[day]])
            self.features(day)
        self.put("users", FIRST, [{"user_id": "ann", "attributes": [("segment", "a")]}])
        self.put("items", FIRST, [{"item_id": "tea", "attributes": [("tier", "plus"), ("brand", "x")]}])

    def assemble(self, mode: Any = "full", day: date = DAY) -> dict[str, Any]:
        return job.run(Run(STAGES["assemble"], self.config, day, mode=mode))

    def card(self, table: str = "examples") -> dict[str, Any]:
        found = self.lake.lineage(table, {"day": str(DAY), "mode": "full"})
        assert found is not None
        return dict(json.loads(json.loads(found["notes"])["card"]))

    def examples(self, mode: str = "full", day: date = DAY) -> list[dict[str, Any]]:
        return self.lake.read("examples", [day], {"mode": mode}).to_pylist()


def busy(world: World) -> None:
    """Copies, repeats, unknown users, clicks, purchases, two surfaces and an item under two ids."""
    rng = np.random.default_rng(0)
    more: dict[date, list[dict[str, Any]]] = {}
    for n in range(7):
        hours = rng.uniform(0, 24, 60)
        users, items = rng.choice(["ann", "bob", "cat", ""], 60).tolist(), rng.choice(ITEMS, 60).tolist()
        surfaces = rng.choice(["home", "search"], 60).tolist()
        more[FIRST + timedelta(days=n)] = [
            world.impression(user or None, item, at(n + 1, float(hour)), impression_id=f"{n}-{k}", surface=surface)
            for k, (user, item, hour, surface) in enumerate(zip(users, items, hours, surfaces, strict=True))
        ]
        more[FIRST + timedelta(days=n)] += more[FIRST + timedelta(days=n)][:3]
    world.fill(more)
    for day, rows in world.shown.items():
        labels = {row["impression_id"]: world.label(row) for row in rows}
        for label, clicked, bought in zip(labels.values(), rng.random(99) < 0.3, rng.random(99) < 0.5, strict=False):
            known = label["event_time"] + timedelta(hours=1)
            label |= {"clicked": clicked, "click_known_at": known if clicked else None}
            label |= {"conversion_value": 0.1 * float(rng.integers(1, 99)), "conversion_known_at": known}
            label |= {"converted": clicked and bought, "conversion_credit": float(clicked and bought)}
            label["outcomes"] = further(label, known)
        world.put("labels", day, list(labels.values()))
    catalogue = [{"item_id": item, "attributes": [], "category": "c", "price": 1.0, "title": "x"} for item in ITEMS[1:]]
    for day in world.shown:
        world.features(day, items=(*ITEMS[:2], "far"))
    world.put("items", FIRST, [*catalogue, {"item_id": "tea", "attributes": [("tier", "plus")]}])


DECLARED = {"like": OutcomeSettings(), "watch": OutcomeSettings(kind="value", window_days=4, through="clicked")}


def further(label: dict[str, Any], known: datetime) -> list[dict[str, Any]]:
    """Of every third impression a like, of each two parts of a view."""
    minute, shown = known.minute, label["event_time"]
    parts = [{"value": minute / 10, "known_at": known, "until": None}] * 2
    liked = [{"value": 0.0, "known_at": known, "until": None}] if minute % 3 == 0 else None
    return [
        {"outcome": "like", "matures_at": shown + timedelta(days=1), "events": liked},
        {"outcome": "watch", "matures_at": shown + timedelta(days=4), "events": parts},
    ]


EVERYTHING = {
    "selection": {
        "active_clicks": 1,
        "active_days": 3,
        "duplicates": "per_outcome",
        "same_items": "content",
        "negative_rate": 0.6,
        "max_train_rows": 60,
        "surface_shares": "revenue",
    },
    "retrieval": {"per_click": 3},
}


def with_dataset(world: World, chosen: dict[str, Any]) -> None:
    settings = DatasetSettings.model_validate(world.config.dataset.model_dump() | chosen)
    world.config = world.config.model_copy(update={"dataset": settings})


def on_spark(world: World, partitions: int) -> None:
    always = world.config.spark.model_copy(update={"from_rows": 0, "partitions": partitions})
    world.config = world.config.model_copy(update={"spark": always})
