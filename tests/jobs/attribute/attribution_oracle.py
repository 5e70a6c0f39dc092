"""Attribution by nested loops over dictionaries: slow, and short enough to be believed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.attribute.core import COLUMNS, LOOKED_AT
from jobs.config import AttributionSettings
from jobs.lake.tables import LAKE

Row = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)


def events(table: str, rows: list[Row]) -> pa.Table:
    """Rows of an event table, with the columns attribution looks at."""
    types = pa.schema([(name, LAKE[table].columns[name].type) for name in LOOKED_AT[table]])
    return pa.Table.from_pylist(rows, schema=types)


def random_events(seed: int, n: int, known_late: float = 0.2, late_hours: int = 60) -> dict[str, list[Row]]:
    """Few users, items and hours, so that everything collides: copies, ties, strangers, wrong and missing names.

    A share `known_late` of the events is known up to `late_hours` after it happened.
    """
    rng = np.random.default_rng(seed)

    def known(when: datetime) -> Row:
        late = timedelta(hours=int(rng.integers(0, late_hours))) if rng.random() < known_late else timedelta()
        return {"event_time": when, "ingested_at": when + late}

    def event() -> Row:
        when = START + timedelta(hours=int(rng.integers(0, 24 * 11)) * 6 % 264, microseconds=int(rng.integers(0, 2)))
        user = None if rng.random() < 0.1 else f"u{rng.integers(0, 3)}"
        return known(when) | {"user_id": user, "item_id": f"i{rng.integers(0, 2)}"}

    def name(letter: str, k: int) -> str:
        return f"{letter}{k if rng.random() < 0.9 else k // 2}"

    impressions = [event() | {"impression_id": name("s", k), "request_id": "r", "surface": "home"} for k in range(n)]
    clicks, purchases = [], []
    for k in range(n):
        shown = impressions[rng.integers(0, n)]
        row = event()
        if rng.random() < 0.6:  # a click soon after an impression, naming it or not
            row |= {column: shown[column] for column in ("user_id", "item_id")}
            row |= known(shown["event_time"] + timedelta(hours=int(rng.integers(-2, 30))))
        named = shown["impression_id"] if rng.random() < 0.5 else ("unheard-of" if rng.random() < 0.3 else None)
        clicks.append(row | {"click_id": name("c", k), "impression_id": named})
        bought = event() | {"purchase_id": name("p", k)}
        bought["user_id"] = f"u{rng.integers(0, 3)}"
        purchases.append(bought | {"value": None if rng.random() < 0.2 else float(rng.integers(1, 9)) / 10})
    return {"impressions": impressions, "clicks": clicks, "purchases": purchases}


def known_before(found: dict[str, list[Row]], cut: datetime) -> dict[str, list[Row]]:
    """The rows a run at `cut` would have read."""
    return {table: [row for row in rows if row["ingested_at"] < cut] for table, rows in found.items()}


def unique(rows: list[Row], table: str, settings: AttributionSettings) -> list[Row]:
    """Rows that are no copy: of no row with the same id, known earlier, on a day at most `late_days` away."""
    key = LAKE[table].key[0]
    rest = [name for name in LOOKED_AT[table] if name not in (key, "ingested_at", "event_time")]

    def order(row: Row) -> tuple[Any, ...]:
        return (row["ingested_at"], row["event_time"], *((row[name] is None, row[name]) for name in rest))

    def apart(one: Row, other: Row) -> int:
        return abs((one["event_time"].date() - other["event_time"].date()).days)

    kept = []
    ranked = sorted((dict(row) for row in rows), key=order)
    for n, row in enumerate(ranked):
        if not any(row[key] == other[key] and apart(row, other) <= settings.late_days for other in ranked[:n]):
            kept.append(row)
    return kept


def outcomes(found: dict[str, list[Row]], settings: AttributionSettings) -> list[Row]:
    """One row per impression as DESIGN section 5 says them, with all rows given: the event-time rule, no clock."""
    day = timedelta(days=1)
    minute = timedelta(minutes=1)
    window, click_window = (span / minute * (day / 1440) for span in (settings.to_purchase, settings.to_click))
    impressions, clicks, purchases = (unique(found[table], table, settings) for table in COLUMNS)
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
        click["buyer"] = click["user_id"] or (shown and shown["user_id"])
    labels = [s | {"clicked": any(c["shown"] is s for c in clicks), "credit": 0.0, "value": 0.0} for s in impressions]
    for purchase in purchases:
        paid = [
            c
            for c in clicks
            if (c["buyer"], c["item_id"]) == (purchase["user_id"], purchase["item_id"])
            and c["event_time"] <= purchase["event_time"] < c["event_time"] + window
        ]
        paid.sort(key=lambda c: (c["event_time"], c["click_id"]))
        for click, share in zip(paid, shares(paid, purchase, settings), strict=True):
            for shown, label in zip(impressions, labels, strict=True):
                if shown is click["shown"]:
                    label["credit"] += share
                    label["value"] += share * (purchase["value"] or 0.0)
    return labels


def shares(paid: list[Row], purchase: Row, settings: AttributionSettings) -> list[float]:
    """What each click in a purchase's window gets of it, oldest first."""
    n = len(paid)
    ages = [(purchase["event_time"] - click["event_time"]) / timedelta(days=settings.half_life_days) for click in paid]
    weights = {
        "last_click": [float(k == n - 1) for k in range(n)],
        "first_click": [float(k == 0) for k in range(n)],
        "linear": [1.0] * n,
        "time_decay": [0.5**age for age in ages],
    }[settings.model]
    return [weight / sum(weights) for weight in weights]


def by_nested_loops(found: dict[str, list[Row]], settings: AttributionSettings) -> list[Row]:
    """The labels. From when each outcome was known is told by running at every instant something became known."""
    instants = sorted({row["ingested_at"] for rows in found.values() for row in rows})
    runs = [outcomes(known_before(found, at + timedelta(microseconds=1)), settings) for at in instants]
    labels = []
    for shown in outcomes(found, settings):
        told = [next((row for row in run if same(row, shown)), None) for run in runs]
        clicked = reigns(instants, [bool(row and row["clicked"]) for row in told])
        converted = reigns(instants, [bool(row and row["credit"] > 0) for row in told])
        ripe = shown["event_time"] + settings.to_click
        labels.append(
            {
                **{name: shown[name] for name in ("impression_id", "request_id", "event_time")},
                "known_at": shown["ingested_at"],
                **{name: shown[name] for name in ("user_id", "item_id", "clicked")},
                "click_known_at": clicked[0],
                "click_superseded": clicked[1],
                "click_matures_at": ripe,
                "converted": shown["credit"] > 0,
                "conversion_known_at": converted[0],
                "conversion_superseded": converted[1],
                "conversion_credit": round(shown["credit"], 9),
                "conversion_value": round(shown["value"], 9),
                "matures_at": ripe + settings.to_purchase,
                "outcomes": None,
            }
        )
    return sorted(labels, key=lambda row: (row["event_time"], row["impression_id"]))


def same(row: Row, shown: Row) -> bool:
    """Whether two runs speak of one impression."""
    return (row["impression_id"], row["event_time"]) == (shown["impression_id"], shown["event_time"])


def reigns(instants: list[datetime], truth: list[bool]) -> tuple[datetime | None, list[Row] | None]:
    """From when something is true for good (None: it is not), and the times it was before (None: never)."""
    begins = [at for at, now, before in zip(instants, truth, [False, *truth], strict=False) if now and not before]
    ends = [at for at, now, before in zip(instants, truth, [False, *truth], strict=False) if before and not now]
    over = [{"known_at": begin, "until": end} for begin, end in zip(begins, ends, strict=False)]
    return (begins[-1] if truth and truth[-1] else None), (over or None)


def rounded(labels: pa.Table) -> list[Row]:
    """Labels as dictionaries, sums rounded beyond what the order of adding can change."""
    sums = ("conversion_credit", "conversion_value")
    return [row | {name: round(row[name], 9) for name in sums} for row in labels.to_pylist()]
