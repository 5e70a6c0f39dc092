"""Days of all raw tables go through their suites, oldest first; a day sees the good rows of the days before it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from jobs.lake.parts import read_part, whole
from jobs.lake.raw import RawDay
from jobs.lake.tables import EVENTS, RAW
from jobs.places import Place
from jobs.validate import coded, core, facts
from jobs.validate.columns import filled, shaped
from jobs.validate.core import Judged
from jobs.validate.facts import Neighbours
from jobs.validate.profile import profile
from jobs.validate.suites import Finding, Suites

Read = Callable[[str, date], RawDay]
Report = Callable[[str, date, Sequence[Finding]], None]
"""Told what the suite of a table found on a day, refused or not."""
Keys: TypeAlias = pa.Table | tuple[Place, ...]
"""The key and time columns (`key_columns`) of an event table of a day: in memory, or in part files that have them."""


@dataclass(frozen=True)
class Past:
    """What was published of days that are not in the batch; days never published are not in it."""

    keys: Callable[[str, date], Keys | None]
    rows: Callable[[str, date], int | None]
    """How many rows a table of a day has."""


def _never(_table: str, _day: date) -> None:
    return None


NOTHING = Past(_never, _never)


def unreported(_table: str, _day: date, _findings: Sequence[Finding]) -> None:
    """For those who only want verdicts."""


def key_columns(table: str) -> list[str]:
    """What later days need of an event table."""
    return [*RAW[table].key, "event_time"]


@dataclass(frozen=True)
class Before:
    """What a day is held against of the days before it, nothing of it read yet."""

    shown: Mapping[date, Keys]
    """Impressions of each of the last days from which a click may come, newest first."""
    used: Mapping[str, Keys]
    """Of each event table, the day before."""
    rows: Mapping[str, Sequence[int]]
    """Of each table, how many rows each of the last `HISTORY_DAYS` good days had, oldest first."""

    def neighbours(self, day: Mapping[str, pa.Table]) -> Neighbours:
        """All of it in memory, with the tables of the day itself."""
        shown = [read_keys(keys, "impressions").cast(NULLABLE_SHOWN) for keys in self.shown.values()]
        ids = {table: read_keys(keys, table).column(RAW[table].key[0]) for table, keys in self.used.items()}
        return Neighbours(day, pa.concat_tables([NULLABLE_SHOWN.empty_table(), *shown]), ids, self.rows)


NULLABLE_SHOWN = pa.schema([(name, RAW["impressions"].columns[name].type) for name in key_columns("impressions")])


def read_keys(keys: Keys, table: str) -> pa.Table:
    """The `key_columns` of some rows of an event table."""
    columns = key_columns(table)
    if isinstance(keys, pa.Table):
        return keys
    return whole(table, columns, (read_part(path, table, columns) for path in keys))


@dataclass(frozen=True)
class Written:
    """What `Judged` says of rows that lie in part files already; what is said of buckets adds up."""

    good: tuple[Place, ...] = ()
    aside: tuple[Place, ...] = ()
    good_rows: int = 0
    aside_rows: int = 0
    raw: int = 0
    broken: int = 0
    copies: int = 0
    conflicts: int = 0

    def __add__(self, other: "Written") -> "Written":
        return Written(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True)
class Verdict:
    """What became of a table of a day, and what its suite found (all scopes)."""

    judged: Judged | Written
    profile: pa.Table
    """Of the good rows."""
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
    raw_files: str

    def keys(self, table: str) -> Keys:
        """Those of the good rows, where they are."""
        return self.judged.good.select(key_columns(table)) if isinstance(self.judged, Judged) else self.judged.good

    def failed(self) -> dict[str, int]:
        """Failed expectation to the rows that broke it (1 for one about the day)."""
        return {f.expectation.name: f.broken_by for f in self.findings if not f.held}

    def warnings(self) -> list[dict[str, Any]]:
        """The warnings that failed, in the suite's order: the rule, what was found, and what breaks."""
        return [
            {
                "expectation": f.expectation.name,
                "rows": f.broken_by if f.expectation.scope == "row" else None,
                "found": float(f.outcome.examples[0]) if f.expectation.scope == "day" and f.outcome else None,
                "needs": f.expectation.needs,
                "notes": f.expectation.notes,
            }
            for f in self.findings
            if not f.held and f.expectation.severity == "warning"
        ]

    def counts(self) -> dict[str, int]:
        """The summary each commit carries."""
        severities = [f.expectation.severity for f in self.findings if not f.held]
        return {
            "raw_rows": self.judged.raw,
            "set_aside": self.judged.aside_rows,
            "broken": self.judged.broken,
            "copies": self.judged.copies,
            "conflicting_copies": self.judged.conflicts,
            "unknown_columns": len(self.unknown),
            "expectations": len(self.findings),
            "failed_critical": severities.count("critical"),
            "failed_warning": severities.count("warning"),
        }


Found: TypeAlias = Iterator[tuple[date, dict[str, Verdict]]]
"""Days with the verdict on their tables, in order."""
Elsewhere = Callable[[Sequence[date], Callable[[date], Before], Report], Found | None]
"""The verdicts on as many of the first days as are taken together; None where the first fits one process.

What is before a day is asked for when the day comes: by then the days before it are judged.
"""


def _here(_days: Sequence[date], _before: Callable[[date], Before], _report: Report) -> None:
    return None


@dataclass(frozen=True)
class Fitted:
    """A table of a day whose columns fit the contract."""

    rows: pa.Table
    unknown: tuple[str, ...]
    raw_files: str
    findings: list[Finding]


@dataclass(frozen=True)
class Rules:
    """What days are held against."""

    suites: Suites
    max_quarantine_share: float
    click_window_days: int


def verdicts(
    rules: Rules,
    days: Sequence[date],
    read: Read,
    past: Past,
    report: Report = unreported,
    elsewhere: Elsewhere = _here,
) -> Found:
    """Each day with the verdict on its tables, in order; raises `Refused` in place of the first refused day."""
    memory, left = _Memory(rules, past), list(days)
    while left:
        found = elsewhere(left, memory.before, report) or _first(rules, left[0], read, memory.before, report)
        for day, tables in found:
            memory.keep(day, tables)
            left.remove(day)
            yield day, tables


def _first(rules: Rules, day: date, read: Read, before: Callable[[date], Before], report: Report) -> Found:
    yield day, _verdicts(rules, day, read, before(day), report)


def _verdicts(rules: Rules, day: date, read: Read, before: Before, report: Report) -> dict[str, Verdict]:
    """The verdict on a day, in this process."""
    fitted = {table: fit(rules.suites, table, day, read(table, day), report) for table in RAW}
    neighbours = before.neighbours({table: fit.rows for table, fit in fitted.items()})
    return {table: verdict(rules, table, day, fitted[table], neighbours, report) for table in RAW}


def fit(suites: Suites, table: str, day: date, found: RawDay, report: Report) -> Fitted:
    """One table of a day in the contract's columns; raises `Refused` naming the file and column that do not fit."""
    parts, unknown = [], set[str]()
    for part in found.parts:
        fitted = shaped(part.rows, RAW[table])
        findings = suites.judge_columns(table, facts.of_columns(fitted.rows))
        report(table, day, findings)
        core.refuse_columns(table, day, part.rows.schema, str(part.file), findings)
        unknown.update(fitted.unknown)
        parts.append(fitted.rows)
    rows = coded.whole(parts or [shaped(RAW[table].schema.empty_table(), RAW[table]).rows], RAW[table].key[0])
    left_out = tuple(sorted(unknown))
    findings = suites.judge_columns(table, facts.of_columns(rows, left_out))
    return Fitted(filled(rows), left_out, found.fingerprint, findings)


def verdict(rules: Rules, table: str, day: date, fitted: Fitted, neighbours: Neighbours, report: Report) -> Verdict:
    """One table of a day against its suite; raises `Refused` once everything that was found is reported."""
    figures = facts.of_day(table, fitted.rows, day, neighbours)
    of_figures = rules.suites.judge(table, "day", {name: np.array([value]) for name, value in figures.items()})
    of_row = facts.of_rows(table, fitted.rows, day, neighbours)
    of_rows = rules.suites.judge(table, "row", of_row)
    findings = (*fitted.findings, *of_figures, *of_rows)
    report(table, day, findings)
    core.refuse_day(table, day, figures, of_figures)
    judged = core.judged(table, day, fitted.rows, of_row, of_rows, rules.max_quarantine_share)
    return Verdict(judged, profile(judged.coded), findings, fitted.unknown, fitted.raw_files)


class _Memory:
    """What a day needs of the days before it: of those judged here, else of those published earlier."""

    def __init__(self, rules: Rules, past: Past) -> None:
        self._window_days = rules.click_window_days
        self._past = past
        self._keys: dict[tuple[str, date], Keys] = {}
        self._rows: dict[tuple[str, date], int] = {}

    def keep(self, day: date, found: Mapping[str, Verdict]) -> None:
        """Remember a day's good rows, and forget what no later day looks back to."""
        self._keys |= {(table, day): found[table].keys(table) for table in EVENTS}
        self._rows |= {(table, day): verdict.judged.good_rows for table, verdict in found.items()}
        oldest = day - timedelta(days=self._window_days)
        self._keys = {(table, d): keys for (table, d), keys in self._keys.items() if d > oldest}

    def before(self, day: date) -> Before:
        """What is known of the days before."""
        yesterday = day - timedelta(days=1)
        back = [day - timedelta(days=n) for n in range(1, self._window_days + 1)]
        shown = {d: keys for d in back if (keys := self._keys_of("impressions", d)) is not None}
        used = {table: keys for table in EVENTS if (keys := self._keys_of(table, yesterday)) is not None}
        counts: dict[str, list[int]] = defaultdict(list)
        for n in range(facts.HISTORY_DAYS, 0, -1):
            for table in RAW:
                count = self._rows_of(table, day - timedelta(days=n))
                if count is not None:
                    counts[table].append(count)
        return Before(shown, used, counts)

    def _keys_of(self, table: str, day: date) -> Keys | None:
        kept = self._keys.get((table, day))
        return self._past.keys(table, day) if kept is None else kept

    def _rows_of(self, table: str, day: date) -> int | None:
        kept = self._rows.get((table, day))
        return self._past.rows(table, day) if kept is None else kept
