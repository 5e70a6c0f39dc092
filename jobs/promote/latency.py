"""How long a bundle takes to answer one request, measured where the gate runs."""

import time
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.bundle import Bundle
from models.features import LAST_ITEMS
from models.policies.choice import slate
from models.policies.heuristics import rows_of
from models.policies.score import score

CANDIDATES, PLACES = 100, 10
"""Candidates where the bundle retrieves none itself."""
REQUESTS, WARM_UP = 200, 20


def latency_ms(side: Bundle) -> float:
    """The 99th percentile of ranking as many candidates as the bundle retrieves, by its light stage too where it has
    one, and drawing a slate of 10, in milliseconds, over 200 requests; of every surface's policy in turn.

    Features are random numbers, unknown categories and ids: what a model costs does not depend on their values.
    Features' look-up and the network are the endpoint's and are not in it.
    """
    rng, inputs = np.random.default_rng(0), reduce(or_, (ranker.inputs for ranker in side.rankers))
    n = CANDIDATES if side.retrieval is None else side.retrieval.k
    columns: dict[str, NDArray[Any]] = {name: rng.random(n) for name in inputs.numbers}
    columns |= {name: np.full(n, None, dtype=object) for name in (*inputs.ids, *inputs.categories)}
    columns |= {name: np.full((n, LAST_ITEMS), None, dtype=object) for name in inputs.lists}
    every, policies = np.array([0, n]), [side.policy.on(surface) for surface in (None, *side.policy.surfaces)]
    words = {name: np.full(n, None, dtype=object) for name in side.policy.columns}
    seconds = []
    for number in range(WARM_UP + REQUESTS):
        started = time.perf_counter()
        left = side.kept(columns, every)
        seen = columns if left is None else {name: column[left] for name, column in columns.items()}
        scores, policy = score(side.ranker.predict(seen), side.policy), policies[number % len(policies)]
        slate(scores, PLACES, policy, rng, words if left is None else rows_of(words, left))
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.quantile(seconds[WARM_UP:], 0.99))
