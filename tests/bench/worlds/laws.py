"""Six honest laws: models differ in how much noise they see through, and nothing but chance speaks against the gate.

A challenger with as much noise as the champion is exactly as good, by symmetry; for another lift its noise is searched
for on a large sample, where values are expectations over policy and clicks. One law takes users, candidates, click
probabilities and logging policy from the product's simulated world (`models.world`), a fresh one per seed.

A verdict is the only look, at the gate's own confidence; what several share is `several_verdicts`.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache, partial

import numpy as np

from models.settings import PolicySettings, WorldSettings
from models.world.day import draw_requests
from models.world.policy import softmax
from models.world.world import World as Simulated
from tests.bench.gate_draws import Day, Law, Log, Requests, noise
from tests.bench.gate_evidence import SECOND, Goal, World

SEARCHED, SEEDS, STEPS = 50_000, range(9_001, 9_007), 9
"""Requests of each of some logs, none of those that are judged, whose expected values a lift is searched on; halvings.

Items, and users, are drawn anew in each log, so that the same challenger is worth more in one than in another.
"""
EPSILON_GREEDY = Law(policy=PolicySettings(kind="epsilon_greedy", epsilon=0.2), shared=0.95)
LAWS = {
    "plain": Law(),
    "rare clicks": Law(base=-3.2, match_sd=1.1, candidates=20, fewest=20, items=1_000),
    "models less alike": Law(shared=0.8, champion_noise=0.5, challenger_noise=0.5, logging_noise=0.8),
    "near uniform policy": Law(base=-1.5, user_sd=0.8, policy=PolicySettings(temperature=1.0)),
    "simulated world": Law(),
    "epsilon-greedy": EPSILON_GREEDY,
}
"""Different click rates, candidates, similarity of the two models, and policies."""
SIMULATED = "simulated world"


@lru_cache(maxsize=1)
def day_of(name: str, seed: int, decisions: int) -> Day:
    """What a log's lifts have in common."""
    law, rng = LAWS[name], np.random.default_rng([seed, 7])
    if name != SIMULATED:
        return Day.of(law, decisions, rng)
    found, logging = simulated(seed, decisions)
    return Day.answered(law, found, logging, rng)


def simulated(seed: int, decisions: int) -> tuple[Requests, np.ndarray]:
    """Requests of one day of the simulated world, and its own policy's choices."""
    world = Simulated(WorldSettings(seed=seed, requests_per_day=decisions, candidates=12, users=5_000))
    drawn = draw_requests(world, 0)
    p = world.click_probability(0, drawn.user, drawn.candidates, drawn.surface)
    appeal = np.log(p / (1 - p))
    mean = appeal.mean(axis=1)
    logging = softmax(world.logging_scores(0, drawn.user, drawn.candidates), world.settings.logging_temperature)
    m, k = p.shape
    found = Requests(
        offsets=np.arange(m + 1) * k,
        items=drawn.candidates.ravel(),
        mean=mean,
        appeal=appeal.ravel(),
        hidden=np.zeros(m),
        sd=float((appeal - mean[:, None]).std()),
        users=drawn.user,
        days=np.zeros(m, dtype=np.int64),
        surfaces=drawn.surface,
    )
    return found, logging.ravel()


@cache
def challenger_noise(name: str, lift: float) -> float:
    """The noise that makes the challenger's value (1 + lift) times the champion's; raises ValueError if none does."""
    law = LAWS[name]
    if lift == 0:
        return law.champion_noise
    days = [day_of(name, seed, SEARCHED) for seed in SEEDS]
    own = [noise(law, day.requests, np.random.default_rng([seed, 8])) for day, seed in zip(days, SEEDS, strict=True)]
    before = sum(float(day.chosen["champion"] @ day.requests.p) for day in days)

    def missing(size: float) -> float:
        found = (day.challenged(unit, size).chosen["challenger"] for day, unit in zip(days, own, strict=True))
        return sum(float(of @ day.requests.p) for of, day in zip(found, days, strict=True)) / before - 1 - lift

    low, high = 0.0, 2.5 * law.champion_noise
    if missing(low) < 0 or missing(high) > 0:
        raise ValueError(f"no challenger of {law} has a lift of {lift:+.1%}")
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if missing(middle) > 0 else (low, middle)
    return (low + high) / 2


def draw(seed: int, lift: float, decisions: int, *, name: str) -> Iterator[Log]:
    """A challenger of this lift on the law's log of this seed."""
    yield seen_through(challenger_noise(name, lift), seed, decisions, name=name)


def seen_through(size: float, seed: int, decisions: int, *, name: str) -> Log:
    """A challenger with this much noise on the law's log of this seed."""
    day = day_of(name, seed, decisions)
    own = noise(LAWS[name], day.requests, np.random.default_rng([seed, 8]))
    challenged = day.challenged(own, size)
    # The same draws whatever the noise: one log, other challengers.
    return replace(challenged.log(np.random.default_rng([seed, 9])), least_stderr=challenged.least_stderr())


LIFTS = (-0.01, 0.0, 0.01)
NONE_BETTER = Goal("promoted", at_most=0.05)
"""Of one law; the mean of all is held to half of it (`tests.bench.bench_gate`)."""
WORLDS = (
    *(
        World(
            name=f"law: {name}",
            says="An honest log, an honest pair of models.",
            draw=partial(draw, name=name),
            goals=(NONE_BETTER, Goal("covered", at_least=0.93), Goal("refused", at_most=0.05, lifts=LIFTS)),
            lifts=LIFTS,
            few=(-0.01,),
            figures=SECOND,
        )
        for name in LAWS
    ),
    World(
        name="law: epsilon-greedy, a million",
        says="The most wasteful way to explore, a million decisions: `possible` is what no unbiased estimator exceeds.",
        draw=partial(draw, name="epsilon-greedy"),
        goals=(),
        figures=SECOND,
        lifts=(0.01,),
        decisions=1_000_000,
        logs=1,
    ),
)
