"""What the audit asks of part files, one file at a time: how many events, which keys, and all events of a few of them.

By filters of Arrow on the files themselves, not by the code that publishes. What comes back is small whatever a file
holds: counts, at most `SAMPLE` keys of it, and of these their events, those of an item by the hour.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.lake.parts import scanned
from jobs.lake.store import midnight
from jobs.places import Place

SAMPLE = 10
"""Keys of the day's events, of the next day's and of the published rows, so many each."""
FED = "feedback"
"""What an event of a further outcome is called."""
DAY = timedelta(days=1)
USERS, ITEMS = "user_id", "item_id"
COUNTED = ("impressions", "clicks", "purchases")
MARKED = pa.schema([pa.field("impression_id", pa.string()), pa.field("days", pa.int8())])
"""An impression, and for which of the audited days it counts, or a click on it: a bit each."""
Event = dict[str, Any]
Row = dict[str, Any]
Data: TypeAlias = "pa.Table | Place | str"
Asked = Mapping[date, Mapping[str, Sequence[str]]]
"""By day and by key's column: the keys whose events are wanted."""
R = TypeVar("R")


Side: TypeAlias = "tuple[Callable[[str], pa.Table], Sequence[str]]"
"""How `MARKED` rows are read of a part file, and the files."""


Question: TypeAlias = "tuple[Callable[[Any], Any], Sequence[Any]]"
"""A function, and what it is asked of, item by item."""


class Over(Protocol):
    """How functions come to files."""

    def ask(self, *questions: Question) -> list[list[Any]]:
        """What each function returns for each of its items."""

    def meet(self, sides: Sequence[Side], function: Callable[..., R]) -> list[R]:
        """What `function` returns of all `MARKED` rows of each side, or of those with some ids at a time."""


class InTurn:
    """All in this process."""

    def ask(self, *questions: Question) -> list[list[Any]]:
        """One after another."""
        return [[function(item) for item in items] for function, items in questions]

    def meet(self, sides: Sequence[Side], function: Callable[..., R]) -> list[R]:
        """At once."""
        return [function(*(pa.concat_tables([MARKED.empty_table(), *map(rows, paths)]) for rows, paths in sides))]


@dataclass(frozen=True)
class Look:
    """At which days, and how far back."""

    days: tuple[date, ...]
    long_term_days: int

    def known(self, day: date) -> pc.Expression:
        """Happened inside the long-term window, and happened and was known before the midnight that ends the day."""
        time, end = pc.field("event_time"), midnight(day + DAY)
        first = end - self.long_term_days * DAY
        return (time >= pa.scalar(first)) & (time < pa.scalar(end)) & (pc.field("ingested_at") < pa.scalar(end))

    def counts(self, file: tuple[str, str]) -> dict[tuple[date, str], int]:
        """Known events by day and kind."""
        kind, path = file
        source = scanned([path], kind)
        return {(day, kind): source.count_rows(filter=self.known(day)) for day in self.days}

    def keys(self, path: str) -> dict[tuple[date, str], list[str]]:
        """Of impressions, by the day they are of, keys of either column."""
        source, time = scanned([path], "impressions"), pc.field("event_time")
        found: dict[tuple[date, str], list[str]] = {}
        for day in sorted({*self.days, *(day + DAY for day in self.days)}):
            begins = midnight(day)
            of_day = (time >= pa.scalar(begins)) & (time < pa.scalar(begins + DAY))
            rows = source.to_table(columns=[USERS, ITEMS], filter=of_day)
            found |= {(day, key): spread(rows[key]) for key in (USERS, ITEMS) if len(rows)}
        return found

    def events(self, asked: Asked, file: tuple[str, str]) -> dict[tuple[date, str], list[Event]]:
        """Known events of the keys asked for, with their kind and `n`, how many there are of it."""
        kind, path = file
        found: dict[tuple[date, str], list[Event]] = {}
        anybody = {key: sorted({one for keys in asked.values() for one in keys[key]}) for key in (USERS, ITEMS)}
        sampled = one_of(USERS, anybody[USERS]) | one_of(ITEMS, anybody[ITEMS])
        more = ["outcome", "value"] if kind == FED else []
        columns = [USERS, ITEMS, "event_time", "ingested_at", *more]
        whole = scanned([path], kind).to_table(columns=columns, filter=self._ever(self.known) & sampled)
        for day, keys in asked.items():
            for key, ids in keys.items():
                names = [key, "event_time", *more] if key == ITEMS or more else [USERS, ITEMS, "event_time"]
                rows = whole.filter(self.known(day) & one_of(key, ids)).select(names)
                if key == ITEMS or more:
                    # Windows end at midnights and are whole hours long: of an hour's events it is enough how many.
                    hours = pc.floor_temporal(rows["event_time"], unit="hour")
                    rows = rows.set_column(1, "event_time", hours)
                    rows = rows.group_by(names).aggregate([([], "count_all")]).rename_columns([*names, "n"])
                found[day, key] = [{"kind": kind, "n": 1, **row} for row in rows.to_pylist()]
        return found

    def shown(self, categories: Mapping[date, str], held: Mapping[date, Sequence[str]], path: str) -> pa.Table:
        """`MARKED` known impressions of a day's category; `held`: the snapshot that holds for an event day."""
        rows = self._marked(path, "impressions", [ITEMS], self.known)
        event_day, bits = rows["event_time"].cast(pa.date32()), rows["days"].to_numpy()
        kept = np.zeros(len(rows), np.int8)
        for of in event_day.unique().to_pylist():
            mine = pc.equal(event_day, pa.scalar(of)).to_numpy()
            for category in {*categories.values()} if of in held else ():
                those = sum(1 << bit for bit, day in enumerate(self.days) if categories.get(day) == category)
                listed = scanned(held[of], "items").to_table(columns=[ITEMS], filter=pc.field("category") == category)
                there = mine & pc.is_in(rows[ITEMS], listed[ITEMS].combine_chunks()).to_numpy()
                kept |= np.where(there, bits & those, 0).astype(np.int8)
        return _some(rows, kept)

    def clicked(self, path: str) -> pa.Table:
        """`MARKED` clicks known before the midnights."""

        def before(day: date) -> pc.Expression:
            end = pa.scalar(midnight(day + DAY))
            return (pc.field("event_time") < end) & (pc.field("ingested_at") < end)

        rows = self._marked(path, "clicks", [], before)
        return _some(rows.filter(rows["impression_id"].is_valid()))

    def in_both(self, shown: pa.Table, clicked: pa.Table) -> list[tuple[int, int]]:
        """By day: so many impressions, so many of them with a click."""
        found = []
        for bit in range(len(self.days)):
            of_day, clicks = (rows.filter(_has(rows["days"], bit))["impression_id"] for rows in (shown, clicked))
            there = pc.is_in(of_day, clicks.combine_chunks())
            found.append((len(of_day), pc.sum(there, min_count=0).as_py()))
        return found

    def _ever(self, known: Callable[[date], pc.Expression]) -> pc.Expression:
        """Known at any of the days."""
        first, *others = map(known, self.days)
        for other in others:
            first = first | other
        return first

    def _marked(self, path: str, table: str, more: Sequence[str], known: Callable[[date], pc.Expression]) -> pa.Table:
        columns = ["impression_id", "event_time", "ingested_at", *more]
        rows = scanned([path], table).to_table(columns=columns, filter=self._ever(known))
        bits = np.zeros(len(rows), np.int8)
        numbered = rows.select(["event_time", "ingested_at"]).append_column("row", pa.array(np.arange(len(rows))))
        for bit, day in enumerate(self.days):
            bits[numbered.filter(known(day))["row"].to_numpy()] |= np.int8(1 << bit)
        return rows.append_column("days", pa.array(bits))


def published_keys(of: tuple[str, Data, str]) -> list[str]:
    """Keys of published rows: the table's name, its rows, the key's column."""
    name, data, key = of
    return spread(dataset(data, name).to_table(columns=[key])[key])


def published_rows(of: tuple[str, Data, str, Sequence[str]]) -> list[Row]:
    """The published rows of some keys."""
    name, data, key, ids = of
    return list(dataset(data, name).to_table(filter=one_of(key, ids)).to_pylist())


def largest_category(data: Data) -> Row | None:
    """The category encoding of the most impressions."""
    rows = dataset(data, "encodings").to_table(filter=pc.field("encoding") == "category")
    ordered = rows.sort_by([("impressions", "descending"), ("value", "ascending")])
    return ordered.slice(0, 1).to_pylist()[0] if len(ordered) else None


def spread(ids: pa.ChunkedArray | pa.Array) -> list[str]:
    """Up to `SAMPLE` distinct ids, evenly spaced in their order."""
    values = pc.drop_null(ids.unique())
    values = values.take(pc.array_sort_indices(values))
    at = np.linspace(0, len(values) - 1, min(SAMPLE, len(values))).astype(int)
    return list(values.take(pa.array(at, pa.int64())).to_pylist())


def one_of(key: str, ids: Sequence[str]) -> pc.Expression:
    """Rows whose key is one of these."""
    return pc.field(key).isin(pa.array(ids, pa.string()))


def dataset(data: Data, name: str) -> ds.Dataset:
    """Rows of a table of the lake, or a part file of it, to filter."""
    return ds.dataset(data) if isinstance(data, pa.Table) else scanned([data], name)


def _has(days: pa.ChunkedArray, bit: int) -> pa.Array:
    return pa.array((days.to_numpy() >> bit & 1).astype(bool))


def _some(rows: pa.Table, bits: np.ndarray[Any, np.dtype[np.int8]] | None = None) -> pa.Table:
    """`MARKED` of those with any day."""
    days = rows["days"].to_numpy() if bits is None else bits
    columns = {"impression_id": rows["impression_id"], "days": days}
    return pa.table(columns).filter(pa.array(days != 0)).cast(MARKED)


def end_of(day: date) -> datetime:
    """The midnight that ends it."""
    return midnight(day + DAY)
