"""What a worker does with one bucket of rows of some days: facts, verdicts, part files; and what it tells of them.

Buckets share no key, so what is told of them adds up: `Piece`s of a table and day, whichever bucket found them.
"""

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.flow import SNAPSHOTS
from jobs.lake.tables import ATTRIBUTES, RAW, STR, TIME
from jobs.places import Place, write_parquet
from jobs.validate import coded, core, evaluate, facts, profile
from jobs.validate.batch import NULLABLE_SHOWN, Written
from jobs.validate.coded import ascending
from jobs.validate.columns import ROW_ATTRIBUTES
from jobs.validate.evaluate import Outcome
from jobs.validate.facts import Facts, Floats, Neighbours
from jobs.validate.figures import Moments, Sum
from jobs.validate.suites import Suites

DAY, ROW = "_day", "_row"
"""Days since 1970, and the row's place among all of the days' files: what one process would read before it."""
USUAL = {"others_at_position": 0.0, "others_of_item": 0.0, "among_candidates": 1.0}
"""Facts of an impression from its request; those that are not as usual travel to the bucket of its id."""
SINCE = "seconds_since_impression"
"""A click's fact from its impression; it travels to the bucket of the click."""
PLACED = ("impression_id", "request_id", "item_id", "position", "propensity")
"""What requests look at of impressions."""
EARLIER = pa.schema([("table", STR), ("key", STR), ("event_time", TIME), (DAY, pa.int32())])
"""Ids that were published on a day before."""
FOUND = pa.schema([("about", STR), ("found", pa.binary())])
"""Pickled `Piece`s: from this job's workers to its driver, as Spark sends everything else."""
Sums = dict[str, Sum]


def contract(table: str) -> pa.Schema:
    """The contract's columns, all nullable: what is null is for the suite to say."""
    fields = [(name, column.type) for name, column in RAW[table].columns.items()]
    if RAW[table].extra_prefix:
        fields.append((ROW_ATTRIBUTES, ATTRIBUTES))
    return pa.schema(fields)


def placed_in_time(schema: pa.Schema) -> pa.Schema:
    """With day and place."""
    return schema.append(pa.field(DAY, pa.int32())).append(pa.field(ROW, pa.int64()))


ASKED = placed_in_time(contract("requests"))
SHOWN = placed_in_time(pa.schema([contract("impressions").field(name) for name in PLACED]))
AROUND = pa.schema([("impression_id", STR), (ROW, pa.int64()), *((name, pa.float64()) for name in USUAL)])
CLICKED = placed_in_time(contract("clicks")).append(pa.field(SINCE, pa.float64()))


@dataclass(frozen=True)
class Piece:
    """What was found of some rows of a table and day; of all of them it is the sum."""

    table: str
    day: date
    sums: Sums = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    profiles: tuple[pa.Table, ...] = ()
    written: Written = field(default_factory=Written)

    @classmethod
    def whole(cls, pieces: Sequence["Piece"]) -> "Piece":
        """All pieces of one table and day as one, whatever their order."""
        outcomes = [piece.outcomes for piece in pieces if piece.outcomes]
        profiles = [one for piece in pieces for one in piece.profiles]
        return cls(
            pieces[0].table,
            pieces[0].day,
            reduce(summed, (piece.sums for piece in pieces)),
            tuple(evaluate.merged(parts) for parts in zip(*outcomes, strict=True)),
            (profile.merged(profiles),) if profiles else (),
            reduce(add, (piece.written for piece in pieces)),
        )


def summed(one: Sums, other: Sums) -> Sums:
    """Figure by figure."""
    return {**one, **{name: one[name] + part if name in one else part for name, part in other.items()}}  # type: ignore[operator]


def told(pieces: Iterable[Piece]) -> pa.Table:
    """`FOUND`."""
    rows = [{"about": f"{piece.table} {piece.day}", "found": pickle.dumps(piece)} for piece in pieces]
    return pa.Table.from_pylist(rows, schema=FOUND)


def heard(*found: pa.Table) -> list[Piece]:
    """One piece a table and day, in order of these, of what was `told`."""
    pieces: dict[tuple[str, date], list[Piece]] = {}
    # In one order: a float sum depends on it.
    for pickled in sorted(pickled for table in found for pickled in table.column("found").to_pylist()):
        piece = pickle.loads(pickled)
        pieces.setdefault((piece.table, piece.day), []).append(piece)
    return [Piece.whole(pieces[key]) for key in sorted(pieces)]


@dataclass(frozen=True)
class Judge:
    """What a worker needs to judge a bucket of a table; a bucket's days are taken in their order."""

    suites: Suites
    days: tuple[date, ...]
    window_days: int
    folders: Mapping[str, Place]

    def requests(self, bucket: int, shown: pa.Table, asked: pa.Table, earlier: pa.Table) -> tuple[pa.Table, pa.Table]:
        """`AROUND` of the unusual impressions of these requests; and the requests judged."""
        around, pieces, good = [AROUND.empty_table()], [], _Published(earlier, "requests")
        for day, placed, found in self._by_day(shown, asked):
            if not len(placed) + len(found):
                continue
            rows = _coded("requests", found)
            neighbours = self._neighbours({"impressions": placed, "requests": rows})
            around.append(_unusual(placed, facts.of_neighbours("impressions", placed, neighbours)))
            pieces.append(Piece("impressions", day, facts.neighbour_sums("impressions", placed, neighbours)))
            places = facts.of_neighbours("requests", rows, neighbours)
            pieces.append(self._judged("requests", bucket, day, rows, places, good))
        return pa.concat_tables(around), told(pieces)

    def impressions(
        self, bucket: int, around: pa.Table, rows: pa.Table, clicks: pa.Table, earlier: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """`CLICKED` of the clicks on these impressions; and the impressions judged."""
        clicked, pieces, good = [CLICKED.empty_table()], [], _Published(earlier, "impressions")
        for day, mine, of_clicks in self._by_day(rows, clicks):
            before = good.shown([day - timedelta(days=n) for n in range(1, self.window_days + 1)])
            if len(mine):
                own = _coded("impressions", mine)
                pieces.append(self._judged("impressions", bucket, day, own, _carried(around, mine), good))
            if len(of_clicks):
                neighbours = Neighbours({**self._snapshots(), "impressions": mine}, before)
                since = facts.of_neighbours("clicks", of_clicks, neighbours)
                pieces.append(Piece("clicks", day, facts.neighbour_sums("clicks", of_clicks, neighbours)))
                clicked.append(of_clicks.append_column(SINCE, pa.array(since[SINCE])))
        return pa.concat_tables([part.cast(CLICKED) for part in clicked]), told(pieces)

    def others(self, bucket: int, tables: Mapping[str, pa.Table], earlier: pa.Table) -> pa.Table:
        """Tables of which no other has to know, judged."""
        pieces = []
        for table, rows in tables.items():
            good = _Published(earlier, table)
            for day, mine in self._by_day(rows):
                if len(mine):
                    known = {SINCE: _floats(mine.column(SINCE))} if table == "clicks" else {}
                    pieces.append(self._judged(table, bucket, day, _coded(table, mine), known, good))
        return told(pieces)

    def nothing(self, table: str, day: date) -> Piece:
        """What an empty table comes to."""
        rows = contract(table).empty_table()
        neighbours = self._neighbours({name: contract(name).empty_table() for name in RAW})
        known = facts.of_rows(table, rows, day, neighbours)
        return Piece(
            table,
            day,
            facts.sums(table, rows, day, neighbours),
            tuple(self.suites.outcomes(table, "row", known)),
            (profile.profile(core.judged(table, day, rows, known, [], max_share=1.0).good),),
        )

    def _judged(
        self,
        table: str,
        bucket: int,
        day: date,
        own: pa.Table,
        carried: Mapping[str, Floats],
        good: "_Published",
    ) -> Piece:
        """One bucket of ids of a day: judged, profiled and written; its good ids are `good` from then on."""
        known = facts.of_own(table, own, day, good.ids(day - timedelta(days=1))) | dict(carried)
        outcomes = self.suites.outcomes(table, "row", known)
        findings = self.suites.findings(table, "row", outcomes)
        judged = core.judged(table, day, own, known, findings, max_share=1.0)
        good.add(day, judged.good)
        about, name = f"day={day.isoformat()}", f"part-{bucket:05d}.parquet"
        written = Written(
            good=_write(judged.good, self.folders[table] / about / name),
            aside=_write(judged.aside, self.folders["quarantine"] / about / f"table={table}" / name),
            good_rows=len(judged.good),
            aside_rows=len(judged.aside),
            raw=judged.raw,
            broken=judged.broken,
            copies=judged.copies,
            conflicts=judged.conflicts,
        )
        sums, merged = facts.own_sums(table, own, day), tuple(evaluate.merged([outcome]) for outcome in outcomes)
        return Piece(table, day, sums, merged, (profile.profile(judged.coded),), written)

    def _by_day(self, *tables: pa.Table) -> Iterator[tuple[Any, ...]]:
        """Each day with the rows of each table, in the order of its files."""
        found = [_in_order(table) for table in tables]
        for day in self.days:
            yield day, *(_on(table, day) for table in found)

    def _neighbours(self, tables: Mapping[str, pa.Table]) -> Neighbours:
        return Neighbours({**self._snapshots(), **tables}, NULLABLE_SHOWN.empty_table())

    def _snapshots(self) -> dict[str, pa.Table]:
        """None: figures about those are `references`."""
        return {name: contract(name).empty_table() for name in SNAPSHOTS}


class _Published:
    """The good ids of a table in one bucket: of days judged here, and of `EARLIER` ones."""

    def __init__(self, earlier: pa.Table, table: str) -> None:
        self._key = RAW[table].key[0]
        self._earlier = earlier.filter(pc.equal(earlier.column("table"), table))
        self._here: dict[date, pa.Table] = {}

    def add(self, day: date, good: pa.Table) -> None:
        """Of a day that was judged."""
        times = good.column("event_time") if "event_time" in good.column_names else pa.nulls(len(good), TIME)
        self._here[day] = pa.table({"key": good.column(self._key), "event_time": times})

    def of(self, day: date) -> pa.Table:
        """Ids and times of a day; none of one that nobody knows of."""
        if day in self._here:
            return self._here[day]
        return self._earlier.filter(pc.equal(self._earlier.column(DAY), facts.day_number(day))).select(
            ["key", "event_time"]
        )

    def ids(self, day: date) -> pa.ChunkedArray:
        """Of a day."""
        return self.of(day).column("key")

    def shown(self, days: Sequence[date]) -> pa.Table:
        """`NULLABLE_SHOWN` of some days, in their order."""
        parts = [self.of(day).rename_columns(NULLABLE_SHOWN.names).cast(NULLABLE_SHOWN) for day in days]
        return pa.concat_tables([NULLABLE_SHOWN.empty_table(), *parts])


def references(days: Sequence[date], named: Sequence[pa.Table], listed: pa.Table) -> pa.Table:
    """`FOUND` of the figures of `facts.REFERENCES`: every id that is named meets every id that is listed."""
    pieces = []
    for day in days:
        of_day = [table.filter(pc.equal(table.column(DAY), facts.day_number(day))) for table in (*named, listed)]
        names, known = pa.concat_tables(of_day[:-1]), of_day[-1]
        for table, figures in facts.REFERENCES.items():
            for figure, (_, snapshot) in figures.items():
                mine = names.filter(pc.and_(pc.equal(names["table"], table), pc.equal(names["figure"], figure)))
                ids = known.filter(pc.equal(known["snapshot"], snapshot)).column("id")
                n = pc.sum(mine.column("times"), min_count=0).as_py()
                met = mine.filter(pc.is_in(mine.column("id"), ids)).column("times") if len(mine) and len(ids) else None
                total = 0 if met is None else pc.sum(met, min_count=0).as_py()
                pieces.append(Piece(table, day, {figure: Moments(n, float(total), float(total))}))
    return told(pieces)


def _coded(table: str, rows: pa.Table) -> pa.Table:
    """The contract's columns, texts as codes."""
    return coded.whole([rows.select(contract(table).names)], RAW[table].key[0])


def _unusual(rows: pa.Table, known: Facts) -> pa.Table:
    """`AROUND` of those impressions whose facts are not all `USUAL`."""
    found = {name: np.asarray(known[name], np.float64) for name in USUAL}
    unusual = np.any([found[name] != usual for name, usual in USUAL.items()], axis=0)
    some = rows.select(["impression_id", ROW]).filter(pa.array(unusual))
    for name, values in found.items():
        some = some.append_column(name, pa.array(values[unusual]))
    return some.cast(AROUND)


def _carried(around: pa.Table, rows: pa.Table) -> dict[str, Floats]:
    """The facts of impressions in the order of their places: `USUAL` where nothing else is said of them."""
    places, theirs = np.asarray(rows.column(ROW)), np.asarray(around.column(ROW))
    among = np.flatnonzero((theirs >= places[0]) & (theirs <= places[-1]))
    at = np.searchsorted(places, theirs[among])
    found = {name: np.full(len(places), usual) for name, usual in USUAL.items()}
    for name, values in found.items():
        values[at] = _floats(around.column(name))[among]
    return found


def _in_order(rows: pa.Table) -> pa.Table:
    """Rows by their places: mostly whole parcels of them are only put into their order."""
    parts = sorted((part for part in rows.to_batches() if len(part)), key=lambda part: part.column(ROW)[0].as_py())
    ordered = pa.Table.from_batches(parts, rows.schema)
    places = np.asarray(ordered.column(ROW))
    return ordered if (places[1:] > places[:-1]).all() else ordered.take(pa.array(ascending(places)))


def _on(rows: pa.Table, day: date) -> pa.Table:
    """The rows of a day, of rows in the order of their places, which is that of days."""
    days, number = np.asarray(rows.column(DAY)), facts.day_number(day)
    start, end = np.searchsorted(days, [number, number + 1]).tolist()
    return rows.slice(start, end - start).combine_chunks()


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column, np.float64)


def _write(rows: pa.Table, path: Place) -> tuple[Place, ...]:
    """A part file, whole or not at all: a task that Spark runs twice writes the same rows again."""
    if not len(rows):
        return ()
    write_parquet(rows, path, coerce_timestamps="us")
    return (path,)
