"""Which replayed decisions can be weighed as whole pages: every placement below the first one as well.

A placement's propensity is conditional on all above it, so a page counts only if nothing on it is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.bundle import Bundle
from jobs.evidence.figures import Earned, Pages
from jobs.evidence.replayed import Replayed, incomplete
from jobs.moment.columns import numbers
from jobs.moment.decisions import Decisions, Ints
from models.evaluation.choices import SIDES, Side
from models.evaluation.page_values import Depth, PageStatistics
from models.policies.choice import Bools, Surfaces, placed_choice
from models.policies.heuristics import Words
from models.rankers.protocol import Floats
from models.settings import GateSettings

MOST_PLACES = 20
"""No page is weighed further down."""
PLACEMENT = ["request_id", "position", "item_id", "clicked", "propensity"]
"""What is read of each."""


@dataclass(frozen=True)
class ShownPages:
    """The p placements of whole pages, by page and from its top down; every array is (p,)."""

    decision: Ints
    """The number of the page's first placement among the decisions."""
    place: Ints
    """1 is the first."""
    candidate: Ints
    """Where the item stands among the decisions' candidates."""
    clicked: Floats
    propensity: Floats

    @property
    def pages(self) -> int:
        """How many pages."""
        return int((self.place == 1).sum())

    @property
    def places(self) -> int:
        """Placements of the longest one, 0 without any."""
        return int(self.place.max(initial=0))


def shown_pages(test: pa.Table, found: Decisions) -> tuple[ShownPages, dict[str, int]]:
    """The whole pages of the decisions, and how many decisions fail which condition.

    Left out as a whole: a placement without a propensity or with a click that is not known; a position that is missing
    or taken twice; an item that is not among the candidates or is there, or on the page, twice.
    """
    at = pc.index_in(test["request_id"], found.request_id)
    rows = test.select(PLACEMENT).filter(at.is_valid())
    decision, position = (
        column.combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
        for column in (at.drop_null(), rows["position"])
    )
    order = np.lexsort((position, decision))
    decision, position, rows = decision[order], position[order], rows.take(pa.array(order))
    starts = np.searchsorted(decision, np.arange(len(found)))
    place = np.arange(len(decision)) - starts[decision] + 1
    candidate, listed_twice = _candidates(rows["item_id"], decision, found)
    clicked, propensity = numbers(rows["clicked"]), numbers(rows["propensity"])
    shown = np.bincount(candidate[candidate >= 0], minlength=len(found.item))
    conditions = {
        "no_propensity": np.isnan(propensity),
        "click_unknown": np.isnan(clicked),
        "position_missing": position - position[starts[decision]] + 1 != place,
        "shown_item_not_a_candidate": candidate < 0,
        "item_twice": listed_twice[decision] | (shown[candidate] > 1),
    }
    whole, left_out = np.ones(len(found), bool), {"decisions": len(found)}
    for reason, wrong in conditions.items():
        fails = whole & (np.bincount(decision[wrong], minlength=len(found)) > 0)
        left_out[reason] = int(fails.sum())
        whole &= ~fails
    kept = whole[decision]
    return ShownPages(decision[kept], place[kept], candidate[kept], clicked[kept], propensity[kept]), left_out


def _candidates(item: pa.ChunkedArray, decision: Ints, found: Decisions) -> tuple[Ints, NDArray[np.bool_]]:
    """(p,) the candidate that each shown item is, -1 for none; (m,) whether a decision lists an item twice."""
    shown = pc.fill_null(pc.index_in(item, pa.array(found.item_ids, pa.string())), -1).to_numpy()
    many, n = len(found.item_ids), len(found.item)
    key = found.row * many + found.item
    wanted = np.where(shown < 0, -1, decision * many + shown)
    order = np.argsort(key, kind="stable")
    key = key[order]
    twice = np.bincount(found.row[order[1:][key[1:] == key[:-1]]], minlength=len(found)) > 0
    at = np.minimum(np.searchsorted(key, wanted), n - 1)
    return np.where(key[at] == wanted, order[at], -1), twice


def placed(
    found: Decisions,
    pages: ShownPages,
    side: Bundle,
    scores: Floats,
    kept: Bools | None = None,
    surfaces: Surfaces | None = None,
    words: Words | None = None,
) -> Floats:
    """(p,) the probability that the bundle's policy would place each item where it stood, given all above it.

    0 for a candidate that its light stage has not `kept` (n,). `surfaces` (m,): the decisions'; `words` (n,): the
    candidates', that its heuristics look at.
    """
    place = np.zeros(len(found.item), np.int64)
    place[pages.candidate] = pages.place
    return placed_choice(scores, found.offsets, place, side.policy, kept, surfaces, words)[pages.candidate]


def earned(found: Decisions, pages: ShownPages, chances: Mapping[Side, Floats], settings: GateSettings) -> list[Depth]:
    """Clicks per page by depth; `chances`: side to what `placed` gives. Empty without a whole page."""
    kept = pages.place <= MOST_PLACES
    if not kept.any():
        return []
    statistics = PageStatistics.of(
        slate=pages.decision[kept],
        position=pages.place[kept],
        reward=pages.clicked[kept],
        logged=pages.propensity[kept],
        clusters=found.cluster[pages.decision[kept]],
        places=min(pages.places, MOST_PLACES),
        **{side: chances[side][kept] for side in SIDES},
    )
    return statistics.depths(settings)


def section(test: pa.Table, replay: Replayed, sides: Mapping[Side, Bundle], settings: GateSettings) -> Pages:
    """What the document says of whole pages."""
    if not len(replay):
        return Pages(pages=0, places=0, left_out={"decisions": 0}, depths={})
    pages, left_out = shown_pages(test, replay.found)
    gaps, of = left_out["position_missing"], left_out["decisions"]
    refusal = replay.refusal or incomplete(gaps, of, "pages without a gap or a place taken twice", settings)
    if refusal:
        depths = [Depth(1, refusal, refusal, refusal, refusal)]
    else:
        chances = {
            side: placed(
                replay.found, pages, bundle, replay.scores[side], replay.kept[side], replay.surfaces, replay.words
            )
            for side, bundle in sides.items()
        }
        depths = earned(replay.found, pages, chances, settings)
    found = {
        str(depth.places): Earned.of({name: getattr(depth, name) for name in Earned.model_fields}) for depth in depths
    }
    return Pages(pages=pages.pages, places=pages.places, left_out=left_out, depths=found)
