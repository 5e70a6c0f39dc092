"""What was known of users at the end of a day: activity, long-term interests, last items and last session."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.featurize.core import DAY_US, Ints, Window, available, days_before, rolling, smoothed
from jobs.featurize.events import UserEvents
from jobs.featurize.items import Overall
from jobs.featurize.recent import LastClicks, Sessions
from jobs.lake.tables import INTEREST_BUCKETS, LAKE

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


def _user_block(events: UserEvents, prior: Overall, window: Window) -> Iterator[pa.Table]:
    """`user_features` of one block of users, day by day."""
    shown, clicked = (_counts(events, window, which) for which in (False, True))
    shown_all, clicked_all = shown.sum(axis=1), clicked.sum(axis=1)
    last_clicks, sessions = LastClicks.of(events, window), Sessions.of(events, window)
    p = window.settings.prior_impressions
    for at, day in enumerate(window.days):
        rows = np.flatnonzero(shown_all[:, at] + clicked_all[:, at])
        rate = smoothed(clicked_all[rows, at], shown_all[rows, at], prior.click_rate[at], p)
        in_bucket, seen = clicked[rows, :INTEREST_BUCKETS, at], shown[rows, :INTEREST_BUCKETS, at]
        expected = np.divide(in_bucket, rate[:, None], out=np.zeros(in_bucket.shape), where=in_bucket > 0)
        last_us, last_items, last_buckets = last_clicks.at(day, rows)
        columns = {
            "user_id": events.user_ids.take(pa.array(rows)),
            "available_at": available(day, len(rows), window.settings),
            "impressions": shown_all[rows, at].astype(np.float64),
            "clicks": clicked_all[rows, at].astype(np.float64),
            "click_rate": rate,
            "days_since_click": days_before(day, last_us),
            "interests": _lists(((expected + p) / (seen + p)).astype(np.float32)),
            "last_items": last_items,
            "last_buckets": last_buckets,
            **sessions.at(day, rows),
        }
        yield pa.table(columns, schema=LAKE["user_features"].schema)


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


def _lists(matrix: NDArray[np.float32]) -> pa.Array:
    """One list per row."""
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))
