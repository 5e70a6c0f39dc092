"""How long a bundle takes to answer one request, measured where the gate runs."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.bundle import Bundle
from models.features import LAST_ITEMS
from models.policies.choice import slate
from models.policies.score import score

CANDIDATES, PLACES = 100, 10
REQUESTS, WARM_UP = 200, 20


def latency_ms(side: Bundle) -> float:
    """The 99th percentile of scoring 100 candidates and drawing a slate of 10, in milliseconds, over 200 requests.

    Features are random numbers, unknown categories and ids: what a model costs does not depend on their values.
    Features' look-up and the network are the endpoint's and are not in it.
    """
    rng, inputs = np.random.default_rng(0), side.ranker.inputs
    columns: dict[str, NDArray[Any]] = {name: rng.random(CANDIDATES) for name in inputs.numbers}
    columns |= {name: np.full(CANDIDATES, None, dtype=object) for name in (*inputs.ids, *inputs.categories)}
    columns |= {name: np.full((CANDIDATES, LAST_ITEMS), None, dtype=object) for name in inputs.lists}
    seconds = []
    for _ in range(WARM_UP + REQUESTS):
        started = time.perf_counter()
        slate(score(side.ranker.predict(columns), side.policy), PLACES, side.policy, rng)
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.quantile(seconds[WARM_UP:], 0.99))
