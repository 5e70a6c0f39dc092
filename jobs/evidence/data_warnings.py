"""What `validate` warned of on the days a dataset comes from, for whoever approves a model that learned from them;
and training, of how its conversions were delayed.

A warning stops no day, so it must be seen where somebody decides: every rule that failed is in the document with its
days, and the page shows the worst.
"""

import html as markup
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from jobs.evidence.document import Warned, WarnedDay

SHOWN = 8
"""So many rules have a line on the page; the document has all."""


def span(days: Iterable[date]) -> list[date]:
    """Every day from the first of these to the last: one that was lost left no example to be found by."""
    found = sorted(days)
    return [found[0] + timedelta(days=n) for n in range((found[-1] - found[0]).days + 1)] if found else []


def by_rule(lineages: Mapping[str, Mapping[date, Mapping[str, Any]]]) -> list[Warned]:
    """Each rule that failed, worst first: those of most days, then of most rows.

    `lineages`: of each validated table, the lineage of the commit that published a day. A rule's days are in order, and
    its words are those of the newest.
    """
    found: dict[tuple[str, str], list[tuple[date, Mapping[str, Any]]]] = {}
    for table, days in lineages.items():
        for day in sorted(days):
            for warning in json.loads(json.loads(days[day]["notes"]).get("warnings", "[]")):
                found.setdefault((table, warning["expectation"]), []).append((day, warning))
    return sorted((_rule(table, name, warnings) for (table, name), warnings in found.items()), key=_mildness)


def of_delays(lineage: Mapping[str, Any]) -> list[Warned]:
    """That the delays of conversions drifted, where a bundle's training found it; bundles of before do not say."""
    drifted = lineage.get("delay_drift")
    if not drifted:
        return []
    day = WarnedDay(day=lineage["day"], rows=None, found=drifted["log_ratio"])
    needs = "conversions of the last days to take as long as those before"
    notes = f"In training, {drifted['said']}."
    return [Warned(table="examples", expectation="delays_as_before", needs=needs, notes=notes, days=[day])]


def of_drift(lineage: Mapping[str, Any]) -> list[Warned]:
    """That a warm start moved further than it may; a full training, or a bundle of before, says nothing."""
    moved = lineage.get("moved_far")
    if not moved:
        return []
    day = WarnedDay(day=lineage["day"], rows=None, found=moved["mean"])
    return [
        Warned(
            table="examples",
            expectation="warm_start_moves_little",
            needs="a warm start to say nearly what it continues says",
            notes=f"In training, {moved['said']}.",
            days=[day],
        )
    ]


def of_sample(lineage: Mapping[str, Any]) -> list[Warned]:
    """That a part of the train rows was learned from, where a bundle's training had more than it may hold."""
    drawn = lineage.get("sample")
    if not drawn:
        return []
    day = WarnedDay(day=lineage["day"], rows=lineage["train_rows"], found=drawn["share"])
    notes = (
        f"In training, {drawn['share']:.2%} of its requests were drawn by a hash of their ids; rates stay as they were."
    )
    needs = f"all {drawn['rows']:,} train rows to be learned from"
    return [Warned(table="examples", expectation="train_rows_fit", needs=needs, notes=notes, days=[day])]


def _rule(table: str, expectation: str, warnings: Sequence[tuple[date, Mapping[str, Any]]]) -> Warned:
    newest = warnings[-1][1]
    days = [WarnedDay(day=day.isoformat(), rows=said["rows"], found=said["found"]) for day, said in warnings]
    return Warned(table=table, expectation=expectation, needs=newest["needs"], notes=newest["notes"], days=days)


def _mildness(rule: Warned) -> tuple[int, int, str, str]:
    return (-len(rule.days), -sum(day.rows or 0 for day in rule.days), rule.table, rule.expectation)


def html(rules: Sequence[Warned]) -> str:
    """A section of the page: a line per rule, at most `SHOWN`."""
    if not rules:
        return "<h2>Warnings on its data</h2><p>None on any day its examples come from.</p>"
    lines = "".join(f"<li>{_line(rule)}</li>" for rule in rules[:SHOWN])
    more = f"<p class=sub>{len(rules) - SHOWN} more in evidence.json</p>" if len(rules) > SHOWN else ""
    return f"<h2>Warnings on its data</h2><ul>{lines}</ul>{more}"


def _line(rule: Warned) -> str:
    last = rule.days[-1]
    if last.rows is not None:
        found = f" ({last.rows:,} rows)"
    else:
        found = "" if last.found is None else f" (found {last.found:.4g})"
    days = f"{len(rule.days)} day{'s' if len(rule.days) > 1 else ''}, last {last.day}{found}"
    told = markup.escape(f"needs {rule.needs}. {rule.notes}")
    return f"<b>{markup.escape(rule.table)}.{markup.escape(rule.expectation)}</b> on {days}: {told}"
