"""What a log knows, at a cut, about outcomes that may still come."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Observed:
    """n rows that started at some time and may each earn one outcome within `horizon`. All times in one unit: days.

    `age` (n,): from the start to the cut, at least 0. `delay` (n,): from the start until the outcome was *heard of*, at
    most the age and the horizon; NaN if it has not been. `group` (n,): what the delay depends on, a few integers or
    strings. `weight` (n,): how many rows it stands for; the delay curve counts rows, not weights.

    Events after the horizon are not outcomes. A row at least as old as the horizon is *closed*: its outcome is final.
    Whether a row is closed depends on its age alone, never on its outcome.

    Raises ValueError for a delay or an age out of range, and for arrays of different lengths.
    """

    age: Floats
    delay: Floats
    horizon: float
    group: NDArray[Any]
    weight: Floats

    @classmethod
    def of(
        cls,
        age: Floats,
        delay: Floats,
        horizon: float,
        group: NDArray[Any] | None = None,
        weight: Floats | None = None,
    ) -> "Observed":
        """With one group and weights of one, unless given."""
        n = len(age)
        return cls(
            np.asarray(age, np.float64),
            np.asarray(delay, np.float64),
            float(horizon),
            np.zeros(n, np.int64) if group is None else np.asarray(group),
            np.ones(n) if weight is None else np.asarray(weight, np.float64),
        )

    def __post_init__(self) -> None:
        n = len(self.age)
        lengths = {name: len(getattr(self, name)) for name in ("delay", "group", "weight")}
        if any(length != n for length in lengths.values()):
            raise ValueError(f"outcomes need arrays of one length; found age {n}, {lengths}")
        if not (np.isfinite(self.horizon) and self.horizon > 0):
            raise ValueError(f"a horizon needs to be finite and above 0; found {self.horizon}")
        if not (np.isfinite(self.age) & (self.age >= 0)).all():
            raise ValueError("ages need to be finite and at least 0; found others")
        if not (np.isfinite(self.weight) & (self.weight >= 0)).all():
            raise ValueError("weights need to be finite and at least 0; found others")
        late = int((self.delay > np.minimum(self.age, self.horizon)).sum())
        if late or (self.delay < 0).any():
            raise ValueError(
                f"a delay needs to be from 0 to the row's age and the horizon, {self.horizon:g}; found "
                f"{late} longer, {int((self.delay < 0).sum())} below 0"
            )

    def __len__(self) -> int:
        return len(self.age)

    @cached_property
    def come(self) -> Mask:
        """Whether the outcome has been heard of, (n,)."""
        return ~np.isnan(self.delay)

    @cached_property
    def closed(self) -> Mask:
        """Whether the outcome is final, (n,)."""
        return self.age >= self.horizon

    @cached_property
    def elapsed(self) -> Floats:
        """How much of the horizon is over, (n,)."""
        return np.minimum(self.age, self.horizon)

    def rows(self, which: Mask | Indices) -> "Observed":
        """Some of the rows."""
        return replace(self, **{name: getattr(self, name)[which] for name in ("age", "delay", "group", "weight")})
