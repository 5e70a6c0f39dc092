"""What `validate` warned of on the days a dataset comes from, for whoever approves a model that learned from them.

A warning stops no day, so it must be seen where somebody decides: every rule that failed is in the document with its
days, and the page shows the worst.
"""

import html as markup
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

SHOWN = 8
"""So many rules have a line on the page; the document has all."""


def span(days: Iterable[date]) -> list[date]:
    """Every day from the first of these to the last: one that was lost left no example to be found by."""
    found = sorted(days)
    return [found[0] + timedelta(days=n) for n in range((found[-1] - found[0]).days + 1)] if found else []


def by_rule(lineages: Mapping[str, Mapping[date, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Each rule that failed, worst first: those of most days, then of most rows.

    `lineages`: of each validated table, the lineage of the commit that published a day. An entry has `table`,
    `expectation`, `needs`, `notes` and `days`: of each day, oldest first, `rows` (how many broke it; null where the
    rule is about the day or its columns) and `found` (the day's figure; null where it is about something else).
    """
    rules: dict[tuple[str, str], dict[str, Any]] = {}
    for table, days in lineages.items():
        for day in sorted(days):
            for warning in json.loads(json.loads(days[day]["notes"]).get("warnings", "[]")):
                said = {name: warning[name] for name in ("expectation", "needs", "notes")}
                rule = rules.setdefault((table, said["expectation"]), {"table": table, **said, "days": []})
                rule |= said  # a rule's words may change: the newest count
                rule["days"].append({"day": day.isoformat(), "rows": warning["rows"], "found": warning["found"]})
    return sorted(rules.values(), key=_mildness)


def _mildness(rule: Mapping[str, Any]) -> tuple[int, int, str, str]:
    rows = sum(day["rows"] or 0 for day in rule["days"])
    return (-len(rule["days"]), -rows, rule["table"], rule["expectation"])


def html(rules: Sequence[Mapping[str, Any]]) -> str:
    """A section of the page: a line per rule, at most `SHOWN`."""
    if not rules:
        return "<h2>Warnings on its data</h2><p>None on any day its examples come from.</p>"
    lines = "".join(f"<li>{_line(rule)}</li>" for rule in rules[:SHOWN])
    more = f"<p class=sub>{len(rules) - SHOWN} more in evidence.json</p>" if len(rules) > SHOWN else ""
    return f"<h2>Warnings on its data</h2><ul>{lines}</ul>{more}"


def _line(rule: Mapping[str, Any]) -> str:
    last = rule["days"][-1]
    if last["rows"] is not None:
        found = f" ({last['rows']:,} rows)"
    else:
        found = "" if last["found"] is None else f" (found {last['found']:.4g})"
    days = f"{len(rule['days'])} day{'s' if len(rule['days']) > 1 else ''}, last {last['day']}{found}"
    told = markup.escape(f"needs {rule['needs']}. {rule['notes']}")
    return f"<b>{markup.escape(rule['table'])}.{markup.escape(rule['expectation'])}</b> on {days}: {told}"
