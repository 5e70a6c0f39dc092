"""Who the traffic is: how much of it the busiest users make, and how much of it was there before."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.linear import Linear

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BUSIEST = 10
"""Users that are looked at together: a flood from one address, or from a few."""


def busiest_share(users: Ints, busiest: int = BUSIEST) -> Finding:
    """The share of rows that the `busiest` users make, in [0, 1]; a count, so days tell its noise, not its rows.

    Refused without more users than that.
    """
    _, rows = np.unique(users, return_counts=True)
    if len(rows) <= busiest:
        return Refusal(f"the busiest {busiest} need others beside them; found {len(rows)} users", len(users))
    share = float(np.sort(rows)[-busiest:].sum() / len(users))
    return Estimate(share, 0.0, share, share, len(users), float(len(users)))


def repeated_share(
    keys: Sequence[Ints], before: Sequence[Ints], confidence: float, clusters: Ints | None = None
) -> Finding:
    """The share of rows that were there already, on the day itself or on one before, whatever their id.

    `keys`: columns (n,) that together tell an event (who, what, where and at what time of its day); `before`: the same
    columns of the day before. A row that is there k times counts k - 1 times. Refused without rows.
    """
    if not keys or not len(keys[0]):
        return Refusal("repeats need rows; found none")
    n = len(keys[0])
    both = np.column_stack([np.concatenate([old, new]) for old, new in zip(before, keys, strict=True)])
    _, first = np.unique(both, axis=0, return_index=True)
    again = np.ones(len(both), bool)
    again[first] = False
    found = again[len(both) - n :].astype(np.float64)
    return Linear.mean(found).estimate(confidence, clusters, (0.0, 1.0))


def mean_weight(propensity: Floats, candidates: Floats, confidence: float, clusters: Ints | None = None) -> Finding:
    """The mean of (1 / candidates) / propensity over first placements: 1 where the propensities are those that logged.

    A policy that can take any of its candidates, reweighted to one that takes each alike, must have weights of mean 1;
    no reward is looked at (see `models.evaluation.balance`, which asks it of every group). One that leaves some out has
    less: then it is a change from day to day that tells. `propensity` (n,) in (0, 1], `candidates` (n,) at least 1;
    rows without either are left out.
    """
    known = np.isfinite(propensity) & np.isfinite(candidates) & (propensity > 0)
    weight = 1.0 / (candidates[known] * propensity[known])
    lacking = "the mean weight needs first placements with a propensity and its number of candidates; found none"
    users = None if clusters is None else np.asarray(clusters)[known]
    return Linear.mean(weight, lacking=lacking).estimate(confidence, users)
