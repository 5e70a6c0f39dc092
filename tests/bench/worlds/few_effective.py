"""Both policies like what was hardly ever logged: a value rests on two or three decisions."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from models.evaluation.choices import Side
from tests.bench.gate_draws import Day, Law, Log
from tests.bench.gate_evidence import FIGURES, GATE, Goal, Judged, World

LAW = Law(fewest=8, candidates=8)
LOGGED = 2.0
"""Expected decisions in which the logging policy takes what the others like."""

OTHERWISE: dict[Side, float] = {"champion": 1e-8, "challenger": 1e-9}
"""What they predict for whatever else there is."""


def draw(seed: int, lift: float, decisions: int) -> Iterator[Log]:
    """Champion and challenger differ in what next to never happens."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    first = np.zeros(len(day.noise), dtype=bool)
    first[day.requests.offsets[:-1]] = True
    day = day.with_rankers({side: np.where(first, 0.1, other) for side, other in OTHERWISE.items()})
    chance = LOGGED / decisions
    yield replace(day, logging=np.where(first, chance, (1 - chance) / (LAW.candidates - 1))).log(rng)


def cleared(found: Judged, name: str) -> bool:
    """The rule for the further estimator's gain passes."""
    return found.outcome(f"value.{name}") == "pass"


def not_refused(found: Judged, name: str) -> bool:
    """The further estimator has a figure all the same."""
    return found.outcome(f"value.{name}") != "refuse"


WORLDS = tuple(
    World(
        name=f"few_effective {name}",
        says=f"The policies' choices were logged about {LOGGED:g} times; the gate is asked to look at {name} too.",
        draw=draw,
        goals=(Goal("refused", at_least=1.0), Goal("not_refused", at_most=0.0), Goal("cleared", at_most=0.0)),
        logs=40,
        settings=GATE.model_copy(update={"estimators": (name,)}),
        figures={**FIGURES, "not_refused": partial(not_refused, name=name), "cleared": partial(cleared, name=name)},
    )
    for name in ("dr", "sndr")
)
