"""What the impressions of a request must add up to: one item a place, each one a candidate, and chances that fit.

A logged propensity is conditional: the chance of this item at this position given everything above it. So nothing needs
to sum to one over a slate; what does hold is this. With c candidates, c - k + 1 of them are left for position k, and a
policy that gives each of them some chance has

    E[ 1 / propensity | the slate above ] = sum over what is left of chance x 1 / chance = c - k + 1,

that is, the importance weight of a uniform choice, `1 / (propensity x (c - k + 1))`, has mean 1 at every position: the
harmonic mean test of logged propensities of Li, Chen, Kleban and Gupta 2014 (arXiv:1403.1891), summed over the
candidates. The mean is below 1 where the policy leaves candidates without a chance, and above 1 only where propensities
are wrong. The candidate placed last of all has nothing beside it: its propensity is 1.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.validate.coded import Bools, Column, Ints, ascending, codes, first_rows, in_one_piece, row_of
from jobs.validate.figures import MANY, Moments

Floats = NDArray[np.float64]
CERTAIN = 0.999
FIGURES = (
    "shown_candidate_share",
    "whole_propensity_share",
    "from_top_share",
    "shown_request_share",
    "uniform_weight",
    "last_certain_share",
)


@dataclass(frozen=True)
class Slates:
    """The n impressions of a day in their requests; NaN where the request, or what is asked of it, is unknown."""

    request: Ints
    """(n,) which request; -1 where none is named."""
    asked: Ints
    """(n,) the row of the request in the day's requests; -1 where it is not among them."""
    original: Bools
    """(n,) false for a second copy of an impression: copies are counted once."""
    others_at_position: Floats
    """(n,) other impressions of the request at the same position."""
    others_of_item: Floats
    """(n,) other impressions of the request with the same item."""
    among_candidates: Floats
    """(n,) 1 where the item is one of the request's candidates, 0 where it is not."""
    uniform_weight: Floats
    """(n,) 1 / (propensity x candidates left for the position)."""
    last_propensity: Floats
    """(n,) the propensity, where the position leaves a single candidate."""
    has_propensity: Bools


def slates(impressions: pa.Table, requests: pa.Table) -> Slates:
    """Every impression of a day in its slate."""
    request = codes(impressions.column("request_id")).of
    position = _floats(impressions.column("position"))
    propensity = _floats(impressions.column("propensity"))
    impression = codes(impressions.column("impression_id"))
    first = np.append(first_rows(impression.of, len(impression.values)), -1)[impression.of]
    original = (impression.of < 0) | (first == np.arange(len(impressions)))
    asked = row_of(impressions.column("request_id"), requests.column("request_id"))
    sizes = _floats(pc.list_value_length(requests.column("candidates")))
    candidates = np.append(sizes, np.nan)[asked]
    left = np.where((position >= 1) & (position <= candidates), candidates - position + 1, np.nan)
    chance = np.where((propensity > 0) & (propensity <= 1) & original, propensity, np.nan)
    return Slates(
        request=request,
        asked=asked,
        original=original,
        others_at_position=_others(request, _whole(position), original),
        others_of_item=_others(request, codes(impressions.column("item_id")).of, original),
        among_candidates=_among(impressions.column("item_id"), asked, requests.column("candidates")),
        uniform_weight=1 / (chance * left),
        last_propensity=np.where(left == 1, chance, np.nan),
        has_propensity=np.isfinite(propensity),
    )


def sums(found: Slates, positions: pa.ChunkedArray, requests: int) -> dict[str, Moments]:
    """What is true of the slates as a whole, as sums over them; shares are of slates unless named otherwise."""
    whole, from_top = _complete(found, _floats(positions))
    shown = int(np.count_nonzero(np.bincount(found.asked[found.asked >= 0])))
    return {
        "shown_candidate_share": Moments.of(_finite(found.among_candidates) == 1),
        "whole_propensity_share": Moments.of(whole),
        "from_top_share": Moments.of(from_top),
        "shown_request_share": Moments(requests, shown, shown),
        "uniform_weight": Moments.of(_finite(found.uniform_weight)),
        "last_certain_share": Moments.of(_finite(found.last_propensity) >= CERTAIN),
    }


def figure(name: str, values: Moments) -> float:
    """What the sums of a day amount to; NaN of nothing."""
    if name == "uniform_weight":
        return values.near_one()
    return values.mean(MANY if name == "shown_candidate_share" else 1)


def figures(found: Slates, positions: pa.ChunkedArray, requests: int) -> dict[str, float]:
    """The figures of a day's slates; NaN of nothing."""
    return {name: figure(name, values) for name, values in sums(found, positions, requests).items()}


def places_shown(found: Slates, requests: int) -> Floats:
    """(requests,) how many different impressions each request has."""
    counted = found.original & (found.asked >= 0)
    return np.bincount(found.asked[counted], minlength=requests).astype(np.float64)


def repeated(candidates: Column) -> Floats:
    """(requests,) candidates that were listed before in the same list; nulls are not counted."""
    lists = in_one_piece(candidates)
    code = codes(pc.list_flatten(lists)).of
    known = code >= 0
    parent = np.asarray(pc.list_parent_indices(lists), dtype=np.int64)[known]
    again = _repeats(parent, code[known])
    return np.bincount(parent[again], minlength=len(lists)).astype(np.float64)


def near_one(weights: Floats) -> float:
    """The mean, moved up to three standard errors towards 1; NaN of fewer than two values."""
    return Moments.of(weights).near_one()


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _complete(found: Slates, position: Floats) -> tuple[Bools, Bools]:
    """Of each request: all or none of its places have a propensity; its positions are 1, 2, … without a gap."""
    rows = (found.request >= 0) & np.isfinite(position)
    request = found.request[rows]
    n = int(request.max(initial=-1)) + 1
    having = np.bincount(request, found.has_propensity[rows], minlength=n)
    of = np.bincount(request, minlength=n)
    different = np.bincount(request[~_repeats(request, _whole(position[rows]))], minlength=n)
    highest, lowest = np.full(n, -np.inf), np.full(n, np.inf)
    np.maximum.at(highest, request, position[rows])
    np.minimum.at(lowest, request, position[rows])
    some = of > 0
    return ((having == 0) | (having == of))[some], ((lowest == 1) & (highest == different))[some]


def _others(request: Ints, value: Ints, original: Bools) -> Floats:
    """Other originals with the same request and value, a whole number from 0 on; NaN where either is unknown (-1)."""
    known = np.flatnonzero((request >= 0) & (value >= 0))
    group = _groups(request[known], value[known])
    others = np.full(len(request), np.nan)
    others[known] = np.bincount(group, original[known])[group] - 1 if len(known) else 0
    return others


def _groups(first: Ints, second: Ints) -> Ints:
    """(n,) equal numbers for rows with equal pairs of two whole numbers from 0 on."""
    pairs = _pair(first, second)
    order = ascending(pairs)
    ordered = pairs[order]
    groups = np.empty(len(pairs), np.int64)
    groups[order] = np.cumsum(np.append(False, ordered[1:] != ordered[:-1])[: len(pairs)])
    return groups


def _repeats(first: Ints, second: Ints) -> Bools:
    """(n,) whether a row before has the same pair of whole numbers from 0 on."""
    pairs = _pair(first, second)
    order = ascending(pairs)
    ordered = pairs[order]
    again = np.zeros(len(pairs), bool)
    again[order[1:]] = ordered[1:] == ordered[:-1]
    return again


def _among(items: Column, asked: Ints, candidates: Column) -> Floats:
    lists = in_one_piece(candidates)
    listed = codes(pc.list_flatten(lists))
    mine = codes(items)
    code = np.append(row_of(mine.values, listed.values), -1)[mine.of]
    parents, known = np.asarray(pc.list_parent_indices(lists), np.int64), listed.of >= 0
    offered = _pair(parents[known], listed.of[known], many=len(listed.values))
    offered.sort()
    wanted = np.flatnonzero((asked >= 0) & (code >= 0))
    among = np.zeros(len(asked))
    among[wanted] = _found(_pair(asked[wanted], code[wanted], many=len(listed.values)), offered)
    has_list = np.append(np.asarray(lists.is_valid()), False)[asked]
    return np.where(has_list & (mine.of >= 0), among, np.nan)


def _found(pairs: Ints, offered: Ints) -> Bools:
    """Which pairs are among those offered, ascending."""
    if not len(offered):
        return np.zeros(len(pairs), bool)
    return np.asarray(offered[np.minimum(np.searchsorted(offered, pairs), len(offered) - 1)] == pairs)


def _pair(first: Ints, second: Ints, many: int = 0) -> Ints:
    """One whole number for two from 0 on, both below 2^31; the second is below `many`, or as large as it happens."""
    return first * max(many, int(second.max(initial=0)) + 1) + second


def _whole(position: Floats) -> Ints:
    """Positions counted from the lowest; -1 where there is none."""
    known = np.isfinite(position)
    lowest = position[known].min(initial=np.inf) if known.any() else 0.0
    return np.where(known, np.where(known, position, 0.0) - lowest, -1.0).astype(np.int64)


def _floats(column: pa.ChunkedArray | pa.Array) -> Floats:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float("nan")), dtype=np.float64)
