"""Two models that are one: their probabilities differ in the last digit, so nothing is gained and nothing is unsure."""

from collections.abc import Iterator

import numpy as np

from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import Goal, World

LAW = Law(fewest=8, candidates=8)


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """The challenger's predictions are the champion's, one unit in the last place up, down or neither."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    scores = day.predicted["champion"]
    rounded = scores * (1 + rng.integers(-1, 2, len(scores)) * np.finfo(np.float64).eps)
    yield day.with_rankers({"challenger": rounded}).log(rng)


WORLDS = (
    World(
        name="equal",
        says="Champion and challenger differ by rounding alone.",
        draw=draw,
        goals=(Goal("promoted", at_most=0.0),),
        logs=100,
    ),
)
