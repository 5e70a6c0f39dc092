"""The small lake at the end of the day on which its test labels close: labels written as `attribute` would have."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.lake.store import Lake, midnight
from jobs.lake.tables import LAKE
from jobs.promote import job as promote
from models.rankers.protocol import Ranker
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import DAY, TEST_DAY, World, a_run, publish, publish_all

N = 150
LATE_DAYS = 2
CLOSING = TEST_DAY + timedelta(days=1 + 7 + LATE_DAYS)
"""A click window, a conversion window and how late an event may come after the test day, by hand."""
FIRST_CUT, LAST_CUT = midnight(DAY + timedelta(days=1)), midnight(CLOSING + timedelta(days=1))
RANKERS: dict[str, Ranker] = {"popularity": popularity(), "logistic": linear(1.0)}
CANDIDATE = "logistic-full-2026-01-08"


def judged(config: Config, mode: str = "full", verdict: bool = True) -> None:
    """Examples, candidates, evidence and (unless told otherwise) the verdict of `DAY`."""
    publish_all(config, World(), mode=mode, n=N)
    publish_candidates(config, RANKERS, "logistic", mode=mode)
    backtest.run(a_run("backtest", config, mode=mode))
    if verdict:
        promote.run(a_run("promote", config, mode=mode))


def rows_judged(config: Config, mode: str = "full") -> pa.Table:
    """What was judged."""
    rows = Lake(config.lake.root).read("examples", [DAY], where={"mode": mode})
    return rows.filter(pc.equal(rows["split"], "test"))


def labels(
    rows: pa.Table,
    late: Collection[int] = (),
    bought: Collection[int] = (),
    taken_back: Collection[int] = (),
    known_at: datetime | None = None,
    window_days: int = 8,
) -> pa.Table:
    """A label per row: `late` are clicks, `bought` purchases known only at `known_at` (the day after the first cut),
    `taken_back` clicks that until then were thought to be of another impression's.
    """
    at = known_at or FIRST_CUT + timedelta(days=1)
    made = []
    for n, row in enumerate(rows.to_pylist()):
        clicked, shown = bool(row["clicked"]), row["event_time"]
        over = [{"known_at": shown, "until": at}] if n in taken_back and clicked else None
        stays = (clicked or n in late) and over is None
        label: dict[str, Any] = {
            **{name: row[name] for name in ("impression_id", "request_id", "event_time", "user_id", "item_id")},
            **{"known_at": shown, "clicked": stays, "click_superseded": over},
            "click_known_at": None if not stays else shown if clicked else at,
            "click_matures_at": shown + timedelta(days=1),
            "converted": n in bought,
            "conversion_known_at": at if n in bought else None,
            "conversion_superseded": None,
            **dict.fromkeys(("conversion_credit", "conversion_value"), 1.0 if n in bought else 0.0),
            "matures_at": shown + timedelta(days=window_days),
        }
        made.append(label)
    return pa.Table.from_pylist(made, LAKE["labels"].schema)


def publish_labels(config: Config, found: pa.Table, without: Collection[Any] = ()) -> None:
    """The labels of the test day, and days without impressions up to the closing one."""
    publish(config, "labels", found, day=str(TEST_DAY))
    for n in range(1, (CLOSING - TEST_DAY).days + 1):
        day = TEST_DAY + timedelta(days=n)
        if day not in without:
            publish(config, "labels", LAKE["labels"].schema.empty_table(), day=str(day))
