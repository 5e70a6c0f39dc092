"""One model for several surfaces: which of them it can be for, and whether one for each would be better. No I/O."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import Refused
from jobs.evidence.scored import MEASURED, Scored
from models.evaluation.comparison import compare
from models.evaluation.estimate import Estimate, Finding
from models.evaluation.slices import Ints, Reversal, Slice, reversals, slices
from models.settings import BY_SURFACE, GateSettings

SHARED = 0.5
"""Of a surface's impressions, which must be of items that the catalogue knows or another surface shows."""
FEWEST_ROWS = 100
"""Fewer of a surface tell nothing of what it ranks."""
FEWEST_COMPARED = 200
"""Validation rows of a surface."""


def shown(examples: pa.Table) -> pa.Table:
    """How often each surface showed each item: `count_all`."""
    return examples.group_by(["surface", "item_id"]).aggregate([([], "count_all")])


def need_same_entities(shown: pa.Table, catalogue: pa.ChunkedArray | None) -> None:
    """Raises `Refused` where a surface of several ranks something else than the catalogue's items: queries, sellers.

    `shown` is that of one batch after another.

    One model of both would learn features that one of them has not, and ids that mean nothing to the other. An item is
    shared where `catalogue`, ids, has it or another surface shows it too (new items may be on one surface alone).
    """
    shown = shown.group_by(["surface", "item_id"]).aggregate([("count_all", "sum")])
    shown = shown.rename_columns(["surface", "item_id", "count_all"])
    per_item = shown.group_by("item_id").aggregate([([], "count_all")])
    elsewhere = pc.greater(
        per_item["count_all"].take(pc.index_in(shown["item_id"], per_item["item_id"].combine_chunks())), 1
    )
    known = pa.scalar(False) if catalogue is None else pc.is_in(shown["item_id"], catalogue.combine_chunks())
    shared = pc.multiply(shown["count_all"], pc.cast(pc.or_(elsewhere, known), pa.int64()))
    of = shown.append_column("shared", shared).group_by("surface")
    rows = of.aggregate([("count_all", "sum"), ("shared", "sum")]).sort_by("surface").to_pylist()
    alien = [row for row in rows if row["count_all_sum"] >= FEWEST_ROWS]
    alien = [row for row in alien if row["shared_sum"] < SHARED * row["count_all_sum"]]
    if len(rows) < 2 or not alien:
        return
    found = "; ".join(
        f"{row['surface']} has {row['shared_sum']} of {row['count_all_sum']} impressions of such items" for row in alien
    )
    names = ", ".join(str(row["surface"]) for row in alien)
    raise Refused(
        f"one model for several surfaces needs them to rank the same entities, most of whose ids the catalogue or"
        f" another surface knows; found {found}: name {names} in dataset.without_surfaces and give what it ranks a"
        " pipeline of its own"
    )


def bespoke_against_consolidated(rows: Scored, kinds: Sequence[str], settings: GateSettings) -> dict[str, Any]:
    """Of each kind in `kinds` that is there by surface too: the difference on the same rows, by metric and surface.

    The intervals of the surfaces hold together (`models.evaluation.slices`); a Simpson's paradox is named: rankers that
    never met have levels of their own, so that each may order its surface better and all of them together worse.
    """
    pairs = [(kind, kind + BY_SURFACE) for kind in kinds if kind + BY_SURFACE in kinds]
    return {one: {metric: _differences(rows, one, each, metric, settings) for metric in MEASURED}
            for one, each in pairs}  # fmt: skip


def sentences(found: dict[str, Any]) -> list[str]:
    """For the log, one of each kind and metric."""
    said = []
    for kind, of in found.items():
        for metric, parts in of.items():
            told = ", ".join(f"{name} {_told(part)}" for name, part in parts["surfaces"].items())
            paradox = "; the whole says the opposite of every surface" if parts["reversed"] else ""
            said.append(
                f"{metric} of {kind}, one for each surface minus one for all: {_told(parts['all'])}; {told}{paradox}"
            )
    return said


def _differences(rows: Scored, one: str, each: str, metric: str, settings: GateSettings) -> dict[str, Any]:
    consolidated, bespoke = (rows.asked_by(metric)[kind] for kind in (one, each))

    def difference(at: Ints, confidence: float) -> Finding:
        held = settings.model_copy(update={"confidence": confidence})
        sides = (rows.clicked[at], consolidated[at], bespoke[at], rows.requests[at], rows.users[at])
        return compare(*sides, held, [metric])[metric]["difference"]

    of = {"surface": rows.attributes["surface"]}
    whole = difference(np.arange(len(rows)), settings.confidence)
    parts: list[Slice] = slices(of, difference, confidence=settings.confidence, min_rows=FEWEST_COMPARED)
    paradox: list[Reversal] = reversals(whole, parts)
    return {
        "all": _stated(whole),
        "surfaces": {part.value: {"rows": part.n} | _stated(part.difference) for part in parts},
        "reversed": bool(paradox),
    }


def _stated(found: Finding) -> dict[str, Any]:
    if isinstance(found, Estimate):
        return {"difference": found.value, "low": found.low, "high": found.high}
    return {"refused": found.reason}


def _told(part: dict[str, Any]) -> str:
    if "refused" in part:
        return f"unknown ({part['refused']})"
    return f"{part['difference']:+.4f} [{part['low']:+.4f}, {part['high']:+.4f}]"
