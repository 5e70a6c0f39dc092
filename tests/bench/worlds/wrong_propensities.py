"""The propensities that were written down are wrong, and wrong along what the champion likes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from models.settings import PolicySettings
from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import Goal, World

LAW = Law(
    user_sd=1.5, match_sd=1.5, fewest=8, candidates=8, champion_noise=0.8, challenger_noise=0.8, shared=0.8,
    policy=PolicySettings(temperature=0.35),
)  # fmt: skip
WRONG_BY = (0.05, -0.05, 0.10, -0.10, 0.15, -0.15)
"""Shown less often than logged makes the champion look better than it is: the harmless side, counted less often."""


def draw(seed: int, lift: float, decisions: int, *, wrong_by: float) -> Iterator[Log]:
    """The champion serves; its first choice was shown 1 + `wrong_by` times as often as the log says."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    said = day.chosen["champion"]
    favourite = day.requests.best(day.predicted["champion"])
    true = day.requests.rescaled(said * np.where(favourite, 1 + wrong_by, 1.0))
    yield replace(day, logging=true).trained().log(rng, day.tilted(lift), said=said)


WORLDS = tuple(
    World(
        name=f"wrong_propensities {wrong_by:+.0%}",
        says=f"What the champion likes best is shown {1 + wrong_by:.0%} as often as the logged propensities say.",
        draw=partial(draw, wrong_by=wrong_by),
        goals=(Goal("promoted", at_most=0.05),),
        logs=200 if wrong_by > 0 else 40,
    )
    for wrong_by in WRONG_BY
)
