"""Candidates of whom a few are far from all others, or known worse: what a correlation over them is tried on."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from models.evaluation.estimate import Estimate
from models.experiments.trust import Trust, trust

Row = tuple[str, dict[str, Any]]
ERROR = 0.5
WORLDS = {
    "15 alike": (15, 0.7, 0.0, 0.0),
    "40 alike": (40, 0.0, 0.0, 0.0),
    "8, a few far away": (8, 0.0, 3.0, 0.0),
    "15, a few far away": (15, 0.7, 3.0, 0.0),
    "40, a few far away": (40, 0.0, 3.0, 0.0),
    "15, errors unlike": (15, 0.7, 0.0, 1.0),
    "40, errors unlike": (40, 0.7, 0.0, 1.0),
}
"""How many, the correlation of what is true, Student's degrees of freedom of that (0: normal), and how far errors
differ (a standard deviation of logarithms)."""


def candidates(
    rng: np.random.Generator, n: int, true: float, tail: float = 0.0, unlike: float = 0.0, error: float = ERROR
) -> tuple[np.ndarray, ...]:
    """Offline figures with their errors, and online ones; variance 1, and error² of noise."""
    truth = rng.multivariate_normal([0, 0], [[1, true], [true, 1]], n)
    if tail:
        truth *= np.sqrt((tail - 2) / rng.chisquare(tail, n))[:, None]
    offline, online = (error * rng.lognormal(-(unlike**2), unlike, n) for _ in range(2))
    noisy = (truth[:, side] + of * rng.normal(size=n) for side, of in enumerate((offline, online)))
    return next(noisy), offline, next(noisy), online


def missed(one: Trust, true: float) -> tuple[bool, bool]:
    """Whether the correlation of estimates is: by the interval that is told, and by Fisher's alone."""
    seen, n = true / (1 + ERROR**2), one.seen.n
    far = abs(np.arctanh(seen) - np.arctanh(np.clip(one.seen.value, -1 + 1e-12, 1 - 1e-12)))
    return not one.seen.low <= seen <= one.seen.high, bool(far > 1.959964 / (n - 3) ** 0.5)


def uneven_candidates(runs: int) -> Iterator[Row]:
    """How often what is seen is missed, now and by Fisher's interval, and what is true, where it is told."""
    for name, (n, true, tail, unlike) in WORLDS.items():
        rng = np.random.default_rng(15)
        told = [trust(*candidates(rng, n, true, tail, unlike), 0.95) for _ in range(runs)]
        known = [one for one in told if isinstance(one, Trust)]
        now, fisher = np.mean([missed(one, true) for one in known], axis=0).tolist()
        of_true = [not one.true.low <= true <= one.true.high for one in known if isinstance(one.true, Estimate)]
        shares = {"missed": now, "fisher": fisher, "true_missed": float(np.mean(of_true)), "true_told": len(of_true)}
        yield "uneven_candidates", {"world": name, "runs": runs, **shares}
