"""Sessions of users who read down a page, click what is relevant, and leave: two rankers apart, and mixed on one page.

`sessions_needed` asks of both ways how many sessions tell the better ranker at 5 % two-sided with 80 % power.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CANDIDATES, PLACES = 12, 6
Z = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)


@dataclass(frozen=True)
class Page:
    """n pages: the relevance of each place (n, k), its category, and whose it is: 0 or 1 of a mixed page."""

    relevance: np.ndarray
    category: np.ndarray
    team: np.ndarray


@dataclass(frozen=True)
class Readers:
    """How they click and leave: (chance of reading on after no click, and after one)."""

    patience: np.ndarray
    """(n,) what a user makes of relevance: some click a lot."""
    on: tuple[float, float]
    """Much lower after a click where users have then found what they came for: they leave by relevance."""
    bored: float = 0.0
    """Of leaving after two items of one category running."""

    def _stay(self, page: Page) -> tuple[np.ndarray, np.ndarray]:
        """(n, k) chances of reading on after a place, without a click and with one."""
        bored = np.zeros(page.category.shape)
        bored[:, 1:] = np.where(page.category[:, 1:] == page.category[:, :-1], self.bored, 0.0)
        return (1 - bored) * self.on[0], (1 - bored) * self.on[1]

    def expected(self, page: Page) -> np.ndarray:
        """(n,) clicks on average."""
        click = page.relevance * self.patience[:, None]
        without, after = self._stay(page)
        stay = (1 - click) * without + click * after
        reach = np.cumprod(np.column_stack([np.ones(len(stay)), stay[:, :-1]]), axis=1)
        return (reach * click).sum(axis=1)

    def clicks(self, rng: np.random.Generator, page: Page) -> np.ndarray:
        """(n, k) what they clicked."""
        wanted = rng.random(page.relevance.shape) < page.relevance * self.patience[:, None]
        stays = rng.random(wanted.shape) < np.where(wanted, *self._stay(page)[::-1])
        read = np.cumprod(np.column_stack([np.ones(len(stays)), stays[:, :-1]]), axis=1).astype(bool)
        return read & wanted


def ranked(relevance: np.ndarray, category: np.ndarray, score: np.ndarray) -> Page:
    """The best by a score."""
    best = np.argsort(-score, axis=1)[:, :PLACES]
    rows = np.arange(len(best))[:, None]
    return Page(relevance[rows, best], category[rows, best], np.zeros(best.shape, int))


def team_draft(rng: np.random.Generator, relevance: np.ndarray, category: np.ndarray, scores: list[np.ndarray]) -> Page:
    """Team draft over all pages at once: the same rule as `interleaving.mixed`, which draws one."""
    n = len(relevance)
    left = [score.copy() for score in scores]
    rows, chosen, teams, first = np.arange(n), [], [], np.zeros(n, int)
    for place in range(PLACES):
        first = rng.integers(0, 2, n) if place % 2 == 0 else 1 - first
        item = np.where(first == 0, left[0].argmax(axis=1), left[1].argmax(axis=1))
        for score in left:
            score[rows, item] = -np.inf
        chosen.append(item)
        teams.append(first)
    at = np.stack(chosen, axis=1)
    return Page(relevance[rows[:, None], at], category[rows[:, None], at], np.stack(teams, axis=1))


@dataclass(frozen=True)
class Needed:
    """Sessions that either way needs, and which ranker it finds better: above 0 the second."""

    a_b: float
    a_b_adjusted: float
    """With as many sessions of the same users from before (CUPED)."""
    interleaved: float
    a_b_gain: float
    interleaved_gain: float


def sessions_needed(
    rng: np.random.Generator,
    readers: Readers,
    user: np.ndarray,
    relevance: np.ndarray,
    category: np.ndarray,
    scores: list[np.ndarray],
) -> Needed:
    """Of an A/B test by user on clicks per session, its gain known from both rankers' pages, and of team draft.

    Errors are by user, as both are read: a user's sessions are alike.
    """
    pages = [ranked(relevance, category, score) for score in scores]
    gain = float((readers.expected(pages[1]) - readers.expected(pages[0])).mean())
    during, before = (_by_user(user, readers.clicks(rng, page).sum(axis=1)) for page in pages)
    left = during - before * (during @ before) / (before @ before)
    page = team_draft(rng, relevance, category, scores)
    credit = (readers.clicks(rng, page) * (2 * page.team - 1)).sum(axis=1)
    mixed = _by_user(user, credit)
    n = len(user)
    return Needed(
        4 * (during @ during) / n * (Z / gain) ** 2,
        4 * (left @ left) / n * (Z / gain) ** 2,
        float(mixed @ mixed) / n * (Z / float(credit.mean())) ** 2,
        gain,
        float(credit.mean()),
    )


def _by_user(user: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """Each user's part in the error of the figure's mean over sessions."""
    return np.bincount(user, weights=figure - figure.mean())


def sessions_of(rng: np.random.Generator, users: int, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Whose each session is, and that user's patience: ten sessions a user, some many more."""
    user = np.repeat(np.arange(users), rng.geometric(0.1, users))
    return user, rng.beta(a, b, users)[user]


LEAVING = {"once content": (0.97, 0.05), "at random": (0.6, 0.6)}
"""How users leave: by relevance, once they have found something, or after any item alike."""


def two_rankers(seed: int, users: int, leaving: str) -> Needed:
    """The second sees relevance a little clearer; users differ a lot in how much they click."""
    rng = np.random.default_rng(seed)
    user, patience = sessions_of(rng, users, 0.5, 0.7)
    relevance = rng.beta(0.6, 1.6, (len(user), CANDIDATES))
    scores = [relevance + noise * rng.normal(size=relevance.shape) for noise in (0.24, 0.2)]
    readers = Readers(patience, LEAVING[leaving])
    return sessions_needed(rng, readers, user, relevance, np.zeros(relevance.shape, int), scores)


def variety(seed: int, users: int) -> Needed:
    """The first fills a page with the best of one category, which bores; the second varies, a little less relevant.

    Mixed, the second's items keep users reading and the first's are clicked: the first wins what it would lose alone.
    """
    rng = np.random.default_rng(seed)
    user, patience = sessions_of(rng, users, 2.0, 2.0)
    one, shape = np.arange(CANDIDATES) < PLACES, (len(user), CANDIDATES)
    relevance = np.broadcast_to(np.where(one, 0.5, 0.42), shape)
    category = np.broadcast_to(np.where(one, 0, 1 + np.arange(CANDIDATES)), shape)
    scores = [np.where(of, 1.0, 0.0) + 0.01 * rng.random(shape) for of in (one, ~one)]
    return sessions_needed(rng, Readers(patience, (1.0, 1.0), bored=0.7), user, relevance, category, scores)
