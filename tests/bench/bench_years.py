"""Four hundred days of daily runs, each opening earlier days again, with and without maintenance.

A day publishes 20 rows of each of four tables, and again those of the days before it that late events opened: of labels
seven, of impressions and clicks two, about 6,000 commits. Files say that they were written on their days, and
maintenance runs at each day's end. Days are tiny, so what is held beside rows weighs as much as it ever can.
"""

import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from jobs.config import LakeSettings
from jobs.lake.store import Lake
from tests.jobs import aged_lake

DAYS, FEW_DAYS = 400, 60
OPENS_SECONDS, HOLDS_TIMES = 0.2, 2.0
Row = dict[str, Any]


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """What the lake is like at the end, and how long a day's maintenance took."""
    for maintained in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            yield "years", _years(Path(folder), FEW_DAYS if small else DAYS, maintained)


def _years(root: Path, days: int, maintained: bool) -> Row:
    keep, spent = LakeSettings().retain_days or days, list[float]()
    # Whole seconds: a file's time is no exact float.
    for _, at in aged_lake.lay(root, date(2025, 1, 1), days, float(int(time.time()))):
        started = time.perf_counter()
        for table in aged_lake.REOPENED if maintained else ():
            aged_lake.maintain(root, at, keep, table=table)
        spent.append(time.perf_counter() - started)
    live, held = aged_lake.live(Lake(root)), aged_lake.held(root)
    started = time.perf_counter()
    told = Lake(root).lineages("labels", Lake(root).days("labels"))
    return {
        "maintained": maintained,
        "days": days,
        "entries": aged_lake.entries(root),
        "files": sum(path.suffix == ".parquet" for path in root.rglob("*")),
        "live_bytes": live,
        "held_bytes": held,
        "held_times_live": held / live,
        "opens_seconds": min(aged_lake.opened(root) for _ in range(5)),
        "lineage_of_days": len(told),
        "lineages_seconds": time.perf_counter() - started,
        "maintenance_seconds": max(spent[days // 2 :]) if maintained else 0.0,
    }


def goals(rows: list[Row]) -> list[Row]:
    """What a lake of years promises."""
    years = next(row for row in rows if row["maintained"])
    opens, holds = years["opens_seconds"], years["held_times_live"]
    return [
        {"goal": f"opens in {OPENS_SECONDS} s", "found": opens, "met": opens < OPENS_SECONDS},
        {"goal": f"holds {HOLDS_TIMES} x the live bytes", "found": holds, "met": holds < HOLDS_TIMES},
    ]
