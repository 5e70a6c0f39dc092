"""How much risk of a false promotion a look may spend, out of the risk that all looks of a window share.

A look is an evidence that the gate judges. Judged with an interval at `1 - risk`, a challenger that is no better is
promoted with a probability of at most risk / 2 (`models.evaluation.gate`). Looks spend from one risk. What each may
spend is fixed before its data are seen, and leaves a part for the next: alpha-spending (Lan & DeMets 1983), with a
moving window instead of an end. So the *expected number* of false promotions among the looks of any window is at most
half the risk they share, and the probability of any is no higher. This holds however the looks depend on one another,
whether they are days, modes or several challengers of one day, and however many there are.

A promotion returns no risk and does not restart the window: the bound is on how often people are served a model that is
no better, and each promotion opens the next chance for that.

The intervals of the looks of a window are simultaneous, so the one that looks best is valid too: simultaneous intervals
need no further correction for the winner's curse (Benjamini & Yekutieli 2005; the projection interval of Andrews,
Kitagawa & McCloskey 2024).
"""

import math
from collections.abc import Sequence


def spend(spent: Sequence[float], risk: float, expected: int) -> float:
    """The part of `risk`, in (0, 1), that the next look may spend, in (0, risk).

    `spent` (k,): what each earlier look of the window spent, each >= 0 and in sum below `risk`. Up to `expected` looks
    in a window spend equally, risk / (expected + 1) each; every further one takes a smaller part of the rest, so
    another can always follow. Fewer than expected leave some unspent. Raises ValueError if nothing is left.
    """
    if not 0 < risk < 1 or expected < 1:
        raise ValueError(f"looks share a risk in (0, 1), at least one expected; found {risk:g}, {expected}")
    if any(part < 0 for part in spent):
        raise ValueError(f"a look spends at least nothing; found {min(spent):g}")
    left, k = risk - math.fsum(spent), len(spent)
    if left <= 0:
        raise ValueError(f"a look needs some risk left of {risk:g}; found {math.fsum(spent):g} spent by {k} looks")
    return left / (1 + max(expected - k, k - expected + 1))
