"""How the world's own recommender decides: retrieval, then Plackett-Luce over a popularity-heavy score."""

import numpy as np
from numpy.typing import NDArray

from models.world.population import Floats, Ints

OVERDRAW = 2
"""Candidates are drawn with replacement, this many times as many as needed, and the repeats dropped."""


def draw_candidates(
    rng: np.random.Generator, weight: Floats, category: Ints, topic: Ints, count: int
) -> NDArray[np.int64]:
    """`count` distinct items per request, shape (requests, count), likelier by `weight`.

    `weight`, `category`: (items,). `topic`: (requests,), a category half of the candidates are drawn from (what was
    searched for, or the page's item's category), or -1.
    """
    order = np.argsort(category, kind="stable")
    upto = np.concatenate([[0.0], np.cumsum(weight[order])])
    topics = np.arange(category.max() + 1)
    first, last = np.searchsorted(category[order], topics), np.searchsorted(category[order], topics, side="right")
    n, draws = len(topic), OVERDRAW * count
    low, high = np.zeros((n, draws)), np.full((n, draws), upto[-1])
    about = topic >= 0
    low[about, ::2] = upto[first[topic[about]]][:, None]
    high[about, ::2] = upto[last[topic[about]]][:, None]
    at = np.searchsorted(upto, low + (high - low) * rng.random((n, draws)), side="right") - 1
    drawn = order[np.clip(at, 0, len(order) - 1)]
    fresh = _first_of_its_kind(drawn)
    chosen = np.take_along_axis(drawn, np.argsort(~fresh, axis=1, kind="stable")[:, :count], axis=1)
    short = np.flatnonzero(fresh.sum(axis=1) < count)
    if len(short):  # small catalogues: exact weighted sampling without replacement for those few
        keys = np.log(weight) + rng.gumbel(size=(len(short), len(weight)))
        chosen[short] = np.argsort(-keys, axis=1, kind="stable")[:, :count]
    return chosen


def _first_of_its_kind(drawn: Ints) -> NDArray[np.bool_]:
    """True where a row shows a value for the first time."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    fresh_in_order = np.ones(drawn.shape, dtype=bool)
    fresh_in_order[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    fresh = np.empty_like(fresh_in_order)
    np.put_along_axis(fresh, order, fresh_in_order, axis=1)
    return fresh


def plackett_luce(rng: np.random.Generator, scores: Floats, temperature: float, slate_size: int) -> tuple[Ints, Floats]:
    """A slate per row and the probability of each placement given everything before it on the page.

    `scores` (n, candidates) give columns (n, slate_size) and propensities (n, slate_size) in (0, 1]: position 1 is
    softmax(scores / temperature); later ones renormalise over what is left. Sampled by the Gumbel trick (Yellott 1977).
    """
    logits = scores / temperature
    order = np.argsort(-(logits + rng.gumbel(size=scores.shape)), axis=1, kind="stable")
    ordered = np.take_along_axis(logits, order, axis=1)
    mass = np.exp(ordered - ordered.max(axis=1, keepdims=True))
    left = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    return order[:, :slate_size], (mass / left)[:, :slate_size]


def softmax(scores: Floats, temperature: float) -> Floats:
    """The probability of each column at the first placement, rows summing to 1."""
    logits = scores / temperature
    mass = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(mass / mass.sum(axis=1, keepdims=True))
