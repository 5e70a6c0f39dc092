"""Champion and challenger differ in a hundredth of the requests, and there the champion shows what was rarely logged.

A rarely logged item has few rows and large weights: with no click among them it looks worthless, and for sure.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import Goal, World

LAW = Law(base=-4.3, fewest=8, candidates=8)
SHARE, AMONG = 0.01, 0.2
PROPENSITY = (0.03, 0.05)
BELIEVED, DROPPED = 0.2, 0.01
"""What champion and challenger predict for the rarely logged item."""


@lru_cache(maxsize=1)
def day_of(seed: int, decisions: int) -> Day:
    """Both rankers say the same but for one candidate of few requests."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    found = day.requests
    # Where clicks are likelier, so that there is something to lose.
    few = (found.mean > np.quantile(found.mean, 1 - AMONG)) & (rng.random(decisions) < SHARE / AMONG)
    rare, chance = found.offsets[:-1][few], rng.uniform(*PROPENSITY, int(few.sum()))
    factor = np.ones(decisions)
    # Whatever else there is to differ about there was logged as often as it is chosen.
    logging = np.where(found.spread(few), day.chosen["champion"], day.logging)
    factor[few] = (1 - chance) / (1 - logging[rare])
    logging *= found.spread(factor)
    logging[rare] = chance
    scores = {side: day.predicted["champion"].copy() for side in day.predicted}
    scores["champion"][rare], scores["challenger"][rare] = BELIEVED, DROPPED
    return replace(day, logging=logging).with_rankers(scores)


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """The rarely logged items are better or worse by what makes the lift."""
    day = day_of(seed, decisions)
    yield day.log(np.random.default_rng([seed, 1]), day.tilted(lift))


WORLDS = (
    World(
        name="rare_items",
        says="In 1 % of requests the champion shows items with propensities of 3 to 5 % that the challenger drops.",
        draw=draw,
        goals=(Goal("promoted", at_most=0.025),),
        lifts=(0.0, -0.0087, -0.013),
    ),
)
