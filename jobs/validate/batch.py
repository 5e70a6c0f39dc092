"""Days of all raw tables go through their suites together; each day gets the verdict it would have got alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from jobs.errors import Refused
from jobs.tables import RAW
from jobs.validate import core, facts
from jobs.validate.columns import filled, shaped
from jobs.validate.core import Judged
from jobs.validate.facts import Facts, Neighbours
from jobs.validate.raw import RawDay
from jobs.validate.suites import Finding, Suites

Read = Callable[[str, date], RawDay]
Shown = Callable[[date], pa.Table]
"""The impressions (`SHOWN` columns) of a day that is not in the batch; no rows where there are none."""
SHOWN = ["impression_id", "event_time"]
_NULLABLE = pa.schema([(name, RAW["impressions"].columns[name].type) for name in SHOWN])


@dataclass(frozen=True)
class Verdict:
    """What became of a table of a day, and what its suite found (all scopes, the day's own part)."""

    judged: Judged
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
    raw_files: str

    def failed(self) -> dict[str, int]:
        """Failed expectation to the rows that broke it (1 for one about the day)."""
        return {f.expectation.name: max(1, len(f.rows)) for f in self.findings if not f.held}

    def counts(self) -> dict[str, int]:
        """The summary each commit carries."""
        severities = [f.expectation.severity for f in self.findings if not f.held]
        return {
            "raw_rows": self.judged.raw,
            "set_aside": len(self.judged.aside),
            "broken": self.judged.broken,
            "copies": self.judged.copies,
            "conflicting_copies": self.judged.conflicts,
            "unknown_columns": len(self.unknown),
            "expectations": len(self.findings),
            "failed_critical": severities.count("critical"),
            "failed_warning": severities.count("warning"),
        }


@dataclass(frozen=True)
class _Shaped:
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


def verdicts(rules: Rules, days: Sequence[date], read: Read, shown: Shown) -> Iterator[tuple[date, dict[str, Verdict]]]:
    """Each day with the verdict on its six tables, in order; raises `Refused` in place of the first refused day."""
    ready, refusal = _fitting(rules.suites, days, read)
    if ready:
        yield from _judged(rules, ready, shown)
    if refusal is not None:
        raise refusal


def _fitting(suites: Suites, days: Sequence[date], read: Read) -> tuple[dict[date, dict[str, _Shaped]], Refused | None]:
    """The days up to the first whose columns do not fit, and its refusal."""
    seen: dict[tuple[str, str], list[Finding]] = {}
    ready: dict[date, dict[str, _Shaped]] = {}
    for day in days:
        try:
            ready[day] = {table: _fit(suites, table, day, read(table, day), seen) for table in RAW}
        except Refused as refusal:
            return ready, refusal
    return ready, None


def _fit(suites: Suites, table: str, day: date, found: RawDay, seen: dict[tuple[str, str], list[Finding]]) -> _Shaped:
    """One table of a day in the contract's columns; a schema that was judged before is not judged again."""
    parts, findings, unknown = [], [], set[str]()
    for part in found.parts:
        fitted = shaped(part.rows, RAW[table])
        key = (table, fitted.rows.schema.to_string())
        if key not in seen:
            seen[key] = suites.judge(table, "column", facts.of_columns(fitted.rows))
        core.refuse_columns(table, day, part.rows.schema, str(part.file), seen[key])
        findings = seen[key]
        unknown.update(fitted.unknown)
        parts.append(fitted.rows)
    rows = pa.concat_tables(parts) if parts else shaped(RAW[table].schema.empty_table(), RAW[table]).rows
    return _Shaped(filled(rows), tuple(sorted(unknown)), found.fingerprint, findings)


def _judged(
    rules: Rules, days: Mapping[date, Mapping[str, _Shaped]], shown: Shown
) -> Iterator[tuple[date, dict[str, Verdict]]]:
    rows = {day: {table: fitted.rows for table, fitted in tables.items()} for day, tables in days.items()}
    around = {}
    for day in days:
        before = [day - timedelta(days=n) for n in range(1, rules.click_window_days + 1)]
        parts = [rows[d]["impressions"].select(SHOWN) if d in rows else shown(d) for d in before]
        around[day] = Neighbours(rows[day], pa.concat_tables([part.cast(_NULLABLE) for part in parts]))
    judged = {table: _Table(rules.suites, table, rows, around) for table in RAW}
    for day, tables in days.items():
        yield day, {table: judged[table].verdict(day, tables[table], rules.max_quarantine_share) for table in RAW}


class _Table:
    """One table of all days of a batch, judged in one go."""

    def __init__(
        self,
        suites: Suites,
        table: str,
        rows: Mapping[date, Mapping[str, pa.Table]],
        around: Mapping[date, Neighbours],
    ) -> None:
        self.table = table
        self.days = list(rows)
        self.facts: list[Facts] = [facts.of_rows(table, rows[day][table], day, around[day]) for day in rows]
        self.figures = [facts.of_day(table, rows[day][table], around[day]) for day in rows]
        self.edges = np.concatenate([[0], np.cumsum([len(rows[day][table]) for day in rows])])
        self.by_day = suites.judge(table, "day", pd.DataFrame(self.figures))
        self.by_row = suites.judge(table, "row", facts.frame(self.facts, suites.columns(table, "row")))

    def verdict(self, day: date, fitted: _Shaped, max_share: float) -> Verdict:
        """The day's own part; raises `Refused`."""
        n = self.days.index(day)
        of_figures = core.of_day(self.by_day, n, n + 1)
        core.refuse_day(self.table, day, self.figures[n], of_figures)
        of_rows = core.of_day(self.by_row, int(self.edges[n]), int(self.edges[n + 1]))
        judged = core.judged(self.table, day, fitted.rows, self.facts[n], of_rows, max_share)
        return Verdict(judged, (*fitted.findings, *of_figures, *of_rows), fitted.unknown, fitted.raw_files)
