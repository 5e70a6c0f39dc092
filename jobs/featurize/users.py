"""What was known of users at the end of a day: activity, long-term interests, last items and last session."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.featurize.core import DAY_US, Floats, Ints, Window, available, by_outcome, days_before, rolling, smoothed
from jobs.featurize.events import UserEvents
from jobs.featurize.items import Overall
from jobs.featurize.recent import LastClicks, Sessions
from jobs.lake.tables import LAKE
from models.features import INTEREST_BUCKETS, declared, rule_of

Values: TypeAlias = "pa.Array | Floats"
USERS_AT_ONCE = 4096
"""Users per dense (users, days, slots) block: what bounds memory, whatever the size of a Spark partition."""


def user_features(events: UserEvents, prior: Overall, window: Window) -> list[pa.Table]:
    """One `user_features` table per feature day, sorted by user: the users with an event in that day's window."""
    blocks: list[list[pa.Table]] = [[] for _ in window.days]
    for low in range(0, len(events.user_ids), USERS_AT_ONCE):
        block = events.of_users(low, low + USERS_AT_ONCE)
        for at, table in enumerate(_user_block(block, prior, window)):
            blocks[at].append(table)
    schema = LAKE["user_features"].schema
    return [pa.concat_tables(tables) if tables else schema.empty_table() for tables in blocks]


@dataclass(frozen=True)
class UsersOfDay:
    """Some users at the end of a day: what the rules count from. Rows are the users with an event in its window."""

    day: date
    at: int
    """Which of the window's days."""
    rows: Ints
    """Codes of the users."""
    events: UserEvents
    window: Window
    prior: Overall
    shown: Ints
    """(users, slots, days) impressions in the long-term window; the last slot is of items without a category."""
    clicked: Ints
    fed: Mapping[str, Ints]
    """By further outcome, (users, days) thousandths in the long-term window."""
    last_clicks: LastClicks
    sessions: Sessions

    @cached_property
    def impressions(self) -> Ints:
        """Of the long-term window."""
        found: Ints = self.shown[self.rows, :, self.at].sum(axis=1)
        return found

    @cached_property
    def clicks(self) -> Ints:
        """Of the long-term window."""
        found: Ints = self.clicked[self.rows, :, self.at].sum(axis=1)
        return found

    @cached_property
    def rate(self) -> Floats:
        """Clicks per impression, smoothed."""
        return smoothed(self.clicks, self.impressions, self.prior.click_rate[self.at], self.pseudo_count)

    @property
    def pseudo_count(self) -> float:
        """Impressions that the rate of everybody stands for."""
        return self.window.settings.prior_impressions

    @property
    def outcomes(self) -> pa.Array:
        """See `by_outcome`."""
        return by_outcome({name: parts[self.rows, self.at] for name, parts in self.fed.items()}, len(self.rows))

    @cached_property
    def last(self) -> tuple[pa.Array, pa.Array, pa.Array]:
        """See `LastClicks.at`."""
        return self.last_clicks.at(self.day, self.rows)

    @cached_property
    def session(self) -> Mapping[str, Values]:
        """See `Sessions.at`."""
        return self.sessions.at(self.day, self.rows)

    def counted(self, clicked: bool, days: int) -> Ints:
        """Impressions, or clicks, of the last so many days, as known at the end of the day."""
        window = Window([self.day], self.window.settings)
        which = np.flatnonzero(self.events.clicked == clicked)
        of, event_day, start_day = self.events.user, self.events.event_us // DAY_US, self.events.start_day
        users, span = len(self.events.user_ids), min(days, window.long_term_days)
        found: Ints = rolling(of[which], users, event_day[which], start_day[which], None, window, span)[:, 0]
        return found[self.rows]


RULES: dict[str, Callable[[UsersOfDay], Values]] = {
    "impressions": lambda of: of.impressions.astype(np.float64),
    "clicks": lambda of: of.clicks.astype(np.float64),
    "click_rate": lambda of: of.rate,
    "days_since_click": lambda of: days_before(of.day, of.last[0]),
    "interests": lambda of: _interests(of),
    "last_items": lambda of: of.last[1],
    "last_buckets": lambda of: of.last[2],
    "session_events": lambda of: of.session["session_events"],
    "session_clicks": lambda of: of.session["session_clicks"],
    "session_seconds": lambda of: of.session["session_seconds"],
    "session_buckets": lambda of: of.session["session_buckets"],
    "days_since_session": lambda of: of.session["days_since_session"],
    "outcomes": lambda of: of.outcomes,
}
"""How each declared feature of users is counted, one value per row."""


def _user_block(events: UserEvents, prior: Overall, window: Window) -> Iterator[pa.Table]:
    """`user_features` of one block of users, day by day."""
    shown, clicked = (_counts(events, window, which) for which in (False, True))
    active = shown.sum(axis=1) + clicked.sum(axis=1)
    fed = {name: _fed(events, window, name) for name in window.outcomes}
    recent = LastClicks.of(events, window), Sessions.of(events, window)
    for at, day in enumerate(window.days):
        rows = np.flatnonzero(active[:, at])
        of = UsersOfDay(day, at, rows, events, window, prior, shown, clicked, fed, *recent)
        columns = {
            "user_id": events.user_ids.take(pa.array(rows)),
            "available_at": available(day, len(rows), window.settings),
            **{feature.name: rule_of(RULES, feature, __name__)(of) for feature in declared("user")},
        }
        yield pa.table(columns, schema=LAKE["user_features"].schema)


def _interests(of: UsersOfDay) -> pa.Array:
    """Each bucket's click rate, shrunk towards the user's own, over that."""
    in_bucket, seen = (counts[of.rows, :INTEREST_BUCKETS, of.at] for counts in (of.clicked, of.shown))
    expected = np.divide(in_bucket, of.rate[:, None], out=np.zeros(in_bucket.shape), where=in_bucket > 0)
    return _lists(((expected + of.pseudo_count) / (seen + of.pseudo_count)).astype(np.float32))


def _counts(events: UserEvents, window: Window, clicked: bool) -> Ints:
    """(users, slots, days): impressions, or clicks, in the long-term window."""
    users, slots = len(events.user_ids), INTEREST_BUCKETS + 1
    rows = np.flatnonzero(events.clicked == clicked)
    found = rolling(
        events.user[rows] * slots + events.slot[rows],
        users * slots,
        events.event_us[rows] // DAY_US,
        events.start_day[rows],
        None,
        window,
        window.long_term_days,
    )
    return found.reshape(users, slots, len(window.days))


def _fed(events: UserEvents, window: Window, outcome: str) -> Ints:
    """(users, days): of one further outcome, thousandths in the long-term window."""
    fed = events.feedback
    rows = np.flatnonzero(fed.outcome == outcome)
    event_day, start_day = fed.event_us[rows] // DAY_US, fed.start_day[rows]
    days = window.long_term_days
    return rolling(fed.user[rows], len(events.user_ids), event_day, start_day, fed.parts[rows], window, days)


def _lists(matrix: NDArray[np.float32]) -> pa.Array:
    """One list per row."""
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))
