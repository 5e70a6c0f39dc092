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


def run(run: Run) -> dict[str, Any]:
    """Export every partition up to the run's day that the database does not have as it is; returns how many of each."""
    settings = run.config.export
    if settings.url is None:
        raise Misconfigured("export needs export.url, the address of a database; found none set")
    return {"exported": {table: _exported(run, table, settings.url, settings.prefix) for table in settings.tables}}


def _exported(run: Run, table: str, url: SecretStr, prefix: str) -> int:
    """Bring a table up to date; returns how many partitions were not."""
    with warehouse.connected(url, read_only=False) as connection:
        mine = f"table_name = {warehouse.quoted(table)}"
        warehouse.append(connection, prefix + DONE, _line("", "", "", 0).slice(1))
        connection.commit()
        done = warehouse.read(connection, f"select partition, token from {prefix}{DONE} where {mine}")
        there = dict(zip(done["partition"].to_pylist(), done["token"].to_pylist(), strict=True))
        changed = {of: token for of, token in _tokens(run, table).items() if there.get(_told(of)) != token}
        for of, token in sorted(changed.items()):
            rows = _flat(run.read(table, where=dict(of)))
            warehouse.append(connection, prefix + table, rows.slice(len(rows)))
            same = " and ".join(f"{column} = {warehouse.quoted(value)}" for column, value in of)
            warehouse.do(connection, f"delete from {prefix}{table} where {same}")
            line = f"{mine} and partition = {warehouse.quoted(_told(of))}"
            warehouse.do(connection, f"delete from {prefix}{DONE} where {line}")
            warehouse.append(connection, prefix + table, rows)
            warehouse.append(connection, prefix + DONE, _line(table, _told(of), token, len(rows)))
            connection.commit()
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


def _line(table: str, partition: str, token: str, rows: int) -> pa.Table:
    """What is written of a partition that the database has."""
    return pa.table({"table_name": [table], "partition": [partition], "token": [token], "row_count": [rows]})


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
