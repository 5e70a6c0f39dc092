"""From scores to a slate and the probabilities that are logged: every policy in closed form, without simulation."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from models.policies.heuristics import Pages, Words, rows_of
from models.probabilities import at_most_one
from models.settings import PolicySettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Surfaces = NDArray[Any]
"""(m,) the surface of each segment, None if unknown."""
NODES = 129
"""Nodes of Thompson's quadrature over 16 standard deviations: its error is below 1e-9."""
AT_ONCE = 1 << 16
"""Candidates x nodes in memory at a time: few candidates take few steps, and many take no more memory."""
SMALLEST = 1e-12
"""Lower scores are raised to this, so that Plackett-Luce gives every candidate a chance."""


def first_choice(
    scores: Floats,
    offsets: Ints,
    settings: PolicySettings,
    kept: Bools | None = None,
    surfaces: Surfaces | None = None,
    words: Words | None = None,
) -> Floats:
    """The probability that each candidate is placed first among those of its own segment, shape (n,), in [0, 1].

    `scores`: (n,) in [0, 1] (`models.policies.score`), segments laid end to end. `offsets`: (m + 1,) from 0 to n;
    segment i is `offsets[i]:offsets[i + 1]` and may be empty. The probabilities of a non-empty segment sum to one.
    Greedy shares ties equally; epsilon-greedy mixes in a uniform choice; Plackett-Luce is a softmax of
    log(score) / temperature (Luce 1959, Plackett 1975); Thompson sampling treats each score as evidence from `evidence`
    impressions. Candidates that an earlier stage has not `kept` (n,), or that heuristics block, have probability 0. A
    policy that differs by surface needs the segments' `surfaces`, heuristics need the candidates' `words`. Raises
    ValueError for scores outside [0, 1], offsets that do not cover them, or missing surfaces or words.
    """
    if settings.surfaces:
        chance = np.zeros(len(scores))
        for policy, rows, bounds in _by_surface(settings, surfaces, offsets):
            left = None if kept is None else kept[rows]
            chance[rows] = first_choice(scores[rows], bounds, policy, left, words=rows_of(words, rows))
        return chance
    if settings.heuristics.columns:
        row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        scores, allowed = Pages(settings.heuristics, words, row).now(_checked(scores))
        return first_choice(scores, offsets, settings.plain, allowed if kept is None else allowed & kept)
    if kept is not None and not kept.all():
        return _among(scores, offsets, settings, kept)
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
    if settings.kind == "thompson":
        return _thompson(scores, starts, sizes, settings.evidence)
    top = (scores == best).astype(np.float64)
    greedy = top / spread(np.add.reduceat(top, starts))
    epsilon = _epsilon(settings)
    return at_most_one((1.0 - epsilon) * greedy + epsilon / spread(sizes.astype(np.float64)))


def _among(scores: Floats, offsets: Ints, settings: PolicySettings, kept: Bools) -> Floats:
    """`first_choice` of what was kept."""
    before = np.concatenate([[0], np.cumsum(kept)])
    chance = np.zeros(len(scores))
    chance[kept] = first_choice(scores[kept], before[np.asarray(offsets, dtype=np.int64)], settings)
    return chance


def _by_surface(
    settings: PolicySettings, surfaces: Surfaces | None, offsets: Ints
) -> Iterator[tuple[PolicySettings, Ints, Ints]]:
    """Each policy that there is, its segments' candidates, and the offsets of those laid end to end."""
    offsets = np.asarray(offsets, dtype=np.int64)
    sizes = np.diff(offsets)
    if surfaces is None or len(surfaces) != len(sizes):
        found = "none" if surfaces is None else len(surfaces)
        raise ValueError(f"a policy by surface needs the surface of each of {len(sizes)} segments; found {found}")
    named = [surface if surface in settings.surfaces else None for surface in surfaces.tolist()]
    for surface in dict.fromkeys(named):
        mine = np.array([name == surface for name in named])
        rows = np.flatnonzero(np.repeat(mine, sizes))
        yield settings.on(surface), rows, np.concatenate([[0], np.cumsum(sizes[mine])])


def placed_choice(
    scores: Floats,
    offsets: Ints,
    place: Ints,
    settings: PolicySettings,
    kept: Bools | None = None,
    surfaces: Surfaces | None = None,
    words: Words | None = None,
) -> Floats:
    """The probability of each candidate at its place, given the items above it on its page; (n,).

    `scores`, `offsets`, `kept`, `surfaces` and `words` as for `first_choice`; `place`: (n,) from 1, the top, downwards
    without a gap, 0 for candidates that are not on the page (their result is 0). A policy chooses each place among the
    remaining candidates, so this is as exact as `first_choice` and equals the propensity that `slate` gives. It takes
    one pass over the candidates per place. Raises ValueError as `first_choice`, and if places are not 1, 2, ... k.
    """
    scores, offsets, place = _checked(scores), np.asarray(offsets, dtype=np.int64), np.asarray(place, dtype=np.int64)
    if len(place) != len(scores) or (place < 0).any():
        raise ValueError(f"places need {len(scores)} numbers of at least 0; found {len(place)}, {place[place < 0][:3]}")
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    depth = np.bincount(row[place > 0], minlength=len(offsets) - 1)
    there = np.ones(len(scores), dtype=bool) if kept is None else kept
    _need_whole_pages(row, place, depth)
    if settings.surfaces:
        chance = np.zeros(len(scores))
        for policy, rows, bounds in _by_surface(settings, surfaces, offsets):
            of = rows_of(words, rows)
            chance[rows] = placed_choice(scores[rows], bounds, place[rows], policy, there[rows], words=of)
        return chance
    chance, pages = np.zeros(len(scores)), _pages(settings, words, row)
    for k in range(1, int(depth.max(initial=0)) + 1):
        now, allowed = (scores, there) if pages is None else pages.now(scores)
        left = np.flatnonzero((depth[row] >= k) & ((place == 0) | (place >= k)) & there & allowed)
        bounds = np.concatenate([[0], np.cumsum(np.bincount(row[left], minlength=len(depth)))])
        here = place[left] == k
        chance[left[here]] = first_choice(now[left], bounds, settings.plain)[here]
        if pages is not None:
            pages.placed(np.flatnonzero(place == k))
    return chance


def _pages(settings: PolicySettings, words: Words | None, row: Ints) -> Pages | None:
    """None: there are no heuristics."""
    return Pages(settings.heuristics, words, row) if settings.heuristics.columns else None


def _need_whole_pages(row: Ints, place: Ints, depth: Ints) -> None:
    placed = np.flatnonzero(place)
    order = placed[np.lexsort((place[placed], row[placed]))]
    first = np.cumsum(depth) - depth
    wrong = place[order] != np.arange(len(order)) - first[row[order]] + 1
    if wrong.any():
        page = int(row[order[np.argmax(wrong)]])
        raise ValueError(f"a page needs the places 1, 2, ... once each; found {np.sort(place[row == page])} on {page}")


def slate(
    scores: Floats, k: int, settings: PolicySettings, rng: np.random.Generator, words: Words | None = None
) -> tuple[Ints, Floats]:
    """The top k places drawn from the policy: candidate numbers and propensities, both (min(k, n),), or fewer if
    heuristics leave fewer candidates.

    A propensity is the probability of that candidate at that place given everything placed above it, in (0, 1]; their
    product is the probability of the whole ordered slate. The first place follows `first_choice` exactly. `settings`
    are one surface's (`PolicySettings.on`), `words` as for `first_choice`. Raises ValueError for k < 1, no candidates,
    scores outside [0, 1], heuristics without words, or a policy that differs by surface.
    """
    if settings.surfaces:
        raise ValueError(f"a slate needs the policy of its surface; found those of {', '.join(settings.surfaces)}")
    scores = _checked(scores)
    if k < 1 or not len(scores):
        raise ValueError(f"a slate needs k >= 1 and at least one candidate; found k={k}, {len(scores)} candidates")
    k, pages = min(k, len(scores)), _pages(settings, words, np.zeros(len(scores), dtype=np.int64))
    if settings.kind == "plackett_luce" and pages is None:
        return _plackett_luce(np.log(scores) / settings.temperature, k, rng)
    return _afresh(scores, k, settings.plain, rng, pages)


def _plackett_luce(logits: Floats, k: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Sorting by logit plus Gumbel noise draws without replacement (Yellott 1977); what is left sums to the rest.

    Only the k that are placed are sorted; of the others nothing but their sum counts.
    """
    keys = rng.gumbel(size=len(logits))
    keys += logits
    keys *= -1.0
    if k < len(keys):
        parted = np.argpartition(keys, k)
        order, others = parted[:k], logits[parted[k:]]
        most = others.max()
        rest = most + np.log(np.exp(others - most).sum())
    else:
        order, rest = np.arange(k), -np.inf
    order = order[np.argsort(keys[order], kind="stable")]
    chosen = logits[order]
    left = np.logaddexp.accumulate(np.append(rest, chosen[::-1]))[:0:-1]
    return order, np.minimum(1.0, np.exp(chosen - left))


def _afresh(
    scores: Floats, k: int, settings: PolicySettings, rng: np.random.Generator, pages: Pages | None
) -> tuple[Ints, Floats]:
    """Each place on its own: a first choice among what is left."""
    there = np.ones(len(scores), dtype=bool)
    order: list[int] = []
    propensity: list[float] = []
    while len(order) < k:
        now, allowed = (scores, there) if pages is None else pages.now(scores)
        left = np.flatnonzero(there & allowed)
        if not len(left):
            break
        chances = first_choice(now[left], np.array([0, len(left)]), settings)
        at = int(rng.choice(len(left), p=chances / chances.sum()))
        order.append(int(left[at]))
        propensity.append(min(1.0, float(chances[at])))
        there[left[at]] = False
        if pages is not None:
            pages.placed(left[at : at + 1])
    return np.array(order, dtype=np.int64), np.array(propensity)


def _thompson(scores: Floats, starts: Ints, sizes: Ints, evidence: float) -> Floats:
    """The chance that a draw from each candidate's belief is the largest of its segment (Thompson 1933).

    A score is believed as if seen in `evidence` impressions. On the scale asin(sqrt(p)) such a belief is normal with
    variance 1 / (4 evidence) whatever p is (Anscombe 1948), so the chance is the integral of one normal density times
    the others' distributions, a smooth function: the trapezoid rule over the largest mean +- 8 deviations.
    """
    mean = np.arcsin(np.sqrt(scores)) * 2 * np.sqrt(evidence)
    steps = np.linspace(-8.0, 8.0, NODES)
    at = mean - np.repeat(np.maximum.reduceat(mean, starts), sizes)
    chance = np.zeros(len(scores))
    for some in np.array_split(steps, min(NODES, math.ceil(NODES * len(scores) / AT_ONCE))):
        apart = some[:, None] - at
        below = log_ndtr(apart)
        others = np.repeat(np.add.reduceat(below, starts, axis=1), sizes, axis=1) - below
        chance += np.exp(others - apart**2 / 2).sum(axis=0)
    normalised: Floats = chance / np.repeat(np.add.reduceat(chance, starts), sizes)
    return normalised


def _epsilon(settings: PolicySettings) -> float:
    return settings.epsilon if settings.kind == "epsilon_greedy" else 0.0


def _checked(scores: Floats) -> Floats:
    scores = at_most_one(scores)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"a policy needs scores in [0, 1]; found {scores[~((scores >= 0) & (scores <= 1))][:3]}")
    return np.maximum(scores, SMALLEST)
