"""Nothing is deployed yet: the champion is a weak baseline, and users see what neither of the two would show."""

from collections.abc import Iterator

import numpy as np

from tests.bench.gate_draws import Day, Law, Log, popularity, tilted
from tests.bench.gate_evidence import Goal, World

LAW = Law(fewest=8, candidates=8, challenger_noise=1.0, logging_noise=0.5, logging_temperature=0.6)
RATE = 0.1


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """The challenger's lift is over the logging policy."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    popular = (popularity(LAW) / popularity(LAW).max()) ** 0.3
    scores = RATE * popular[day.requests.items]
    day = day.with_rankers({"champion": scores})
    yield day.log(rng, tilted(day.requests.p, day.logging, day.chosen["challenger"], lift))


WORLDS = (
    World(
        name="first_deployment",
        says="The challenger beats the baseline for sure, and is 5 % worse than what users see now.",
        draw=draw,
        goals=(Goal("promoted", at_most=0.025),),
        lifts=(-0.05,),
        logs=100,
    ),
)
