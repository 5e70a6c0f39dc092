"""Click rates rise through the day, and somebody looks at the rows so far again and again."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import Goal, World

LAW = Law(rise=float(np.log(3.0)), fewest=8, candidates=8)
LOOKS = 6


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """What is known at each of `LOOKS` times of the day."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    p = day.tilted(lift)
    whole = day.log(rng, p)
    for look in range(1, LOOKS + 1):
        so_far = np.arange(decisions) < decisions * look // LOOKS
        yield replace(whole, choices=whole.choices.where(so_far), worth=day.worth(p, so_far))


SAYS = f"Click rates rise threefold through the day; {LOOKS} verdicts on the rows so far, none better or worse"
WORLDS = (
    World("rates_rise, each alone", f"{SAYS}, each at its own risk: what that costs.", draw, (), logs=20),
    World("rates_rise", f"{SAYS}.", draw, (Goal("promoted", at_most=0.05),), logs=60, shared=True),
)
