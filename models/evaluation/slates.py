"""The value of another policy's whole pages: a row is a placement, `slate` is the id of its page.

All arrays are (n,) by placement: `slate` integers, `position` 1 is the top (no position twice on a page), `reward` of
the placement, `logged` in (0, 1] and `target` in [0, 1] the probabilities of that item at that position; what they are
conditioned on differs by estimator. A page's rows may come in any order but in one batch. Estimates are of the sum of
rewards per page; `n` counts pages; `clusters` are per placement, constant within a page. No dense array of pages x
positions x items is ever built.

Which to use: `iips` if the items above do not affect whether an item is clicked; `rips`, `snrips` and `cascade_dr` if
they do but the items below do not; `pseudo_inverse` if only the page's total is known and items add up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation import weighting
from models.evaluation.estimate import LARGEST, Estimate
from models.evaluation.sufficient import CONFIDENCE, SufficientStatistics
from models.evaluation.weighting import Floats, Log, Terms, need_one_length
from models.probabilities import ROUNDING, at_most_one

Ints = NDArray[np.int64]
SMALLEST = float(np.nextafter(0.0, 1.0))
"""The propensity of a page is never 0: it was shown."""
MOST = 2**53
"""Maximum number of candidates: a float cannot count beyond it."""


@dataclass(frozen=True)
class Pages:
    """Checked placements, sorted by page and position; page i has rows `starts[i]` to the next start."""

    log: Log
    starts: Ints
    sizes: Ints
    order: Ints

    @classmethod
    def checked(
        cls,
        slate: Ints,
        position: Ints,
        reward: Floats,
        logged: Floats,
        target: Floats,
        predicted_logged: Floats | None = None,
        predicted_target: Floats | None = None,
    ) -> Self:
        """The arrays sorted. Raises ValueError as `Log.checked`, and for a position taken twice."""
        page, place = np.asarray(slate), np.asarray(position)
        need_one_length({"slate": page, "position": place, "reward": np.asarray(reward)})
        order = np.lexsort((place, page))
        given = (reward, logged, target, predicted_logged, predicted_target)
        log = Log.checked(*given)
        page, place = page[order], place[order]
        twice = (page[1:] == page[:-1]) & (place[1:] == place[:-1])
        if twice.any():
            at = int(np.argmax(twice))
            raise ValueError(f"a page needs each position once; found position {place[at]} twice on page {page[at]}")
        starts = np.flatnonzero(np.concatenate([[True], page[1:] != page[:-1]])) if len(page) else np.zeros(0, int)
        columns = (log.reward, log.logged, log.weight, log.predicted_logged, log.predicted_target)
        return cls(Log(*(a[order] for a in columns)), starts, np.diff(np.append(starts, len(page))), order)

    def down_to(self) -> Floats:
        """(n,) the product of weights from the top of the page down to each placement, as `weighting.bounded` says.

        A product of ratios, each about 1, because a ratio of products would soon be 0 / 0. Its powers of two are
        counted separately, so intermediate values may have any size.
        """
        product, doubled = np.frexp(self.log.weight)
        for rank in range(1, int(self.sizes.max(initial=0))):
            rows = self.starts[self.sizes > rank] + rank
            product[rows], more = np.frexp(product[rows] * product[rows - 1])
            doubled[rows] += doubled[rows - 1] + more
        with np.errstate(over="ignore"):
            return weighting.bounded(np.ldexp(product, doubled))

    def of_pages(self, weight: Floats) -> Floats:
        """(pages,) the weight of each page's lowest placement; `LARGEST` if one above it was cut to that."""
        cut = self.total((weight >= LARGEST).astype(np.float64)) > 0
        return np.where(cut, LARGEST, weight[self.last()])

    def whole(self) -> Log:
        """Each page as one decision: the sum of its rewards, and the probabilities and weight of the whole page."""
        none = np.zeros(len(self.starts))
        logged = np.multiply.reduceat(self.log.logged, self.starts) if len(self.starts) else none
        return Log(self.total(self.log.reward), np.maximum(logged, SMALLEST), self.of_pages(self.down_to()), none, none)

    def total(self, by_placement: Floats) -> Floats:
        """(pages,) sums over each page."""
        return np.add.reduceat(by_placement, self.starts) if len(self.starts) else np.zeros(0)

    def of_page(self, by_placement: Ints | None) -> Ints | None:
        """(pages,) the value of each page's first placement."""
        return None if by_placement is None else np.asarray(by_placement)[self.order][self.starts]

    def last(self) -> Ints:
        """(pages,) the row of each page's lowest placement."""
        return self.starts + self.sizes - 1

    def depths(self, places: int) -> Iterator[Log]:
        """For each of the first `places`: every page's reward there, and propensity and weight from the top to it.

        A shorter page has no reward there, and keeps the propensity and weight of the whole page.
        """
        m, down_to = len(self.starts), self.down_to()
        logged, weight, none = np.ones(m), np.ones(m), np.zeros(m)
        for rank in range(places):
            reward, has = np.zeros(m), self.sizes > rank
            rows = self.starts[has] + rank
            reward[has] = self.log.reward[rows]
            logged[has] = np.maximum(logged[has] * self.log.logged[rows], SMALLEST)
            weight[has] = down_to[rows]
            yield Log(reward, logged.copy(), weight.copy(), none, none)


def iips(
    *,
    slate: Ints,
    position: Ints,
    reward: Floats,
    logged: Floats,
    target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Each placement weighted by its own weight: mean over pages of sum_k w_k r_k (independent IPS; Li et al. 2018).

    `logged`, `target`: marginal probabilities. Unbiased if an item's reward depends on its position alone.
    """
    pages = Pages.checked(slate, position, reward, logged, target)
    return _estimate(pages, iips_terms(pages), clusters, confidence)


def rips(
    *,
    slate: Ints,
    position: Ints,
    reward: Floats,
    logged: Floats,
    target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Each placement weighted by all down to it: mean over pages of sum_k (w_1 ... w_k) r_k (McInerney et al. 2020).

    Reward interaction IPS. `logged`, `target`: given everything above on the page, as loggers write them. Unbiased if
    rewards depend on the items above but not on those below (a cascade of attention).
    """
    pages = Pages.checked(slate, position, reward, logged, target)
    return _estimate(pages, rips_terms(pages), clusters, confidence)


def snrips(
    *,
    slate: Ints,
    position: Ints,
    reward: Floats,
    logged: Floats,
    target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """`rips` with each place divided by its own weights: sum_k sum(W_k r_k) / sum(W_k), W_k = w_1 ... w_k over pages.

    Consistent weighted per-decision importance sampling (Thomas 2015, section 3.9), with a bias of order 1 / pages. A
    page that ends above k keeps its weight and adds no reward. This is right even if the items above determine how far
    users look down a page: a stopped product of weights has a mean of one too.
    """
    pages = Pages.checked(slate, position, reward, logged, target)
    if not len(pages.starts):
        raise ValueError("pages need placements; found none")
    terms = [weighting.snips(log) for log in pages.depths(int(pages.sizes.max(initial=0)))]
    keys = np.arange(len(pages.starts)) if clusters is None else pages.of_page(clusters)
    return SufficientStatistics.of(*terms, clusters=keys).estimate(confidence, np.ones(len(terms)).tolist())


def cascade_dr(
    *,
    slate: Ints,
    position: Ints,
    reward: Floats,
    logged: Floats,
    target: Floats,
    predicted_logged: Floats,
    predicted_target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """`rips` with a model of the rewards still to come (Kiyohara et al. 2022): unbiased where `rips` is.

    Mean over pages of sum_k W_k (r_k - q_k) + W_(k-1) v_k, W_k = w_1 ... w_k. `predicted_logged` q_k: the model's sum
    of rewards from k down, given the items down to k, under the target below; `predicted_target` v_k: the same
    averaged over the target's choice at k. With a perfect model only the variance between contexts remains.
    """
    pages = Pages.checked(slate, position, reward, logged, target, predicted_logged, predicted_target)
    return _estimate(pages, cascade_dr_terms(pages), clusters, confidence)


def pseudo_inverse(
    *,
    slate: Ints,
    position: Ints,
    reward: Floats,
    logged: Floats,
    target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The page's total weighted by 1 + sum_k (w_k - 1) (Swaminathan et al. 2017, slots drawn independently).

    `logged`, `target`: marginal; `reward` may stand on any placement of the page. Unbiased when the expected total is a
    sum over placements and the logging policy draws each slot by itself (a product policy). A logging policy that never
    repeats an item does not: for uniform ones see `pseudo_inverse_of_permutations`; for others no closed form is known.
    """
    pages = Pages.checked(slate, position, reward, logged, target)
    return _estimate(pages, pseudo_inverse_terms(pages), clusters, confidence)


def pseudo_inverse_of_permutations(
    *,
    slate: Ints,
    position: Ints,
    reward: Floats,
    candidates: Ints,
    target: Floats,
    target_anywhere: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The pseudo-inverse estimate for pages that are uniform draws without repetition from m candidates.

    `candidates`: m, constant within a page and at least its size l, 2 or more. `target`: the target's probability of
    the item at that position; `target_anywhere`: of the item on the page at all, in [0, 1]. With A and B their sums
    over the page, the weight is 1 + (m - 1) / (m - l) (m B / l - l) + (m - 1) (A - B / l), the middle term 0 for m = l:
    the pseudo-inverse of Swaminathan et al. (2017) in closed form, from the four eigenvalues of the uniform design.
    """
    m, anywhere = np.asarray(candidates, dtype=np.float64), np.asarray(target_anywhere, dtype=np.float64)
    need_one_length({"reward": np.asarray(reward), "candidates": m, "target_anywhere": anywhere})
    if not (
        ((m >= 2) & (m <= MOST) & (m == np.floor(m))).all() and ((anywhere >= 0) & (anywhere <= 1 + ROUNDING)).all()
    ):
        raise ValueError("a pseudo-inverse needs 2 or more candidates and target_anywhere in [0, 1]; found others")
    pages, anywhere = Pages.checked(slate, position, reward, 1.0 / m, target), at_most_one(anywhere)
    count, size = m[pages.order][pages.starts], pages.sizes.astype(np.float64)
    if (size > count).any():
        page = int(np.argmax(size > count))
        raise ValueError(
            f"a page needs at most as many placements as candidates; found {size[page]:.0f} of {count[page]:.0f}"
        )
    here, there = pages.total(at_most_one(target)[pages.order]), pages.total(anywhere[pages.order])
    spare = np.where(count > size, count - size, 1.0)
    shared = np.where(count > size, (count - 1) / spare * (count * there / size - size), 0.0)
    weight = 1.0 + shared + (count - 1) * (here - there / size)
    return _estimate(pages, _whole_pages(pages, weight), clusters, confidence)


def iips_terms(pages: Pages) -> Terms:
    """What each page contributes to `iips`, (pages,), as for all terms of pages; pages are independent."""
    return _placements(pages, pages.log.weight * pages.log.reward, pages.log.weight)


def rips_terms(pages: Pages) -> Terms:
    """What each page contributes to `rips`."""
    weight = pages.down_to()
    return _placements(pages, weight * pages.log.reward, weight)


def cascade_dr_terms(pages: Pages) -> Terms:
    """What each page contributes to `cascade_dr`."""
    weight = pages.down_to()
    above = np.concatenate([[1.0], weight])[:-1]
    above[pages.starts] = 1.0
    return _placements(pages, weight * pages.log.surprise + above * pages.log.predicted_target, weight)


def pseudo_inverse_terms(pages: Pages) -> Terms:
    """What each page contributes to `pseudo_inverse`."""
    return _whole_pages(pages, 1.0 + pages.total(pages.log.weight - 1.0))


def _placements(pages: Pages, contribution: Floats, weight: Floats) -> Terms:
    """The placements' contributions (n,) added up; a page's weight is that of its lowest placement."""
    total = pages.total(contribution)
    return Terms(total, np.zeros(len(total)), pages.of_pages(weight))


def _whole_pages(pages: Pages, weight: Floats) -> Terms:
    weight = weighting.bounded(weight)
    return Terms(weight * pages.total(pages.log.reward), np.zeros(len(weight)), weight)


def _estimate(pages: Pages, terms: Terms, clusters: Ints | None, confidence: float) -> Estimate:
    """The mean over pages."""
    return SufficientStatistics.of(terms, clusters=pages.of_page(clusters)).estimate(confidence)
