"""Anytime-valid tests, which may be read after every answer at one risk: is a share of bad answers tolerable or
alarming; is a mean, for example a difference between two arms, above 0.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["passed", "failed", "inconclusive"]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
BETS = np.geomspace(0.005, 0.95, 24)
"""Of the most that may be lost at once: among them is one near the best for whatever mean and variance there is."""


def share_verdict(bad: NDArray[np.bool_], tolerated: float, alarming: float, risk: float) -> Verdict:
    """The verdict on the share of bad answers after n answers, (n,) in order; 0 < tolerated < alarming < 1.

    Wald's sequential probability ratio test (1945). The likelihood ratio of `alarming` against `tolerated` is a
    nonnegative supermartingale under every share up to `tolerated`, so the probability that it ever reaches 1 / risk is
    at most `risk`, however often it is read (Ville's inequality): then it has *failed*, for good. Its inverse is a
    supermartingale under every share from `alarming` on: *passed* while that is at least 1 / risk. Without answers it
    is undecided.

    Assumes that answers are bad independently of each other, as Bernoulli draws; if bad answers come in bursts (a busy
    minute), it fails more often than `risk`.
    """
    if not 0 < tolerated < alarming < 1 or not 0 < risk < 1:
        raise ValueError(f"needs 0 < tolerated < alarming < 1 and 0 < risk < 1; found {tolerated}, {alarming}, {risk}")
    if not len(bad):
        return "inconclusive"
    steps = np.where(bad, math.log(alarming / tolerated), math.log((1 - alarming) / (1 - tolerated)))
    ratio, bound = np.cumsum(steps), math.log(1 / risk)
    if ratio.max() >= bound:
        return "failed"
    return "passed" if ratio[-1] <= -bound else "inconclusive"


def rises(values: Floats, least: float, risk: float) -> bool:
    """Whether n values, (n,) in their order, none below -least, have shown their mean to be above 0.

    A bet on each value that can never lose more than it has (Waudby-Smith and Ramdas 2024, *Estimating means of bounded
    random variables by betting*): the wealth of a mixture of constant bets is a nonnegative supermartingale if each
    value's mean, given those before it, is at most 0. So the probability that it ever reaches 1 / risk is at most
    `risk`, however often it is read. Once shown, it stays shown. Valid at any n, also for rare values and for arms of
    very different size. Raises ValueError for values below -least or a risk outside (0, 1).
    """
    if not least > 0 or not 0 < risk < 1 or (len(values) and not values.min() >= -least):
        raise ValueError(f"needs values of at least -least and a risk in (0, 1); found least {least}, risk {risk}")
    wealth = np.zeros(len(BETS))
    for part in np.array_split(values, max(1, len(values) // 10_000)):
        log_wealth = wealth + np.cumsum(np.log1p(np.outer(part, BETS / least)), axis=0)
        if len(part) and np.logaddexp.reduce(log_wealth, axis=1).max() - math.log(len(BETS)) >= math.log(1 / risk):
            return True
        wealth = log_wealth[-1] if len(part) else wealth
    return False


def two_arms(treated: Bools, values: Floats) -> tuple[Floats, Floats]:
    """Means of the treated and of the others per block, (m,) each, from n values in order, (n,) each.

    A block ends as soon as both arms appear in it. Only the order of arms decides that, not the values, so the
    difference of the two means is practically independent of the previous block. Values after the last block are left
    for later.
    """
    arms: tuple[list[float], list[float]] = ([], [])
    sums, counts = [0.0, 0.0], [0, 0]
    for arm, value in zip((~treated).astype(int).tolist(), values.tolist(), strict=True):
        sums[arm] += value
        counts[arm] += 1
        if all(counts):
            for side in (0, 1):
                arms[side].append(sums[side] / counts[side])
            sums, counts = [0.0, 0.0], [0, 0]
    return np.array(arms[0]), np.array(arms[1])
