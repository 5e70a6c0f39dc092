"""Which arm to offer next if the logs do not decide: drawn by the probability of being the best (Thompson 1933).

The posterior of an arm's gain over the present one is normal around its estimate (flat prior), independently for each
arm; the gain of the present one is 0. The probability of being the best is integrated, not counted from draws, and arms
are drawn with exactly these probabilities, so the propensity of the offered arm is exact. The draw uses one number,
which depends only on a name: the same logs give the same arm and the same propensity again. (Arms compared on the same
pages have correlated errors, which this posterior ignores; the propensity of what was drawn is exact all the same.)
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from models.evaluation.estimate import Estimate, Finding
from models.experiments.assignment import unit_hash

Floats = NDArray[np.float64]
REACH, POINTS = 9.0, 1_001
"""Range of the integral around each gain, in standard errors, and its number of points there."""


def chances(gains: Mapping[str, Finding], present: str) -> dict[str, float]:
    """Arm to the probability that it is the best, `present` first; they sum to 1. A refused arm has none.

    `gains`: of the other arms over the present one. Raises ValueError if the present one is among them.
    """
    if present in gains:
        raise ValueError(f"gains are over {present}; found one of itself")
    known = {name: of for name, of in gains.items() if isinstance(of, Estimate)}
    mean, spread = (np.array([getattr(of, part) for of in known.values()]) for part in ("value", "stderr"))
    if not known:
        return {present: 1.0, **dict.fromkeys(gains, 0.0)}
    # A gain without an error is as good as one: any arm of equal gain would share its chance otherwise.
    spread = np.maximum(spread, 1e-12)
    found = np.append(ndtr(-mean / spread).prod(), _best(mean, spread))
    shares = dict(zip([present, *known], (found / found.sum()).tolist(), strict=True))
    return {name: shares.get(name, 0.0) for name in (present, *gains)}


def _best(mean: Floats, spread: Floats) -> Floats:
    """(m,) of each gain that it is above 0 and above all others: its own mass between points, where the others are
    below these.
    """
    grid = (mean[:, None] + spread[:, None] * np.linspace(-REACH, REACH, POINTS)).ravel()
    at = np.unique(np.append(0.0, grid[grid > 0]))
    below = ndtr((at[:, None] - mean) / spread)
    others = np.stack([np.delete(below, of, axis=1).prod(axis=1) for of in range(len(mean))], axis=1)
    found: Floats = (np.diff(below, axis=0) * (others[1:] + others[:-1]) / 2).sum(axis=0)
    return found


def drawn(of: Mapping[str, float], name: str) -> str:
    """The arm drawn for a name, by probability; the same for the same probabilities and name."""
    point, passed = unit_hash(f"thompson:{name}"), 0.0
    for arm, chance in of.items():
        passed += chance
        if point < passed:
            return arm
    return max(of, key=of.__getitem__)
