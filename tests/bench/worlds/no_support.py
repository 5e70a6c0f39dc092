"""The logging policy never shows what is new, and the challenger would: no log can tell what comes of it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from models.evaluation.choices import Labels
from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import Goal, World

LAW = Law(fewest=8, candidates=8)
LIKED = 0.022
"""Share of requests in which the challenger likes the new item best."""
CLICKED, BELIEVED, DISLIKED = 0.005, 0.5, 0.01


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """The last candidate of each request is new, and hardly ever clicked."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    found = day.requests
    last = found.offsets[1:] - 1
    logging, p = day.logging.copy(), found.p.copy()
    logging[last], p[last] = 0.0, CLICKED
    scores = {side: predicted.copy() for side, predicted in day.predicted.items()}
    scores["champion"][last] = DISLIKED
    scores["challenger"][last] = np.where(rng.random(decisions) < LIKED, BELIEVED, DISLIKED)
    day = replace(day, logging=found.rescaled(logging)).with_rankers(scores)
    log = day.log(rng, day.tilted(lift, p))
    new = np.zeros(len(found.items), dtype=np.int64)
    new[last] = 1
    yield replace(log, choices=replace(log.choices, kinds={"item_age": Labels(new, ("old", "new"))}))


WORLDS = (
    World(
        name="no_support",
        says="One candidate of eight can never be logged, and the challenger takes it in 2 % of the requests.",
        draw=draw,
        goals=(Goal("promoted", at_most=0.025), Goal("refused", at_least=0.95)),
        lifts=(-0.001,),
        logs=100,
    ),
)
