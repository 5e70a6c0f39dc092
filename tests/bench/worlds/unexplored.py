"""Most of the traffic was answered without a draw, so it cannot be replayed; the challenger is worse exactly there."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import Goal, World

LAW = Law(fewest=8, candidates=8)
REPLAYED = 0.4
BETTER_BY = 0.03
"""The challenger's lift where requests are replayed."""


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """Of all `decisions`; a user's are all replayed or none is."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    found = day.requests
    replayed = (rng.random(found.users[-1] + 1) < REPLAYED)[found.users]
    p = day.tilted(BETTER_BY, rows=replayed)
    here, there = (day.worth(p, rows)["champion"] * rows.sum() for rows in (replayed, ~replayed))
    p = day.tilted((lift * (here + there) - BETTER_BY * here) / there, p, ~replayed)
    certain = found.best(day.logging).astype(np.float64)
    day = replace(day, logging=np.where(found.spread(replayed), day.logging, certain))
    whole = day.log(rng, p)
    rest = replace(whole.choices.where(~replayed), logged=np.full((~replayed).sum(), np.nan))
    yield replace(
        whole, choices=whole.choices.where(replayed), unreplayed=rest, unreplayed_worth=day.worth(p, ~replayed)
    )


WORLDS = (
    World(
        name="unexplored",
        says="60 % of the requests cannot be replayed; the challenger is 3 % better on the others and worse on these.",
        draw=draw,
        goals=(Goal("promoted", at_most=0.025),),
        lifts=(-0.0037,),
    ),
)
