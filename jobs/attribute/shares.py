"""Which clicks a purchase pays, from when, and how much of it each: four rules. Arrays in, arrays out.

    last_click     all to the latest click
    first_click    all to the earliest
    linear         the same to each
    time_decay     half as much for every `half_life_days` a click is older

Every purchase with a click shares out exactly 1.0. Last and first click are the classic single-touch rules; linear and
time decay the multi-touch ones of Google Analytics and Adobe, which halve every 7 days.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.asof.core import ABSENT, DAY_US, Indices, Spans
from jobs.attribute.takeover import NEVER, reigns
from jobs.config import AttributionSettings

Floats = NDArray[np.float64]
UNITS = 2**52
"""A share is a whole number of 1 / UNITS: such numbers, up to 1, add up without rounding, in any order."""


class Paid(NamedTuple):
    """`purchase` pays `click` (-1: it has none) for every T with `since < T <= until`. All (n,).

    First the pairs for good (`until` is NEVER), by purchase, each with at least one; then those that ended, share 0.
    """

    purchase: Indices
    click: Indices
    since: Indices
    until: Indices
    share: Floats


def paid(
    candidates: Spans,
    purchase_us: Indices,
    click_us: Indices,
    purchase_known: Indices,
    click_known: Indices,
    settings: AttributionSettings,
) -> Paid:
    """Which clicks each purchase pays; `candidates` are those inside its window, all times are microseconds."""
    if settings.model in ("last_click", "first_click"):
        return _one_click(candidates, purchase_known, click_known, newest=settings.model == "last_click")
    purchase, click = candidates.pairs()
    weight = np.ones(len(purchase))
    if settings.model == "time_decay":
        weight = decayed(purchase_us[purchase] - click_us[click], settings.half_life_days)
    share = shared_out(purchase, weight)
    since = np.maximum(purchase_known[purchase], click_known[click])
    alone = np.flatnonzero(candidates.first == candidates.last)
    order = np.argsort(np.concatenate([purchase, alone]), kind="stable")
    return Paid(
        np.concatenate([purchase, alone])[order],
        np.concatenate([click, np.full(len(alone), ABSENT)])[order],
        np.concatenate([since, purchase_known[alone]])[order],
        np.full(len(order), NEVER),
        np.concatenate([share, np.zeros(len(alone))])[order],
    )


def _one_click(candidates: Spans, purchase_known: Indices, click_known: Indices, newest: bool) -> Paid:
    """All to the newest (or the oldest) click; before that was known, to the newest of those that were."""
    best = candidates.best(newest)
    has = best != ABSENT
    since = purchase_known.copy()
    since[has] = np.maximum(since[has], click_known[best[has]])
    # Where the best click was known when the purchase was, no other was ever paid.
    late = np.flatnonzero(since > purchase_known)
    pairs = candidates.at(late).pairs(newest_first=not newest)
    before = reigns(*pairs, purchase_known[late], click_known)
    over = before.until != NEVER
    return Paid(
        np.concatenate([np.arange(len(has)), late[before.left[over]]]),
        np.concatenate([best, before.right[over]]),
        np.concatenate([since, before.since[over]]),
        np.concatenate([np.full(len(has), NEVER), before.until[over]]),
        np.concatenate([has.astype(np.float64), np.zeros(int(over.sum()))]),
    )


def shared_out(purchase: Indices, weight: Floats) -> Floats:
    """The share of each (purchase, click) pair; the shares of a purchase sum to exactly 1.0, in any order of adding.

    `purchase` (n,) is sorted; `weight` (n,) >= 0, the last of each purchase > 0. Shares are the weights over their sum,
    rounded down to a whole number of 1 / UNITS but never to nothing; the last pair of each purchase takes the rest.
    """
    if not len(purchase):
        return np.zeros(0)
    first = np.flatnonzero(np.append(True, purchase[1:] != purchase[:-1]))
    count = np.diff(np.append(first, len(purchase)))
    total = np.repeat(np.add.reduceat(weight, first), count)
    units = np.maximum(weight / total * UNITS, 1.0).astype(np.int64)
    units[first + count - 1] += UNITS - np.add.reduceat(units, first)
    return np.asarray(units / UNITS, dtype=np.float64)


def decayed(age_us: Indices, half_life_days: int) -> Floats:
    """0.5 to the power of age over half-life, (n,); ages in microseconds, at least 0."""
    return np.asarray(np.exp2(age_us / (-half_life_days * DAY_US)), dtype=np.float64)
