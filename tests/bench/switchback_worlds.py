"""Requests of a surface whose rate walks from hour to hour, under a switchback."""

import numpy as np

from models.experiments.assignment import Switchback
from models.experiments.switchback import treated

HOUR = 3600.0
PLAN = Switchback("prices", HOUR, 600.0)


def requests(rng: np.random.Generator, blocks: int, lift: float, carry: float = 0.0) -> tuple[np.ndarray, ...]:
    """Seconds, clicks and trials: 40 requests a block; what was treated works on for ten minutes, by `carry`."""
    seconds = np.sort(rng.random(40 * blocks) * blocks * HOUR)
    block = (seconds // HOUR).astype(int)
    level = 0.3 + 0.12 * np.sin(np.cumsum(rng.normal(0, 0.8, blocks)))[block]
    after = np.where(block > 0, treated(PLAN, np.maximum(block - 1, 0)), False) & (seconds % HOUR < 600)
    clicked = rng.random(len(seconds)) < level + lift * treated(PLAN, block) + carry * after
    return seconds, clicked.astype(float), np.ones(len(seconds))
