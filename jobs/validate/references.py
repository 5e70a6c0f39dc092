"""The ids that files of events name and those that files of snapshots list, to be held against each other.

What cannot be ids is left out: to refuse it is for whoever judges the file's table.
"""

from collections.abc import Iterator

import pyarrow as pa

from jobs.lake import raw
from jobs.lake.tables import RAW, STR
from jobs.places import Place
from jobs.validate import facts
from jobs.validate.columns import lossless

NAMED = pa.schema([("table", STR), ("figure", STR), ("snapshot", STR), ("id", STR), ("times", pa.int64())])
LISTED = pa.schema([("snapshot", STR), ("id", STR)])


def named_in(table: str, path: Place) -> pa.Table:
    """How many times a file of a table names each id, by figure of `facts.REFERENCES`; an id can have several rows."""
    parts = [NAMED.empty_table()]
    for figure, (column, snapshot) in facts.REFERENCES[table].items():
        for group in _ids(table, path, column):
            ids, times = group.value_counts().flatten()
            about = {"table": table, "figure": figure, "snapshot": snapshot}
            parts.append(pa.table({**{k: pa.repeat(v, len(ids)) for k, v in about.items()}, "id": ids, "times": times}))
    return pa.concat_tables(parts)


def listed_in(table: str, path: Place) -> pa.Table:
    """The ids of a snapshot's file; an id can have several rows."""
    ids = (group.unique() for group in _ids(table, path, RAW[table].key[0]))
    parts = [pa.table({"snapshot": pa.repeat(table, len(part)), "id": part}) for part in ids]
    return pa.concat_tables([LISTED.empty_table(), *parts])


def _ids(table: str, path: Place, column: str) -> Iterator[pa.ChunkedArray]:
    """Row group by row group."""
    needed = RAW[table].columns[column].type
    groups = raw.groups(path, column) if column in raw.schema(path).names else ()
    shaped = (lossless(group, needed) for group in groups)
    return (facts.referring(ids) for ids in shaped if ids.type == needed)
