"""A team's own files or database in its own names, read a day at a time; `source.mapping` says which column is which.

Files lie below `source.data` and are read by DuckDB; queries go to `source.url`, see `jobs.warehouse`. What a table's
`event_time` says of the day is asked of the database, so that a day reads a day, and so is its order, so that some
rows are in memory at once; where it is a text the whole table is read and DuckDB sorts the day's rows once they are
converted. Hours of files can be asked for alone, by other processes. Rows of other days are left out, whatever a
query gives. Of `items` and `users`, which have no time, a query may name the day it wants by `{start}` and `{end}`,
else every day has all rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretStr

from jobs import warehouse
from jobs.config import Config
from jobs.errors import Misconfigured, one_line
from jobs.lake.store import midnight
from jobs.lake.tables import EVENTS, RAW, STR, TIME, Streams
from jobs.mapping import TableMapping
from jobs.sources import Divided, History, Hour, within
from jobs.sources._columns import PER_SECOND, conformed, converted, refuse_unknown
from jobs.sources._files import folder_of
from jobs.warehouse import Database, in_order, literal

READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".json": "read_json", ".jsonl": "read_json"}
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
EXACTLY, ABOUT = timedelta(0), timedelta(seconds=1)
"""How far around its ends a time is asked for: an hour's rows may only round to it, the day's are those that say so."""
SET_BACK = timedelta(hours=2)
"""No clock is set back, or forward, further."""
CSV = ", types = {}, buffer_size = 8388608"
"""Of 32 MB, DuckDB's own, so many are in use at once that a large file would not leave room to sort."""
NAMED = "filename"
"""What DuckDB calls the file a row is from."""
FILES = SecretStr("duckdb:")
"""What reads files, or answers queries over them."""
Between = tuple[datetime, datetime]
ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def source(config: Config) -> "Mapped":
    """The tables that are mapped; raises `Misconfigured` naming all that is wrong before anything is read."""
    mapping = config.source.mapping
    if "impressions" not in mapping:
        found = ", ".join(mapping) or "none"
        raise Misconfigured(f"source.name=mapped needs source.mapping of impressions at least; found {found}")
    if wrong := sorted(name for name, of in mapping.items() if of.topic):
        raise Misconfigured(f"source.name=mapped reads files and queries; found topics of {', '.join(wrong)}")
    refuse_unknown(mapping)
    files = any(of.files for of in mapping.values())
    data = folder_of(config.source.data, "mapped", "the files of source.mapping") if files else config.source.data
    return Mapped(config.source.url, data, mapping)


class Mapped(History):
    """Tables asked for a day at a time."""

    def __init__(self, url: SecretStr | None, data: Path | None, mapping: Mapping[str, TableMapping]) -> None:
        self._url, self._data, self._mapping = url or FILES, data, mapping

    def span(self) -> tuple[date, date]:
        """The days of the first and the last impression."""
        return self._span

    @cached_property
    def _span(self) -> tuple[date, date]:
        try:
            found = self._table("impressions", ALWAYS).ends()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise Misconfigured(f"source.mapping: impressions.event_time: {one_line(error, 200)}") from error
        if not found["min"].is_valid:
            raise Misconfigured("source.mapping needs impressions with an event_time; found none")
        return found["min"].as_py().date(), found["max"].as_py().date()

    def day(self, day: date) -> Streams:
        """The mapped tables' rows of the day, some at once, events in the order of their time."""
        within(day, self.span(), "mapped")
        return {name: self._table(name, (midnight(day), midnight(day + DAY))) for name in self._mapping}

    def _table(self, name: str, day: Between) -> "MappedTable":
        of = self._mapping[name]
        return MappedTable(name, of, FILES if of.files else self._url, self._data, day)


@dataclass(frozen=True)
class MappedTable(Divided):
    """A table's rows of a day, or of some hours of it: read whenever they are asked for, on any machine that sees the
    files.
    """

    name: str
    of: TableMapping
    url: SecretStr
    data: Path | None
    day: Between
    asked: Between | None = None
    """Hours of the day; none: all of it."""
    files: Sequence[str] = ()
    """That they are in; none: any."""

    def __iter__(self) -> Iterator[pa.Table]:
        with self._database() as database:
            none = self._without_rows(database)
            if self.of.files:  # only what is mapped is asked for, and all that is not there named
                conformed(none, self.name, self.of)
            when = self._when(database, none, self.day, EXACTLY)
            if when and self.asked:
                when = f"{when} and {self._when(database, none, self.asked, ABOUT)}"
            columns = self._columns(database) if self.of.files else "*"
            text = f"select {columns} from ({self._text()}) t where {when or '1 = 1'} {when and self._order(database)}"
            rows = (self._of_time(conformed(some, self.name, self.of)) for some in database.batches(text))
            yield from rows if when else in_order(rows, _sorted_by(self.name))

    def hours(self) -> list[Hour]:
        """See `Divided.hours`: of files whose time DuckDB can tell. Files of Parquet tell themselves what they hold."""
        if not self.of.files or self.name not in EVENTS:
            return []
        with self._database() as database:
            none = self._without_rows(database)
            starts = [self.day[0] + n * HOUR for n in range(DAY // HOUR)]
            each = [self._when(database, none, (at, at + HOUR), ABOUT) for at in starts]
            day = self._when(database, none, self.day, EXACTLY)
            if not day:
                return []
            named = _ending(self.of.files) != ".parquet" and NAMED not in none.column_names
            counts = ", ".join(f"count(*) filter (where {when}) as h{n}" for n, when in enumerate(each))
            file = NAMED if named else "''"
            text = f"select {file}, {counts} from ({self._text(named)}) t where {day} group by {file}"
            files, *hours = (column.to_pylist() for column in database.read(text).columns)
        return [
            Hour(n, sum(rows), tuple(sorted(file for file, some in zip(files, rows, strict=True) if named and some)))
            for n, rows in enumerate(hours)
        ]

    def some(self, hours: Sequence[Hour]) -> "MappedTable":
        """See `Divided.some`."""
        start, end = (self.day[0] + n * HOUR for n in (hours[0].number, hours[-1].number + 1))
        files = sorted({file for hour in hours for file in hour.files})
        return replace(self, asked=(start, end), files=tuple(files))

    def ends(self) -> pa.StructScalar:
        """`min` and `max` of its time, in the contract's type; raises as `converted` does."""
        said = self.of.columns["event_time"]
        with self._database() as database:
            time = database.quoted(said.column)
            asked = time if said.format else f"min({time}) as first, max({time}) as last"
            found = database.read(f"select {asked} from ({self._text()}) t")
        chunks = [chunk for column in found.columns for chunk in column.chunks]
        theirs = pa.chunked_array(chunks, found.schema.field(0).type)
        return pc.min_max(converted(theirs, TIME, said, self.of.zone))

    # -- below --------------------------------------------------------------------------------------
    def _database(self) -> AbstractContextManager[Database]:
        """What answers the table's queries: its database, DuckDB for files."""
        return warehouse.connected(self.url)

    def _without_rows(self, database: Database) -> pa.Table:
        return database.read(f"select * from ({self._text()}) t where 1 = 0")

    def _text(self, named: bool = False) -> str:
        """What gives the table's rows; one that says of which time is told."""
        if self.of.query:
            start, end = (_text(at, self.of.zone) for at in self.day)
            return self.of.query.replace("{data}", str(self.data)).replace("{start}", start).replace("{end}", end)
        ending = _ending(self.of.files)
        if ending not in READERS:
            raise Misconfigured(f"source.mapping: files need to end in {', '.join(READERS)}; found {self.of.files}")
        options = CSV.format(_kept(self.name, self.of)) if ending == ".csv" else ", union_by_name = true"
        options += f", {NAMED} = true" if named or self.files else ""
        text = f"select * from {READERS[ending]}({literal(f'{self.data}/{self.of.files}')}{options})"
        # DuckDB opens no other files then; their types are still those of all.
        return f"{text} where {NAMED} in ({', '.join(map(literal, self.files))})" if self.files else text

    def _columns(self, database: Database) -> str:
        """Those of the team's that are mapped."""
        return ", ".join(map(database.quoted, _mapped(self.of.columns, self.of)))

    def _order(self, database: Database) -> str:
        """A day is in the same order whenever it is asked for: that of its time and key, in the team's types.

        Of files rows that are equal there are too, whichever of DuckDB's threads reads them first.
        """
        columns = list(map(database.quoted, _mapped(_sorted_by(self.name), self.of)))
        columns += [f"hash({self._columns(database)})"] if self.of.files else []
        return f"order by {', '.join(columns)}" if columns else ""

    def _when(self, database: Database, none: pa.Table, between: Between, around: timedelta) -> str:
        """A condition on the table's event time, in its own type; empty where only its mapping can read it.

        `none` is the table without a row.
        """
        if self.name not in EVENTS:
            return "1 = 1"
        said, (start, end) = self.of.columns["event_time"], between
        if said.column not in none.column_names:
            return ""
        kind, time = none.schema.field(said.column).type, database.quoted(said.column)
        if said.unit:
            ends = [str(round(at.timestamp()) * PER_SECOND[said.unit]) for at in (start - around, end + around)]
        elif pa.types.is_timestamp(kind) and kind.tz is None:
            told = start - _beside(start, self.of.zone, around), end + _beside(end, self.of.zone, around)
            ends = [f"cast({literal(_text(at, self.of.zone))} as {database.LOCAL})" for at in told]
        elif pa.types.is_timestamp(kind):
            told = start - around, end + around
            ends = [f"cast({literal(at.isoformat(sep=' '))} as {database.ZONED})" for at in told]
        else:
            return ""
        return f"{time} >= {ends[0]} and {time} < {ends[1]}"

    def _of_time(self, rows: pa.Table) -> pa.Table:
        if self.name not in EVENTS:
            return rows
        (start, end), time = self.asked or self.day, rows.column("event_time")
        return rows.filter(pc.and_(pc.greater_equal(time, start), pc.less(time, end)))


def _ending(files: str) -> str:
    return Path(files.removesuffix(".gz")).suffix


def _sorted_by(name: str) -> tuple[str, ...]:
    """The contract's columns by which a table is in order."""
    return (*(("event_time",) if name in EVENTS else ()), *RAW[name].key)


def _mapped(columns: Iterable[str], of: TableMapping) -> list[str]:
    """The team's of some of the contract's columns, each once."""
    return list(dict.fromkeys(theirs for column in columns if (theirs := of.columns[column].column)))


def _kept(name: str, of: TableMapping) -> str:
    """The columns of a CSV file that stay the texts they are: `007` is an id, no number."""
    known = RAW[name].columns
    texts = {
        said.column
        for column, said in of.columns.items()
        if said.column
        and (said.format or said.separator or column.endswith("_id") or (column in known and known[column].type == STR))
    }
    return "{" + ", ".join(f"{literal(text)}: 'VARCHAR'" for text in sorted(texts)) + "}"


def _beside(at: datetime, zone: str, around: timedelta) -> timedelta:
    """How far beside a time rows may lie that are of it: where clocks are set an hour has two places, or none."""
    clock = ZoneInfo(zone)
    before, after = ((at + far).astimezone(clock).utcoffset() for far in (-SET_BACK, SET_BACK))
    return around if before == after else SET_BACK


def _text(at: datetime, zone: str) -> str:
    """A time as SQL has it, without a zone, in that of the table."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None).isoformat(sep=" ")
