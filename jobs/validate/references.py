"""The ids that events name and those that snapshots list, to be held against each other."""

from datetime import date

import pyarrow as pa

from jobs.lake.tables import RAW, STR
from jobs.validate import facts

NAMED = pa.schema(
    [("table", STR), ("figure", STR), ("id", STR), ("times", pa.int64()), ("_day", pa.int32())],
)
LISTED = pa.schema([("snapshot", STR), ("id", STR), ("_day", pa.int32())])


def named_in(table: str, day: date, rows: pa.Table) -> pa.Table:
    """How many times rows of a table name each id, by figure of `facts.REFERENCES`; an id can have several rows."""
    parts = [NAMED.empty_table()]
    for figure, (column, _) in facts.REFERENCES.get(table, {}).items():
        ids, times = facts.referring(rows.column(column)).value_counts().flatten()
        about = {"table": table, "figure": figure}
        columns = {**{k: pa.repeat(v, len(ids)) for k, v in about.items()}, "id": ids, "times": times}
        parts.append(pa.table({**columns, "_day": _days(day, len(ids))}))
    return pa.concat_tables([part.cast(NAMED) for part in parts])


def listed_in(table: str, day: date, rows: pa.Table) -> pa.Table:
    """The ids of a snapshot's rows; an id can have several rows."""
    ids = facts.referring(rows.column(RAW[table].key[0])).unique()
    columns = {"snapshot": pa.repeat(table, len(ids)), "id": ids, "_day": _days(day, len(ids))}
    return pa.table(columns).cast(LISTED)


def _days(day: date, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(facts.day_number(day), pa.int32()), n)
