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

from jobs.validate.figures import MANY, Moments

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
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
    request = _codes(impressions.column("request_id"))
    position = _floats(impressions.column("position"))
    propensity = _floats(impressions.column("propensity"))
    impression = _codes(impressions.column("impression_id"))
    original = (impression < 0) | _first(impression)
    asked = _row_of(impressions.column("request_id"), requests.column("request_id"))
    sizes = _floats(pc.list_value_length(requests.column("candidates")))
    candidates = np.append(sizes, np.nan)[asked]
    left = np.where((position >= 1) & (position <= candidates), candidates - position + 1, np.nan)
    chance = np.where((propensity > 0) & (propensity <= 1) & original, propensity, np.nan)
    return Slates(
        request=request,
        asked=asked,
        original=original,
        others_at_position=_others(request, position, original),
        others_of_item=_others(request, _known(_codes(impressions.column("item_id"))), original),
        among_candidates=_among(impressions.column("item_id"), asked, requests.column("candidates")),
        uniform_weight=1 / (chance * left),
        last_propensity=np.where(left == 1, chance, np.nan),
        has_propensity=np.isfinite(propensity),
    )


def sums(found: Slates, positions: pa.ChunkedArray, requests: int) -> dict[str, Moments]:
    """What is true of the slates as a whole, as sums over them; shares are of slates unless named otherwise."""
    whole, from_top = _complete(found, _floats(positions))
    shown = len(np.unique(found.asked[found.asked >= 0]))
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


def repeated(candidates: pa.ChunkedArray) -> Floats:
    """(requests,) candidates that were listed before in the same list; nulls are not counted."""
    lists = candidates.combine_chunks()
    code = _codes(pc.list_flatten(lists))
    parent = np.asarray(pc.list_parent_indices(lists), dtype=np.int64)
    again = ~_first(_codes(pa.array(_pair(parent, code)))) & (code >= 0)
    return np.bincount(parent[again], minlength=len(lists)).astype(np.float64)


def near_one(weights: Floats) -> float:
    """The mean, moved up to three standard errors towards 1; NaN of fewer than two values."""
    return Moments.of(weights).near_one()


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _complete(found: Slates, position: Floats) -> tuple[Bools, Bools]:
    """Of each request: all or none of its places have a propensity; its positions are 1, 2, … without a gap."""
    rows = (found.request >= 0) & np.isfinite(position)
    _, request = np.unique(found.request[rows], return_inverse=True)
    n = int(request.max()) + 1 if len(request) else 0
    having = np.bincount(request, found.has_propensity[rows], minlength=n)
    of = np.bincount(request, minlength=n)
    places = _codes(pa.array(_pair(request, position[rows].astype(np.int64))))
    different = np.bincount(request[_first(places)], minlength=n)
    highest, lowest = np.full(n, -np.inf), np.full(n, np.inf)
    np.maximum.at(highest, request, position[rows])
    np.minimum.at(lowest, request, position[rows])
    return (having == 0) | (having == of), (lowest == 1) & (highest == different)


def _others(request: Ints, value: Floats, original: Bools) -> Floats:
    """Other originals with the same request and value; NaN where either is unknown."""
    known = (request >= 0) & np.isfinite(value)
    group = _codes(pa.array(_pair(request[known], value[known].astype(np.int64))))
    others = np.full(len(request), np.nan)
    others[known] = (np.bincount(group, original[known]) if len(group) else np.zeros(0))[group] - 1
    return others


def _among(items: pa.ChunkedArray, asked: Ints, candidates: pa.ChunkedArray) -> Floats:
    lists = candidates.combine_chunks()
    listed = pc.list_flatten(lists).dictionary_encode()
    code = _row_of(items, listed.dictionary)
    offered = _pair(np.asarray(pc.list_parent_indices(lists), np.int64), _integers(listed.indices))
    among = pc.is_in(pa.array(_pair(asked, code)), pa.array(offered)).to_numpy(zero_copy_only=False) & (code >= 0)
    has_list = np.append(np.asarray(lists.is_valid()), False)[asked]
    return np.where(has_list & np.asarray(items.is_valid()), among.astype(np.float64), np.nan)


def _pair(first: Ints, second: Ints) -> Ints:
    """One whole number for two, both between -1 and 2^31 - 1."""
    return (first + 1) * 2**32 + (second + 1)


def _row_of(values: pa.ChunkedArray | pa.Array, among: pa.ChunkedArray | pa.Array) -> Ints:
    """The first row of `among` that has each value; -1 where none has, or the value is null."""
    return _integers(pc.index_in(values, among, skip_nulls=True))


def _codes(column: pa.ChunkedArray | pa.Array) -> Ints:
    """Equal values have equal codes, 0, 1, … in the order in which they first occur; -1 for null."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return _integers(whole.dictionary_encode().indices)


def _first(codes: Ints) -> Bools:
    """Which of the `_codes` occur for the first time; no null does."""
    return np.asarray(np.diff(np.maximum.accumulate(codes), prepend=-1) > 0)


def _known(codes: Ints) -> Floats:
    return np.where(codes >= 0, codes, np.nan)


def _integers(column: pa.ChunkedArray | pa.Array) -> Ints:
    return np.asarray(pc.fill_null(column, -1), dtype=np.int64)


def _floats(column: pa.ChunkedArray | pa.Array) -> Floats:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float("nan")), dtype=np.float64)
