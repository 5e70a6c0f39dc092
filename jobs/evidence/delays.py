"""How late conversions were heard of: the challenger's delay curves beside those published before them, and as charts.

Training publishes them (`delay_curves`) and warns where delays drift; here is what a person compares by eye.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from jobs.evidence import charts, wording
from jobs.evidence.document import Document
from jobs.evidence.figures import Delayed, Delays
from jobs.lake.run import Run
from jobs.lake.tables import LAKE
from models.delays.curve import DRIFT_RISK

TABLE, ALL = "delay_curves", "all"
DRIFT = ("drift_log_ratio", "drift_low", "drift_high")
SHOWN = 8
"""So many groups have a chart, those with the most conversions; the document has all."""


@dataclass(frozen=True)
class Picture:
    """A group's chart and what is said under its name."""

    name: str
    said: str
    drifts: bool
    chart: Markup


def section(run: Run, trained: str) -> Delays | None:
    """Those of the training of the day `trained` in the run's mode; None where it published none."""
    own = {"day": trained, "mode": run.mode}
    published = run.partitions(TABLE)
    if own not in published or not len(curves := run.read(TABLE, where=own)):
        return None
    before = _before(run, published, own)
    return Delays(
        **own,
        origin=curves["origin"][0].as_py(),
        before=None if before is None else before[0],
        groups=[_delayed(curves, name, before and before[1]) for name in _groups(curves)],
    )


def _before(run: Run, published: list[dict[str, str]], own: dict[str, str]) -> tuple[str, pa.Table] | None:
    """The newest of earlier days, and of the same day the full training's before a warm start's; its day, and rows."""

    def place(of: dict[str, str]) -> tuple[str, bool]:
        return of["day"], of["mode"] == "warm"

    for of in sorted((of for of in published if place(of) < place(own)), key=place, reverse=True):
        if len(curves := run.read(TABLE, where=of)):
            return of["day"], curves
    return None


def _groups(curves: pa.Table) -> list[str]:
    """All of them first, then surfaces, those with the most conversions before."""
    told = curves.group_by("group").aggregate([("outcomes", "max")]).to_pylist()
    return [of["group"] for of in sorted(told, key=lambda of: (of["group"] != ALL, -of["outcomes_max"], of["group"]))]


def _delayed(curves: pa.Table, group: str, before: pa.Table | None) -> Delayed:
    def of(table: pa.Table) -> pa.Table:
        return table.filter(pc.equal(table["group"], group)).sort_by("age_days")

    mine, earlier = of(curves), of(LAKE[TABLE].schema.empty_table() if before is None else before)
    same = len(earlier) and earlier["age_days"].equals(mine["age_days"])
    first = mine.slice(0, 1).to_pylist()[0]
    return Delayed(
        group=group,
        outcomes=first["outcomes"],
        age_days=mine["age_days"].to_pylist(),
        share=mine["share"].to_pylist(),
        stderr=mine["stderr"].to_pylist(),
        before=earlier["share"].to_pylist() if same else None,
        drift=None if first[DRIFT[0]] is None else tuple(first[name] for name in DRIFT),
        drift_p_value=first["drift_p_value"],
    )


def pictures(document: Document) -> list[Picture]:
    """A chart a group."""
    return [] if document.delays is None else [_picture(of) for of in document.delays.groups[:SHOWN]]


def _picture(of: Delayed) -> Picture:
    first_day = next(share for age, share in zip(of.age_days, of.share, strict=True) if age >= 1)
    name = "All clicks" if of.group == ALL else of.group
    drifts = of.drift_p_value is not None and of.drift_p_value < DRIFT_RISK
    said = f"{of.outcomes:,} conversions; {wording.share(first_day)} heard of within a day. {_drifted(of, drifts)}"
    stderr = [error or 0.0 for error in of.stderr]
    band = [(max(0.0, f - 2 * e), min(1.0, f + 2 * e)) for f, e in zip(of.share, stderr, strict=True)]
    says = f"{name}: share of conversions heard of, by days since the impression"
    return Picture(name, said.strip(), drifts, charts.rising(of.age_days, of.share, band, of.before, says))


def _drifted(of: Delayed, drifts: bool) -> str:
    if of.drift is None or not drifts:
        return ""
    value, low, high = map(wording.signed, of.drift)
    way = "longer" if of.drift[0] > 0 else "shorter"
    return f"The last days' take {way} (log ratio {value}, {low} to {high})."
