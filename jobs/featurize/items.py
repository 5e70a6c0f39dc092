"""What was known of items at the end of a day: counts, rates over several windows, age, price and category."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.featurize.categories import interest_buckets
from jobs.featurize.core import Floats, Ints, Window, available, days_before, ratio, rolling, smoothed
from jobs.lake.tables import LAKE

RECENT_DAYS = (7, 1)


@dataclass(frozen=True)
class Overall:
    """The rates of everybody's events per feature day, shape (days,): what is believed where nothing is known."""

    click_rate: Floats
    purchase_rate: Floats


@dataclass(frozen=True)
class ItemCounts:
    """Events per (kind, item, event day, day known, last hour), any order. `kind`: impressions, clicks or purchases."""

    kind: NDArray[np.object_]
    item_id: pa.Array
    event_day: Ints
    start_day: Ints
    last_hour: NDArray[np.bool_]
    """Of the hour before the midnight that ends the event's day."""
    n: Ints

    @classmethod
    def of(cls, table: pa.Table) -> "ItemCounts":
        """From the columns kind, item_id, event_day, start_day, last_hour, n."""
        return cls(
            np.asarray(table["kind"].to_numpy(), dtype=object),
            table["item_id"].cast(pa.string()).combine_chunks(),
            table["event_day"].to_numpy().astype(np.int64),
            table["start_day"].to_numpy().astype(np.int64),
            table["last_hour"].to_numpy().astype(bool),
            table["n"].to_numpy().astype(np.int64),
        )

    def rolled(
        self, kind: str, codes: Ints, size: int, window: Window, window_days: int, last_hour: bool = False
    ) -> Ints:
        """The counts of one kind per code and feature day; rows of a negative code are left out."""
        rows = np.flatnonzero((self.kind == kind) & (codes >= 0) & (self.last_hour | (not last_hour)))
        return rolling(codes[rows], size, self.event_day[rows], self.start_day[rows], self.n[rows], window, window_days)


def overall(counts: ItemCounts, window: Window) -> Overall:
    """The rates of all events together; 0 where there are none."""
    everything = np.zeros(len(counts.n), np.int64)
    shown, clicked, bought = (
        counts.rolled(kind, everything, 1, window, window.long_term_days)[0]
        for kind in ("impressions", "clicks", "purchases")
    )
    return Overall(ratio(clicked, shown), ratio(bought, clicked))


def item_features(counts: ItemCounts, snapshots: Sequence[pa.Table], window: Window) -> Iterator[pa.Table]:
    """One `item_features` table per feature day, sorted by item: every item of that day's snapshot, seen or not."""
    prior = overall(counts, window)
    ids = pa.chunked_array([s["item_id"].cast(pa.string()).combine_chunks() for s in snapshots]).unique()
    codes = pc.fill_null(pc.index_in(counts.item_id, ids), -1).to_numpy(zero_copy_only=False).astype(np.int64)

    def rolled(kind: str, window_days: int = window.long_term_days, last_hour: bool = False) -> Ints:
        return counts.rolled(kind, codes, len(ids), window, window_days, last_hour)

    shown, clicked, bought = rolled("impressions"), rolled("clicks"), rolled("purchases")
    # Never longer than what a run of one day reads.
    spans = {days: min(days, window.long_term_days) for days in RECENT_DAYS}
    recent = {f"{days}d": (rolled("clicks", span), rolled("impressions", span)) for days, span in spans.items()}
    recent["1h"] = (rolled("clicks", 1, True), rolled("impressions", 1, True))
    p = window.settings.prior_impressions
    for at, (day, snapshot) in enumerate(zip(window.days, snapshots, strict=True)):
        snapshot = snapshot.sort_by("item_id")
        rows = pc.index_in(snapshot["item_id"].cast(pa.string()), ids).to_numpy().astype(np.int64)
        rate = prior.click_rate[at]
        rates = {f"click_rate_{name}": smoothed(c[rows, at], n[rows, at], rate, p) for name, (c, n) in recent.items()}
        columns = {
            "item_id": snapshot["item_id"],
            "available_at": available(day, len(rows), window.settings),
            "impressions": shown[rows, at].astype(np.float64),
            "clicks": clicked[rows, at].astype(np.float64),
            "click_rate": smoothed(clicked[rows, at], shown[rows, at], rate, p),
            **rates,
            "purchase_rate": smoothed(bought[rows, at], clicked[rows, at], prior.purchase_rate[at], p),
            "age_days": days_before(day, snapshot["created_at"]),
            "price": snapshot["price"],
            "category": snapshot["category"],
            "interest_bucket": interest_buckets(snapshot["category"]),
        }
        yield pa.table(columns, schema=LAKE["item_features"].schema)
