"""What a verdict was worth once every label was in: when labels close, and first figures against matured ones. No I/O.

**When labels close** is for `jobs.outcomes` to say: a day's do at the end of the day that comes `click_window_days +
window_days + late_days` days after it, which is the last day whose run of `attribute` computes them again. Evidence
closes with its newest test day and has written down when (`conversions.closes_on`): on one day only, whatever the
settings have become.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.core import ABSENT, first_known, take
from jobs.deployments.release import PROMOTE
from jobs.evidence.document import Document
from jobs.evidence.figures import Estimated, Finding, Part, Refused
from jobs.evidence.judgement import Judgement, LabelChange, Moved
from jobs.outcomes import Outcome, as_known, further_as_known, told_by
from models.settings import OutcomeSettings

OUTCOMES: tuple[Outcome, ...] = ("clicked", "converted")
LABELS = ("impression_id", "event_time", "known_at", *told_by("clicked"), *told_by("converted"), "outcomes")
LATENCY = "latency_ms"


def closes_on(tree: Mapping[str, Any]) -> date | None:
    """The day at whose end the labels of all test rows are closed; None where a document of older days does not say.

    `tree`: a document of whatever schema.
    """
    told = tree.get("conversions", {}).get("closes_on")
    return None if told is None else date.fromisoformat(told)


def days_of(event_time: Sequence[str]) -> list[date]:
    """The days from the oldest to the newest test row of the evidence, both included."""
    first, last = (datetime.fromisoformat(at).date() for at in event_time)
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def relabelled(
    test: pa.Table, labels: pa.Table, cut: datetime, late_days: int, further: Mapping[str, OutcomeSettings]
) -> pa.Table:
    """`test` with its outcomes, `further` ones too, as known at `cut`, null (unknown) while open; all else as it was.

    Of labels with one `impression_id` the one known first counts, as in the dataset the rows come from.
    """
    unique = first_known(labels, "impression_id", ("known_at", "event_time"))
    rows = pc.fill_null(pc.index_in(test["impression_id"], unique["impression_id"].combine_chunks()), ABSENT)
    label = take(unique, np.asarray(rows.to_numpy(), dtype=np.int64))
    for outcome in OUTCOMES:
        test = test.set_column(test.schema.get_field_index(outcome), outcome, as_known(label, outcome, cut, late_days))
    outcomes = further_as_known(label, further, cut, late_days)
    return test.set_column(test.schema.get_field_index("outcomes"), test.schema.field("outcomes"), outcomes)


def label_changes(before: pa.Table, after: pa.Table) -> list[LabelChange]:
    """How many of n rows went from which outcome to which, most first; those that stayed are left out."""
    found = Counter[tuple[Outcome, bool | None, bool | None]]()
    for outcome in OUTCOMES:
        pairs = zip(before[outcome].to_pylist(), after[outcome].to_pylist(), strict=True)
        found.update((outcome, was, now) for was, now in pairs if was is not now)
    ordered = sorted(found.items(), key=lambda entry: (OUTCOMES.index(entry[0][0]), -entry[1], str(entry[0])))
    return [LabelChange(outcome=outcome, before=was, after=now, rows=n) for (outcome, was, now), n in ordered]


def findings(document: Document) -> dict[str, Finding]:
    """Every figure of a document that has an interval or was refused, by its path: `auc.difference`, `value.champion`.

    Metrics of the comparison lose that word. What lies in lists (slices, bins) has no name of its own and is left out.
    """
    return {path.removeprefix("comparison."): found for path, found in _walked(dict(document), "")}


def _walked(parts: Mapping[str, Any], path: str) -> Iterator[tuple[str, Finding]]:
    for name in sorted(parts):
        part = parts[name]
        if isinstance(part, Estimated | Refused):
            yield f"{path}{name}", part
        elif isinstance(part, Part | dict):
            yield from _walked(dict(part), f"{path}{name}.")


def moved(first: Document, matured: Document) -> list[Moved]:
    """Each figure of either document, first, matured, and matured minus first; None where it was refused or is absent.

    Both are computed from the same rows, so the difference has no interval of its own: it is what the labels changed.
    """
    before, after = findings(first), findings(matured)
    return [_moved(name, before.get(name), after.get(name)) for name in sorted({*before, *after})]


def _moved(name: str, first: Finding | None, matured: Finding | None) -> Moved:
    before, after = (found if isinstance(found, Estimated) else None for found in (first, matured))
    return Moved(
        figure=name,
        first=before and before.value,
        first_low=before and before.low,
        first_high=before and before.high,
        matured=after and after.value,
        matured_low=after and after.low,
        matured_high=after and after.high,
        difference=after.value - before.value if before and after else None,
    )


def latency_ms(judgement: Judgement | None) -> float | None:
    """The latency a verdict was reached with; None where the gate did not ask or nobody judged."""
    rules = () if judgement is None else judgement.rules
    return next((rule.figure for rule in rules if rule.name == LATENCY), None)


def changed(first: str | None, matured: str | None) -> bool | None:
    """Whether the verdict is another one now; None where one of the two is missing."""
    return None if first is None or matured is None else first != matured


def alarming(deployed: bool, verdict: str | None) -> bool:
    """A model that serves, and that the gate would not promote (or cannot judge) with every label in."""
    return deployed and verdict != PROMOTE
