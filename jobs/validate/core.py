"""Which rows of a day are published, which are set aside and why, and when a day is refused."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.errors import Refused
from jobs.lake.tables import LAKE, RAW, conform
from jobs.validate.coded import Ints, ascending, plain, plain_type
from jobs.validate.columns import listed
from jobs.validate.facts import Facts
from jobs.validate.suites import Expectation, Finding

QUOTED = 200
"""So many characters of a value are quoted in a reason."""
EXAMPLE = 40
"""So many in a sentence about the day."""
CLOCK = "ingested_at"
"""Two copies of one event may differ in it: the one that was known first is kept."""


@dataclass(frozen=True)
class Judged:
    """A table of a day after its suite: `good` and `aside` have the lake's columns, sorted; the rest are row counts.

    A row that broke several rules is one broken row and lies in `aside` once for each of them, so that whoever repairs
    the logger sees all of it; `raw` is `len(good) + broken + copies`, whatever the number of reasons.
    """

    good: pa.Table
    coded: pa.Table
    """`good` in the raw table's columns, texts as they came: as codes where they are."""
    aside: pa.Table
    raw: int
    broken: int
    copies: int
    conflicts: int
    """Copies that say something else than the row that was kept."""

    @property
    def good_rows(self) -> int:
        """How many rows are published."""
        return len(self.good)

    @property
    def aside_rows(self) -> int:
        """How many rows are in quarantine, once for each reason."""
        return len(self.aside)


def refuse_columns(table: str, day: date, raw: pa.Schema, file: str, findings: Sequence[Finding]) -> None:
    """Raises `Refused` naming every column that is missing or of the wrong type, what it needs and what it is."""
    failed = [f.expectation for f in findings if not f.held and f.expectation.severity == "critical"]
    if not failed:
        return
    missing = [name for name, column in RAW[table].columns.items() if name not in raw.names and not column.optional]
    typed = [rule.columns[0].split(".")[0] for rule in failed if rule.columns]
    wrong = [name for name in dict.fromkeys(typed) if name in raw.names]
    found = {name: f"no such column among {listed(raw.names)}" for name in missing}
    found |= {name: _found(raw.field(name).type, name, table) for name in wrong}
    told = [f"column {name} of type {RAW[table].columns[name].type}; found {said}" for name, said in found.items()]
    raise Refused(f"raw {table} of {day} needs {', and '.join(told)} ({file}); nothing of {day} was published")


def _found(kind: pa.DataType, name: str, table: str) -> str:
    needed = RAW[table].columns[name].type
    numbers = all(pa.types.is_integer(t) or pa.types.is_floating(t) for t in (kind, needed))
    times = all(pa.types.is_timestamp(t) for t in (kind, needed))
    if pa.types.is_timestamp(needed) and pa.types.is_integer(kind):
        return f"type {kind}, which does not say seconds or milliseconds: write timestamps"
    return f"type {plain_type(kind)}" + (" with values that it cannot hold" if numbers or times else "")


def refuse_day(table: str, day: date, figures: Mapping[str, float], findings: Sequence[Finding]) -> None:
    """Raises `Refused` when a critical figure of the day is out of its range; the findings are those of this day."""
    for finding in findings:
        rule = finding.expectation
        if len(finding.rows) and rule.severity == "critical":
            raise Refused(
                f"raw {table} of {day} needs {rule.needs}; found {rule.columns[0]} {_text(figures[rule.columns[0]])}; "
                f"nothing of {day} was published"
            )


def judged(
    table: str, day: date, rows: pa.Table, facts: Facts, findings: Sequence[Finding], max_share: float
) -> Judged:
    """The rows that broke nothing critical, one of each id, and the others with their reasons.

    Raises `Refused` when more than `max_share` of the rows broke something; true copies of a row do not count.
    """
    critical = [f for f in findings if f.expectation.severity == "critical" and len(f.rows)]
    broken = np.zeros(len(rows), dtype=bool)
    for finding in critical:
        if not finding.expectation.keeps_one:
            broken[finding.rows] = True
    twice = [f for f in critical if f.expectation.keeps_one]
    flagged = np.unique(np.concatenate([f.rows for f in twice])) if twice else np.array([], np.int64)
    copies, conflicts = _copies(rows, RAW[table].key, flagged[~broken[flagged]])
    refuse_share(table, day, critical, int(broken.sum()) + len(conflicts), len(rows), max_share)
    aside = [
        _aside(table, rows, f.expectation, f.rows, _reasons(f.expectation, rows, facts, f.rows))
        for f in critical
        if not f.expectation.keeps_one
    ]
    for finding in twice:
        differs = np.isin(copies, conflicts)
        reasons = [f"needs {finding.expectation.needs}; found {_COPY[bool(d)]}" for d in differs]
        aside.append(_aside(table, rows, finding.expectation, copies, reasons))
    good = np.ones(len(rows), dtype=bool)
    good[broken] = False
    good[copies] = False
    coded = _known_in_time(_sorted(rows, np.flatnonzero(good)))
    return Judged(
        good=conform(plain(coded), LAKE[table]),
        coded=coded,
        aside=_concat_aside(aside),
        raw=len(rows),
        broken=int(broken.sum()),
        copies=len(copies),
        conflicts=len(conflicts),
    )


def _known_in_time(rows: pa.Table) -> pa.Table:
    """No event is known before it happens: where a clock says so (a warning), it is known when it happened."""
    if CLOCK not in rows.column_names:
        return rows
    known, happened = rows.column(CLOCK), rows.column("event_time")
    return rows.set_column(rows.column_names.index(CLOCK), CLOCK, pc.if_else(pc.less(known, happened), happened, known))


_COPY = {False: "a copy of the row that is kept", True: "another row with the id of the row that is kept"}


def _copies(
    rows: pa.Table, key: Sequence[str], flagged: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of rows that share an id, all but the one known first (ties: the smaller payload); and which of them differ."""
    if not len(flagged):
        return flagged, flagged
    some = plain(rows.take(pa.array(flagged)))
    ids = list(zip(*(some.column(k).to_pylist() for k in key), strict=True))
    clock = some.column(CLOCK).cast(pa.int64()).to_pylist() if CLOCK in some.column_names else [0] * len(some)
    content = _payloads(some.drop_columns([CLOCK]) if CLOCK in some.column_names else some)
    kept: dict[tuple[Any, ...], str] = {}
    copies, conflicts = [], []
    for n in sorted(range(len(some)), key=lambda n: (ids[n], clock[n], content[n], n)):
        if ids[n] not in kept:
            kept[ids[n]] = content[n]
            continue
        copies.append(flagged[n])
        if content[n] != kept[ids[n]]:
            conflicts.append(flagged[n])
    return np.array(copies, np.int64), np.array(conflicts, np.int64)


def refuse_share(table: str, day: date, findings: Sequence[Finding], bad: int, n: int, max_share: float) -> None:
    """Raises `Refused` when more than `max_share` of n rows are bad, naming what most of them broke."""
    if bad <= max_share * n:
        return
    critical = [f for f in findings if f.expectation.severity == "critical" and not f.held]
    most = sorted(critical, key=lambda f: -f.broken_by)[:3]
    named = ", ".join(
        f"{f.expectation.name} ({f.broken_by} rows; needs {f.expectation.needs}{_such_as(f)})" for f in most
    )
    raise Refused(
        f"raw {table} of {day} needs at least {1 - max_share:.2%} good rows; found {bad} of {n} bad: "
        f"{named}; nothing of {day} was published"
    )


def _such_as(finding: Finding) -> str:
    """The first value that broke a rule about one column."""
    examples = finding.outcome.examples if finding.outcome else ()
    if not examples or len(finding.expectation.columns) != 1:
        return ""
    text = _text(examples[0])
    return f"; found {text if len(text) <= EXAMPLE else text[:EXAMPLE] + '…'}"


def _reasons(rule: Expectation, rows: pa.Table, facts: Facts, positions: NDArray[np.int64]) -> list[str]:
    """What was needed and what was found, a text per row."""
    values = {}
    for name in rule.shows:
        column = rows.column(name) if name in rows.column_names else pa.array(np.asarray(facts[name]))
        values[name] = _values(column.take(pa.array(positions)))
    return [
        f"needs {rule.needs}; found " + ", ".join(f"{name} {_text(values[name][n])}" for name in rule.shows)
        for n in range(len(positions))
    ]


def _aside(
    table: str, rows: pa.Table, rule: Expectation, positions: NDArray[np.int64], reasons: Sequence[str]
) -> pa.Table:
    some = plain(rows.take(pa.array(positions)))
    schema = LAKE["quarantine"].schema
    columns = {
        "row_key": some.column(RAW[table].key[0]),
        "expectation": pa.array([rule.name] * len(some), pa.string()),
        "reason": pa.array(reasons, pa.string()),
        "payload": pa.array(_payloads(some), pa.string()),
    }
    return pa.table(columns, schema=schema)


def _concat_aside(parts: Sequence[pa.Table]) -> pa.Table:
    schema = LAKE["quarantine"].schema
    whole = pa.concat_tables(parts) if parts else schema.empty_table()
    return whole.sort_by([(name, "ascending") for name in ("expectation", "row_key", "payload", "reason")])


def _sorted(rows: pa.Table, some: Ints) -> pa.Table:
    """Some rows by time, then id: the same rows are the same bytes, and readers find neighbours together."""
    if "event_time" not in rows.column_names:
        return rows.take(pa.array(some[_by_id(rows, some)]))
    times = np.asarray(pc.fill_null(rows.column("event_time").cast(pa.int64()), 0))[some]
    order = ascending(times)
    ordered = times[order]
    same = np.append(False, ordered[1:] == ordered[:-1])[: len(order)]
    tied = np.flatnonzero(same | np.append(same[1:], False))
    # Only rows of one time are in order of their ids: texts are slow to compare.
    by_id = order[tied][_by_id(rows, some[order[tied]])]
    order[tied] = by_id[ascending(times[by_id])]
    return rows.take(pa.array(some[order]))


def _by_id(rows: pa.Table, some: Ints) -> Ints:
    """The order of some rows by their first column."""
    ids = plain(rows.select(rows.column_names[:1]).take(pa.array(some))).column(0)
    return np.asarray(pc.sort_indices(ids), np.int64)


def _payloads(rows: pa.Table) -> list[str]:
    """Each row as JSON, keys sorted, times in ISO 8601."""
    columns = [_values(column) for column in rows.columns]
    return [
        json.dumps(_plain(dict(zip(rows.column_names, row, strict=True))), sort_keys=True, ensure_ascii=False)
        for row in zip(*columns, strict=True)
    ]


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Python values; times as text where one lies outside the years Python knows."""
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        values = column.cast(pa.string()).to_pylist()
    return values


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: dict(value)
        if name == "attributes"
        else value.isoformat()
        if isinstance(value, datetime)
        else repr(value)  # infinity, which JSON has no word for
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in row.items()
    }


def _text(value: Any) -> str:
    """A value in a sentence."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null"
    if isinstance(value, float):
        short = f"{value:.15g}"
        return short if float(short) == value else repr(value)  # 1.0000000000000002 is not 1
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}… ({len(text)} characters)"
