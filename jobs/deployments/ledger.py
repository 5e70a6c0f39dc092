"""Reading the promotion ledger: who is champion on a day, what was decided, what ever reached the endpoint."""

from collections.abc import Mapping
from datetime import date
from typing import Any, Protocol

import pyarrow as pa

Row = dict[str, Any]
"""One row of `promotions` with its partition columns `day` and `mode`."""


class Reader(Protocol):
    """A `Run` (reads at the version the run first saw) or a `Lake` (reads the newest)."""

    def read(self, table: str) -> pa.Table:
        """All rows of a table."""
        ...


def champion(source: Reader, day: date, before: Mapping[str, str] | None = None) -> Row | None:
    """The newest deployed candidate as of `day`: of the latest day, the latest deployment; None where nothing is.

    `before` (a partition) leaves that day and mode out: a candidate judged again is not compared with itself.
    """
    rows = [row for row in deployed(source) if date.fromisoformat(row["day"]) <= day]
    if before is not None:
        rows = [row for row in rows if any(row[key] != value for key, value in before.items())]
    return max(rows, key=lambda row: (row["day"], row["deployed_at"], row["candidate_id"]), default=None)


def decision(source: Reader, partition: Mapping[str, str]) -> Row | None:
    """The verdict that stands for a day and mode: the one decided last; None before `promote` ran."""
    rows = [row for row in rows_of(source) if all(row[key] == value for key, value in partition.items())]
    return max(rows, key=lambda row: (row["decided_at"], row["candidate_id"]), default=None)


def deployed(source: Reader) -> list[Row]:
    """Every candidate that ever reached the endpoint, oldest day first."""
    return [row for row in rows_of(source) if row["deployed_at"] is not None]


def rows_of(source: Reader) -> list[Row]:
    """The whole ledger, a handful of rows a week, oldest day first."""
    rows: list[Row] = source.read("promotions").to_pylist()
    return sorted(rows, key=lambda row: (row["day"], row["mode"], row["candidate_id"]))
