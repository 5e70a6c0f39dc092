"""Feature rows that know more than their midnight, or claim another time to be known from, are refused.

A sample is counted again, event by event.

Featurize counts with difference arrays over all days at once. Here a few users, items and one category of a day are
counted the slow way, straight from the validated files: an event counts if it happened inside the window and both
happened and was known before the midnight that ends the day; and its row must count as known from the moment that
`jobs.asof.clock` promises, no sooner. Any difference is a leak (a row computed with its next day's clicks or
conversions, or used before it could be served), a loss, or a bug; in each case the day must not be published.

Keys with events of the next day are looked at first: they are where looking ahead shows. What is not counted again
(the declaration says so of interests and buckets; joint encodings) is made of the same counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from math import floor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.asof.clock import available_at
from jobs.config import FeatureSettings
from jobs.errors import Refused
from jobs.lake.parts import scanned
from jobs.lake.store import midnight
from jobs.places import Place
from models.features import LAST_ITEMS, Of, declared, rule_of
from models.settings import OutcomeSettings

SAMPLE = 10
"""Keys of the day's events, of the next day's and of the published rows, so many each."""
CLOSE = 1e-9
FED = "feedback"
"""What an event of a further outcome is called."""
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
Event = dict[str, Any]
Row = dict[str, Any]


def audited_days(days: Sequence[date]) -> set[date]:
    """The first, the middle and the last."""
    return {days[0], days[len(days) // 2], days[-1]}


@dataclass(frozen=True)
class Audit:
    """The validated part files of a run, and what is needed to count from them again."""

    files: Mapping[str, Sequence[str]]
    """Of impressions, clicks and purchases; of feedback where further outcomes are declared."""
    snapshots: Mapping[date, pa.Table]
    """Items by day."""
    settings: FeatureSettings
    outcomes: Mapping[str, OutcomeSettings] = field(default_factory=dict)

    def refuse_leaks(self, day: date, tables: Mapping[str, pa.Table | Sequence[Place]]) -> None:
        """Raise `Refused` where a sampled row of `day` is not what was known at the midnight that ends it.

        Or where it counts as known from another moment than promised.
        `tables` are the feature tables of that day by name, as tables or part files.
        """
        end = midnight(day + DAY)
        known_from = {"available_at": available_at(day, self.settings)}
        overall = self._overall(end)
        for name, key in (("user_features", "user_id"), ("item_features", "item_id")):
            source = _dataset(tables[name], name)
            ids = self._sample(source, key, end)
            found = {row[key]: row for row in source.to_table(filter=_one_of(key, ids)).to_pylist()}
            events = self._events(key, ids, end)
            for one in ids:
                wanted = (_user if key == "user_id" else _item)(events[one], end, overall, self)
                if key == "item_id" and one not in found:
                    continue  # not in the day's catalogue
                _compare(name, day, one, found.get(one), None if wanted is None else known_from | wanted)
        self._category(day, _dataset(tables["encodings"], "encodings"), end, known_from)

    def _known(self, end: datetime) -> pc.Expression:
        """Happened inside the long-term window, and happened and was known before `end`."""
        time = pc.field("event_time")
        first = end - self.settings.long_term_days * DAY
        return (time >= pa.scalar(first)) & (time < pa.scalar(end)) & (pc.field("ingested_at") < pa.scalar(end))

    def _overall(self, end: datetime) -> dict[str, float]:
        """The rates of everybody's events."""
        n = {kind: _dataset(files, kind).count_rows(filter=self._known(end)) for kind, files in self._paths().items()}
        return {
            "click_rate": min(n["clicks"] / n["impressions"], 1.0) if n["impressions"] else 0.0,
            "purchase_rate": min(n["purchases"] / n["clicks"], 1.0) if n["clicks"] else 0.0,
        }

    def _sample(self, published: ds.Dataset, key: str, end: datetime) -> list[str]:
        """Keys of the day before `end`, of the day after where its events are among the files, and published ones."""
        time, impressions = pc.field("event_time"), _dataset(self._paths()["impressions"], "impressions")
        ids = set(_spread(published.to_table(columns=[key])[key]))
        for begins in (end - DAY, end):
            of_day = (time >= pa.scalar(begins)) & (time < pa.scalar(begins + DAY))
            ids.update(_spread(impressions.to_table(columns=[key], filter=of_day)[key]))
        return sorted(ids)

    def _events(self, key: str, ids: Sequence[str], end: datetime) -> dict[str, list[Event]]:
        """Each key's known events, with their kind."""
        found: dict[str, list[Event]] = {one: [] for one in ids}
        for kind, files in self._paths().items():
            mine = self._known(end) & _one_of(key, ids)
            rows = _dataset(files, kind).to_table(columns=["user_id", "item_id", "event_time"], filter=mine)
            for row in rows.to_pylist():
                found[row[key]].append(row | {"kind": kind})
        if self.outcomes:
            fed, mine = _dataset(self.files[FED], FED), self._known(end) & _one_of(key, ids)
            for row in fed.to_table(columns=[key, "event_time", "outcome", "value"], filter=mine).to_pylist():
                found[row[key]].append(row | {"kind": FED})
        return found

    def _category(self, day: date, encodings: ds.Dataset, end: datetime, known_from: Row) -> None:
        """The day's largest category: its impressions, and those of them with a click known by then."""
        rows = encodings.to_table(filter=pc.field("encoding") == "category").sort_by([("impressions", "descending")])
        if not len(rows):
            return
        row = rows.slice(0, 1).to_pylist()[0]
        paths, impressions = self._paths(), _dataset(self._paths()["impressions"], "impressions")
        shown: list[str] = []
        for back in range(self.settings.long_term_days):
            time, begins = pc.field("event_time"), end - (back + 1) * DAY
            listed = max((at for at in self.snapshots if at <= begins.date()), default=None)
            if listed is not None:
                of_day = (time >= pa.scalar(begins)) & (time < pa.scalar(begins + DAY))
                mine = self._known(end) & of_day & _one_of("item_id", self._items_of(row["value"], listed))
                shown += impressions.to_table(columns=["impression_id"], filter=mine)["impression_id"].to_pylist()
        before = (pc.field("event_time") < pa.scalar(end)) & (pc.field("ingested_at") < pa.scalar(end))
        clicks = _dataset(paths["clicks"], "clicks").to_table(columns=["impression_id"], filter=before)["impression_id"]
        clicked = pc.is_in(pa.array(shown, pa.string()), pc.drop_null(clicks.combine_chunks()))
        wanted = {"impressions": len(shown), "clicks": pc.sum(clicked, min_count=0).as_py()}
        _compare("encodings", day, row["value"], row, known_from | wanted)

    def _items_of(self, category: str, at: date) -> list[str]:
        snapshot = self.snapshots[at]
        return list(snapshot.filter(pc.equal(snapshot["category"], category))["item_id"].to_pylist())

    def _paths(self) -> dict[str, Sequence[str]]:
        return {kind: self.files[kind] for kind in ("impressions", "clicks", "purchases")}


@dataclass(frozen=True)
class Recount:
    """The known events of one user or item before a midnight: what is counted again, event by event."""

    events: Sequence[Event]
    """Newest first; equal times by item."""
    feedback: Sequence[Event]
    """Of further outcomes, declared or not."""
    end: datetime
    overall: Mapping[str, float]
    settings: FeatureSettings
    outcomes: Mapping[str, OutcomeSettings]

    def rate(self, top: str, bottom: str, prior: str, span: timedelta | None = None) -> float:
        """Events of a kind per event of another, smoothed, of the whole window or the last `span`."""
        recent = [e for e in self.events if span is None or e["event_time"] >= self.end - span]
        return _rate(recent, top, bottom, self.overall[prior], self.settings)

    @cached_property
    def clicks(self) -> Sequence[Event]:
        """Newest first."""
        return [e for e in self.events if e["kind"] == "clicks"]

    def further(self) -> list[tuple[str, float]] | None:
        """Each declared outcome and its events, or the sum of their values to a thousandth; None: none is declared."""
        found = {}
        for name, of in self.outcomes.items():
            mine = [e for e in self.feedback if e["outcome"] == name]
            summed = sum(floor((e["value"] or 0.0) * 1_000 + 0.5) for e in mine) / 1_000
            found[name] = summed if of.kind == "value" else float(len(mine))
        return [*found.items()] or None

    @cached_property
    def session(self) -> Sequence[Event]:
        """The newest events, up to a long pause."""
        gap, n = timedelta(minutes=self.settings.session_gap_minutes), 1
        while n < len(self.events) and self.events[n - 1]["event_time"] - self.events[n]["event_time"] <= gap:
            n += 1
        return self.events[:n]


OF_USERS: dict[str, Callable[[Recount], Any]] = {
    "impressions": lambda of: _count(of.events, "impressions"),
    "clicks": lambda of: _count(of.events, "clicks"),
    "click_rate": lambda of: of.rate("clicks", "impressions", "click_rate"),
    "days_since_click": lambda of: (of.end - of.clicks[0]["event_time"]) / DAY if of.clicks else None,
    "last_items": lambda of: list(dict.fromkeys(e["item_id"] for e in of.clicks))[:LAST_ITEMS],
    "session_events": lambda of: len(of.session),
    "session_clicks": lambda of: _count(of.session, "clicks"),
    "session_seconds": lambda of: (of.session[0]["event_time"] - of.session[-1]["event_time"]).total_seconds(),
    "days_since_session": lambda of: (of.end - of.session[0]["event_time"]) / DAY,
    "outcomes": lambda of: of.further(),
}
OF_ITEMS: dict[str, Callable[[Recount], Any]] = {
    "impressions": lambda of: _count(of.events, "impressions"),
    "clicks": lambda of: _count(of.events, "clicks"),
    "click_rate": lambda of: of.rate("clicks", "impressions", "click_rate"),
    "click_rate_7d": lambda of: of.rate("clicks", "impressions", "click_rate", 7 * DAY),
    "click_rate_1d": lambda of: of.rate("clicks", "impressions", "click_rate", DAY),
    "click_rate_1h": lambda of: of.rate("clicks", "impressions", "click_rate", HOUR),
    "purchase_rate": lambda of: of.rate("purchases", "clicks", "purchase_rate"),
    "outcomes": lambda of: of.further(),
}
"""How each feature that is declared to be recounted is, by other code than that which published it."""


def _user(events: Sequence[Event], end: datetime, overall: Mapping[str, float], audit: Audit) -> Row | None:
    """What a user's row must say; None where there must be none."""
    own = [e for e in events if e["kind"] != "purchases"]
    return _recounted("user", OF_USERS, own, end, overall, audit) if any(e["kind"] != FED for e in own) else None


def _item(events: Sequence[Event], end: datetime, overall: Mapping[str, float], audit: Audit) -> Row:
    """What an item's row must say."""
    return _recounted("item", OF_ITEMS, events, end, overall, audit)


def _recounted(
    of: Of,
    rules: dict[str, Callable[[Recount], Any]],
    events: Sequence[Event],
    end: datetime,
    overall: Mapping[str, float],
    audit: Audit,
) -> Row:
    """Every feature that is declared to be; raises ValueError where one has no rule here."""
    feedback = [e for e in events if e["kind"] == FED]
    others = (e for e in events if e["kind"] != FED)
    newest_first = sorted(others, key=lambda e: (end - e["event_time"], e["item_id"]))
    known = Recount(newest_first, feedback, end, overall, audit.settings, audit.outcomes)
    features = declared(of, lambda feature: feature.recounted)
    return {feature.name: rule_of(rules, feature, __name__)(known) for feature in features}


def _rate(events: Sequence[Event], top: str, bottom: str, prior: float, settings: FeatureSettings) -> float:
    p = settings.prior_impressions
    return min((_count(events, top) + p * prior) / (_count(events, bottom) + p), 1.0)


def _count(events: Sequence[Event], kind: str) -> int:
    return sum(e["kind"] == kind for e in events)


def _compare(table: str, day: date, key: str, found: Row | None, wanted: Row | None) -> None:
    """Raise `Refused` naming the first column that differs."""
    before = midnight(day + DAY)
    says = f"{table} of {day} must say what was known before {before:%Y-%m-%d %H:%M}, counted again event by event"
    if found is None or wanted is None:
        if found is not wanted:
            raise Refused(
                f"{says}; {key!r} {'has a row and had' if found else 'has no row and had'} "
                f"{'no' if wanted is None else 'some'} event by then"
            )
        return
    for name, value in wanted.items():
        same = found[name] == value
        if isinstance(value, int | float) and found[name] is not None:
            same = abs(found[name] - value) <= CLOSE * max(1.0, abs(value))
        if not same:
            raise Refused(f"{says}; {name} of {key!r} must be {value}, found {found[name]}")


def _spread(ids: pa.ChunkedArray) -> list[str]:
    """Up to `SAMPLE` distinct ids, evenly spaced in their order."""
    values = sorted(pc.drop_null(ids.unique()).to_pylist())
    at = np.linspace(0, len(values) - 1, min(SAMPLE, len(values))).astype(int)
    return [values[n] for n in at.tolist()]


def _one_of(key: str, ids: Sequence[str]) -> pc.Expression:
    return pc.field(key).isin(pa.array(ids, pa.string()))


def _dataset(data: pa.Table | Sequence[Place | str], name: str) -> ds.Dataset:
    """A table of the lake as a table or part files; no files are no rows."""
    return ds.dataset(data) if isinstance(data, pa.Table) else scanned(data, name)
