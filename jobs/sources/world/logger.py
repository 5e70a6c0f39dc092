"""A drawn day of the world as the raw tables a logger would have written: which event was known when."""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.lake.tables import RAW, TIME, Tables
from models.world import DEVICES, REGIONS, SURFACES, Day, Requests, World
from models.world.day import DAY, SECOND

Ints = NDArray[np.int64]
LOOK_BACK_DAYS = 8
"""A click may come after midnight, its purchase seven days later."""
TIERS = ("basic", "plus", "premium")
DAYPARTS = ("night", "morning", "afternoon", "evening")


def names(prefix: str, count: int) -> pa.Array:
    """`prefix000000`…: ids whose order is the index order."""
    return pa.array([f"{prefix}{n:06d}" for n in range(count)], pa.string())


class Logger:
    """Turns days of a world into raw tables; ids are built once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.user_ids = names("u", world.settings.users)
        self.item_ids = names("i", len(world.items))
        self._numbers = names("", world.settings.requests_per_day)
        self.categories = pa.array([f"category-{n:02d}" for n in range(world.settings.categories)], pa.string())

    # -- events -----------------------------------------------------------------------------------
    def asked(self, index: int, requests: Requests) -> pa.Table:
        """What came in on a day: who asked where, and what there was to choose from, in order of time."""
        n, m = requests.candidates.shape
        offsets = np.arange(0, n * m + 1, m, dtype=np.int32)
        return pa.table(
            {
                "request_id": self.request_ids(index),
                "event_time": self._time(requests.time),
                "user_id": self.user_ids.take(requests.user),
                "surface": _pick(SURFACES, requests.surface),
                "candidates": pa.ListArray.from_arrays(offsets, self.item_ids.take(requests.candidates.ravel())),
                "device": _pick(DEVICES, requests.device),
                "region": _pick(REGIONS, self.world.users.region[requests.user]),
                "daypart": _daypart(requests.time),
                "query": _take(self.categories, requests.topic),
                "source_item_id": _take(self.item_ids, requests.source_item),
            }
        )

    def requests(self, day: Day) -> pa.Table:
        """The decisions of a day, each with what it chose from, in order of time."""
        asked = self.asked(day.index, day.requests)
        return pa.table(
            {
                **{name: asked.column(name) for name in ("request_id", "event_time", "user_id", "surface")},
                "policy": _pick(day.shown.policies, day.shown.policy),
                "candidates": asked.column("candidates"),
                "slate_size": np.full(len(asked), day.shown.item.shape[1], np.int32),
            }
        )

    def impressions(self, day: Day, late: int) -> pa.Table:
        """The placements of a day that became known `late` days after it, duplicates included."""
        asked, shown, sent = day.requests, day.shown, day.transport
        row, slot = np.nonzero((shown.item >= 0) & (sent.impression_late == late))
        row, slot, again = _twice(row, slot, sent.impression_twice[row, slot])
        at = asked.time[row]
        columns = {
            "impression_id": self._impression_ids(day, row, slot),
            "request_id": self.request_ids(day.index).take(row),
            "event_time": self._time(at),
            "ingested_at": self._time(_known(at, day.index + late, sent.lag[row, slot], again)),
            "user_id": self.user_ids.take(asked.user[row]),
            "item_id": self.item_ids.take(shown.item[row, slot]),
            "surface": _pick(SURFACES, asked.surface[row]),
            "position": (slot + 1).astype(np.int32),
            "propensity": pa.array(shown.propensity[row, slot], from_pandas=True),
            "policy": _pick(shown.policies, shown.policy[row]),
            "device": _pick(DEVICES, asked.device[row]),
            "region": _pick(REGIONS, self.world.users.region[asked.user[row]]),
            "query": _take(self.categories, asked.topic[row]),
            "source_item_id": _take(self.item_ids, asked.source_item[row]),
            "context_daypart": _daypart(at),
        }
        return pa.table(columns)

    def clicks(self, day: Day, on: int, late: int) -> pa.Table:
        """The clicks on a day's placements that happened on day index `on` and became known `late` days after that."""
        times, sent = day.outcomes.click_time, day.transport
        row, slot = np.nonzero((times >= 0) & (times // DAY == on) & (sent.click_late == late))
        row, slot, again = _twice(row, slot, sent.click_twice[row, slot])
        at = times[row, slot]
        impression = self._impression_ids(day, row, slot)
        return pa.table(
            {
                "click_id": pc.binary_join_element_wise("c", impression, "-"),
                "impression_id": impression,
                "event_time": self._time(at),
                "ingested_at": self._time(_known(at, on + late, sent.lag[row, slot], again)),
                "user_id": self.user_ids.take(day.requests.user[row]),
                "item_id": self.item_ids.take(day.shown.item[row, slot]),
            }
        )

    def purchases(self, day: Day, on: int, late: int) -> pa.Table:
        """The purchases from a day's placements made on day index `on`, known `late` days after that."""
        times, sent = day.outcomes.purchase_time, day.transport
        row, slot = np.nonzero((times >= 0) & (times // DAY == on) & (sent.purchase_late == late))
        row, slot, again = _twice(row, slot, sent.purchase_twice[row, slot])
        at, item = times[row, slot], day.shown.item[row, slot]
        return pa.table(
            {
                "purchase_id": pc.binary_join_element_wise("p", self._impression_ids(day, row, slot), "-"),
                "event_time": self._time(at),
                "ingested_at": self._time(_known(at, on + late, sent.lag[row, slot], again)),
                "user_id": self.user_ids.take(day.requests.user[row]),
                "item_id": self.item_ids.take(item),
                "value": self.world.items.price[item],
            }
        )

    # -- snapshots --------------------------------------------------------------------------------
    def items(self, day: int) -> pa.Table:
        """The catalogue at the end of a day."""
        n, items = self.world.items_on(day), self.world.items
        category = self.categories.take(items.category[:n])
        tier = _pick(TIERS, items.tier[:n])
        number = pc.cast(pa.array(np.arange(n)), pa.string())
        return pa.table(
            {
                "item_id": self.item_ids.slice(0, n),
                "created_at": self._time(items.created_day[:n] * DAY),
                "category": category,
                "price": items.price[:n],
                "title": pc.binary_join_element_wise(tier, category, number, " "),
                "feature_tier": tier,
            }
        )

    def users(self, day: int) -> pa.Table:
        """Everybody who has signed up by the end of a day."""
        users = self.world.users
        here = np.flatnonzero(users.created_day <= day)
        return pa.table(
            {
                "user_id": self.user_ids.take(here),
                "created_at": self._time(users.created_day[here] * DAY),
                "feature_segment": pc.binary_join_element_wise(
                    "segment", pc.cast(pa.array(users.segment[here]), pa.string()), "-"
                ),
                "feature_home": _pick(REGIONS, users.region[here]),
            }
        )

    # -- ids and times ----------------------------------------------------------------------------
    def request_ids(self, index: int) -> pa.Array:
        """`r<date>-<number>` of a day index, in order of time."""
        return pc.binary_join_element_wise(f"r{self._date(index):%Y%m%d}", self._numbers, "-")

    def _date(self, index: int) -> date:
        return date.fromordinal(self.world.settings.first_day.toordinal() + index)

    def _impression_ids(self, day: Day, row: Ints, slot: Ints) -> pa.Array:
        position = pc.cast(pa.array(slot + 1), pa.string())
        return pc.binary_join_element_wise(self.request_ids(day.index).take(row), position, "-")

    def _time(self, since_first: Ints) -> pa.Array:
        epoch = (self.world.settings.first_day - date(1970, 1, 1)).days * DAY
        return pa.array(since_first + epoch, pa.int64()).cast(TIME)


def logged(name: str, parts: list[pa.Table]) -> pa.Table:
    """The parts as one table in order of time, then key: what a logger's files of a day hold."""
    keys = [(column, "ascending") for column in ("event_time", *RAW[name].key, "ingested_at")]
    return pa.concat_tables(parts).sort_by(keys)


def without_empty(tables: Tables) -> Tables:
    """Only the tables that have rows."""
    return {name: table for name, table in tables.items() if len(table)}


def _twice(row: Ints, slot: Ints, twice: NDArray[np.bool_]) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Rows and slots with those logged twice repeated at the end, and which are the repeats."""
    again = np.zeros(len(row) + int(twice.sum()), dtype=bool)
    again[len(row) :] = True
    return np.concatenate([row, row[twice]]), np.concatenate([slot, slot[twice]]), again


def _known(at: Ints, on: int, lag: Ints, again: NDArray[np.bool_]) -> Ints:
    """When an event reached the log: seconds after it, or in the small hours of day index `on` when that is later.

    Never past the end of that day: a file is closed at midnight.
    """
    batch = on * DAY + 3600 * SECOND + 60 * lag
    known = np.where(at // DAY == on, at + lag, batch) + np.where(again, 7 * SECOND, 0)
    return np.asarray(np.minimum(known, (on + 1) * DAY - 1))


def _daypart(at: Ints) -> pa.Array:
    return _pick(DAYPARTS, (at % DAY) // (DAY // len(DAYPARTS)))


def _pick(values: tuple[str, ...], index: Ints) -> pa.Array:
    return pa.array(values, pa.string()).take(pa.array(index))


def _take(values: pa.Array, index: Ints) -> pa.Array:
    """`values` by index, null where it is negative."""
    return values.take(pa.array(index, mask=index < 0))
