"""What is told of a day's labels: how many, what of them, and whether they are those that are published."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.attribute import core
from jobs.attribute.core import Outcomes
from jobs.lake.tables import LAKE
from jobs.places import Place, write_parquet

Days = Mapping[str, pa.Table]
"""Labels by day."""


@dataclass
class Told:
    """Of some of the labels of some days; that of all of them is the sum."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """By day: impressions and what came of them, and `core.COUNTED`."""
    changed: set[str] = field(default_factory=set)
    """Of the days that were published before, those whose labels are others now."""

    @classmethod
    def of(cls, labels: Days, published: Days, earned: pa.Table, outcomes: Outcomes) -> "Told":
        """`earned` is `core.COUNTED`; days without published labels are not asked for changes."""
        told = cls({day: Counter({**_outcomes(rows), **_further(rows, outcomes)}) for day, rows in labels.items()})
        for row in earned.to_pylist():
            told.counts.setdefault(row.pop("day"), Counter()).update(row)
        told.changed = {day for day, rows in published.items() if not in_order(labels[day]).equals(in_order(rows))}
        return told

    @classmethod
    def whole(cls, parts: Iterable["Told"]) -> "Told":
        """The sum."""
        whole = cls()
        for part in parts:
            whole.changed |= part.changed
            for day, counts in part.counts.items():
                whole.counts.setdefault(day, Counter()).update(counts)
        return whole

    def of_day(self, day: str) -> Counter[str]:
        """A day's counts, 0 where nothing was counted."""
        return Counter({**dict.fromkeys((*COUNTED, *core.COUNTED.names[1:]), 0), **self.counts.get(day, {})})


COUNTED = ("impressions", "clicked", "converted", "late")


def in_order(labels: pa.Table) -> pa.Table:
    """However many files they came from, as the contract has them."""
    schema = LAKE["labels"].schema
    return (
        labels.select(schema.names).cast(schema).sort_by([("event_time", "ascending"), ("impression_id", "ascending")])
    )


def put(labels: pa.Table, path: Place) -> None:
    """As a part file. Ids and times hardly repeat: of dictionaries of them a file takes longer and is larger."""
    write_parquet(labels, path, coerce_timestamps="us", use_dictionary=False)


def by_day(labels: pa.Table, days: Iterable[str]) -> dict[str, pa.Table]:
    """Slices of labels that are `in_order`."""
    shown_on = np.asarray(labels.column("event_time").cast(pa.date32()).cast(pa.int32()))
    ends = {day: np.searchsorted(shown_on, [number, number + 1]) for day, number in _numbers(days).items()}
    return {day: labels.slice(start, end - start) for day, (start, end) in ends.items()}


def _numbers(days: Iterable[str]) -> dict[str, int]:
    """Days since 1970."""
    return {day: (date.fromisoformat(day) - date(1970, 1, 1)).days for day in days}


def _outcomes(rows: pa.Table) -> Counter[str]:
    """A day's impressions, and how many were clicked, converted, and known only after the day."""
    late = pc.greater(pc.days_between(rows.column("event_time"), rows.column("known_at")), 0)
    flags = {"clicked": rows.column("clicked"), "converted": rows.column("converted"), "late": late}
    counts = {name: pc.sum(flag, min_count=0).as_py() for name, flag in flags.items()}
    return Counter({"impressions": len(rows), **counts})


def _further(rows: pa.Table, outcomes: Outcomes) -> Counter[str]:
    """How many of a day's impressions have an event of each further outcome."""
    entries = rows.column("outcomes").combine_chunks().flatten()
    happened = entries.filter(entries.field("events").is_valid()).field("outcome")
    return Counter({f"outcome.{name}": pc.sum(pc.equal(happened, name), min_count=0).as_py() for name in outcomes})
