"""A user's last clicked items and last session, as known at the end of each feature day."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.featurize.categories import NO_SLOT
from jobs.featurize.core import DAY_US, Ints, Window, day_number
from jobs.featurize.events import UserEvents
from jobs.lake.tables import TIME
from models.features import LAST_ITEMS, SESSION_EVENTS
from models.rankers.features import NO_BUCKET

MINUTE_US = 60_000_000
SECOND_US = 1_000_000


@dataclass(frozen=True)
class LastClicks:
    """The clicks of some users, by user, newest first (equal times by item)."""

    user: Ints
    item: Ints
    item_ids: pa.Array
    slot: Ints
    event_us: Ints
    start_day: Ints
    window_days: int
    users: int

    @classmethod
    def of(cls, events: UserEvents, window: Window) -> "LastClicks":
        """From all their events."""
        rows = np.flatnonzero(events.clicked)
        rows = rows[np.lexsort((events.slot[rows], events.item[rows], -events.event_us[rows], events.user[rows]))]
        return cls(
            events.user[rows],
            events.item[rows],
            events.item_ids,
            events.slot[rows],
            events.event_us[rows],
            events.start_day[rows],
            window.long_term_days,
            len(events.user_ids),
        )

    def at(self, day: date, users: Ints) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Per asked user (sorted): the time of the newest click known at the day's end, the last items and buckets."""
        rows = np.flatnonzero(_known(self.event_us, self.start_day, day, self.window_days))
        _, newest = np.unique(self.user[rows] * max(len(self.item_ids), 1) + self.item[rows], return_index=True)
        rows = rows[np.sort(newest)]  # one row per (user, item), still newest first
        owner = self.user[rows]
        begins = np.searchsorted(owner, np.arange(self.users + 1))
        rank = np.arange(len(rows)) - begins[owner]
        lengths = np.minimum(np.diff(begins), LAST_ITEMS)[users]
        # A user with a click is active, so the kept rows are exactly those of the asked users, in their order.
        kept = rows[rank < LAST_ITEMS]
        last_us = np.zeros(len(users), np.int64)
        has = lengths > 0
        last_us[has] = self.event_us[rows[begins[users[has]]]]
        return (
            pa.array(last_us, pa.int64(), mask=~has).cast(TIME),
            _lists(self.item_ids.take(pa.array(self.item[kept], pa.int64())), lengths),
            _lists(_buckets(self.slot[kept]), lengths),
        )


@dataclass(frozen=True)
class Sessions:
    """All events of some users by user and time: a session ends where the pause to the next event is too long."""

    user: Ints
    clicked: NDArray[np.bool_]
    slot: Ints
    event_us: Ints
    start_day: Ints
    window_days: int
    gap_us: int

    @classmethod
    def of(cls, events: UserEvents, window: Window) -> "Sessions":
        """From all their events."""
        order = np.lexsort((events.slot, events.event_us, events.user))
        return cls(
            events.user[order],
            events.clicked[order],
            events.slot[order],
            events.event_us[order],
            events.start_day[order],
            window.long_term_days,
            window.settings.session_gap_minutes * MINUTE_US,
        )

    def at(self, day: date, users: Ints) -> dict[str, pa.Array | NDArray[np.float64]]:
        """The session columns of each asked user (sorted, each with an event in the day's window): the last session."""
        rows = np.flatnonzero(_known(self.event_us, self.start_day, day, self.window_days))
        user, event_us = self.user[rows], self.event_us[rows]
        opens = np.ones(len(rows), bool)
        opens[1:] = (user[1:] != user[:-1]) | (np.diff(event_us) > self.gap_us)
        last = np.searchsorted(user, users, side="right") - 1
        first = np.maximum.accumulate(np.where(opens, np.arange(len(rows)), 0))[last]
        clicks = np.concatenate([[0], np.cumsum(self.clicked[rows])])
        lengths = np.minimum(last - first + 1, SESSION_EVENTS)
        before = np.cumsum(lengths) - lengths
        newest_first = np.repeat(last, lengths) - (np.arange(lengths.sum()) - np.repeat(before, lengths))
        return {
            "session_events": (last - first + 1).astype(np.float64),
            "session_clicks": (clicks[last + 1] - clicks[first]).astype(np.float64),
            "session_seconds": (event_us[last] - event_us[first]) / SECOND_US,
            "session_buckets": _lists(_buckets(self.slot[rows[newest_first]]), lengths),
            "days_since_session": ((day_number(day) + 1) * DAY_US - event_us[last]) / DAY_US,
        }


def _known(event_us: Ints, start_day: Ints, day: date, window_days: int) -> NDArray[np.bool_]:
    """Which events were known at the end of `day` and lie in its window."""
    number = day_number(day)
    known: NDArray[np.bool_] = (start_day <= number) & (event_us >= (number - window_days + 1) * DAY_US)
    return known


def _buckets(slot: Ints) -> pa.Array:
    return pa.array(np.where(slot == NO_SLOT, NO_BUCKET, slot).astype(np.int32))


def _lists(values: pa.Array, lengths: Ints) -> pa.Array:
    """Lists of the given lengths, one after another."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
