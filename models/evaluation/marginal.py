"""The difference of two policies where candidates count by their kind alone: biased, and much less noisy.

Where exploration is seldom, or a catalogue deep, weights differ most by what matters least to the reward: how likely
this candidate was logged in this request. Here each candidate is of a kind (which side is likelier to show it, and how
much reward is expected of it), and what the reward model did not foresee is averaged by kind:

    mean over decisions of sum over candidates of (challenger - champion) x (expected + the kind's mean surprise)

which is the conjunct effect model with one weight a kind (Saito, Ren & Joachims 2023, OffCEM; Saito & Joachims 2022,
MIPS), or the direct method with the model's error of each kind taken out. It is right as far as the surprises of a kind
do not depend on how the sides choose within it; no log shows that they do not, but its distance to an unbiased estimate
on the same decisions shows how large the bias may be. A second opinion, therefore, that no rule of the gate asks.
"""

import numpy as np

from models.evaluation.choices import AS_ONE, Choices, Floats, Ints
from models.evaluation.linear import Linear

MOST, FEWEST = 10, 50
"""Levels of expected reward a side has at most; decisions a level has at least."""


def marginal_difference(choices: Choices, expected: Floats) -> Linear:
    """Challenger's reward per decision minus the champion's; `expected` (n,) of each candidate, cross-fitted.

    The influence takes the reward model as given, as that of `dr` does.
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
    """(n,) an integer from 0: the side that is likelier to show a candidate, by level of what is expected of it.

    Levels are quantiles of what was shown: each has about as many decisions to tell its mean surprise.
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
