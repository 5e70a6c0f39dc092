"""From scores to a slate and to the probabilities that get logged: every policy in closed form, none sampled twice."""

import numpy as np
from numpy.typing import NDArray

from models.settings import PolicySettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SMALLEST = 1e-12
"""A score below this is read as this, so that Plackett-Luce leaves no candidate without a chance."""


def first_choice(scores: Floats, offsets: Ints, settings: PolicySettings) -> Floats:
    """The probability that each candidate is placed first among those of its own segment, shape (n,), in [0, 1].

    `scores`: (n,) p_click in [0, 1], segments laid end to end. `offsets`: (m + 1,) from 0 to n; segment i is
    `offsets[i]:offsets[i + 1]` and may be empty. Sums to one within each non-empty segment. Greedy shares ties equally;
    epsilon-greedy mixes in a uniform choice; Plackett-Luce is a softmax of log(score) / temperature (Luce 1959,
    Plackett 1975). Raises ValueError for scores outside [0, 1] or offsets that do not cover them.
    """
    scores = _checked(scores)
    offsets = np.asarray(offsets, dtype=np.int64)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(scores) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets need to rise from 0 to {len(scores)}; found {offsets[:3]}...{offsets[-3:]}")
    sizes = np.diff(offsets)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return np.zeros(0)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def spread(per_segment: Floats) -> Floats:
        return np.repeat(per_segment, sizes)

    best = spread(np.maximum.reduceat(scores, starts))
    if settings.kind == "plackett_luce":
        weight = np.exp((np.log(scores) - np.log(best)) / settings.temperature)
        return weight / spread(np.add.reduceat(weight, starts))
    top = (scores == best).astype(np.float64)
    greedy = top / spread(np.add.reduceat(top, starts))
    epsilon = _epsilon(settings)
    mixed: Floats = (1.0 - epsilon) * greedy + epsilon / spread(sizes.astype(np.float64))
    return mixed


def slate(scores: Floats, k: int, settings: PolicySettings, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """The top k places drawn from the policy: candidate numbers and propensities, both (min(k, n),).

    A propensity is the probability of that candidate at that place given everything placed above it, in (0, 1]; their
    product is the probability of the whole ordered slate. The first place follows `first_choice` exactly. Raises
    ValueError for k < 1, no candidates or scores outside [0, 1].
    """
    scores = _checked(scores)
    if k < 1 or not len(scores):
        raise ValueError(f"a slate needs k >= 1 and at least one candidate; found k={k}, {len(scores)} candidates")
    k = min(k, len(scores))
    if settings.kind == "plackett_luce":
        return _plackett_luce(np.log(scores) / settings.temperature, k, rng)
    return _epsilon_greedy(scores, k, _epsilon(settings), rng)


def _plackett_luce(logits: Floats, k: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Sorting by logit plus Gumbel noise draws without replacement (Yellott 1977); what is left sums to the rest."""
    order = np.argsort(-(logits + rng.gumbel(size=len(logits))), kind="stable")
    chosen = logits[order]
    left = np.logaddexp.accumulate(chosen[::-1])[::-1]
    return order[:k], np.minimum(1.0, np.exp(chosen[:k] - left[:k]))


def _epsilon_greedy(scores: Floats, k: int, epsilon: float, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Each place on its own: the best left (ties at random), or with probability epsilon any that is left."""
    left = np.arange(len(scores))
    order, propensity = np.empty(k, dtype=np.int64), np.empty(k)
    for place in range(k):
        top = scores[left] == scores[left].max()
        chances = (1.0 - epsilon) * top / top.sum() + epsilon / len(left)
        at = int(rng.choice(len(left), p=chances / chances.sum()))
        order[place], propensity[place] = left[at], chances[at]
        left = np.delete(left, at)
    return order, propensity


def _epsilon(settings: PolicySettings) -> float:
    return settings.epsilon if settings.kind == "epsilon_greedy" else 0.0


def _checked(scores: Floats) -> Floats:
    scores = np.asarray(scores, dtype=np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"a policy needs scores in [0, 1]; found {scores[~((scores >= 0) & (scores <= 1))][:3]}")
    return np.maximum(scores, SMALLEST)
