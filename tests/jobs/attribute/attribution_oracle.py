"""Attribution by nested loops over dictionaries: slow, and short enough to be believed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.attribute.core import COLUMNS
from jobs.config import AttributionSettings
from jobs.tables import LAKE

Row = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)


def events(table: str, rows: list[Row]) -> pa.Table:
    """Rows of an event table, with the columns attribution looks at."""
    types = pa.schema([(name, LAKE[table].columns[name].type) for name in COLUMNS[table]])
    return pa.Table.from_pylist(rows, schema=types)


def random_events(seed: int, n: int) -> dict[str, list[Row]]:
    """Few users, items and hours, so that everything collides: copies, ties, strangers, wrong and missing names."""
    rng = np.random.default_rng(seed)

    def event(known_late: float = 0.2) -> Row:
        when = START + timedelta(hours=int(rng.integers(0, 24 * 11)) * 6 % 264, microseconds=int(rng.integers(0, 2)))
        late = timedelta(hours=int(rng.integers(0, 60))) if rng.random() < known_late else timedelta()
        user = None if rng.random() < 0.1 else f"u{rng.integers(0, 3)}"
        return {"event_time": when, "ingested_at": when + late, "user_id": user, "item_id": f"i{rng.integers(0, 2)}"}

    def name(letter: str, k: int) -> str:
        return f"{letter}{k if rng.random() < 0.9 else k // 2}"

    impressions = [event() | {"impression_id": name("s", k), "request_id": "r"} for k in range(n)]
    clicks, purchases = [], []
    for k in range(n):
        shown = impressions[rng.integers(0, n)]
        row = event()
        if rng.random() < 0.6:  # a click soon after an impression, naming it or not
            row |= {column: shown[column] for column in ("user_id", "item_id")}
            row["event_time"] = shown["event_time"] + timedelta(hours=int(rng.integers(-2, 30)))
            row["ingested_at"] = row["event_time"] + timedelta(hours=int(rng.integers(0, 3)))
        named = shown["impression_id"] if rng.random() < 0.5 else ("unheard-of" if rng.random() < 0.3 else None)
        clicks.append(row | {"click_id": name("c", k), "impression_id": named})
        bought = event() | {"purchase_id": name("p", k)}
        bought["user_id"] = f"u{rng.integers(0, 3)}"
        purchases.append(bought | {"value": None if rng.random() < 0.2 else float(rng.integers(1, 9)) / 10})
    return {"impressions": impressions, "clicks": clicks, "purchases": purchases}


def unique(rows: list[Row], table: str, key: str) -> list[Row]:
    """Of several copies the one known first."""
    rest = [name for name in COLUMNS[table] if name not in (key, "ingested_at", "event_time")]

    def order(row: Row) -> tuple[Any, ...]:
        return (row["ingested_at"], row["event_time"], *((row[name] is None, row[name]) for name in rest))

    return [min((row for row in rows if row[key] == one), key=order) for one in {row[key] for row in rows}]


def by_nested_loops(found: dict[str, list[Row]], settings: AttributionSettings) -> list[Row]:
    """The labels, as DESIGN section 5 says them."""
    day = timedelta(days=1)
    window, click_window = settings.window_days * day, settings.click_window_days * day
    impressions = unique(found["impressions"], "impressions", "impression_id")
    clicks = unique(found["clicks"], "clicks", "click_id")
    purchases = unique(found["purchases"], "purchases", "purchase_id")
    for click in clicks:
        at = click["event_time"]
        named = [
            s
            for s in impressions
            if s["impression_id"] == click["impression_id"] and abs(at - s["event_time"]) < click_window
        ]
        same = [
            s
            for s in impressions
            if click["user_id"] is not None
            and (s["user_id"], s["item_id"]) == (click["user_id"], click["item_id"])
            and s["event_time"] <= at < s["event_time"] + click_window
        ]
        shown = (named or sorted(same, key=lambda s: (s["event_time"], s["impression_id"]))[-1:] or [None])[0]
        click["shown"] = shown
        click["known"] = max(click["ingested_at"], shown["ingested_at"]) if shown else click["ingested_at"]
        click["buyer"] = click["user_id"] or (shown and shown["user_id"])
    for purchase in purchases:
        paid = [
            c
            for c in clicks
            if (c["buyer"], c["item_id"]) == (purchase["user_id"], purchase["item_id"])
            and c["event_time"] <= purchase["event_time"] < c["event_time"] + window
        ]
        purchase["click"] = max(paid, key=lambda c: (c["event_time"], c["click_id"])) if paid else None
    labels = []
    for shown in impressions:
        mine = [c for c in clicks if c["shown"] is shown]
        sold = [p for p in purchases if p["click"] and p["click"]["shown"] is shown]
        known = [max(p["ingested_at"], p["click"]["known"]) for p in sold]
        labels.append(
            {
                **{name: shown[name] for name in ("impression_id", "request_id", "event_time")},
                "known_at": shown["ingested_at"],
                **{name: shown[name] for name in ("user_id", "item_id")},
                "clicked": bool(mine),
                "click_known_at": min((c["known"] for c in mine), default=None),
                "click_matures_at": shown["event_time"] + click_window,
                "converted": bool(sold),
                "conversion_known_at": min(known, default=None),
                "conversion_value": round(sum(p["value"] or 0.0 for p in sold), 9),
                "matures_at": shown["event_time"] + click_window + window,
            }
        )
    return sorted(labels, key=lambda row: (row["event_time"], row["impression_id"]))


def rounded(labels: pa.Table) -> list[Row]:
    """Labels as dictionaries, sums rounded beyond what the order of adding can change."""
    return [row | {"conversion_value": round(row["conversion_value"], 9)} for row in labels.to_pylist()]
