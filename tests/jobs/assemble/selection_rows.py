"""`LABELLED` rows for the tests of selection, from the few columns that matter to it."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.assemble.core import LABELLED
from jobs.assemble.selection import CLICKS

LAST = date(2026, 1, 28)
"""The last train day."""


def at(day: int, hour: float = 12.0) -> datetime:
    """A time in January 2026."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day - 1, hours=hour)


def labelled(rows: list[dict[str, Any]]) -> pa.Table:
    """Each row a train impression at noon of the last train day, unclicked, unless it says otherwise."""
    plain: dict[str, Any] = dict.fromkeys(LABELLED.names)
    plain |= {"event_time": at(LAST.day), "user_id": "ann", "item_id": "tea", "surface": "home", "split": "train"}
    plain |= {"clicked": False, "converted": False, "revenue_micros": 0}
    full = [plain | {"impression_id": f"i{n:05d}"} | row for n, row in enumerate(rows)]
    return pa.Table.from_pylist(full, LABELLED)


def clicks(rows: list[tuple[str | None, str, datetime]]) -> pa.Table:
    """(user, item, when the click was known) each."""
    return pa.Table.from_pylist([dict(zip(CLICKS.names, row, strict=True)) for row in rows], CLICKS)


def many(n: int, seed: int = 0) -> pa.Table:
    """n train impressions of three surfaces, a tenth clicked, some of those bought."""
    rng = np.random.default_rng(seed)
    clicked = rng.random(n) < 0.1
    return labelled(
        [
            {
                "user_id": None if rng.random() < 0.1 else f"u{rng.integers(n // 5 + 1)}",
                "item_id": f"t{rng.integers(4)}",
                "event_time": at(int(rng.integers(1, 29)), float(rng.uniform(0, 24))),
                "surface": str(rng.choice(["home", "home", "home", "search", "similar"])),
                "clicked": bool(yes),
                "revenue_micros": int(yes) * int(rng.integers(0, 2)) * 9_500_000,
            }
            for yes in clicked
        ]
    )
