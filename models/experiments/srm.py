"""Whether arms have the units they were drawn to have: a sample-ratio mismatch voids every figure of an experiment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, gammaln

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CONCENTRATION = 1000.0
"""Of the prior over shares: mismatches of a percent or two are what there is to find."""
LEVEL = 1e-3
"""A mismatch is told at this risk: at 5 % every twentieth sound experiment would be thrown away."""


@dataclass(frozen=True)
class Ratio:
    """What counts say of the shares they were drawn with."""

    p_value: float
    """Of a single look: Pearson's chi-squared."""
    always_p: float
    """Valid over all looks so far, whenever one stops."""

    @property
    def mismatch(self) -> bool:
        """Whether either says so, each at half of `LEVEL`; the one sees a sudden mismatch sooner, the other any."""
        return min(self.p_value, self.always_p) < LEVEL / 2


def single_look(counts: Ints, weights: Floats) -> float:
    """p of counts (k,) so far from shares in proportion to `weights` (k,): chi-squared, k - 1 degrees of freedom.

    An arm of weight 0 has no degree of freedom, and any unit in it is a mismatch for sure. 1 without units. Raises
    ValueError for fewer than two arms with a weight or for negative counts.
    """
    n, shares = _checked(counts, weights)
    if not n.sum():
        return 1.0
    if n[shares == 0].any():
        return 0.0
    there = shares > 0
    expected = shares[there] * n.sum()
    return float(chdtrc(there.sum() - 1, ((n[there] - expected) ** 2 / expected).sum()))


def log_evidence(counts: Ints, weights: Floats, concentration: float = CONCENTRATION) -> float:
    """The log of an e-value against the shares, by the counts so far: whatever the order in which they came.

    A Dirichlet mixture of multinomial likelihood ratios, centred on the shares (Lindon & Malek 2022, theorem 2): under
    them a nonnegative martingale with mean one as units come, so it ever reaches 1 / risk with at most that risk.
    """
    n, shares = _checked(counts, weights)
    if n[shares == 0].any():
        return math.inf
    n, shares = n[shares > 0], shares[shares > 0]
    prior = concentration * shares
    mixed = gammaln(concentration) - gammaln(concentration + n.sum()) + (gammaln(prior + n) - gammaln(prior)).sum()
    return float(mixed - (n * np.log(shares)).sum())


def over_looks(counts: Sequence[Ints], weights: Floats) -> Ratio:
    """Of the cumulative counts (k,) at each look, oldest first; both p-values 1 without a look."""
    if not counts:
        return Ratio(1.0, 1.0)
    most = max(log_evidence(n, weights) for n in counts)
    return Ratio(single_look(counts[-1], weights), math.exp(-max(0.0, most)))


def _checked(counts: Ints, weights: Floats) -> tuple[Ints, Floats]:
    n, w = np.asarray(counts), np.asarray(weights, float)
    if len(n) != len(w) or (w > 0).sum() < 2 or (w < 0).any() or (n < 0).any():
        raise ValueError(f"needs counts of at least 0 and a weight for each of two arms or more; found {n} and {w}")
    return n, w / w.sum()
