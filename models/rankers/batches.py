"""Encoded rows, as a network learns from them."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """n encoded rows: numbers (n, k), rows of the table (n, words + listed), labels and weights (n,).

    `converted` is NaN where unknown; `rehearsed` is what the parent says of P(conversion | click), NaN where it is not
    to be held to. `seen` and `of_click`, of a clicked row whose conversion is learned given the click: how much of it
    was to be seen by now, and its weight (`models.delays.targets.Targets`); NaN and 0 elsewhere.
    """

    numbers: NDArray[np.float32]
    codes: NDArray[np.int32]
    clicked: NDArray[np.float32]
    converted: NDArray[np.float32]
    rehearsed: NDArray[np.float32]
    weight: NDArray[np.float32]
    seen: NDArray[np.float32]
    of_click: NDArray[np.float32]
    further: NDArray[np.float32]
    """(n, heads) what `models.rankers.heads` teach, NaN where unknown."""

    def __len__(self) -> int:
        return len(self.clicked)

    @property
    def arrays(self) -> list[NDArray[Any]]:
        """All of them, in the order of the fields."""
        return [getattr(self, field.name) for field in fields(self)]

    def take(self, at: NDArray[np.int64] | slice) -> "Batch":
        """Some rows, copied unless they are a slice."""
        return Batch(*(array[at] for array in self.arrays))
