"""By how much the intercepts of a network rise in the end, so that as much is promised of all rows as came of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import sigmoid
from models.rankers.batches import Batch
from models.rankers.heads import MOST, Head
from models.rankers.protocol import Floats

LEVEL_MOVES = 0.1
"""By how much the conversions per click are expected to have moved since the parent, as a share."""
FURTHEST, BISECTIONS = 2.0, 22
"""A shift of intercepts in logits, to a millionth."""


def risen(logits: Sequence[Floats], rows: Batch, heads: Sequence[Head], goes_on: bool) -> list[float]:
    """One step a task. What a last few batches leave of a bias in the mean goes: a logistic regression's intercept has
    none either.

    `logits`: (n,) of each task. Of conversions: of the rows where they are known, or as many per click as the parent
    promises of all rows. A warm start (`goes_on`) knows few, so its level is taken for a measurement of one that moves
    by about `LEVEL_MOVES` between trainings: with k conversions that came, k / (k + 1 / `LEVEL_MOVES`²) of the way.
    """
    click, conversion, *others = logits
    weight = rows.weight.astype(np.float64)
    steps = [shift(click, weight, float(weight @ rows.clicked)), 0.0]
    p_click = weight * sigmoid(click + steps[0])
    given = ~np.isnan(rows.seen)
    if given.any():
        counts = rows.of_click[given].astype(np.float64)
        came = float(counts @ rows.converted[given])
        steps[1] = believed(came, goes_on) * shift(conversion[given], counts * rows.seen[given], came)
    elif (closed := ~np.isnan(rows.converted)).any():
        came = float(weight[closed] @ rows.converted[closed])
        steps[1] = believed(came, goes_on) * shift(conversion[closed], p_click[closed], came)
    if (rehearsed := ~np.isnan(rows.rehearsed)).any():
        promised = float(p_click[rehearsed] @ rows.rehearsed[rehearsed])
        steps[1] = shift(conversion[rehearsed], p_click[rehearsed], promised)
    return steps + [_further(*of, weight, goes_on) for of in zip(heads, others, rows.further.T, strict=True)]


def _further(head: Head, logit: Floats, label: NDArray[np.float32], weight: Floats, goes_on: bool) -> float:
    """By how much the intercept of a further task must rise for its sum to be what came, where that is known."""
    known = ~np.isnan(label)
    came = float(weight[known] @ label[known])
    if not came:
        return 0.0
    if head.a_share:
        step = shift(logit[known], weight[known], came)
    else:
        step = float(np.log(came / (weight[known] @ np.exp(np.minimum(logit[known], MOST)))))
    return believed(float((label[known] > 0).sum()), goes_on) * min(max(step, -FURTHEST), FURTHEST)


def believed(came: float, goes_on: bool) -> float:
    """How far a level that so many conversions tell is followed, in (0, 1]."""
    return came / (came + LEVEL_MOVES**-2) if goes_on else 1.0


def shift(logit: Floats, weight: Floats, total: float) -> float:
    """By how much all logits must rise for the weighted sum of their probabilities to be `total`, by bisection.

    At most by `FURTHEST`, either way: where nothing came, or everything, there is no such logit.
    """
    low, high = -FURTHEST, FURTHEST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if float(weight @ sigmoid(logit + middle)) < total:
            low = middle
        else:
            high = middle
    return (low + high) / 2
