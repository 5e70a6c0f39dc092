"""On one day of seven another policy answered: a week is then a sample of neither."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import Goal, World

LAW = Law(fewest=8, candidates=8, days=7)
OTHER_DAY, OTHER_POWER = 3, 0.2
"""The day, and what its policy's probabilities are the power of."""


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """The propensities written down are right on every day."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    found = day.requests
    other = found.rescaled(day.logging**OTHER_POWER)
    logging = np.where(found.spread(found.days == OTHER_DAY), other, day.logging)
    yield replace(day, logging=logging).log(rng, day.tilted(lift))


WORLDS = (
    World(
        name="drifting_logger",
        says="On one day of seven the logging policy was nearly uniform.",
        draw=draw,
        goals=(Goal("refused", at_least=0.95),),
        logs=60,
    ),
)
