"""Which arm to offer next where logs do not decide for sure: drawn by how likely each is the best (Thompson 1933).

The belief in an arm's gain over the present one is a normal law about its estimate, on a flat prior, each arm's by
itself; the present one's gain is 0. The chance of being the best is integrated, not counted from draws, and arms are
drawn by these very chances: the propensity of what is offered is exact. The draw takes one number, which depends on
nothing but a name: whoever has the logs finds the same arm and the same propensity again. (Arms held against the same
pages err together, which this belief does not know; what was drawn has its propensity all the same.)
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from models.evaluation.estimate import Estimate, Finding
from models.experiments.assignment import unit_hash

Floats = NDArray[np.float64]
REACH, POINTS = 9.0, 1_001
"""Standard errors either side of each gain that the integral looks at, and its points there."""


def chances(gains: Mapping[str, Finding], present: str) -> dict[str, float]:
    """By arm the chance that it is the best, `present` first; they add up to 1. What is refused has none.

    `gains`: over the present one, of the other arms. Raises ValueError where the present one is among them.
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
    """The arm that a name draws, by its chance; the same for the same chances and name."""
    point, passed = unit_hash(f"thompson:{name}"), 0.0
    for arm, chance in of.items():
        passed += chance
        if point < passed:
            return arm
    return max(of, key=of.__getitem__)
