"""Figures of a day as sums over its rows: figures of parts that share no row add up to those of the day."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MANY = 20
"""A share of fewer rows says nothing: one row more or less would turn the verdict."""
DAY = 86_400
"""Seconds."""
STANDARD_ERRORS = 3.0
"""A mean is held against its limits at the end of its interval that is nearer to them: chance raises no alarm."""


@dataclass(frozen=True)
class Moments:
    """Some values by their number, sum and sum of squares."""

    n: int
    total: float
    squares: float

    @classmethod
    def of(cls, values: pa.ChunkedArray | pa.Array | NDArray[np.generic]) -> "Moments":
        """Of numbers, or of true and false."""
        numbers = np.asarray(values)
        if numbers.dtype == bool:
            true = float(np.count_nonzero(numbers))
            return cls(len(numbers), true, true)
        numbers = numbers.astype(np.float64)
        return cls(len(numbers), float(numbers.sum()), float(np.square(numbers).sum()))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def mean(self, least: int = 1) -> float:
        """The mean, of true and false the share that is true; NaN of fewer than `least` values."""
        return self.total / self.n if self.n >= least else float("nan")

    def near_one(self) -> float:
        """The mean, moved up to three standard errors towards 1; NaN of fewer than two values."""
        if self.n < 2:
            return float("nan")
        mean = self.mean()
        variance = max(0.0, self.squares - self.total * mean) / (self.n - 1)
        slack = STANDARD_ERRORS * math.sqrt(variance / self.n)
        return max(1.0, mean - slack) if mean > 1 else min(1.0, mean + slack)


@dataclass(frozen=True)
class Seconds:
    """The seconds of a day in which something happened, ascending, 0 to 86,399."""

    at: NDArray[np.int64]

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> "Seconds":
        """Of seconds since midnight; those outside the day are left out."""
        of_day = seconds[(seconds >= 0) & (seconds < DAY)].astype(np.int64)
        return cls(np.flatnonzero(np.bincount(of_day, minlength=DAY)))

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(np.union1d(self.at, other.at))

    def longest_silence_hours(self) -> float:
        """Between two in a row, midnights included, to the second."""
        return float(np.diff(np.concatenate([[0], self.at, [DAY]])).max() / 3600)


Sum = Moments | Seconds
