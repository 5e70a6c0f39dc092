"""`export`: what was found reaches the team's own database, partition by partition, each once.

A table `<export.prefix><name>` for each of `export.tables`; a partition of the lake is a set of its rows, with the
partition's columns. What the database has is told by `<export.prefix>partitions`: a partition that was published since
is taken out and put in again, and its line with it, in one transaction. So a killed export goes on where it was, a day
that was skipped comes with the next one, and labels that changed later come again. Lists and maps are JSON texts.
"""

import hashlib
import json
from collections import defaultdict
from typing import Any

import pyarrow as pa
from pydantic import SecretStr

from jobs import warehouse
from jobs.errors import Misconfigured
from jobs.lake.run import Run

Partition = tuple[tuple[str, str], ...]
DONE = "partitions"
"""The table of what the database has: a line a partition."""
LINE = pa.schema(
    [("table_name", pa.string()), ("partition", pa.string()), ("token", pa.string()), ("row_count", pa.int64())]
)


def run(run: Run) -> dict[str, Any]:
    """Export every partition up to the run's day that the database does not have as it is; returns how many of each."""
    settings = run.config.export
    if settings.url is None:
        raise Misconfigured("export needs export.url, the address of a database; found none set")
    return {"exported": {table: _exported(run, table, settings.url, settings.prefix) for table in settings.tables}}


def _exported(run: Run, table: str, url: SecretStr, prefix: str) -> int:
    """Bring a table up to date; returns how many partitions were not."""
    with warehouse.connected(url, read_only=False) as database:
        told, into = database.table(prefix + DONE), database.table(prefix + table)
        database.do(f"create table if not exists {told} ({database.columns(LINE)})")
        name, partition, token, _ = map(database.own, LINE.names)
        mine = f"{name} = {database.literal(table)}"
        done = database.read(f"select {partition}, {token} from {told} where {mine}")
        there = dict(zip(*(column.to_pylist() for column in done.columns), strict=True))
        changed = {of: token for of, token in _tokens(run, table).items() if there.get(_told(of)) != token}
        for of, token in sorted(changed.items()):
            rows = _flat(run.read(table, where=dict(of)))
            columns = ", ".join(map(database.own, rows.column_names))
            same = " and ".join(f"{database.own(column)} = {database.literal(value)}" for column, value in of)
            line = ", ".join([*map(database.literal, (table, _told(of), token)), str(len(rows))])
            with database.beside(rows) as incoming:
                database.do(f"create table if not exists {into} as select * from {incoming} where 1 = 0")
                database.do(
                    f"delete from {into} where {same}",
                    f"delete from {told} where {mine} and {partition} = {database.literal(_told(of))}",
                    f"insert into {into} ({columns}) select {columns} from {incoming}",
                    f"insert into {told} values ({line})",
                )
            run.rows += len(rows)
            run.say(f"{table} {_told(of)}: {len(rows)} rows")
    return len(changed)


def _tokens(run: Run, table: str) -> dict[Partition, str]:
    """The partitions up to the run's day, each with what changes when it is published again: its files' paths."""
    names: dict[Partition, list[str]] = defaultdict(list)
    for path, values in run.files(table):
        if values.get("day", "") <= run.day.isoformat():
            names[tuple(sorted(values.items()))].append(path.rpartition(f"/{table}/")[2])
    return {of: hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:32] for of, found in names.items()}


def _told(of: Partition) -> str:
    """A partition as its folder is called."""
    return "/".join(f"{column}={value}" for column, value in of)


def _flat(rows: pa.Table) -> pa.Table:
    """Rows without nested values, which databases have each in their own way: JSON texts; days are dates."""
    columns = {}
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_nested(column.type):
            texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
            columns[name] = pa.chunked_array([pa.array(texts, pa.string())])
        else:
            columns[name] = column.cast(pa.date32()) if name == "day" else column
    return pa.table(columns)
