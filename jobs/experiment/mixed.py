"""An experiment that interleaves, from the endpoint's capture: which arm's items people click, by user. No I/O."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.lake.findings import figures, finding_note
from jobs.serving.answer import Answer, Mix
from models.evaluation.estimate import Estimate
from models.experiments.assignment import unit_of
from models.experiments.interleaving import NO_RANK, balanced_credit, preferences
from models.experiments.sequences import at_any_look
from models.experiments.settings import ExperimentSettings

PREFERENCE = "preference"
SCALE = 0.1
"""A preference worth finding: the interval for any look is tightest near it."""


def clicked(rows: pa.Table) -> set[tuple[str, str]]:
    """Request and item of every click among labelled impressions (`users.joined`)."""
    hit = rows.filter(pc.greater(rows["clicked"], 0))
    return set(zip(hit["request_id"].to_pylist(), hit["item_id"].to_pylist(), strict=True))


def rows(
    settings: ExperimentSettings,
    pages: Sequence[tuple[str | None, Answer]],
    shown: Collection[str],
    clicks: Collection[tuple[str, str]],
) -> list[dict[str, Any]]:
    """The preference for each arm over control, in [-1, 1], over the pages whose request is among the `shown` ones."""
    known = [(user, answer) for user, answer in pages if answer.mix is not None and answer.request_id in shown]
    credits = np.zeros((len(known), len(settings.arms)))
    for at, (_, answer) in enumerate(known):
        if answer.mix is not None:
            clicked = [(answer.request_id, place.item_id) in clicks for place in answer.items]
            credits[at] = _credit(answer.mix, np.array(clicked, bool))
    units = [unit_of(user, answer.request_id, frozenset(settings.shared_ids)).key for user, answer in known]
    _, users = np.unique(np.array(units, str), return_inverse=True)
    found = preferences(credits, users.astype(np.int64), settings.confidence)
    unseen = len(pages) - len(known)
    note = f"{unseen} pages without a labelled impression are left out" if unseen else ""
    told = []
    for arm, one in zip(list(settings.arms)[1:], found, strict=True):
        row: dict[str, Any] = {
            "experiment": settings.name,
            "metric": PREFERENCE,
            "control": settings.control,
            "variant": arm,
        }
        row |= {**figures(one), "note": finding_note(one, note)}
        if isinstance(one, Estimate):
            row["always_low"], row["always_high"] = at_any_look(one, SCALE, settings.confidence)
        told.append(row)
    return told


def bundles(pages: Sequence[tuple[str | None, Answer]]) -> list[tuple[str, str]]:
    """Each arm and the candidate whose list was mixed for it, page by page."""
    return [
        pair
        for _, answer in pages
        if answer.mix is not None
        for pair in zip(answer.mix.arms, answer.mix.bundles or (), strict=False)
    ]


def _credit(mix: Mix, clicked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(arms,) what the clicks (k,) of a page are worth."""
    if mix.ranks is None:
        return np.asarray(np.array(mix.worth, float)[clicked].sum(axis=0))
    ranks = [[NO_RANK if rank is None else rank for rank in place] for place in mix.ranks]
    return balanced_credit(np.array(ranks, np.int64), clicked)
