"""What was known of items at the end of a day: counts, rates over several windows, age, price and category."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.featurize.categories import interest_buckets
from jobs.featurize.core import (
    FEEDBACK,
    Floats,
    Ints,
    Window,
    available,
    by_outcome,
    days_before,
    ratio,
    rolling,
    smoothed,
)
from jobs.lake.tables import LAKE
from models.features import declared, rule_of

Values: TypeAlias = "pa.Array | pa.ChunkedArray | Floats"


@dataclass(frozen=True)
class Overall:
    """The rates of everybody's events per feature day, shape (days,): what is believed where nothing is known."""

    click_rate: Floats
    purchase_rate: Floats


@dataclass(frozen=True)
class ItemCounts:
    """Events per (kind, item, event day, day known, last hour), any order.

    `kind`: impressions, clicks, purchases, or `kind_of` a further outcome, whose `n` is in thousandths.
    """

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


def kind_of(outcome: str) -> str:
    """What the events of a further outcome are counted as."""
    return f"{FEEDBACK}.{outcome}"


def overall(counts: ItemCounts, window: Window) -> Overall:
    """The rates of all events together; 0 where there are none."""
    everything = np.zeros(len(counts.n), np.int64)
    shown, clicked, bought = (
        counts.rolled(kind, everything, 1, window, window.long_term_days)[0]
        for kind in ("impressions", "clicks", "purchases")
    )
    return Overall(ratio(clicked, shown), ratio(bought, clicked))


class ItemsOfDay:
    """The items of a day's snapshot, sorted: what the rules count from."""

    def __init__(self, counted: "Counted", day: date, at: int, snapshot: pa.Table, rows: Ints, prior: Overall) -> None:
        """`at`: which of the window's days; `rows`: the codes of the snapshot's items."""
        self.day, self.snapshot = day, snapshot
        self._counted, self._at, self._rows, self._prior = counted, at, rows, prior

    def counted(self, kind: str, days: int | None = None, last_hour: bool = False) -> Ints:
        """Events of a kind of the last so many days (the long-term window by default), as known at the day's end."""
        found: Ints = self._counted(kind, days, last_hour)[self._rows, self._at]
        return found

    def outcomes(self) -> pa.Array:
        """See `by_outcome`."""
        return by_outcome({name: self.counted(kind_of(name)) for name in self._counted.outcomes}, len(self._rows))

    def click_rate(self, days: int | None = None, last_hour: bool = False) -> Floats:
        """Clicks per impression of a span, smoothed by everybody's of the long-term window."""
        clicks, shown = (self.counted(kind, days, last_hour) for kind in ("clicks", "impressions"))
        return smoothed(clicks, shown, self._prior.click_rate[self._at], self._counted.pseudo_count)

    def purchase_rate(self) -> Floats:
        """Purchases per click, smoothed likewise."""
        prior = self._prior.purchase_rate[self._at]
        return smoothed(self.counted("purchases"), self.counted("clicks"), prior, self._counted.pseudo_count)


class Counted:
    """Events of a kind and a span per item and day, (items, days), each summed up once."""

    def __init__(self, counts: ItemCounts, codes: Ints, items: int, window: Window) -> None:
        self._counts, self._codes, self._items, self._window = counts, codes, items, window
        self._found: dict[tuple[str, int, bool], Ints] = {}

    def __call__(self, kind: str, days: int | None, last_hour: bool) -> Ints:
        # Never longer than what a run of one day reads.
        span = min(days or self._window.long_term_days, self._window.long_term_days)
        if (kind, span, last_hour) not in self._found:
            found = self._counts.rolled(kind, self._codes, self._items, self._window, span, last_hour)
            self._found[kind, span, last_hour] = found
        return self._found[kind, span, last_hour]

    @property
    def outcomes(self) -> list[str]:
        """The further ones that are counted."""
        return [*self._window.outcomes]

    @property
    def pseudo_count(self) -> float:
        """Impressions that the rate of everybody stands for."""
        return self._window.settings.prior_impressions


RULES: dict[str, Callable[[ItemsOfDay], Values]] = {
    "impressions": lambda of: of.counted("impressions").astype(np.float64),
    "clicks": lambda of: of.counted("clicks").astype(np.float64),
    "click_rate": lambda of: of.click_rate(),
    "click_rate_7d": lambda of: of.click_rate(7),
    "click_rate_1d": lambda of: of.click_rate(1),
    "click_rate_1h": lambda of: of.click_rate(1, last_hour=True),
    "purchase_rate": lambda of: of.purchase_rate(),
    "outcomes": lambda of: of.outcomes(),
    "age_days": lambda of: days_before(of.day, of.snapshot["created_at"]),
    "price": lambda of: of.snapshot["price"],
    "category": lambda of: of.snapshot["category"],
    "vector": lambda of: of.snapshot["feature_vector"].cast(pa.list_(pa.float32())),
    "interest_bucket": lambda of: interest_buckets(of.snapshot["category"]),
}
"""How each declared feature of items is counted, one value per item of the snapshot."""


def _with_unlisted(snapshot: pa.Table, shown: pa.Array) -> pa.Table:
    """The snapshot, and a row of nothing but its id for each shown item that it lacks."""
    others = shown.filter(pc.invert(pc.is_in(shown, snapshot["item_id"].cast(pa.string()).combine_chunks())))
    if not len(others):
        return snapshot
    nothing = {field.name: pa.nulls(len(others), field.type) for field in snapshot.schema}
    return pa.concat_tables([snapshot, pa.table({**nothing, "item_id": others})], promote_options="permissive")


def item_features(
    counts: ItemCounts, snapshots: Sequence[pa.Table], prior: Overall, window: Window
) -> Iterator[pa.Table]:
    """One `item_features` table per feature day, sorted by item: every item of that day's snapshot, seen or not, and
    every other that was shown in the long-term window, of which nothing but its events is known.
    """
    listed = [s["item_id"].cast(pa.string()).combine_chunks() for s in snapshots]
    ids = pa.chunked_array([*listed, counts.item_id]).unique()
    codes = pc.fill_null(pc.index_in(counts.item_id, ids), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    counted = Counted(counts, codes, len(ids), window)
    for at, (day, snapshot) in enumerate(zip(window.days, snapshots, strict=True)):
        shown = ids.filter(pa.array(counted("impressions", None, False)[:, at] > 0))
        snapshot = _with_unlisted(snapshot, shown).sort_by("item_id")
        rows = pc.index_in(snapshot["item_id"].cast(pa.string()), ids).to_numpy().astype(np.int64)
        of = ItemsOfDay(counted, day, at, snapshot, rows, prior)
        columns = {
            "item_id": snapshot["item_id"],
            "available_at": available(day, len(rows), window.settings),
            **{feature.name: rule_of(RULES, feature, __name__)(of) for feature in declared("item")},
        }
        yield pa.table(columns, schema=LAKE["item_features"].schema)
