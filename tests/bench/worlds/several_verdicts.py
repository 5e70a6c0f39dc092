"""Many verdicts and no difference in any: each may err in one of forty, so that one of them errs more often."""

from collections.abc import Iterator

import numpy as np

from tests.bench.gate_draws import Day, Law, Log, noise
from tests.bench.gate_evidence import Goal, World

LAW = Law(fewest=8, candidates=8)
CHALLENGERS, DAYS = 8, 14
GOALS = (Goal("promoted", at_most=0.05),)


def challengers(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """One day's log and several challengers, each with errors of its own; all as good as the champion."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    for _ in range(CHALLENGERS):
        # The same draws: one log, other challengers.
        yield day.challenged(noise(LAW, day.requests, rng)).log(np.random.default_rng([seed, 1]))


def daily(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """A fortnight, a new challenger a day."""
    for day in range(DAYS):
        rng = np.random.default_rng([seed, day])
        yield Day.of(LAW, decisions, rng).log(rng)


EIGHT = f"{CHALLENGERS} challengers, none better or worse, are judged on one log"
FORTNIGHT = f"A challenger a day for {DAYS} days, none better or worse"
ALONE = "each at its own risk: what that costs, so without a goal."
WORLDS = (
    World("several_challengers, each alone", f"{EIGHT}, {ALONE}", challengers, (), logs=10),
    World("several_challengers", f"{EIGHT}.", challengers, GOALS, logs=60, shared=True),
    World("daily_looks, each alone", f"{FORTNIGHT}, {ALONE}", daily, (), logs=20, decisions=10_000),
    World("daily_looks", f"{FORTNIGHT}.", daily, GOALS, logs=200, decisions=10_000, shared=True),
)
