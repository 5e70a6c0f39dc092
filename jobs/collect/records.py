"""Records of a topic become rows of the contract; each that does not is named with its reason, and no other is touched.

A value is a JSON object. Columns are converted as those of a team's files are (`jobs.sources._columns`), a column of
all records at once; only where that fails each value by itself, so that one bad record costs itself alone. A row
without a value that the contract needs is `validate`'s to judge, as it is of any logger's; without an event time it
belongs to no day and is set aside here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import one_line
from jobs.kafka import Record
from jobs.lake.tables import RAW, TIME
from jobs.mapping import ColumnMapping, TableMapping
from jobs.sources._columns import converted

AHEAD = timedelta(hours=1)
"""No clock that is to be believed is further ahead."""
UNREADABLE, UNFIT, AHEAD_OF_TIME, TOO_LATE, GONE = "unreadable", "unfit", "ahead of time", "too late", "gone"
"""Why a record is set aside: it is no JSON object; has no such types; its time is still to come; its day is closed;
brokers had no longer got it."""
FAILS = (pa.ArrowException, ValueError, TypeError, OverflowError)
OWN_TYPES: dict[type, pa.DataType] = {bool: pa.bool_(), int: pa.float64(), float: pa.float64(), str: pa.string()}
"""Of columns of a team's own: a column of numbers stays one, whether or not all of a batch are whole."""
WORDS = {pa.bool_(): "true or false", pa.float64(): "a number", pa.string(): "a text"}


class Aside(NamedTuple):
    """A record that became no row."""

    record: Record
    reason: str
    found: str


@dataclass(frozen=True)
class Rows:
    """Rows in the order of their records, one each."""

    rows: pa.Table
    records: list[Record]

    def where(self, mask: Sequence[bool]) -> "Rows":
        """Those that the mask is true for."""
        kept = [record for record, good in zip(self.records, mask, strict=True) if good]
        return Rows(self.rows.filter(pa.array(mask, pa.bool_())), kept)


def rows_of(
    records: Sequence[Record], name: str, of: TableMapping, known: Mapping[str, pa.DataType], now: datetime
) -> tuple[Rows, list[Aside], set[str]]:
    """Rows of table `name`, records that became none, and names in them that the contract does not have.

    `known` are types that columns of the team's own have already: they keep them.
    """
    objects, aside = _objects(records)
    columns = of.columns or _same_names(name, objects)
    found = _Conversion(objects, of.zone)
    table = {}
    for column, kind in RAW[name].columns.items():
        said = columns.get(column)
        table[column] = found.nulls(kind.type) if said is None else found.contract(column, kind.type, said)
    for column in sorted(set(columns) - set(RAW[name].columns)):
        if (own := found.own(column, columns[column], known.get(column))) is not None:
            table[column] = own
    table["event_time"] = found.refused(table["event_time"], _untimed(table["event_time"], now), "event_time")
    _fill_ingested(table, objects)
    whole = Rows(pa.table(table), [record for record, _ in objects])
    aside += [Aside(whole.records[n], reason, text) for n, (reason, text) in sorted(found.bad.items())]
    return whole.where([n not in found.bad for n in range(len(objects))]), aside, _strange(objects, columns)


Objects = Sequence[tuple[Record, Mapping[str, Any]]]


def _objects(records: Sequence[Record]) -> tuple[Objects, list[Aside]]:
    objects, aside = [], []
    for record in records:
        try:
            value = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError as error:
            aside.append(Aside(record, UNREADABLE, f"needs a JSON object; found {one_line(error, 200)}"))
            continue
        if isinstance(value, dict):
            objects.append((record, value))
        else:
            aside.append(Aside(record, UNREADABLE, f"needs a JSON object; found {type(value).__name__}"))
    return objects, aside


def _same_names(name: str, objects: Objects) -> dict[str, ColumnMapping]:
    """The contract's own names, and those of its prefix that any record has."""
    prefix = RAW[name].extra_prefix
    extras = {key for _, value in objects for key in value if prefix and key.startswith(prefix)}
    return {column: ColumnMapping(column=column) for column in (*RAW[name].columns, *sorted(extras))}


def _strange(objects: Objects, columns: Mapping[str, ColumnMapping]) -> set[str]:
    read = {said.column for said in columns.values()}
    return {key for _, value in objects for key in value} - read


class _Conversion:
    """Columns of the same records; `bad` are the positions of those that have a value of no such type."""

    def __init__(self, objects: Objects, zone: str) -> None:
        self._objects, self._zone = objects, zone
        self.bad: dict[int, tuple[str, str]] = {}

    def nulls(self, kind: pa.DataType) -> pa.ChunkedArray:
        """A column that nobody has."""
        return pa.chunked_array([pa.nulls(len(self._objects), kind)])

    def contract(self, column: str, kind: pa.DataType, said: ColumnMapping) -> pa.ChunkedArray:
        """A column of the contract, in its type."""
        if not said.column:
            value = str(said.value) if pa.types.is_string(kind) else said.value
            return pa.chunked_array([pa.array([value] * len(self._objects), kind)])
        return self._each(column, said, kind, lambda values: _converted(values, kind, said, self._zone))

    def own(self, column: str, said: ColumnMapping, known: pa.DataType | None) -> pa.ChunkedArray | None:
        """A column of the team's own: of the type it has, else of its first value's; nested ones as text. None where
        it has neither.
        """
        values = [said.value] * len(self._objects) if not said.column else self._values(said)
        plain = [orjson.dumps(v).decode() if isinstance(v, list | dict) else v for v in values]
        first = next((value for value in plain if value is not None), None)
        if known is None and first is None:
            return None
        kind = known or OWN_TYPES[type(first)]
        wrong = {
            n: f"needs {WORDS.get(kind, kind)}, as before; found {one_line(repr(value), 60)}"
            for n, value in enumerate(plain)
            if value is not None and OWN_TYPES[type(value)] != kind
        }
        fitting = [None if n in wrong else value for n, value in enumerate(plain)]
        if said.plus and pa.types.is_floating(kind):
            fitting = [None if value is None else float(value) + said.plus for value in fitting]
        return self.refused(pa.chunked_array([pa.array(fitting, kind)]), wrong, column)

    def refused(self, found: pa.ChunkedArray, wrong: Mapping[int, str | tuple[str, str]], column: str) -> Any:
        """The column; its records at those positions are set aside, each for the first reason found."""
        for n, why in wrong.items():
            reason, text = (UNFIT, why) if isinstance(why, str) else why
            self.bad.setdefault(n, (reason, f"{column} {text}"))
        return found

    def _values(self, said: ColumnMapping) -> list[Any]:
        return [value.get(said.column) for _, value in self._objects]

    def _each(
        self, column: str, said: ColumnMapping, kind: pa.DataType, convert: Callable[[list[Any]], pa.ChunkedArray]
    ) -> pa.ChunkedArray:
        values = self._values(said)
        try:
            return convert(values)
        except FAILS:
            pass
        found, wrong = [], {}
        for n, value in enumerate(values):
            try:
                found.append(None if value is None else convert([value])[0].as_py())
            except FAILS as error:
                found.append(None)
                wrong[n] = f"from {one_line(repr(value), 60)}: {one_line(error, 200)}"
        return self.refused(pa.chunked_array([pa.array(found, kind)]), wrong, column)


def _converted(values: list[Any], kind: pa.DataType, said: ColumnMapping, zone: str) -> pa.ChunkedArray:
    array = pa.array(values)
    if pa.types.is_null(array.type):
        return pa.chunked_array([pa.nulls(len(values), kind)])
    return converted(pa.chunked_array([array]), kind, said, zone).cast(kind)


def _untimed(times: pa.ChunkedArray, now: datetime) -> dict[int, tuple[str, str]]:
    """Positions of rows that belong to no day yet, with why."""
    latest = now + AHEAD
    wrong = dict.fromkeys(pc.indices_nonzero(pc.is_null(times)).to_pylist(), (UNFIT, "is missing"))
    for n in pc.indices_nonzero(pc.fill_null(pc.greater(times, pa.scalar(latest, TIME)), False)).to_pylist():
        wrong[n] = (AHEAD_OF_TIME, f"needs to be before {latest:%Y-%m-%d %H:%M}; found {times[n].as_py()}")
    return wrong


def _fill_ingested(table: dict[str, pa.ChunkedArray], objects: Objects) -> None:
    """Where an event does not say when it was known: when it came to its topic, and never before it happened."""
    if "ingested_at" not in table or not table["ingested_at"].null_count:
        return
    came = pa.array([record.at_ms * 1000 if record.at_ms > 0 else None for record, _ in objects], pa.int64())
    known = pc.max_element_wise(table["event_time"].cast(pa.int64()), came)
    table["ingested_at"] = pc.coalesce(table["ingested_at"], known.cast(TIME))


def now() -> datetime:
    """The wall clock: no event can be believed that is much later."""
    return datetime.now(UTC)
