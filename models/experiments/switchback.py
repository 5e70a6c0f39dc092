"""Where users meet each other's arms (a price, a stock, a shared slate) time is divided instead of users: switchback.

A surface is all control or all treated for a block of time. Blocks come in pairs, one of each, in an order drawn by
hash, so that slow changes of the day meet both arms alike; the first minutes of a block, in which the last one still
works, are left out. What is independent is a pair, not a request.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Finding
from models.experiments.assignment import unit_hash
from models.experiments.rates import difference_of_rates

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Switchback:
    """The plan of one: its name draws the order in each pair."""

    name: str
    block_seconds: float
    washout_seconds: float = 0.0
    """At the start of each block; no longer than it."""

    def __post_init__(self) -> None:
        """Raises ValueError for a block that its washout fills."""
        if not 0 <= self.washout_seconds < self.block_seconds:
            raise ValueError(
                f"a washout must end within its block; found {self.washout_seconds} of {self.block_seconds} s"
            )

    def treated(self, block: Ints) -> Bools:
        """Whether blocks, counted from the start, are treated: of two that make a pair exactly one is."""
        pairs = np.unique(block // 2)
        first = np.array([unit_hash(f"switchback:{self.name}:{pair}") < 0.5 for pair in pairs.tolist()], bool)
        treated: Bools = first[np.searchsorted(pairs, block // 2)] == (block % 2 == 0)
        return treated

    def difference(self, seconds: Floats, successes: Floats, trials: Floats, confidence: float) -> dict[str, Finding]:
        """Rates of both arms and their difference, of n requests by their seconds since the start.

        The pair is the unit of the error, so whatever a pair's requests share (the hour, the weather) is in it; it
        assumes that nothing lasts longer than the washout. Of a last block without its partner nothing is read.
        Refused and raises as `rates.difference_of_rates`.
        """
        at = np.asarray(seconds, float)
        block = np.floor(at / self.block_seconds).astype(np.int64)
        washed = at - block * self.block_seconds >= self.washout_seconds
        kept = (at >= 0) & washed & (block <= _last_whole(block))
        return difference_of_rates(
            successes=np.asarray(successes, float)[kept],
            trials=np.asarray(trials, float)[kept],
            variant=self.treated(block[kept]),
            users=block[kept] // 2,
            confidence=confidence,
        )


def _last_whole(block: Ints) -> int:
    """The last block of the last whole pair."""
    last = int(block.max(initial=-1))
    return last if last % 2 else last - 1
