"""A small lake of validated tables to compute features from, written row by row so that each test sees its events."""

import shutil
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import config
from jobs.config import Config
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake, Lineage
from jobs.lake.tables import LAKE

FIRST = date(2026, 1, 1)
OUTCOMES = '{"like": {}, "watch": {"kind": "value"}}'
LINEAGE = Lineage("test", "run", "code", "config")


def at(day_offset: int, hours: float = 12.0) -> datetime:
    """A time on the n-th day of the test's world."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day_offset, hours=hours)


def event(user: str | None, item: str, when: datetime, known: datetime | None = None, **more: Any) -> dict[str, Any]:
    """One event; known when it happened unless said otherwise."""
    return {"user_id": user, "item_id": item, "event_time": when, "ingested_at": known or when, **more}


def item(item_id: str, category: str | None = "shoes", **more: Any) -> dict[str, Any]:
    """One item of a snapshot."""
    return {"item_id": item_id, "category": category, "price": 9.5, "created_at": at(-3, 0), **more}


class World:
    """A lake under `root`: publish rows, run featurize, read what came out."""

    first = FIRST
    at, event, item = staticmethod(at), staticmethod(event), staticmethod(item)

    def __init__(self, root: Path, **overrides: str) -> None:
        variables = {"TIDEGATE_ENV": "test", "TIDEGATE__LAKE__ROOT": str(root / "lake")}
        variables |= {"TIDEGATE__FEATURES__ONLINE_PATH": str(root / "online"), "TIDEGATE__FEATURES__ONLINE": "false"}
        variables |= {f"TIDEGATE__{key.upper()}": value for key, value in overrides.items()}
        self.config: Config = config.load(variables)
        self.lake = Lake(self.config.lake.root)

    def put(self, table: str, day: date, rows: Iterable[dict[str, Any]]) -> None:
        """Publish a day of a validated table; columns a row does not name are null, or fitting constants."""
        spec = LAKE[table]
        blank: dict[str, Any] = dict.fromkeys(spec.columns) | {
            name: value
            for name, value in (("surface", "home"), ("position", 1), ("policy", "p"), ("request_id", "r"))
            if name in spec.columns
        }
        full = [
            blank | {spec.key[0]: f"{table}-{day}-{n}"} | ({"attributes": []} if "attributes" in blank else {}) | row
            for n, row in enumerate(rows)
        ]
        self.lake.publish(table, {"day": day.isoformat()}, pa.Table.from_pylist(full, schema=spec.schema), LINEAGE)

    def run(self, day: date, since: date | None = None, settings: Config | None = None) -> dict[str, Any]:
        """Run the stage as `python -m jobs featurize` would."""
        from jobs.featurize.job import run

        return run(Run(STAGES["featurize"], settings or self.config, day, since))

    def rows(self, table: str, day: date) -> list[dict[str, Any]]:
        """A published day as Python rows, by key."""
        return self.lake.read(table, [day]).sort_by([(name, "ascending") for name in LAKE[table].key]).to_pylist()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty lake."""
    return World(tmp_path)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of `lively`, for copies."""
    home = tmp_path_factory.mktemp("lively")
    fill(World(home, outcomes=OUTCOMES))
    return home / "lake"


@pytest.fixture
def lively(filled: Path, tmp_path: Path) -> World:
    """Six days, 40 users, 15 items: late events, anonymous users, an item whose category changes, one delisted.

    Two further outcomes.
    """
    shutil.copytree(filled, tmp_path / "lake")
    return World(tmp_path, outcomes=OUTCOMES)


@pytest.fixture
def oddly_named(filled: Path, tmp_path: Path) -> World:
    """The same in a folder whose name Spark would take for a pattern."""
    root = tmp_path / "run[1]{a,b}*?"
    shutil.copytree(filled, root / "lake")
    return World(root, outcomes=OUTCOMES)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two days, 2,500 users, 600 items: every user comes now and then, some on one of the days only."""
    world = World(tmp_path_factory.mktemp("crowd"))
    users, items = 2_500, 600
    for n in range(2):
        day = world.first + timedelta(days=n)
        world.put("items", day, [world.item(f"i{k:04d}", f"c{k % 12}", price=None) for k in range(items)])
        for table, size, step in (("impressions", 4_000, 7), ("clicks", 1_500, 11), ("purchases", 60, 13)):
            rows = [(f"u{(k * step + 900 * n) % users:04d}", f"i{(k * k + n) % items:04d}", k) for k in range(size)]
            world.put(table, day, [world.event(u, i, world.at(n, k * 1.37 % 24)) for u, i, k in rows])
    return world


def fill(world: World, days: int = 6) -> None:
    """Deterministic events without a random generator: every residue class meets every other."""
    for n in range(days):
        day = FIRST + timedelta(days=n)
        listed = [
            item(
                f"i{k:02d}",
                None if k == 7 else f"c{(k + (n // 3 if k == 3 else 0)) % 4}",
                price=None if k == 5 else k * 1.1,
                created_at=None if k == 6 else at(-k, 7.3),
                feature_vector=[k * 0.7, float(n), *[1.0] * (k % 3)] if k % 4 else None,
                attributes=[("quality", str(k % 3))] if k % 2 else [],
            )
            for k in range(15)
            if not (k == 9 and n >= 4)
        ]
        world.put("items", day, listed)
        world.put("users", day, [{"user_id": f"u{k:02d}", "attributes": [("club", str(k % 5))]} for k in range(45)])
        for table, size, step in (
            ("impressions", 160, 7),
            ("clicks", 40, 11),
            ("purchases", 8, 13),
            ("feedback", 90, 17),
        ):
            world.put(table, day, [_event(table, n, k, step) for k in range(size)])
        world.put("requests", day, [])


def _event(table: str, n: int, k: int, step: int) -> dict[str, Any]:
    user = None if k % 29 == 5 and table != "purchases" else f"u{(k * step + n * 3) % 40:02d}"
    when = at(n, (k * 1.37) % 24)
    known = when + timedelta(hours=30 if k % 17 == 3 else 0.01)
    more: dict[str, Any] = {}
    if table == "impressions":
        surface = ("home", "search", "similar")[k % 3]
        more = {"surface": surface, "query": f"c{k % 5}" if surface == "search" else None}
        more |= {"source_item_id": f"i{k % 16:02d}" if surface == "similar" else None}
    elif table == "clicks":
        shown = FIRST + timedelta(days=n - (k % 5 == 4 and n > 0))  # now and then one of the day before, or one twice
        more = {"impression_id": None if k % 9 == 7 else f"impressions-{shown}-{k * 3 % 90}"}
    elif table == "feedback":
        more = {"outcome": ("like", "watch", "share")[k % 3], "value": None if k % 7 == 2 else k * 0.12}
    return event(user, f"i{(k * k + step * n) % 16:02d}", when, known, **more)  # i15 is in no snapshot
