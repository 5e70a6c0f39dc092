"""What every metric and estimator returns: a number with its uncertainty, or a refusal with its reason."""

import math
from dataclasses import asdict, dataclass
from typing import Any

LARGEST = 1e30
"""The largest size of a row's figures (rewards, predictions, weights, counts); divisors are 0 or at least 1 / LARGEST:
then sums of fourth powers of their products fit into a float."""


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, its interval, the number of rows and the effective number of rows.

    `effective_n` is Kish's effective sample size for weighted estimates and equals `n` if every row counts alike.
    Raises ValueError on construction when a figure is not finite or the interval does not hold the value.
    """

    value: float
    stderr: float
    low: float
    high: float
    n: int
    effective_n: float

    def __post_init__(self) -> None:
        figures = (self.value, self.stderr, self.low, self.high, self.effective_n)
        if not all(math.isfinite(x) for x in figures):
            raise ValueError(f"an estimate needs finite figures; found {figures}")
        slack = 1e-9 * max(1.0, abs(self.value))
        if not (self.low - slack <= self.value <= self.high + slack and self.stderr >= 0):
            raise ValueError(f"an estimate needs low <= value <= high and stderr >= 0; found {figures}")

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return asdict(self)


@dataclass(frozen=True)
class Refusal:
    """No number, because the data do not support one: the reason, and what was found."""

    reason: str
    n: int = 0
    effective_n: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping; the key `refused` tells it from an estimate."""
        return {"refused": self.reason, "n": self.n, "effective_n": self.effective_n}


Finding = Estimate | Refusal


def upper_tail(confidence: float) -> float:
    """The probability below the upper limit of a two-sided interval, in (0.5, 1).

    Raises ValueError for a confidence outside (0, 1), or so near 1 that its limits would be infinite.
    """
    below = 0.5 + confidence / 2
    if not 0.5 < below < 1:
        raise ValueError(f"confidence needs to be in (0, 1); found {exactly(confidence)}")
    return below


def exactly(value: float) -> str:
    """A number in the fewest digits that identify it: 1.0000000000000002 is not written 1."""
    return repr(float(value)).removesuffix(".0")
