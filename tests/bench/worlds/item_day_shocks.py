"""What happens to an item on a day happens to all who see it then: a price, a stock-out, the news."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from tests.bench.gate_draws import Day, Floats, Law, Log, normal, sigmoid, tilted
from tests.bench.gate_evidence import Goal, World

LAW = Law(fewest=8, candidates=8, items=600, item_sd=0.8, match_sd=0.6, item_noise=0.35)
SHOCKS, CHANCES = (0.0, -np.sqrt(3.0), np.sqrt(3.0)), (2 / 3, 1 / 6, 1 / 6)
"""A standard normal's stand-in, of the same moments up to the fifth."""


def expected(logit: Floats, sd: float) -> Floats:
    """Click probabilities (n,) before shocks of this size are known."""
    return sum(chance * sigmoid(logit + sd * shock) for chance, shock in zip(CHANCES, SHOCKS, strict=True))


def draw(seed: int, lift: float, decisions: int, *, sd: float, days: int = 1) -> Iterator[Log]:
    """Policies are worth what they earn in expectation over the shocks: other days will have others."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    found = day.requests
    found.days[:] = np.arange(decisions) * days // decisions
    mean = expected(found.appeal, sd)
    moved = tilted(mean, day.chosen["champion"], day.chosen["challenger"], lift)
    logit = found.appeal + np.log(moved / (1 - moved)) - np.log(mean / (1 - mean))
    shock = normal(rng, LAW.items * days).reshape(LAW.items, days)[found.items, found.spread(found.days)]
    yield day.log(rng, sigmoid(logit + sd * shock), expected=expected(logit, sd))


WORLDS = tuple(
    World(
        name=f"item_day_shocks {sd}" + f" on {days} days" * (days > 1),
        says=f"A shock of {sd} to the log-odds of each item on each of {days} day(s), shared by all who see it then.",
        draw=partial(draw, sd=sd, days=days),
        goals=(Goal("promoted", at_most=0.03), Goal("covered", at_least=0.93)),
    )
    for sd, days in ((0.25, 1), (0.5, 1), (0.5, 7))
)
