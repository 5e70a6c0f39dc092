"""How a flawless raw day is broken: what is done to its files, and what the stage must make of it.

The catalogues are in `broken_types.py`, `broken_values.py` and `broken_files.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tests.jobs.validate.raw_days import FIRST, put, retyped, tables_of, write

ROW = 7
DAY = f"date={FIRST.isoformat()}"
Change = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Outcome:
    """What the stage must do, and the words it must say.

    `set aside`: `rows` rows lie in quarantine with the expectation `says`, all others are published.
    `warned`: everything is published, the warning `says` is on record in the commit.
    `refused`: nothing is published (exit 65); the sentence matches `says`.
    `not ready`: nothing is published (exit 75); the sentence matches `says`.
    `harmless`: what is published equals what the flawless day gives.
    """

    kind: Literal["set aside", "warned", "refused", "not ready", "harmless"]
    says: str = ""
    rows: int = 1


HARMLESS = Outcome("harmless")


def aside(expectation: str, rows: int = 1) -> Outcome:
    """Short for an outcome."""
    return Outcome("set aside", expectation, rows)


def warned(expectation: str) -> Outcome:
    """Short for an outcome."""
    return Outcome("warned", expectation)


def refused(pattern: str) -> Outcome:
    """Short for an outcome."""
    return Outcome("refused", pattern)


def not_ready(pattern: str) -> Outcome:
    """Short for an outcome."""
    return Outcome("not ready", pattern)


@dataclass(frozen=True)
class Corruption:
    """`apply` works on the raw lake's folder, where the flawless day lies."""

    table: str
    apply: Callable[[Path], Any]
    outcome: Outcome


class Corruptions(dict[str, Corruption]):
    """A catalogue: `<table>: <what is wrong>` to the corruption."""

    def of_files(self, table: str, name: str, apply: Callable[[Path], Any], outcome: Outcome) -> None:
        """Something done to the folder; raises ValueError for a name that is taken."""
        key = f"{table}: {name}"
        if key in self:
            raise ValueError(f"a corruption needs a name of its own; found {key} twice")
        self[key] = Corruption(table, apply, outcome)

    def bytes_of(self, table: str, name: str, change: Callable[[bytes], bytes], outcome: Outcome) -> None:
        """Other bytes in the file."""

        def apply(raw: Path) -> None:
            path = file_of(raw, table)
            path.write_bytes(change(path.read_bytes()))

        self.of_files(table, name, apply, outcome)

    def rows_of(self, table: str, name: str, change: Change, outcome: Outcome) -> None:
        """Other rows in the file."""

        def apply(raw: Path) -> None:
            write(raw, FIRST, {table: change(tables_of(FIRST)[table])})

        self.of_files(table, name, apply, outcome)

    def one_value(self, table: str, name: str, column: str, value: Any, outcome: Outcome) -> None:
        """Another value in one row."""
        self.rows_of(table, name, partial(put, column=column, value=value, row=ROW), outcome)

    def as_type(
        self, table: str, name: str, column: str, convert: Callable[[pa.ChunkedArray], Any], outcome: Outcome
    ) -> None:
        """Another type, or other values, in a whole column."""
        self.rows_of(table, name, lambda rows: retyped(rows, column, convert(rows.column(column))), outcome)


def file_of(raw: Path, table: str, hour: int = 10, name: str = "part-0.parquet") -> Path:
    """The day's file of a table."""
    return raw / table / DAY / f"hour={hour:02d}" / name
