"""What was known at the end of a day: windowed counts and the smoothed rates made of them.

An event of day e, known since day k (the later of its event's and its ingestion's date), counts for exactly the feature
days k <= F < e + window_days. So every window is a difference array over F: +1 at k, -1 at e + window, summed up. A
late event enters on the day it was known and leaves with its contemporaries; no feature day looks past its midnight.

Smoothing, with p pseudo-impressions (`features.prior_impressions`) and r the rate of all events of the window:
    click_rate    = (clicks + p r) / (impressions + p)         no evidence: r
    purchase_rate = (purchases + p q) / (clicks + p)           q: purchases per click of all events of the window
    interests[b]  = (clicks_b / u + p) / (impressions_b + p)   u: the user's own click_rate; no evidence: 1.0
    encoding[v]   = (clicks_v + e c) / (impressions_v + e)     c: the rate of v's item category, r for that itself;
                                                               e: `features.encoding_prior_impressions`
Further outcomes are counts alone, without a rate: per user and per item, events of each that is declared, or the sum of
their values to a thousandth (whole thousandths add up the same in any order). An event counts as it came, on
whichever impression, clicked or not: `through` and `window_days` are of labels.
Interests are bucket b's click rate, shrunk towards u, over u. Rates are cut at 1 (clicks of unlogged impressions).

What a daily batch cannot know: anything after the midnight. The "last hour" is the hour before it, the "session" the
last one begun before it, and "days since" end there: none of them moves with the hours until the rows count as known
(`jobs.asof.clock`) or while they do. A caller who knows the running session sends what it is about as request context
(`source_item_id`, or any `context_*` column that is also logged), which rankers see at once.

Here: windows and rates. `items`, `users`, `recent` (a user's last clicks and session), `encodings` and `categories`
(which category an item was in, when) make the tables. Not done yet: decay inside the window, position-corrected rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.clock import available_at
from jobs.config import FeatureSettings
from jobs.lake.tables import STR, TIME, VALUES
from models.settings import OutcomeSettings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
EPOCH = date(1970, 1, 1)
FEEDBACK = "feedback"
PARTS = 1_000
"""Of an event of a further outcome: whole thousandths are summed, see `in_parts`."""


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH).days


@dataclass(frozen=True)
class Window:
    """Which feature days are asked for; the settings say how far each looks back and how rates are smoothed."""

    days: Sequence[date]
    """Consecutive, oldest first."""
    settings: FeatureSettings
    outcomes: Mapping[str, OutcomeSettings] = field(default_factory=dict)
    """The further ones that are counted."""

    @property
    def values(self) -> list[str]:
        """The outcomes of which values are summed; of the others, events are counted."""
        return [name for name, of in self.outcomes.items() if of.kind == "value"]

    @property
    def long_term_days(self) -> int:
        """How many days each feature day looks back, itself included."""
        return self.settings.long_term_days

    @property
    def first(self) -> int:
        """The first feature day, as a day number."""
        return day_number(self.days[0])

    @property
    def event_days(self) -> list[date]:
        """Every day whose events may count for one of the feature days."""
        oldest = self.days[0] - timedelta(days=self.long_term_days - 1)
        return [oldest + timedelta(days=n) for n in range((self.days[-1] - oldest).days + 1)]


def rolling(
    codes: Ints, size: int, event_day: Ints, start_day: Ints, n: Ints | None, window: Window, window_days: int
) -> Ints:
    """How many events count for each code on each feature day: shape (size, days), int64.

    `codes` (events,) in [0, size); `start_day` is the day from which an event was known, as `event_day` a day number;
    `n` is how often each row counts (once by default).
    """
    days = len(window.days)
    start = np.maximum(start_day - window.first, 0)
    stop = np.minimum(event_day + window_days - window.first, days)
    counts = np.flatnonzero((start < stop) & (event_day - window.first < days))
    cells = size * (days + 1)
    base, weight = codes[counts] * (days + 1), None if n is None else n[counts].astype(np.float64)
    change = np.bincount(base + start[counts], weight, cells) - np.bincount(base + stop[counts], weight, cells)
    summed: Ints = np.cumsum(change.reshape(size, days + 1)[:, :-1], axis=1).astype(np.int64)
    return summed


def smoothed(successes: NDArray[Any], trials: NDArray[Any], prior: NDArray[Any] | float, pseudo_count: float) -> Floats:
    """(successes + pseudo_count * prior) / (trials + pseudo_count), at most 1; exactly the prior without evidence."""
    rate = np.minimum((successes + pseudo_count * prior) / (trials + pseudo_count), 1.0)
    return np.where((trials == 0) & (successes == 0), prior, rate)


def ratio(top: Ints, bottom: Ints) -> Floats:
    """top / bottom, at most 1, and 0 where there is nothing below."""
    return np.minimum(np.divide(top, bottom, out=np.zeros(len(top)), where=bottom > 0), 1.0)


def by_outcome(parts: Mapping[str, Ints], n: int) -> pa.Array:
    """`jobs.lake.tables.VALUES` (n,): each outcome's number from its thousandths; all null where none is declared."""
    if not parts:
        return pa.nulls(n, VALUES)
    offsets = np.arange(0, n * len(parts) + 1, len(parts), dtype=np.int32)
    names, numbers = np.tile(np.array([*parts], dtype=object), n), np.column_stack([*parts.values()]) / PARTS
    return pa.MapArray.from_arrays(pa.array(offsets), pa.array(names, STR), pa.array(numbers.ravel()))


def available(day: date, n: int, settings: FeatureSettings) -> pa.Array:
    """n times the moment from which the rows of `day` count as known."""
    return pa.repeat(pa.scalar(available_at(day, settings), TIME), n)


def days_before(day: date, times: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Days from each time to the midnight that ends `day`, null where the time is."""
    end_us = (day_number(day) + 1) * DAY_US
    return pc.divide(pc.cast(pc.subtract(end_us, times.cast(pa.int64())), pa.float64()), float(DAY_US))
