"""How likely each candidate is to stand at each place of a slate: what position-wise estimators divide by.

Propensities that get logged are conditional on what stands above (`choice.slate`); these are marginal over it.
"""

import numpy as np
from numpy.typing import NDArray

from models.policies.choice import SMALLEST, first_choice, slate
from models.settings import PolicySettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
STEP = 0.25
"""Of the trapezoid rule in log time; halving it changes nothing above 1e-12."""
EARLY, LATE = 1e-14, 40.0
MOST_PATHS = 20_000


def placement_marginals(scores: Floats, k: int, settings: PolicySettings) -> Floats:
    """(n, min(k, n)) the probability that each of n candidates stands at each place; columns sum to one.

    `scores`: (n,) p_click in [0, 1]. Exact for a single place, and for Plackett-Luce to about 1e-10: its order is that
    of n independent exponential clocks with rates score ** (1 / T) (Luce 1959), so the chance of place m is the
    integral, over a candidate's own clock, of the Poisson-binomial chance that exactly m - 1 others rang before. Other
    policies choose each place among what is left: their paths are summed exactly while there are at most `MOST_PATHS`,
    ValueError beyond (use `sampled_marginals`). Raises ValueError as `choice.slate` does.
    """
    if k < 1 or not len(scores):
        raise ValueError(f"a slate needs k >= 1 and at least one candidate; found k={k}, {len(scores)} candidates")
    k = min(k, len(scores))
    whole = np.array([0, len(scores)])
    first = first_choice(scores, whole, settings)
    if k == 1:
        return first[:, None]
    if settings.kind == "plackett_luce":
        return _plackett_luce(np.maximum(np.asarray(scores, float), SMALLEST), k, settings.temperature)
    return _by_paths(np.asarray(scores, float), k, settings)


def sampled_marginals(
    scores: Floats, k: int, settings: PolicySettings, draws: int, rng: np.random.Generator
) -> tuple[Floats, float]:
    """Any policy's marginals from `draws` slates, and the largest standard error any of them can have.

    (n, min(k, n)) shares; the standard error of a share is at most 0.5 / sqrt(draws), which is returned. Raises
    ValueError for fewer than 1 draw.
    """
    if draws < 1:
        raise ValueError(f"marginals need at least 1 draw; found {draws}")
    found = np.zeros((len(scores), min(k, len(scores))))
    for _ in range(draws):
        order, _ = slate(scores, k, settings, rng)
        found[order, np.arange(len(order))] += 1
    return found / draws, 0.5 / float(np.sqrt(draws))


def _plackett_luce(scores: Floats, k: int, temperature: float) -> Floats:
    """By quadrature over log time of a candidate's clock."""
    log_rate = np.log(scores) / temperature
    log_rate -= log_rate.max()
    # Before EARLY / sum of rates nothing has rung; at LATE / the smallest rate everything has.
    start = np.log(EARLY) - np.log(np.exp(log_rate).sum())
    stop = np.log(LATE) - log_rate.min()
    time = np.arange(start, stop + STEP, STEP)
    rung = -np.expm1(-np.exp(np.minimum(log_rate[:, None] + time, 700.0)))  # (n, times)
    before = _counts(rung, k)
    after = _counts(rung[::-1], k)[::-1]
    density = np.exp(log_rate[:, None] + time - np.exp(np.minimum(log_rate[:, None] + time, 700.0))) * STEP
    found = np.empty((len(scores), k))
    for place in range(k):
        # Exactly `place` of the others rang before: some of those listed above the candidate, the rest of those below.
        exactly = sum(before[:-1, m] * after[1:, place - m] for m in range(place + 1))
        found[:, place] = (density * exactly).sum(axis=1)
    normalised: Floats = found / found.sum(axis=0)
    return normalised


def _counts(rung: Floats, k: int) -> Floats:
    """(n + 1, k, times) the chance that exactly m < k of the first i clocks have rung."""
    n, times = rung.shape
    found = np.zeros((n + 1, k, times))
    found[0, 0] = 1.0
    for i in range(n):
        found[i + 1] = found[i] * (1 - rung[i])
        found[i + 1, 1:] += found[i, :-1] * rung[i]
    return found


def _by_paths(scores: Floats, k: int, settings: PolicySettings) -> Floats:
    """Every sequence of places that has a chance, summed."""
    found = np.zeros((len(scores), k))
    paths = {frozenset[int](): 1.0}
    everything = np.arange(len(scores))
    for place in range(k):
        longer: dict[frozenset[int], float] = {}
        for taken, chance in paths.items():
            # What is left depends on which candidates are taken, not on their order.
            left = everything[~np.isin(everything, list(taken))]
            chances = first_choice(scores[left], np.array([0, len(left)]), settings)
            found[left, place] += chance * chances
            for at in np.flatnonzero(chances):
                key = taken | {int(left[at])}
                longer[key] = longer.get(key, 0.0) + chance * float(chances[at])
        if len(longer) > MOST_PATHS:
            raise ValueError(
                f"exact marginals need at most {MOST_PATHS} sets of placed candidates; found {len(longer)} after place "
                f"{place + 1} of {k}: use sampled_marginals"
            )
        paths = longer
    return found
