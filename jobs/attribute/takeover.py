"""Who held a place before a late event took it over. Arrays in, arrays out; times are microseconds.

A rule picks one of several candidates in a fixed order (the latest click, say). At time T only the candidates known
before T exist, so the pick changes while they arrive, always to a better one. A reign is the time from when a candidate
is picked until a better one is known. `jobs.attribute.core` keeps the ended ones, so that a reader of any earlier T is
told what a run at T would have told.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.asof.core import Indices

NEVER = np.iinfo(np.int64).max
"""The end of what lasts."""


class Reigns(NamedTuple):
    """Candidate `right` of place `left` is picked for every T with `since < T <= until`. All (n,)."""

    left: Indices
    right: Indices
    since: Indices
    until: Indices


def reigns(left: Indices, right: Indices, left_known: Indices, right_known: Indices) -> Reigns:
    """Every reign among the candidate pairs (`left`, `right`), each left row's from the worst to the best.

    `left_known` (n_left,) is when the place itself was known, `right_known` (n_right,) when each right row was. The
    best candidate's reign lasts: its `until` is NEVER.
    """
    known = right_known[right]
    until = _best_known_after(left, known)
    since = np.maximum(known, left_known[left])
    picked = since < until
    return Reigns(left[picked], right[picked], since[picked], until[picked])


def _best_known_after(left: Indices, known: Indices) -> Indices:
    """For each pair the earliest `known` among the later pairs of the same left row, NEVER for the last."""
    if not len(known):
        return known
    times, rank = np.unique(known, return_inverse=True)
    # From the back, each left row counts on a level below all rows before it: a running minimum stays in its row.
    level = (left * len(times) + rank)[::-1]
    best = np.minimum.accumulate(level)[::-1]
    last = np.append(left[1:] != left[:-1], True)
    after = np.where(last, 0, np.append(best[1:], 0) % len(times))
    return np.where(last, NEVER, times[after])


def merged(place: Indices, since: Indices, until: Indices) -> tuple[Indices, Indices, Indices]:
    """The union of half-open times per place, as few (place, since, until) as can be, in order of place and time."""
    order = np.lexsort((until, since, place))
    found: list[tuple[int, int, int]] = []
    for here, begin, end in zip(place[order].tolist(), since[order].tolist(), until[order].tolist(), strict=True):
        if found and found[-1][0] == here and begin <= found[-1][2]:
            found[-1] = (here, found[-1][1], max(found[-1][2], end))
        else:
            found.append((here, begin, end))
    columns = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def as_lists(rows: Indices, values: pa.StructArray, size: int) -> pa.ListArray:
    """`values`, one per entry of the sorted `rows`, as one list per row number below `size`; null where it has none."""
    count = np.bincount(rows, minlength=size)
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    none: NDArray[np.bool_] = count == 0
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(none))
