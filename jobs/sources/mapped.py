"""A team's own files or database in its own names, read a day at a time; `source.mapping` says which column is which.

Files lie below `source.data` and are read by DuckDB; queries go to `source.url`, see `jobs.warehouse`. What a table's
`event_time` says of the day is asked of the database, so that a day reads a day; where it is a text in a format of its
own the whole table is read. Rows of other days are left out, whatever a query gives. Of `items` and `users`, which have
no time, a query may name the day it wants by `{start}` and `{end}`, else every day has all rows.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
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
from jobs.lake.tables import EVENTS, RAW, STR, TIME, Tables
from jobs.mapping import TableMapping
from jobs.sources import History, within
from jobs.sources._columns import PER_SECOND, conformed, converted, refuse_unknown
from jobs.sources._files import folder_of
from jobs.warehouse import Database, literal

READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".json": "read_json", ".jsonl": "read_json"}
DAY = timedelta(days=1)
SET_BACK = timedelta(hours=2)
"""No clock is set back further."""
ENDS = ("min", "max")
FILES = SecretStr("duckdb:")
"""What reads files, or answers queries over them."""
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
        of = self._mapping["impressions"]
        said = of.columns["event_time"]
        text = self._query("impressions", ALWAYS)
        with self._asked(of) as database:
            time = database.quoted(said.column)
            asked = [time] if said.format else [f"{end}({time}) as ends" for end in ENDS]
            theirs = pa.concat_tables([database.read(f"select {one} from ({text}) t") for one in asked]).column(0)
        try:
            found = pc.min_max(converted(theirs, TIME, said, of.zone))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise Misconfigured(f"source.mapping: impressions.event_time: {one_line(error, 200)}") from error
        if not found["min"].is_valid:
            raise Misconfigured("source.mapping needs impressions with an event_time; found none")
        return found["min"].as_py().date(), found["max"].as_py().date()

    def day(self, day: date) -> Tables:
        """The mapped tables' rows of the day."""
        within(day, self.span(), "mapped")
        between = (midnight(day), midnight(day + DAY))
        return {name: self._rows(name, between) for name in self._mapping}

    def _rows(self, name: str, between: tuple[datetime, datetime]) -> pa.Table:
        of = self._mapping[name]
        text = self._query(name, between)
        with self._asked(of) as database:
            if name in EVENTS and (when := _within(database, f"select * from ({text}) t where 1 = 0", of, between)):
                text = f"select * from ({text}) t where {when}"
            rows = conformed(database.read(text), name, of)
        if name not in EVENTS:
            return rows
        time = rows.column("event_time")
        return rows.filter(pc.and_(pc.greater_equal(time, between[0]), pc.less(time, between[1])))

    def _asked(self, of: TableMapping) -> AbstractContextManager[Database]:
        """What answers the table's queries: its database, DuckDB for files."""
        return warehouse.connected(FILES if of.files else self._url)

    def _query(self, name: str, between: tuple[datetime, datetime]) -> str:
        """What gives the table's rows; one that says of which time is told."""
        of = self._mapping[name]
        if of.query:
            start, end = (_text(at, of.zone) for at in between)
            return of.query.replace("{data}", str(self._data)).replace("{start}", start).replace("{end}", end)
        ending = Path(of.files.removesuffix(".gz")).suffix
        if ending not in READERS:
            raise Misconfigured(f"source.mapping: files need to end in {', '.join(READERS)}; found {of.files}")
        options = f", types = {_kept(name, of)}" if ending == ".csv" else ", union_by_name = true"
        return f"select * from {READERS[ending]}({literal(f'{self._data}/{of.files}')}{options})"


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


def _within(database: Database, none: str, of: TableMapping, between: tuple[datetime, datetime]) -> str:
    """A condition on the table's event time, in its own type; none where only its mapping can read it.

    `none` is a query that gives the table without a row.
    """
    said, empty = of.columns["event_time"], database.read(none)
    if said.column not in empty.column_names:
        return ""
    kind, time = empty.schema.field(said.column).type, database.quoted(said.column)
    if said.unit:
        ends = [str(round(at.timestamp()) * PER_SECOND[said.unit]) for at in between]
    elif pa.types.is_timestamp(kind) and kind.tz is None:
        # Where clocks are set back at the day's end an hour has two places: it is read, and left out by its time.
        start, end = between
        ends = [f"cast({literal(_text(at, of.zone))} as {database.LOCAL})" for at in (start - SET_BACK, end + SET_BACK)]
    elif pa.types.is_timestamp(kind):
        ends = [f"cast({literal(at.isoformat(sep=' '))} as {database.ZONED})" for at in between]
    else:
        return ""
    return f"{time} >= {ends[0]} and {time} < {ends[1]}"


def _text(at: datetime, zone: str) -> str:
    """A time as SQL has it, without a zone, in that of the table."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None).isoformat(sep=" ")
