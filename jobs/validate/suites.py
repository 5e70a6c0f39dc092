"""One suite a table, as Great Expectations writes it (JSON under `expectations/`), judged by `jobs.validate.evaluate`.

Every expectation carries `severity` (critical or warning), `notes` (what breaks when it fails) and in `meta`:
`name`; `needs`, the rule in words; `scope`, what it looks at:

    column  the day's columns and their types: a failure is about the day
    day     one row of figures a day: a failure is about the day
    row     the rows: the failing ones are named, so `mostly` has no place there

The stage does not import Great Expectations: it takes a second per batch however few the rows, and on Spark a job per
expectation. Its verdicts are the yardstick (tests hold the two equal), its suites and results the formats.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jobs.config import ROOT
from jobs.errors import Misconfigured
from jobs.validate import evaluate
from jobs.validate.evaluate import Outcome
from jobs.validate.kinds import COLUMN_TYPES, Frame, refuse_unsupported

FOLDER = ROOT / "expectations"
SCOPES = ("column", "day", "row")

ValueScope = Literal["day", "row"]
Scope = Literal["column"] | ValueScope


@dataclass(frozen=True)
class Expectation:
    """One rule of a suite; `columns` are the frame's columns it looks at."""

    name: str
    scope: Scope
    severity: Literal["critical", "warning"]
    needs: str
    notes: str
    columns: tuple[str, ...]
    shows: tuple[str, ...]
    """What a reason quotes: columns of the row, or of the frame."""
    keeps_one: bool
    """Of the rows that break it together (copies), one is good."""
    type: str
    kwargs: Mapping[str, Any] = field(hash=False)
    meta: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Finding:
    """What one expectation found: whether it held and, where it is about values, the outcome."""

    expectation: Expectation
    held: bool
    outcome: Outcome | None = None
    observed: Mapping[str, Any] = field(default_factory=dict)
    """What was seen instead of an outcome: of a table's columns, or the number of its rows."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """The positions of the rows that broke it; none where it held, or where parts were merged."""
        return evaluate.NOWHERE if self.held or self.outcome is None else self.outcome.rows

    @property
    def broken_by(self) -> int:
        """How many rows broke it, 1 where it is not about rows, 0 where it held."""
        return 0 if self.held else max(1, self.outcome.unexpected if self.outcome else 1)


class Suites:
    """The suites of some tables; raises `Misconfigured` naming a table, rule and argument that cannot be judged."""

    def __init__(self, tables: Sequence[str], folder: Path = FOLDER) -> None:
        self._rules = {table: _rules(folder, table) for table in tables}

    def expectations(self, table: str, scope: Scope) -> list[Expectation]:
        """What a suite says of one scope, in its own order."""
        return [rule for rule in self._rules[table] if rule.scope == scope]

    def judge_columns(self, table: str, types: Mapping[str, str]) -> list[Finding]:
        """Every expectation of scope `column` on the columns' types by name, in the suite's order."""
        found = []
        for rule in self.expectations(table, "column"):
            held, observed = evaluate.on_columns(rule.type, rule.kwargs, types)
            found.append(Finding(rule, held, observed=observed))
        return found

    def judge(self, table: str, scope: ValueScope, frame: Frame) -> list[Finding]:
        """Every expectation of a scope on one frame of values, in the suite's order.

        Raises `Misconfigured` when an expectation does not fit the frame.
        """
        return self.findings(table, scope, self.outcomes(table, scope, frame))

    def outcomes(self, table: str, scope: ValueScope, frame: Frame) -> list[Outcome]:
        """An outcome per expectation of a scope about values; those of parts that share no key can be merged."""
        found = []
        for rule in self.expectations(table, scope):
            absent = [name for name in rule.columns if name not in frame]
            if absent:
                raise Misconfigured(f"suite {table}: {rule.name} needs {', '.join(absent)}; found {', '.join(frame)}")
            try:
                found.append(evaluate.on_rows(rule.type, rule.kwargs, frame))
            except Misconfigured as error:
                raise Misconfigured(f"suite {table}: {rule.name} {error}") from error
        return found

    def findings(self, table: str, scope: ValueScope, outcomes: Sequence[Outcome]) -> list[Finding]:
        """What the outcomes, one per expectation of the scope, amount to."""
        rules = self.expectations(table, scope)
        return [_of_outcome(rule, outcome) for rule, outcome in zip(rules, outcomes, strict=True)]


def _of_outcome(rule: Expectation, outcome: Outcome) -> Finding:
    if rule.type == evaluate.ROW_COUNT:
        held = evaluate.in_range(rule.kwargs, outcome.elements)
        return Finding(rule, held, observed={"observed_value": outcome.elements})
    return Finding(rule, evaluate.held(rule.kwargs, outcome), outcome)


def expectation(entry: Mapping[str, Any]) -> Expectation:
    """One entry of a suite's JSON; raises `Misconfigured` where it cannot be judged."""
    kwargs, meta = entry["kwargs"], entry["meta"]
    refuse_unsupported(entry["type"], kwargs)
    if (entry["type"] in COLUMN_TYPES) != (meta["scope"] == "column"):
        raise Misconfigured(f"{entry['type']} needs another scope; found {meta['scope']}")
    if meta["scope"] == "row" and "mostly" in kwargs:
        raise Misconfigured(
            f"{entry['type']} of scope row names its rows and needs no mostly; found {kwargs['mostly']}"
        )
    columns = [kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs]
    columns += kwargs.get("column_list", [])
    return Expectation(
        name=meta["name"],
        scope=meta["scope"],
        severity=entry["severity"],
        needs=meta["needs"],
        notes=entry["notes"],
        columns=tuple(columns),
        shows=tuple(meta.get("shows", columns)),
        keeps_one=meta.get("keeps_one", False),
        type=entry["type"],
        kwargs=kwargs,
        meta=meta,
    )


def _rules(folder: Path, table: str) -> list[Expectation]:
    path = folder / f"{table}.json"
    if not path.is_file():
        raise Misconfigured(f"table {table} needs a suite {path}; found none")
    rules = []
    for n, entry in enumerate(json.loads(path.read_text())["expectations"]):
        try:
            rules.append(expectation(entry))
        except KeyError as error:
            raise Misconfigured(f"suite {path}: expectation {n} needs {error}; found {', '.join(entry)}") from error
        except Misconfigured as error:
            raise Misconfigured(f"suite {path}: {entry['meta'].get('name', n)}: {error}") from error
    return rules
