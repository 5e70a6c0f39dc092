"""Feature rows that know more than their midnight, or claim another time to be known from, are refused.

A sample is counted again, event by event; of an item, hour by hour.

Featurize counts with difference arrays over all days at once. Here a few users, items and one category of a day are
counted the slow way, straight from the validated files: an event counts if it happened inside the window and both
happened and was known before the midnight that ends the day; and its row must count as known from the moment that
`jobs.asof.clock` promises, no sooner. Any difference is a leak (a row computed with its next day's clicks or
conversions, or used before it could be served), a loss, or a bug; in each case the day must not be published.

Keys with events of the next day are looked at first: they are where looking ahead shows. What is not counted again
(the declaration says so of interests and buckets; joint encodings) is made of the same counts.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property, partial
from math import floor
from typing import Any, TypeAlias

import pyarrow as pa

from jobs.asof.clock import available_at
from jobs.config import FeatureSettings
from jobs.errors import Refused
from jobs.featurize.sampled import (
    COUNTED,
    DAY,
    FED,
    ITEMS,
    USERS,
    Asked,
    Data,
    Event,
    InTurn,
    Look,
    Over,
    Row,
    Side,
    end_of,
    largest_category,
    published_keys,
    published_rows,
    spread,
)
from models.features import LAST_ITEMS, Of, declared, rule_of
from models.settings import OutcomeSettings

CLOSE = 1e-9
HOUR = timedelta(hours=1)
KEYS = {"user_features": USERS, "item_features": ITEMS}
Published = Mapping[date, Mapping[str, Sequence[Data]]]
"""By day the rows of each feature table, in one table or in part files."""


Part: TypeAlias = "tuple[date, str, Data]"
"""Of a day and a table."""
Counts = Mapping[tuple[date, str], int]
"""Events by day and kind."""
Keys = Mapping[tuple[date, str], Sequence[str]]
"""By day and by key's column."""


def audited_days(days: Sequence[date]) -> set[date]:
    """The first, the middle and the last."""
    return {days[0], days[len(days) // 2], days[-1]}


@dataclass(frozen=True)
class Audit:
    """The validated part files of a run, and what is needed to count from them again."""

    files: Mapping[str, Sequence[str]]
    """Of impressions, clicks and purchases; of feedback where further outcomes are declared."""
    held: Mapping[date, Sequence[str]]
    """By event day, the part files of the snapshot of items that holds for it."""
    settings: FeatureSettings
    outcomes: Mapping[str, OutcomeSettings] = field(default_factory=dict)
    over: Over = field(default_factory=InTurn)

    def refuse_leaks(self, day: date, tables: Mapping[str, Sequence[Data]]) -> None:
        """Raise `Refused` where a sampled row of `day` is not what was known at the midnight that ends it.

        Or where it counts as known from another moment than promised.
        """
        for says in self.leaks({day: tables}).values():
            raise Refused(says)

    def leaks(self, published: Published) -> dict[date, str]:
        """Of the days whose rows are to be refused, why."""
        look = Look(tuple(sorted(published)), self.settings.long_term_days)
        rows, encodings = _parts(published, KEYS), _parts(published, ["encodings"])
        counts, keys, of_rows, largest = self.over.ask(
            (look.counts, self._of(COUNTED)),
            (look.keys, self.files["impressions"]),
            (published_keys, [(name, part, KEYS[name]) for _, name, part in rows]),
            (largest_category, [part for _, _, part in encodings]),
        )
        overall, asked = self._overall(look, counts), self._sample(look, rows, keys, of_rows)
        events, found = self._events_and_rows(look, asked, rows)
        categories = self._categories(look, encodings, largest)
        refused = {}
        for day in look.days:
            try:
                self._refuse(day, overall[day], asked[day], events, found)
                if day in categories:
                    row, wanted = categories[day]
                    _compare("encodings", day, row["value"], row, self._known_from(day) | wanted)
            except Refused as error:
                refused[day] = str(error)
        return refused

    def _refuse(
        self,
        day: date,
        overall: Mapping[str, float],
        asked: Mapping[str, Sequence[str]],
        events: Mapping[tuple[date, str], Mapping[str, Sequence[Event]]],
        found: Mapping[tuple[date, str], Mapping[str, Row]],
    ) -> None:
        """Users, then items; raises `Refused` for the first that differs."""
        for name, key in KEYS.items():
            rows = found[day, key]
            for one in asked[key]:
                wanted = (_user if key == USERS else _item)(events[day, key].get(one, ()), end_of(day), overall, self)
                if key == ITEMS and one not in rows:
                    continue  # not in the day's catalogue
                _compare(name, day, one, rows.get(one), None if wanted is None else self._known_from(day) | wanted)

    def _known_from(self, day: date) -> Row:
        return {"available_at": available_at(day, self.settings)}

    def _overall(self, look: Look, told: Sequence[Counts]) -> dict[date, dict[str, float]]:
        """The rates of everybody's events."""
        n: dict[tuple[date, str], int] = {}
        for counts in told:
            for what, count in counts.items():
                n[what] = n.get(what, 0) + count

        def rate(day: date, top: str, bottom: str) -> float:
            return min(n.get((day, top), 0) / n[day, bottom], 1.0) if n.get((day, bottom)) else 0.0

        rates = {"click_rate": ("clicks", "impressions"), "purchase_rate": ("purchases", "clicks")}
        return {day: {name: rate(day, *of) for name, of in rates.items()} for day in look.days}

    def _sample(
        self, look: Look, parts: Sequence[Part], events: Sequence[Keys], of_rows: Sequence[Sequence[str]]
    ) -> Asked:
        """Keys of each day, of the day after where its events are among the files, and published ones."""
        found: dict[tuple[date, str], set[str]] = {}
        for keys in events:
            for what, ids in keys.items():
                found.setdefault(what, set()).update(ids)
        rows: dict[tuple[date, str], set[str]] = {}
        for (day, name, _), ids in zip(parts, of_rows, strict=True):
            rows.setdefault((day, KEYS[name]), set()).update(ids)

        def sample(day: date, key: str) -> list[str]:
            sets = (rows.get((day, key)), found.get((day, key)), found.get((day + DAY, key)))
            return sorted({one for some in sets if some for one in _spread(some)})

        return {day: {key: sample(day, key) for key in (USERS, ITEMS)} for day in look.days}

    def _events_and_rows(
        self, look: Look, asked: Asked, parts: Sequence[Part]
    ) -> tuple[dict[tuple[date, str], dict[str, list[Event]]], dict[tuple[date, str], dict[str, Row]]]:
        """Each key's known events, with their kind, and its published row."""
        kinds = (*COUNTED, FED) if self.outcomes else COUNTED
        told, published = self.over.ask(
            (partial(look.events, asked), self._of(kinds)),
            (published_rows, [(name, part, KEYS[name], asked[day][KEYS[name]]) for day, name, part in parts]),
        )
        events: dict[tuple[date, str], dict[str, list[Event]]] = {
            (day, key): {} for day in look.days for key in (USERS, ITEMS)
        }
        for of_file in told:
            for (day, key), mine in of_file.items():
                for event in mine:
                    events[day, key].setdefault(event[key], []).append(event)
        rows: dict[tuple[date, str], dict[str, Row]] = {what: {} for what in events}
        for (day, name, _), found in zip(parts, published, strict=True):
            rows[day, KEYS[name]].update({row[KEYS[name]]: row for row in found})
        return events, rows

    def _categories(self, look: Look, parts: Sequence[Part], told: Sequence[Row | None]) -> dict[date, tuple[Row, Row]]:
        """Each day's largest category: its row, its impressions, and those of them with a click known by then."""
        largest: dict[date, Row] = {}
        for (day, _, _), row in zip(parts, told, strict=True):
            if row is not None and (day not in largest or row["impressions"] > largest[day]["impressions"]):
                largest[day] = row
        if not largest:
            return {}
        shown = partial(look.shown, {day: row["value"] for day, row in largest.items()}, self.held)
        sides: list[Side] = [(shown, self.files["impressions"]), (look.clicked, self.files["clicks"])]
        met = self.over.meet(sides, look.in_both)
        sums = {day: [sum(of[at][which] for of in met) for which in (0, 1)] for at, day in enumerate(look.days)}
        return {
            day: (row, dict(zip(("impressions", "clicks"), sums[day], strict=True))) for day, row in largest.items()
        }

    def _of(self, kinds: Sequence[str]) -> list[tuple[str, str]]:
        return [(kind, path) for kind in kinds for path in self.files[kind]]


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
            summed = sum(floor((e["value"] or 0.0) * 1_000 + 0.5) * e["n"] for e in mine) / 1_000
            found[name] = summed if of.kind == "value" else float(sum(e["n"] for e in mine))
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
    return sum(int(e["n"]) for e in events if e["kind"] == kind)


def _compare(table: str, day: date, key: str, found: Row | None, wanted: Row | None) -> None:
    """Raise `Refused` naming the first column that differs."""
    before = end_of(day)
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


def _spread(ids: set[str]) -> list[str]:
    return spread(pa.array(ids, pa.string()))


def _parts(published: Published, names: Collection[str]) -> list[Part]:
    """Those of some tables."""
    return [
        (day, name, part)
        for day, tables in published.items()
        for name in tables
        if name in names
        for part in tables[name]
    ]
