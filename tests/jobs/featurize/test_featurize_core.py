"""The rule of featurize against a brute-force reading of its definition, and the laws of smoothing."""

import math
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.config import FeatureSettings
from jobs.featurize import categories, core
from jobs.featurize.encodings import CLICK_DAY, CONTEXT, context_counts, encoded, encodings, overall_rate, totals
from jobs.featurize.events import UserEvents
from jobs.featurize.items import ItemCounts, item_features, overall
from jobs.featurize.users import user_features
from jobs.lake.tables import TIME
from models.features import ENCODINGS, INTEREST_BUCKETS
from models.rankers.features import SEPARATOR

FIRST = date(2026, 1, 1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PRIOR, ENCODING_PRIOR = 5.0, 3.0
GAP_HOURS = 6


@dataclass(frozen=True)
class Event:
    kind: str
    user: str | None
    item: str
    when: datetime
    known: datetime


def moment(hours: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)


def window_of(days: list[date], long_term_days: int = 30) -> core.Window:
    settings = FeatureSettings(
        long_term_days=long_term_days,
        prior_impressions=PRIOR,
        session_gap_minutes=GAP_HOURS * 60,
        encoding_prior_impressions=ENCODING_PRIOR,
        encoding_min_impressions=2,
    )
    return core.Window(days, settings)


# Multiples of six hours and the hours before: midnights, last hours, pauses of just the gap, and ties, are common.
events_of = st.lists(
    st.builds(
        lambda kind, user, item, when, delay, early: Event(
            kind, user, item, moment(6 * when - early), moment(6 * (when + delay) - early)
        ),
        st.sampled_from(["impressions", "impressions", "clicks", "purchases"]),
        st.sampled_from([None, "u0", "u1", "u2"]),
        st.sampled_from(["i0", "i1", "i2", "i9"]),
        st.integers(-16, 24),
        st.sampled_from([0, 0, 1, 4, 9]),
        st.sampled_from([0, 0, 0, 1]),
    ),
    max_size=30,
)
listings = st.lists(
    st.dictionaries(st.sampled_from(["i0", "i1", "i2"]), st.sampled_from([None, "a", "b"]), min_size=1),
    min_size=4,
    max_size=4,
)


def snapshot(content: dict[str, str | None]) -> pa.Table:
    """A snapshot of items with nothing but a category."""
    n = len(content)
    return pa.table(
        {
            "item_id": pa.array(list(content), pa.string()),
            "created_at": pa.array([moment(-30)] * n, TIME),
            "category": pa.array(list(content.values()), pa.string()),
            "price": pa.nulls(n, pa.float64()),
            "feature_vector": pa.nulls(n, pa.list_(pa.float64())),
        }
    )


def day_of(when: datetime) -> int:
    return (when - EPOCH).days


def item_counts(events: list[Event]) -> ItemCounts:
    """One row per event: grouping is the engines' business."""
    return ItemCounts.of(
        pa.table(
            {
                "kind": pa.array([e.kind for e in events], pa.string()),
                "item_id": pa.array([e.item for e in events], pa.string()),
                "event_day": pa.array([day_of(e.when) for e in events], pa.int64()),
                "start_day": pa.array([max(day_of(e.when), day_of(e.known)) for e in events], pa.int64()),
                "last_hour": pa.array([e.when.hour == 23 for e in events], pa.bool_()),
                "n": pa.array([1] * len(events), pa.int64()),
            }
        )
    )


def user_events(events: list[Event], snapshots: list[tuple[date, pa.Table]]) -> UserEvents:
    """What an engine hands to the core."""
    events = [e for e in events if e.user is not None and e.kind != "purchases"]
    ids = pa.chunked_array([pa.array([e.item for e in events], pa.string())])
    days = np.array([day_of(e.when) for e in events], np.int64)
    return UserEvents.of(
        pa.table(
            {
                "user_id": pa.array([e.user for e in events], pa.string()),
                "item_id": pa.array([e.item if e.kind == "clicks" else None for e in events], pa.string()),
                "clicked": pa.array([e.kind == "clicks" for e in events], pa.bool_()),
                "slot": categories.slots_of(ids, days, categories.in_order(categories.category_history(snapshots))),
                "event_us": pa.array([(e.when - EPOCH) // timedelta(microseconds=1) for e in events], pa.int64()),
                "start_day": pa.array([max(day_of(e.when), day_of(e.known)) for e in events], pa.int64()),
            }
        )
    )


class Oracle:
    """The definition, one event at a time."""

    def __init__(self, events: list[Event], day: date, long_term_days: int) -> None:
        self.end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        self.known = [e for e in events if e.when < self.end and e.known < self.end]
        self.window = self.within(long_term_days)
        self.rate = min(self.count("clicks") / (self.count("impressions") or math.inf), 1.0)
        self.purchase_rate = min(self.count("purchases") / (self.count("clicks") or math.inf), 1.0)

    def within(self, days: int) -> list[Event]:
        return [e for e in self.known if e.when >= self.end - timedelta(days=days)]

    def count(self, kind: str, events: list[Event] | None = None) -> int:
        return sum(e.kind == kind for e in (self.window if events is None else events))

    def smooth(self, events: list[Event], prior: float, top: str = "clicks", bottom: str = "impressions") -> float:
        return min((self.count(top, events) + PRIOR * prior) / (self.count(bottom, events) + PRIOR), 1.0)

    def item(self, item: str) -> dict[str, Any]:
        own = {days: [e for e in self.within(days) if e.item == item and e in self.window] for days in (7, 1)}
        longest = [e for e in self.window if e.item == item]
        return {
            "impressions": self.count("impressions", longest),
            "clicks": self.count("clicks", longest),
            "click_rate": self.smooth(longest, self.rate),
            "click_rate_7d": self.smooth(own[7], self.rate),
            "click_rate_1d": self.smooth(own[1], self.rate),
            "click_rate_1h": self.smooth([e for e in own[1] if e.when >= self.end - timedelta(hours=1)], self.rate),
            "purchase_rate": self.smooth(longest, self.purchase_rate, "purchases", "clicks"),
            "age_days": (self.end - moment(-30)) / timedelta(days=1),
        }

    def user(self, user: str, buckets: dict[Event, int | None]) -> dict[str, Any] | None:
        own = [e for e in self.window if e.user == user and e.kind != "purchases"]
        if not own:
            return None
        rate = self.smooth(own, self.rate)
        clicks = sorted((e for e in own if e.kind == "clicks"), key=lambda e: (-(e.when - EPOCH), e.item))
        interests = []
        for bucket in range(INTEREST_BUCKETS):
            of = [e for e in own if buckets[e] == bucket]
            top = self.count("clicks", of) / rate if rate else 0.0
            interests.append((top + PRIOR) / (self.count("impressions", of) + PRIOR))
        return {
            "impressions": self.count("impressions", own),
            "clicks": len(clicks),
            "click_rate": rate,
            "days_since_click": (self.end - clicks[0].when) / timedelta(days=1) if clicks else None,
            "interests": interests,
            "last_items": (last := list(dict.fromkeys(e.item for e in clicks))[:10]),
            "last_buckets": [bucket_of(next(e for e in clicks if e.item == item), buckets) for item in last],
            **self.session(own, buckets),
        }

    def session(self, own: list[Event], buckets: dict[Event, int | None]) -> dict[str, Any]:
        """Back from the newest event until the pause before one is too long."""
        session: list[Event] = []
        for e in sorted(own, key=lambda e: -(e.when - EPOCH)):
            if session and session[-1].when - e.when > timedelta(hours=GAP_HOURS):
                break
            session.append(e)
        listed = sorted(session, key=lambda e: (e.when, bucket_of(e, buckets) % (INTEREST_BUCKETS + 1)), reverse=True)
        return {
            "session_events": len(session),
            "session_clicks": self.count("clicks", session),
            "session_seconds": (session[0].when - session[-1].when).total_seconds(),
            "session_buckets": [bucket_of(e, buckets) for e in listed][:20],
            "days_since_session": (self.end - session[0].when) / timedelta(days=1),
        }


def bucket_of(event: Event, buckets: dict[Event, int | None]) -> int:
    found = buckets[event]
    return -1 if found is None else found


@settings(deadline=None, max_examples=60)
@given(events=events_of, listed=listings, long_term_days=st.integers(1, 9))
def test_features_are_what_their_definition_says(
    events: list[Event], listed: list[dict[str, str | None]], long_term_days: int
) -> None:
    """Late events, midnights, ties, anonymous users, changing categories: every number as counted by hand."""
    days = [FIRST + timedelta(days=n) for n in range(4)]
    window = window_of(days, long_term_days)
    snapshots = [(day, snapshot(content)) for day, content in zip(days, listed, strict=True)]
    counts = item_counts(events)
    users = user_features(user_events(events, snapshots), overall(counts, window), window)
    items = list(item_features(counts, [s for _, s in snapshots], overall(counts, window), window))
    by_day = dict(zip(days, listed, strict=True))
    buckets: dict[Event, int | None] = {}
    for e in events:
        category = by_day.get(e.when.date(), {}).get(e.item)
        buckets[e] = None if category is None else zlib.crc32(category.encode()) % INTEREST_BUCKETS
    for n, day in enumerate(days):
        oracle = Oracle(events, day, long_term_days)
        wanted = {u: row for u in ("u0", "u1", "u2") if (row := oracle.user(u, buckets))}
        assert users[n]["user_id"].to_pylist() == sorted(wanted)
        for found in users[n].to_pylist():
            same(found, wanted[found["user_id"]])
        shown = {e.item for e in oracle.window if e.kind == "impressions"}
        assert items[n]["item_id"].to_pylist() == sorted({*listed[n], *shown}), "the catalogue, and what was shown"
        for found in items[n].to_pylist():
            unlisted = {} if found["item_id"] in listed[n] else {"age_days": None, "category": None, "price": None}
            same(found, oracle.item(found["item_id"]) | unlisted)


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Every wanted column, floats to the last few bits (interests are float32)."""
    for name, value in wanted.items():
        if (isinstance(value, list) and name != "interests") or value is None:
            assert found[name] == value, name
        else:
            assert found[name] == pytest.approx(value, rel=1e-6 if name == "interests" else 1e-12), name


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.floats(0, 1), st.floats(0.1, 100))
def test_smoothing_laws(clicks: int, impressions: int, prior: float, pseudo_count: float) -> None:
    """No evidence: exactly the prior. Otherwise between prior and raw rate, and more clicks never lower it."""
    found, more = core.smoothed(np.array([clicks, clicks + 1]), np.array([impressions] * 2), prior, pseudo_count)
    assert 0 <= found <= 1
    assert found <= more or (clicks, impressions) == (0, 0)
    if clicks == impressions == 0:
        assert found == prior
    elif impressions:
        raw = clicks / impressions
        assert min(prior, raw, 1.0) - 1e-12 <= found <= max(prior, raw) + 1e-12


def test_a_user_with_no_clicks_anywhere_has_neutral_interests() -> None:
    """0/0 is no evidence: 1.0, not NaN, where nobody ever clicked."""
    events = [Event("impressions", "u0", "i0", moment(3), moment(3))]
    window = window_of([FIRST])
    counts = item_counts(events)
    (users,) = user_features(user_events(events, [(FIRST, snapshot({"i0": "a"}))]), overall(counts, window), window)
    interests = np.array(users["interests"][0].as_py())
    bucket = zlib.crc32(b"a") % INTEREST_BUCKETS
    assert interests[bucket] == np.float32(PRIOR / (1 + PRIOR))
    assert set(np.delete(interests, bucket)) == {1.0}
    assert users["click_rate"].to_pylist() == [0.0]


def test_users_beyond_one_block_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks bound memory, they change no row."""
    events = [
        Event("clicks" if n % 3 else "impressions", f"u{n % 7}", f"i{n % 3}", moment(n), moment(n)) for n in range(60)
    ]
    window = window_of([FIRST, FIRST + timedelta(days=1)])
    prior = overall(item_counts(events), window)
    whole = user_features(user_events(events, []), prior, window)
    monkeypatch.setattr("jobs.featurize.users.USERS_AT_ONCE", 2)
    assert user_features(user_events(events, []), prior, window) == whole
    assert [len(table) for table in whole] == [7, 7]


def test_last_items_are_the_ten_newest_distinct() -> None:
    """Clicking one item again moves it to the front instead of filling the list."""
    events = [Event("clicks", "u0", f"i{n:02d}", moment(n), moment(n)) for n in range(14)]
    events.append(Event("clicks", "u0", "i05", moment(20), moment(20)))
    window = window_of([FIRST])
    (users,) = user_features(user_events(events, []), overall(item_counts(events), window), window)
    assert users["last_items"].to_pylist() == [["i05", *(f"i{n:02d}" for n in range(13, 3, -1) if n != 5)]]


def test_history_has_one_row_per_change() -> None:
    """An item that keeps its category for a year is one row, a gap in the listing ends it."""
    days = [FIRST + timedelta(days=n) for n in (0, 1, 2, 5)]
    contents: list[dict[str, str | None]] = [
        {"i0": "a", "i1": "a"},
        {"i0": "a", "i1": "b"},
        {"i0": "a", "i2": None},
        {"i0": "a", "i1": "b"},
    ]
    history = categories.category_history([(d, snapshot(c)) for d, c in zip(days, contents, strict=True)])
    first = core.day_number(FIRST)
    spans = sorted(zip(*(history[name].to_pylist() for name in ("item_id", "from_day", "until_day")), strict=True))
    never = np.iinfo(np.int32).max
    assert spans == [
        ("i0", first, never),
        ("i1", first, first + 1),
        ("i1", first + 1, first + 2),
        ("i1", first + 5, never),
    ]


@dataclass(frozen=True)
class Shown:
    """An impression with its context, and how long after it a click on it was known (None: never)."""

    surface: str
    query: str | None
    source_category: str | None
    item_category: str
    day: int
    known_after: int
    click_known_after: int | None


def clicked_on(shown: Shown, first: int) -> int | None:
    """The day number its click was known on."""
    return None if shown.click_known_after is None else first + shown.day + shown.click_known_after


shown_of = st.lists(
    st.builds(
        Shown,
        st.sampled_from(["home", "search"]),
        st.sampled_from([None, "shoes"]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from(["a", "b"]),
        st.integers(-4, 5),
        st.sampled_from([0, 0, 1]),
        st.sampled_from([None, None, 0, 2]),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(shown=shown_of, long_term_days=st.integers(1, 6))
def test_encodings_are_what_their_definition_says(shown: list[Shown], long_term_days: int) -> None:
    """Counted by hand: only what was known, joint values shrunk towards their category, rare values left out."""
    days = [FIRST + timedelta(days=n) for n in range(4)]
    first = core.day_number(FIRST)
    impressions = pa.table(
        {
            **{name: pa.array([getattr(s, name) for s in shown], pa.string()) for name in CONTEXT},
            "event_day": pa.array([first + s.day for s in shown], pa.int64()),
            "start_day": pa.array([first + s.day + s.known_after for s in shown], pa.int64()),
            CLICK_DAY: pa.array(
                [None if s.click_known_after is None else first + s.day + s.click_known_after for s in shown],
                pa.int64(),
            ),
        }
    )
    counts, window = encoded(context_counts(impressions)), window_of(days, long_term_days)
    rate = overall_rate(ItemCounts.of(totals(counts)), window)
    for n, table in enumerate(encodings(counts, rate, window)):
        known = [s for s in shown if n - long_term_days < s.day and s.day + s.known_after <= n]
        found = {(row["encoding"], row["value"]): row for row in table.to_pylist()}
        assert list(found) == sorted(found)
        wanted = encoded_by_hand(known, n)
        assert found.keys() == wanted.keys()
        for key, (impressions, clicks, rate) in wanted.items():
            assert (found[key]["impressions"], found[key]["clicks"]) == (impressions, clicks)
            assert found[key]["click_rate"] == pytest.approx(rate, rel=1e-12)


def encoded_by_hand(known: list[Shown], n: int) -> dict[tuple[str, str], tuple[int, int, float]]:
    """(encoding, value) to impressions, clicks and rate on day n."""

    def tally(some: list[Shown]) -> tuple[int, int]:
        clicks = [s for s in some if s.click_known_after is not None and s.day + s.click_known_after <= n]
        return len(some), len(clicks)

    def rate(some: list[Shown], prior: float) -> float:
        impressions, clicks = tally(some)
        return (clicks + ENCODING_PRIOR * prior) / (impressions + ENCODING_PRIOR)

    impressions, clicks = tally(known)
    overall_rate = clicks / impressions if impressions else 0.0
    found = {}
    for name, columns in ENCODINGS.items():
        groups: dict[str, list[Shown]] = {}
        for s in known:
            parts = [getattr(s, column) for column in columns]
            if None not in parts:
                groups.setdefault(SEPARATOR.join(parts), []).append(s)
        for value, some in groups.items():
            if len(some) >= 2:
                category = rate([s for s in known if s.item_category == some[0].item_category], overall_rate)
                found[name, value] = (*tally(some), category if name == "category" else rate(some, category))
    return found
