"""One page of two rankers or more, and which of them a click speaks for: the same users judge both at once.

Each way of mixing says, beside the items, what a click at each place is worth to each ranker. A page is judged by the
sum of what was clicked (`credit`), many pages by users (`preferences`). What a page as a whole is worth, its variety
say, no way of mixing can see: every page is as varied as the mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.special import stdtrit

from models.evaluation.estimate import Estimate, Refusal, upper_tail
from models.experiments.ratio import of_rate
from models.experiments.rules import Method

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
STEEPNESS = 3.0
"""Of a ranker's softmax over its ranks (Hofmann et al. 2011)."""
MOST_PLACES = 10
"""The optimised way considers up to two lists to this power."""
ALIKE = 1e-12
"""Users who differ by so little of all credit differ by rounding."""
NO_RANK = np.iinfo(np.int64).max
WORST = 1e3
"""What a bias of one click costs an optimised mixture: it is taken only where no mixture is without."""


@dataclass(frozen=True)
class Mixed:
    """k places: what is shown, and what a click at each is worth."""

    items: tuple[str, ...]
    worth: Floats
    """(k, r): of a click at a place, to each of r rankers."""
    ranks: Ints
    """(k, r), from 0: where each ranker has the item; `NO_RANK` where it does not have it."""
    method: Method


def mixed(method: Method, lists: Sequence[Sequence[str]], k: int, rng: np.random.Generator) -> Mixed:
    """At most k items of r rankers' lists, best first, none twice.

    `team_draft` takes any r >= 2 (multileaving, Schuth et al. 2014), the others two. Raises ValueError for fewer lists,
    more of them than a method takes, an item twice in a list, or an optimised page of more than `MOST_PLACES`.
    """
    rankings = [tuple(one) for one in lists]
    if len(rankings) < 2 or (len(rankings) > 2 and method != "team_draft"):
        raise ValueError(
            f"{method} needs {'2 lists or more' if method == 'team_draft' else '2 lists'}; found {len(lists)}"
        )
    if any(len(set(one)) < len(one) for one in rankings) or k < 1:
        raise ValueError(f"needs k of at least 1 and each item once in a list; found k {k} and {rankings}")
    match method:
        case "balanced":
            items = _balanced(rankings, k, int(rng.integers(2)))
            worth = np.zeros((len(items), 2))
        case "team_draft":
            items, worth = _team_draft(rankings, k, rng)
        case "probabilistic":
            items, worth = _probabilistic(rankings, k, rng)
        case "optimised":
            items, worth = _optimised(rankings, k, rng)
    return Mixed(tuple(items), worth, _ranks(rankings, items), method)


def credit(page: Mixed, clicked: Bools) -> Floats:
    """(r,) what clicks (k,) of a page are worth to each ranker.

    A balanced page has no fixed worths: `balanced_credit`.
    """
    if page.method == "balanced":
        return balanced_credit(page.ranks, clicked)
    return np.asarray(page.worth[clicked].sum(axis=0), float)


def balanced_credit(ranks: Ints, clicked: Bools) -> Floats:
    """(2,) of `ranks` (k, 2) and clicks (k,): clicks count for a ranker down to the depth at which either ranker had
    the lowest clicked item (Joachims 2003).
    """
    if not clicked.any():
        return np.zeros(2)
    depth = int(ranks[np.flatnonzero(clicked)[-1]].min())
    return np.asarray((ranks[clicked] <= depth).sum(axis=0), float)


def preferences(credits: Floats, users: Ints, confidence: float) -> list[Estimate | Refusal]:
    """Of each ranker but the first, (credit - that of the first) / (the credit of both), in [-1, 1].

    `credits` (n, r) of n pages, `users` (n,) integers. Users are the units, so that one's many pages count as what they
    are; a few of them may give most of the credit (`ratio.of_rate`). `stderr` is what the limits are Student's quantile
    times of: read at any look, it holds what few users hide. 0: no preference. `n` counts pages, `effective_n` users.
    Refused where fewer than two users gave credit, or all divided it alike.
    """
    pages, upper = np.asarray(credits, float), upper_tail(confidence)
    _, person = np.unique(users, return_inverse=True)
    found: list[Estimate | Refusal] = []
    for other in range(1, pages.shape[1]):
        gap, both = pages[:, other] - pages[:, 0], pages[:, other] + pages[:, 0]
        gaps, sums = (np.bincount(person, weights=column).astype(float) for column in (gap, both))
        gaps, sums = gaps[sums > 0], sums[sums > 0]
        told = len(sums)
        if told < 2:
            found.append(Refusal(f"a preference needs credit by at least 2 users; found {told}", len(pages), told))
            continue
        value = float(gaps.sum() / sums.sum())
        if float(np.abs(gaps - value * sums).max()) <= ALIKE * float(sums.sum()):
            found.append(Refusal(f"a preference needs users who differ; found {value:g} of each", len(pages), told))
            continue
        low, high = of_rate(gaps, sums, told - 1, confidence)
        stderr = min(1.0, (high - low) / (2 * float(stdtrit(told - 1, upper))))
        found.append(Estimate(value, stderr, max(-1.0, low), min(1.0, high), len(pages), float(told)))
    return found


def _ranks(lists: Sequence[tuple[str, ...]], items: Sequence[str]) -> Ints:
    at = [{item: rank for rank, item in enumerate(one)} for one in lists]
    return np.array([[of.get(item, NO_RANK) for of in at] for item in items], dtype=np.int64).reshape(-1, len(lists))


def _balanced(lists: Sequence[tuple[str, ...]], k: int, first: int) -> list[str]:
    """By turns the best that is not shown yet, of whose list less has been looked at (Joachims 2003)."""
    looked = [0, 0]
    items: list[str] = []
    while len(items) < k and any(looked[side] < len(lists[side]) for side in (0, 1)):
        side = first if looked[first] <= looked[1 - first] else 1 - first
        if looked[side] >= len(lists[side]):
            side = 1 - side
        item = lists[side][looked[side]]
        looked[side] += 1
        if item not in items:
            items.append(item)
    return items


def _team_draft(lists: Sequence[tuple[str, ...]], k: int, rng: np.random.Generator) -> tuple[list[str], Floats]:
    """Round by round, in an order drawn anew, each ranker gives its best that is not shown (Radlinski et al. 2008)."""
    items: list[str] = []
    teams: list[int] = []
    at = [0] * len(lists)
    while len(items) < k:
        before = len(items)
        for ranker in rng.permutation(len(lists)).tolist():
            while at[ranker] < len(lists[ranker]) and lists[ranker][at[ranker]] in items:
                at[ranker] += 1
            if at[ranker] < len(lists[ranker]) and len(items) < k:
                items.append(lists[ranker][at[ranker]])
                teams.append(ranker)
        if len(items) == before:
            break
    return items, np.eye(len(lists))[teams] if teams else np.zeros((0, len(lists)))


def _probabilistic(lists: Sequence[tuple[str, ...]], k: int, rng: np.random.Generator) -> tuple[list[str], Floats]:
    """Every place is drawn from either ranker's softmax; a click is worth how likely each was it (Hofmann 2011)."""
    names = list(dict.fromkeys(item for one in lists for item in one))
    ranks = _ranks(lists, names).astype(float)
    weight = np.where(ranks < NO_RANK, (ranks + 1) ** -STEEPNESS, 0.0)
    items: list[str] = []
    worth: list[Floats] = []
    for _ in range(min(k, len(names))):
        sums = weight.sum(axis=0)
        share = weight / np.where(sums > 0, sums, 1.0)
        both = share.sum(axis=1)
        at = int(rng.choice(len(names), p=both / both.sum()))
        items.append(names[at])
        worth.append(share[at] / both[at])
        weight[at] = 0.0
    return items, np.array(worth).reshape(-1, 2)


def _optimised(lists: Sequence[tuple[str, ...]], k: int, rng: np.random.Generator) -> tuple[list[str], Floats]:
    """A draw from the most telling mixture of prefix pages under which clicks at random prefer neither ranker."""
    if k > MOST_PLACES:
        raise ValueError(f"an optimised page has at most {MOST_PLACES} places; found {k}")
    names = list(dict.fromkeys(item for one in lists for item in one))
    number = {item: at for at, item in enumerate(names)}
    first, other = (tuple(number[item] for item in one) for one in lists)
    pages, chances, worth = _mixture(first, other, k)
    drawn = int(rng.choice(len(pages), p=chances))
    return [names[at] for at in pages[drawn]], worth[drawn]


@lru_cache(maxsize=256)
def _mixture(
    first: tuple[int, ...], other: tuple[int, ...], k: int
) -> tuple[list[tuple[int, ...]], Floats, list[Floats]]:
    """Pages, their chances and the worth of their places (Radlinski & Craswell 2013, equations 4 to 9).

    A click's worth is linear in the ranks: that of the ranker that has the item higher, by how much. Clicks anywhere
    in the first i places, for each i, must on average be worth nothing; where no mixture does that, as little as can
    be.
    """
    pages = sorted(_prefix_pages(first, other, k))
    length = min(k, len({*first, *other}))
    ranks = [_ranks([tuple(map(str, one)) for one in (first, other)], list(map(str, page))) for page in pages]
    depth = float(max(len(first), len(other)))
    gaps = np.array([np.diff(np.minimum(of, depth), axis=1)[:, 0] for of in ranks], float)
    bias = np.cumsum(gaps, axis=1).T / depth
    looked = 1 / np.arange(1, length + 1)
    wins = np.stack([((gaps > 0) * looked).sum(axis=1), ((gaps < 0) * looked).sum(axis=1)]) / looked.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        share = wins / wins.sum(axis=0)
        telling = -np.nansum(np.where(share > 0, share * np.log(share), 0.0), axis=0) * wins.sum(axis=0)
    n = len(pages)
    cost = np.concatenate([-np.nan_to_num(telling), np.full(2 * length, WORST)])
    equal = np.vstack([np.hstack([bias, np.eye(length), -np.eye(length)]), np.append(np.ones(n), np.zeros(2 * length))])
    found = linprog(cost, A_eq=equal, b_eq=np.append(np.zeros(length), 1.0), bounds=(0, None), method="highs")
    chances = np.clip(found.x[:n], 0, None)
    worth = [np.column_stack([np.maximum(gap, 0), np.maximum(-gap, 0)]) / depth for gap in gaps]
    return pages, chances / chances.sum(), worth


def _prefix_pages(first: tuple[int, ...], other: tuple[int, ...], k: int) -> set[tuple[int, ...]]:
    """Pages whose every beginning is the union of a beginning of either list."""
    pages: set[tuple[int, ...]] = {()}
    for _ in range(min(k, len({*first, *other}))):
        pages = {
            (*page, item)
            for page in pages
            for one in (first, other)
            for item in [next((item for item in one if item not in page), None)]
            if item is not None
        }
    return pages
