"""Is a share of bad answers as small as tolerated, or alarming? Asked after every answer, at one risk for all times."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["passed", "failed", "inconclusive"]


def share_verdict(bad: NDArray[np.bool_], tolerated: float, alarming: float, risk: float) -> Verdict:
    """What n answers, (n,) in their order, say of the share that is bad; 0 < tolerated < alarming < 1.

    Wald's sequential probability ratio test (1945). The likelihood ratio of `alarming` against `tolerated` is a
    nonnegative supermartingale under every share up to `tolerated`, so that it ever reaches 1 / risk has at most
    probability `risk` however often it is looked at (Ville's inequality): *failed*, for good. Its inverse is one under
    every share from `alarming` on: *passed* while that is at least 1 / risk. No answers say nothing.

    Assumes answers that are bad independently of each other, as Bernoulli draws; where trouble comes in bursts (a busy
    minute) it fails sooner than the risk says.
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
