"""Worlds for conversions before they close: a day of decisions, two policies, and the delays of the weeks before it."""

from dataclasses import dataclass

import numpy as np

from models.delays.curve import DelayCurve, Drift, drift
from models.delays.so_far import SoFar, value_so_far
from models.evaluation.choices import SIDES, Choices, Floats, Ints
from models.settings import GateSettings
from tests.models.delays.late_world import HORIZON, SCALE, SHAPE, LateWorld

SETTINGS = GateSettings(min_clicks_each_side=0.0)
CANDIDATES = 4
TRUE = ("champion", "challenger", "difference", "against_logging", "logging")


@dataclass(frozen=True)
class Law:
    """`slow`, `stretch`: as `LateWorld`. `old`: days between the decisions and the cut, at least."""

    slow: float = 1.0
    stretch: float = 1.0
    old: float = 1.0


LAWS = {
    "stable": Law(),
    "delays by group": Law(slow=4.0),
    "young": Law(old=0.1),
    "delays stretch": Law(stretch=2.0),
}


@dataclass(frozen=True)
class Told:
    """What was said of one drawn world, and the truth: expected conversions per decision, given who asked."""

    found: SoFar
    truth: dict[str, float]
    as_seen: dict[str, float]
    """Self-normalised sums of what has been heard, nothing added."""
    asked: tuple[Choices, Floats, Ints, DelayCurve]
    """The decisions, their ages and groups, and the curve."""


def world(seed: int, law: Law, decisions: int = 4_000, clicks: int = 8_000) -> Told:
    """A cut, with the curve of the weeks before it; slow group's decisions convert as often, on other items."""
    rng = np.random.default_rng([seed, 29])
    group = rng.integers(0, 2, decisions)
    score = rng.standard_normal((decisions, CANDIDATES))
    p = np.clip(0.08 * np.exp(0.5 * score - 0.1), 0, 1)
    noise = rng.standard_normal((2, decisions, CANDIDATES))
    chosen = {
        side: _softmax(2 * (score + spread * noise[k]))
        for k, (side, spread) in enumerate(zip(SIDES, (1.5, 0.5), strict=True))
    }
    logging = _softmax(0.5 * score)
    taken = (logging.cumsum(axis=1) > rng.random((decisions, 1))).argmax(axis=1)
    at = np.arange(decisions)
    age = law.old + rng.random(decisions)
    converts = rng.random(decisions) < p[at, taken]
    scale = SCALE * np.where(group == 1, law.slow, 1.0) * law.stretch
    cut = -np.expm1(-((HORIZON / scale) ** SHAPE))
    heard = converts & (scale * (-np.log1p(-rng.random(decisions) * cut)) ** (1 / SHAPE) <= age)
    choices = Choices(
        offsets=np.arange(decisions + 1) * CANDIDATES,
        taken=(np.arange(CANDIDATES) == taken[:, None]).ravel(),
        reward=heard.astype(np.float64),
        logged=logging[at, taken],
        chosen={side: of.ravel() for side, of in chosen.items()},
        predicted={},
        users=at,
        items=rng.integers(0, 500, decisions * CANDIDATES),
        days=np.zeros(decisions, np.int64),
    )
    before = LateWorld(seed, rows=clicks, slow=law.slow, stretch=law.stretch).observed
    moved = drift(before, before.age < 7)
    curve = DelayCurve.fit(before)
    found = value_so_far(choices, age, group, curve, moved if isinstance(moved, Drift) else None, SETTINGS)
    weights = {side: of[at, taken] / choices.logged for side, of in chosen.items()}
    naive = {side: float(weight @ choices.reward / weight.sum()) for side, weight in weights.items()}
    truth = {side: float((of * p).sum(axis=1).mean()) for side, of in chosen.items()}
    return Told(
        found,
        _sides(truth, float((logging * p).sum(axis=1).mean())),
        _sides(naive, float(choices.reward.mean())),
        (choices, age, group, curve),
    )


def _sides(of: dict[str, float], logging: float) -> dict[str, float]:
    gain, more = of["challenger"] - of["champion"], of["challenger"] - logging
    return {**of, "difference": gain, "against_logging": more, "logging": logging}


def _softmax(logit: Floats) -> Floats:
    e = np.exp(logit - logit.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
