"""How a policy distributes its recommendations: over few or many items, over popular items or the rest.

`recommended` is an expected count: how often the policy places an item, a probability per candidate or a count of
slates. So no sampling is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import LARGEST, Finding, Refusal, exactly
from models.evaluation.ranking import by_row
from models.evaluation.resampling import Bootstrap
from models.probabilities import at_most_one
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SHARES = tuple(n / 10 for n in range(1, 11))
BEHIND = 0.8
"""A policy's concentration in one figure: the share of items behind this share of its recommendations."""


@dataclass(frozen=True)
class Concentration:
    """`items_behind[i]`: the smallest share of the catalogue that holds `SHARES[i]` of all recommendations.

    `coverage`: the share of the catalogue that is recommended at all. 0.1 of the items behind 0.1 of the
    recommendations, 0.2 behind 0.2 and so on would be an even spread.
    """

    items_behind: tuple[Finding, ...]
    coverage: Finding


def concentration(
    items: Ints,
    recommended: Floats,
    catalogue: int,
    *,
    settings: GateSettings,
    seed: int,
    clusters: Ints | None = None,
) -> Concentration | Refusal:
    """The popularity-bias curve and the coverage of a policy, intervals by user.

    `items`: (n,) integers, one per candidate row. `recommended`: (n,) >= 0, how often the policy places it.
    `catalogue`: how many items there are, recommended or not. `clusters`: (n,) users; by default every row is its own.
    More requests reach more items: the figures are those of a log of this size, and so are their intervals.

    Refused when nothing is recommended, or where there is one item only, behind which all recommendations always are;
    raises ValueError for arrays of unequal length, values outside these ranges, or fewer items in the catalogue than
    appear.
    """
    at, found = _placed(items, [recommended], catalogue)
    if isinstance(found, Refusal):
        return found
    n = len(at)
    bootstrap = _bootstrap(clusters, n, settings, seed)
    value, draws = _curves(bootstrap, at, found[0], catalogue)
    every = [bootstrap.estimate(float(v), d, n, (0.0, 1.0)) for v, d in zip(value, draws.T, strict=True)]
    return Concentration(tuple(every[:-1]), every[-1])


def concentration_rise(
    items: Ints,
    before: Floats,
    after: Floats,
    catalogue: int,
    *,
    settings: GateSettings,
    seed: int,
    clusters: Ints | None = None,
) -> Finding:
    """By how much the set of items behind `BEHIND` of the recommendations shrinks: 1 - after / before, at most 1.

    Arguments and refusals as for `concentration`; both sides are resampled together, so the interval is of the paired
    ratio.
    """
    at, found = _placed(items, [before, after], catalogue)
    if isinstance(found, Refusal):
        return found
    bootstrap = _bootstrap(clusters, len(at), settings, seed)
    place = SHARES.index(BEHIND)
    (first, firsts), (last, lasts) = (_curves(bootstrap, at, side, catalogue) for side in found)
    return bootstrap.estimate(
        float(1 - last[place] / first[place]), 1 - lasts[:, place] / firsts[:, place], len(at), (-np.inf, 1.0)
    )


def _placed(items: Ints, sides: Sequence[Floats], catalogue: int) -> tuple[Ints, list[Floats] | Refusal]:
    """(n,) the number of each row's item, and the sides' recommendations; a refusal where one has none."""
    checked = [_checked(items, side)[1] for side in sides]
    names, at = np.unique(np.asarray(items), return_inverse=True)
    if catalogue < len(names):
        raise ValueError(f"a catalogue of at least {len(names)} items is needed; found {catalogue}")
    if len(names) == 1:
        return at, Refusal(f"the popularity curve needs 2 items to choose from; found 1 in {len(at)} rows", len(at))
    if not all(side.sum() for side in checked):
        return at, Refusal(f"the popularity curve needs recommendations; found none in {len(at)} rows", len(at))
    return at, checked


def _bootstrap(clusters: Ints | None, n: int, settings: GateSettings, seed: int) -> Bootstrap:
    """Resamples of n rows by cluster; by default every row is its own."""
    return Bootstrap(by_row(clusters, n), settings.bootstrap_replicates, settings.confidence, seed)


def _curves(bootstrap: Bootstrap, at: Ints, placed: Floats, catalogue: int) -> tuple[Floats, Floats]:
    """Items behind each of `SHARES` and coverage, as shares of the catalogue: (11,), and (replicates, 11) in draws."""
    whole, draws = bootstrap.by(at, placed, int(at.max()) + 1)
    return _curve(whole, catalogue), np.array([_curve(draw, catalogue) for draw in draws])


def _curve(placed: Floats, catalogue: int) -> Floats:
    reached = np.cumsum(np.sort(placed)[::-1])
    needed = np.searchsorted(reached, (np.array(SHARES) - 1e-9) * reached[-1]) + 1
    return np.append(needed, (placed > 0).sum()) / catalogue


def exposure_gap(
    recommended: Floats,
    popular: NDArray[np.bool_],
    *,
    settings: GateSettings,
    seed: int,
    wanted: NDArray[np.bool_] | None = None,
    clusters: Ints | None = None,
) -> Finding:
    """How much likelier a popular candidate is placed than another: 0 is statistical parity, range [-1, 1].

    `recommended`: (n,) in [0, 1], the policy's probability to place each candidate. `popular`: (n,). `clusters`: (n,)
    users; by default every row is its own. With `wanted` (n,) only candidates the user clicked count, which asks for
    equal opportunity: among what people wanted, do popular items still get more room (Zhu, Wang & Caverlee 2020; Hardt,
    Price & Srebro 2016)? Clicks are known of what was shown only, so that figure inherits the logging policy's choice.
    Refused when either group is empty.
    """
    rows = np.arange(len(recommended)) if wanted is None else np.flatnonzero(np.asarray(wanted, bool))
    _, placed = _checked(np.zeros(len(recommended), np.int64), at_most_one(recommended))
    if len(placed) and placed.max() > 1:
        raise ValueError(f"probabilities in [0, 1] are needed; found {exactly(placed.max())}")
    head = np.asarray(popular, bool)
    if len(head) != len(placed) or (wanted is not None and len(wanted) != len(placed)):
        raise ValueError(f"arrays of one length are needed; found {len(placed)} rows, {len(head)} flags")
    placed, head = placed[rows], head[rows]
    n, popular_rows = len(rows), int(head.sum())
    if popular_rows in (0, n):
        return Refusal(f"an exposure gap needs popular and other candidates; found {popular_rows} popular of {n}", n)
    bootstrap = _bootstrap(None if clusters is None else np.asarray(clusters)[rows], n, settings, seed)
    high, highs = bootstrap.ratio(placed * head, head.astype(np.float64))
    low, lows = bootstrap.ratio(placed * ~head, (~head).astype(np.float64))
    return bootstrap.estimate(high - low, highs - lows, n, (-1.0, 1.0))


def popular_items(items: Ints, clicks: Floats, share: float = 0.2) -> Ints:
    """The items, ascending, that together hold at least `share` of all clicks, the most clicked first.

    `items`: (m,) distinct integers, `clicks`: (m,) >= 0 in the past; ties go to the smaller item. Raises ValueError for
    a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share in (0, 1] is needed; found {share}")
    items, clicks = _checked(items, clicks)
    if not clicks.sum():
        return items[:0]
    order = np.lexsort((items, -clicks))
    enough = int(np.searchsorted(np.cumsum(clicks[order]), share * clicks.sum() - 1e-9)) + 1
    return np.sort(items[order[:enough]])


def _checked(items: Ints, placed: Floats) -> tuple[Ints, Floats]:
    items, placed = np.asarray(items), np.asarray(placed, dtype=np.float64)
    if items.shape != placed.shape or items.ndim != 1:
        raise ValueError(f"arrays of one length are needed; found {items.shape} and {placed.shape}")
    if not ((placed >= 0) & (placed <= LARGEST)).all():
        raise ValueError(f"figures from 0 to {LARGEST:g} are needed; found others")
    return items, placed
