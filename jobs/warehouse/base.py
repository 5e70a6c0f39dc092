"""What is asked of a database, whichever it is, and the few words in which they differ."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar

import pyarrow as pa

from jobs.errors import Misconfigured, NotReady


class Database(ABC):
    """A connection to one."""

    MARK: ClassVar[str] = '"'
    """Around a name."""
    TEXT: ClassVar[str] = "varchar"
    FLOAT: ClassVar[str] = "double precision"
    LOCAL: ClassVar[str] = "timestamp"
    """A time without a zone."""
    ZONED: ClassVar[str] = "timestamp with time zone"

    @abstractmethod
    def read(self, query: str) -> pa.Table:
        """All rows of a query, in plain Arrow types: of a type of the database's own, what it is stored as."""

    @abstractmethod
    def do(self, *statements: str) -> None:
        """Statements without rows: all of them or, where one fails or the process ends, none.

        Several may not hold one that makes or drops a table, which some databases never undo.
        """

    @abstractmethod
    def beside(self, rows: pa.Table) -> AbstractContextManager[str]:
        """Rows as a table that nobody else has, by its name in SQL; it is gone at the end, or by itself."""

    def quoted(self, name: str) -> str:
        """A name as it is written in the database."""
        return f"{self.MARK}{name}{self.MARK}"

    def own(self, name: str) -> str:
        """A column of a table of ours, in the case that the database gives a name without marks."""
        return self.quoted(name)

    def table(self, name: str) -> str:
        """A table of ours; dots part it from its schema's name."""
        return ".".join(map(self.own, name.split(".")))

    def literal(self, text: str) -> str:
        """A text as it stands in a query."""
        return literal(text)

    def columns(self, schema: pa.Schema) -> str:
        """Those of a table that is to be made of flat ones, as wide as `wide` makes them."""
        return ", ".join(f"{self.own(field.name)} {self._type(field.type)}" for field in schema)

    def _type(self, kind: pa.DataType) -> str:
        if pa.types.is_timestamp(kind):
            return self.LOCAL if kind.tz is None else self.ZONED
        known = (
            (pa.types.is_boolean, "boolean"),
            (pa.types.is_integer, "bigint"),
            (pa.types.is_floating, self.FLOAT),
            (pa.types.is_date, "date"),
        )
        return next((told for is_it, told in known if is_it(kind)), self.TEXT)


def wide(rows: pa.Table) -> pa.Table:
    """Whole numbers and floats in 64 bits: drivers send what a column has, not what the table's would be."""
    kinds = ((pa.types.is_integer, pa.int64()), (pa.types.is_floating, pa.float64()))
    fields = [
        field.with_type(next((kind for is_it, kind in kinds if is_it(field.type)), field.type)) for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def literal(text: str) -> str:
    """A text as standard SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def failed(kind: str, found: str, ask_again: bool) -> Misconfigured | NotReady:
    """What is raised where a database of a kind says no."""
    if ask_again:
        return NotReady(f"{kind} needs to answer; found: {found}")
    return Misconfigured(f"{kind} needs a query that it can answer; found: {found}")
