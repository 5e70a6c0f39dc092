"""The difference of two policies with one weight per kind of candidate: biased, but much less noisy.

With rare exploration, or a large catalogue, weights vary mostly with something that matters little for the reward: how
likely this candidate was logged in this request. Here each candidate has a kind (which side is likelier to show it, and
how much reward is expected of it), and the residuals of the reward model are averaged by kind:

    mean over decisions of sum over candidates of (challenger - champion) x (expected + the kind's mean residual)

This is the conjunct effect model with one weight per kind (Saito, Ren & Joachims 2023, OffCEM; Saito & Joachims 2022,
MIPS), or the direct method corrected for the model's error in each kind. It is unbiased if the residuals of a kind do
not depend on how the sides choose within it. No log can show that, but the distance to an unbiased estimate on the same
decisions shows how large the bias may be. So this is a second opinion, and no rule of the gate uses it.
"""

import numpy as np

from models.evaluation.choices import AS_ONE, Choices, Floats, Ints
from models.evaluation.linear import Linear

MOST, FEWEST = 10, 50
"""Maximum levels of expected reward per side; minimum decisions per level."""


def marginal_difference(choices: Choices, expected: Floats) -> Linear:
    """Challenger's reward per decision minus the champion's; `expected` (n,) of each candidate, cross-fitted.

    The influence treats the reward model as fixed, like that of `dr`.
    """
    kind = kinds(choices, expected)
    moved, shown = choices.moved, kind[choices.shown]
    rows = np.bincount(shown, minlength=int(kind.max(initial=0)) + 1)
    surprise = choices.reward - expected[choices.shown]
    # A kind that was never shown keeps what the model says of it.
    mean = np.bincount(shown, surprise, len(rows)) / np.maximum(1, rows)
    gains = choices.of_all(moved * (expected + mean[kind]))
    value, m = float(gains.mean()), len(choices)
    weight = np.bincount(kind, moved, len(rows)) / np.maximum(1, rows)
    influence = (gains - value + weight[shown] * (surprise - mean[shown])) / m
    return Linear(value, influence, np.arange(m))


def kinds(choices: Choices, expected: Floats) -> Ints:
    """(n,) an integer from 0: the side that is likelier to show a candidate, and its level of expected reward.

    Levels are quantiles of what was shown, so each has about equally many decisions for its mean residual.
    """
    moved = choices.moved
    side = 1 + np.sign(moved).astype(np.int64) * (np.abs(moved) > AS_ONE)
    found = np.zeros(len(moved), dtype=np.int64)
    for number in range(3):
        mine = side == number
        seen = expected[choices.shown][side[choices.shown] == number]
        levels = min(MOST, max(1, len(seen) // FEWEST))
        edges = np.quantile(seen, np.arange(1, levels) / levels) if levels > 1 else np.zeros(0)
        found[mine] = number * MOST + np.searchsorted(edges, expected[mine], side="right")
    return found
