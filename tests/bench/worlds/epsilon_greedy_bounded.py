"""An honest log of an epsilon-greedy policy: weights of many sizes, none above a bound that is known beforehand."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from models.policies.choice import first_choice
from models.settings import PolicySettings
from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import GATE, Goal, World

LAW = Law(fewest=4, candidates=40, items=1_200, shared=0.95, policy=PolicySettings(kind="epsilon_greedy", epsilon=0.2))
EXPLORING = LAW.policy.model_copy(update={"epsilon": 0.3})
"""The logging policy: the champion's with more chance in it."""
SMALLEST = EXPLORING.epsilon / LAW.candidates


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """Nothing is wrong here."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    logging = first_choice(day.predicted["champion"], day.requests.offsets, EXPLORING)
    yield replace(day, logging=logging).trained().log(rng, day.tilted(lift))


WORLDS = (
    World(
        name="epsilon_greedy_bounded",
        says=f"Epsilon-greedy among {LAW.fewest} to {LAW.candidates} candidates: no propensity below {SMALLEST:g}.",
        draw=draw,
        goals=(Goal("promoted", at_most=0.025), Goal("refused", at_most=0.05)),
        settings=GATE.model_copy(update={"min_propensity": SMALLEST}),
    ),
)
