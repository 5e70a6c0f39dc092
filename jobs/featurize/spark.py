"""Spark's part of featurize, step by step in buckets: the same rows as in one process, for any days in three jobs.

Events meet the category that their item had on their day, in a bucket of items and days, so that one item that
everybody sees is in as many of them as there are days. From there they go to their users; counts of items and of
contexts are added up first. Of impressions only those go to the clicks that name them which may be named: a filter of
fixed size, made of the clicks, tells most others. The last job writes all tables; before it, the driver has sums alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.featurize.categories import HISTORY, NO_SLOT, in_order, interest_buckets, rows_of
from jobs.featurize.core import DAY_US, FEEDBACK, Floats, Window, day_number
from jobs.featurize.encodings import ENCODED, encoded, encodings, overall_rate, totals
from jobs.featurize.events import (
    ACTED,
    CONTEXT,
    COUNTED,
    FEEDBACK_OF,
    UserEvents,
    acted,
    columns_of,
    counted,
    fed,
    known,
)
from jobs.featurize.items import ItemCounts, Overall, item_features, overall
from jobs.featurize.sampled import MARKED, Question, Side
from jobs.featurize.users import user_features
from jobs.lake.parts import read_part
from jobs.lake.tables import LAKE, STR, TIME
from jobs.parcels.core import Pair, place_of
from jobs.parcels.spark import Out, Rows, Steps, pieces
from jobs.places import Place, write_parquet
from models.features import ENCODINGS

BY_ITEM, BY_USER, BY_CATEGORY, BY_IMPRESSION = ("item_id",), ("user_id",), ("item_category",), ("impression_id",)
BY_ITEM_AND_DAY, BY_SOURCE_AND_DAY = Pair(("item_id",), "event_time"), Pair(("source_item_id",), "event_time")
_AT = [pa.field("event_time", TIME), pa.field("start_day", pa.int32())]
_ASKED = [pa.field(name, STR) for name in CONTEXT]
CLICKED = pa.schema([pa.field("item_id", STR), pa.field("user_id", STR), *_AT])
SHOWN = pa.schema([*CLICKED, *_ASKED])
NAMING = pa.schema([pa.field("impression_id", STR), pa.field("start_day", pa.int32())])
ASKED = pa.schema([pa.field("item_id", STR), *_AT, *_ASKED])
"""An impression as its context; of a clicked one `start_day` is when its click was known too."""
NAMED = pa.schema([pa.field("impression_id", STR), *ASKED])
LISTED = pa.schema([pa.field("item_id", STR), pa.field("event_time", TIME), pa.field("category", STR)])
"""An item in the snapshot that holds for a day."""
SOURCED = pa.schema(
    [
        *(pa.field(name, STR) for name in ("source_item_id", "item_category")),
        *(*_AT, pa.field("clicked", pa.bool_()), pa.field("n", pa.int64())),
    ]
)
"""So many impressions beside an item, by day."""
SNAPSHOT = ("item_id", "created_at", "category", "price", "feature_vector")
LISTING = pa.schema([*(LAKE["items"].schema.field(name) for name in SNAPSHOT), pa.field("listed_on", pa.int32())])
OF_SOURCES = [name for name, of in ENCODINGS.items() if "source_category" in of]
OTHERS = [name for name in ENCODINGS if name not in OF_SOURCES]


PLACES = 1 << 26
"""Of clicked impressions, a bit each: eight MB for the driver and each worker."""
R = TypeVar("R")


class Part(NamedTuple):
    """One published-to-be part file."""

    table: str
    day: date
    path: Place


@dataclass(frozen=True)
class Snapshots:
    """The part files of snapshots of items by their day, and which of them holds for each event day."""

    files: Mapping[date, Sequence[str]]
    holds: Mapping[date, date]


def write_features(
    steps: Steps,
    files: Mapping[str, Sequence[str]],
    snapshots: Snapshots,
    window: Window,
    folders: Mapping[str, Place],
) -> list[Part]:
    """Write each feature day's rows as `folders[table]/day=…/part-<bucket>.parquet`; sorted by their keys inside.

    Raises `Refused` for a file that is no part of a table.
    """
    acts, counts, contexts, sourced, listed = _counted(steps, files, snapshots, window)
    of_sources = steps.meet([sourced, listed], _of_sources, ENCODED, BY_CATEGORY)
    bought, given = _others(steps, files, window)
    sums = steps.told([counts, bought, contexts], _sums)
    everything = ItemCounts.of(pa.concat_tables([COUNTED.empty_table(), *sums]))
    write = partial(
        _written,
        prior=overall(everything, window),
        rate=overall_rate(everything, window),
        holds=snapshots.holds,
        window=window,
        folders=folders,
    )
    listing = _listing(steps, snapshots, window)
    found = steps.told([acts, given, counts, bought, listing, contexts, of_sources], write)
    return sorted((part for parts in found for part in parts), key=lambda part: part.path.as_posix())


@dataclass(frozen=True)
class OnWorkers:
    """`jobs.featurize.sampled.Over` of Spark."""

    steps: Steps

    def ask(self, *questions: Question) -> list[list[Any]]:
        """Each of some worker, in one job."""
        asked = [(function, item) for function, items in questions for item in items]
        answers = iter(self.steps.ask(asked, _answer))
        return [list(islice(answers, len(items))) for _, items in questions]

    def meet(self, sides: Sequence[Side], function: Callable[..., R]) -> list[R]:
        """In buckets of impressions."""
        rows = [self.steps.work(paths, partial(_alone, read), [Out(MARKED, BY_IMPRESSION)])[0] for read, paths in sides]
        return self.steps.told(rows, lambda _, *tables: function(*tables))


def _answer(asked: tuple[Callable[[Any], Any], Any]) -> Any:
    function, item = asked
    return function(item)


def _alone(read: Callable[[str], pa.Table], path: str) -> list[list[pa.Table]]:
    return [[read(path)]]


def _counted(
    steps: Steps, files: Mapping[str, Sequence[str]], snapshots: Snapshots, window: Window
) -> tuple[Rows, Rows, Rows, Rows, Rows]:
    """`ACTED`, `COUNTED`, `ENCODED` without sources, `SOURCED` and `LISTED`."""
    clicks, naming = steps.work(
        files["clicks"], partial(_clicks, window), [Out(CLICKED, BY_ITEM_AND_DAY), Out(NAMING, BY_IMPRESSION)]
    )
    read = partial(_impressions, window, Named.by(steps, naming))
    outs = [Out(SHOWN, BY_ITEM_AND_DAY), Out(NAMED, BY_IMPRESSION)]
    shown, named = steps.work(files["impressions"], read, outs)
    [clicked] = steps.joint([named, naming], _clicked, [Out(ASKED, BY_ITEM_AND_DAY)])
    days = [
        (path, [day for day in window.event_days if snapshots.holds.get(day) == of])
        for of, paths in snapshots.files.items()
        for path in paths
    ]
    [listed] = steps.work(days, _listed, [Out(LISTED, BY_ITEM_AND_DAY)])
    outs = [
        Out(ACTED, BY_USER),
        Out(COUNTED, BY_ITEM),
        Out(ENCODED, BY_CATEGORY),
        Out(SOURCED, BY_SOURCE_AND_DAY),
    ]
    acts, counts, contexts, sourced = steps.joint([shown, clicks, clicked, listed], _of_items, outs)
    return acts, counts, contexts, sourced, listed


@dataclass(frozen=True)
class Named:
    """Which impressions may be named by a click: a bit a place, of a fixed number of places however many clicks.

    All that are named are told, and of the others the more the more clicks there are: a Bloom filter of one hash.
    """

    buckets: int
    bits: NDArray[np.uint8]
    """(buckets, places / 8): of each bucket's places."""

    @classmethod
    def by(cls, steps: Steps, naming: Rows) -> "Named":
        """By the clicks; runs."""
        return cls.told(steps.buckets, steps.told([naming], partial(_bits, buckets=steps.buckets)))

    @classmethod
    def told(cls, buckets: int, found: Iterable[tuple[int, NDArray[np.uint8]]]) -> "Named":
        """From the bits of buckets; one without clicks has none."""
        bits = np.zeros((buckets, _bytes(buckets)), np.uint8)
        for bucket, of_bucket in found:
            bits[bucket] = of_bucket
        return cls(buckets, bits)

    def of(self, rows: pa.Table) -> pa.Table:
        """The rows that may be named."""
        each = _bytes(self.buckets)
        place = place_of(rows, BY_IMPRESSION, 8 * each * self.buckets)
        within, bucket = np.divmod(place, self.buckets)
        kept = self.bits.ravel()[bucket * each + (within >> 3)] >> (within & 7) & 1
        return rows.filter(pa.array(kept.astype(bool)))


def _bits(bucket: int, naming: pa.Table, buckets: int) -> tuple[int, NDArray[np.uint8]]:
    there = np.zeros(8 * _bytes(buckets), bool)
    there[place_of(naming, BY_IMPRESSION, len(there) * buckets) // buckets] = True
    return bucket, np.packbits(there, bitorder="little")


def _bytes(buckets: int) -> int:
    """For the places of one."""
    return PLACES // buckets // 8


# -- reading ------------------------------------------------------------------------------------------
def _impressions(window: Window, maybe: "Named", path: str) -> Iterator[list[pa.Table]]:
    for rows in pieces(path, "impressions", columns_of("impressions")):
        events = _timed(known("impressions", rows, window))
        yield [events.select(SHOWN.names), maybe.of(events.select(NAMED.names))]


def _clicks(window: Window, path: str) -> Iterator[list[pa.Table]]:
    for rows in pieces(path, "clicks", columns_of("clicks")):
        events = _timed(known("clicks", rows, window))
        naming = events.select(NAMING.names)
        yield [events.select(CLICKED.names), naming.filter(naming["impression_id"].is_valid())]


def _others(steps: Steps, files: Mapping[str, Sequence[str]], window: Window) -> tuple[Rows, Rows]:
    """`COUNTED` of purchases and feedback, and `FEEDBACK_OF`."""
    items = [(table, path) for table in ("purchases", FEEDBACK) for path in files.get(table, ())]
    bought, given = steps.work(items, partial(_other, window), [Out(COUNTED, BY_ITEM), Out(FEEDBACK_OF, BY_USER)])
    return bought, given


def _other(window: Window, file: tuple[str, str]) -> Iterator[list[pa.Table]]:
    table, path = file
    for rows in pieces(path, table, columns_of(table)):
        events = known(table, rows, window)
        yield [counted(table, events), fed(events) if table == FEEDBACK else FEEDBACK_OF.empty_table()]


def _listed(file: tuple[str, Sequence[date]]) -> Iterator[list[pa.Table]]:
    """A snapshot's items with a category, once for each day that it holds for."""
    path, days = file
    rows = read_part(path, "items", ("item_id", "category"))
    rows = rows.filter(rows["category"].is_valid())
    for day in days:
        at = pa.repeat(pa.scalar(day_number(day) * DAY_US, pa.int64()).cast(TIME), len(rows))
        yield [pa.table({"item_id": rows["item_id"], "event_time": at, "category": rows["category"]})]


def _listing(steps: Steps, snapshots: Snapshots, window: Window) -> Rows:
    """`LISTING` of the snapshots that hold for the feature days."""
    held = {snapshots.holds[day] for day in window.days}
    items = [(day_number(day), path) for day in sorted(held) for path in snapshots.files[day]]

    def rows(file: tuple[int, str]) -> Iterator[list[pa.Table]]:
        on, path = file
        for part in pieces(path, "items", SNAPSHOT):
            yield [part.append_column("listed_on", pa.array(np.full(len(part), on, np.int32)))]

    return steps.work(items, rows, [Out(LISTING, BY_ITEM)])[0]


# -- meeting ------------------------------------------------------------------------------------------
def _clicked(named: pa.Table, naming: pa.Table) -> list[pa.Table]:
    """`ASKED` of the impressions that a click names, from when the first of these was known."""
    first = naming.group_by("impression_id").aggregate([("start_day", "min")]).combine_chunks()
    at = pc.index_in(named["impression_id"], first["impression_id"].combine_chunks()).combine_chunks()
    rows = named.filter(at.is_valid())
    since = pc.max_element_wise(rows["start_day"], first["start_day_min"].combine_chunks().take(at.drop_null()))
    return [rows.set_column(rows.column_names.index("start_day"), "start_day", since).select(ASKED.names)]


def _of_items(shown: pa.Table, clicks: pa.Table, clicked: pa.Table, listed: pa.Table) -> list[pa.Table]:
    """What some items' events are for their users, for the items, and for contexts with and without a source."""
    history = _history(listed)
    slots = np.append(history["slot"].to_numpy().astype(np.int64), NO_SLOT)
    acts, counts, contexts = [], [], []
    for table, rows in (("impressions", shown), ("clicks", clicks), ("", clicked)):
        events = _dated(rows)
        at = rows_of(events["item_id"], events["event_day"].to_numpy().astype(np.int64), history)
        if table:
            acts.append(acted(table, events, slots[at]))
            counts.append(counted(table, events))
        if table != "clicks":
            category = history["category"].combine_chunks().dictionary_encode().take(pa.array(at, mask=at < 0))
            events = events.append_column("item_category", category)
            events = events.append_column("clicked", pa.array(np.full(len(events), not table)))
            contexts.append(events.select([*CONTEXT, *ON]).filter(category.is_valid()))
    found = pa.concat_tables(contexts)
    sourced = _added(found.filter(found["source_item_id"].is_valid()), ["source_item_id", *ON])
    whole = _added(found, ["surface", "query", *ON])
    return [
        pa.concat_tables(acts),
        pa.concat_tables(counts),
        encoded(whole, OTHERS),
        sourced.append_column("event_time", _midnights(sourced["event_day"])).select(SOURCED.names),
    ]


ON = ("item_category", "clicked", "event_day", "start_day")


def _added(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    found = rows.combine_chunks().group_by([*keys]).aggregate([([], "count_all")]).rename_columns([*keys, "n"])
    return found.set_column(
        found.column_names.index("item_category"), "item_category", found["item_category"].cast(STR)
    )


def _of_sources(sourced: pa.Table, listed: pa.Table) -> pa.Table:
    """`ENCODED` of the items beside which others were shown."""
    rows, history = _dated(sourced), _history(listed)
    at = rows_of(rows["source_item_id"], rows["event_day"].to_numpy().astype(np.int64), history)
    category = history["category"].combine_chunks().take(pa.array(at, mask=at < 0))
    return encoded(rows.append_column("source_category", category), OF_SOURCES)


def _history(listed: pa.Table) -> pa.Table:
    """As `category_history` says it, a row a day."""
    rows = _dated(listed)
    columns = {"item_id": rows["item_id"], "category": rows["category"], "slot": interest_buckets(rows["category"])}
    days = rows["event_day"].cast(pa.int32())
    return in_order(pa.table({**columns, "from_day": days, "until_day": pc.add(days, 1)}).cast(HISTORY))


def _timed(events: pa.Table) -> pa.Table:
    return events.append_column("event_time", events["event_us"].cast(TIME))


def _dated(rows: pa.Table) -> pa.Table:
    """With event_us and event_day."""
    event_us = rows["event_time"].cast(pa.int64()).to_numpy()
    return rows.append_column("event_us", pa.array(event_us)).append_column("event_day", pa.array(event_us // DAY_US))


def _midnights(days: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.multiply(days.cast(pa.int64()), DAY_US).cast(TIME)


# -- telling ------------------------------------------------------------------------------------------
def _sums(_bucket: int, counts: pa.Table, bought: pa.Table, contexts: pa.Table) -> pa.Table:
    """`COUNTED` of no item and of all contexts, by days."""
    whole = pa.concat_tables([counts, bought, totals(contexts)])
    keys = ["kind", "event_day", "start_day"]
    found = whole.group_by(keys).aggregate([("n", "sum")]).rename_columns([*keys, "n"])
    nothing = {"item_id": pa.nulls(len(found), pa.string()), "last_hour": np.zeros(len(found), bool)}
    return (
        pa.table({**{name: found[name] for name in found.column_names}, **nothing}).select(COUNTED.names).cast(COUNTED)
    )


def _written(
    bucket: int,
    acts: pa.Table,
    given: pa.Table,
    counts: pa.Table,
    bought: pa.Table,
    listing: pa.Table,
    contexts: pa.Table,
    of_sources: pa.Table,
    *,
    prior: Overall,
    rate: Floats,
    holds: Mapping[date, date],
    window: Window,
    folders: Mapping[str, Place],
) -> list[Part]:
    """The rows of one bucket of users, items and categories; a task that runs twice writes the same."""
    events = pa.concat_tables([acts, given] if len(given) else [acts], promote_options="default")
    listed = [listing.filter(pc.equal(listing["listed_on"], day_number(holds[day]))) for day in window.days]
    tables = {
        "user_features": user_features(UserEvents.of(events), prior, window),
        "item_features": item_features(ItemCounts.of(pa.concat_tables([counts, bought])), listed, prior, window),
        "encodings": encodings(pa.concat_tables([contexts, of_sources]), rate, window),
    }
    found = []
    for table, of_days in tables.items():
        for day, rows in zip(window.days, of_days, strict=True):
            if len(rows):
                path = folders[table] / f"day={day.isoformat()}" / f"part-{bucket:05d}.parquet"
                write_parquet(rows, path, coerce_timestamps="us")
                found.append(Part(table, day, path))
    return found
