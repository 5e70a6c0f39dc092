"""What every reader of a probability takes for one: rounding may have left a certain choice a little above 1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDING = 2.0**-21
"""Four units in the last place of a 32-bit float: rankers and loggers often add up in single precision."""


def at_most_one(values: NDArray[Any]) -> Floats:
    """The values as float64, those above 1 by no more than `ROUNDING` read as 1; all others as they are, NaN too."""
    found = np.asarray(values, dtype=np.float64)
    if found.max(initial=0.0) <= 1.0:
        return found
    return np.where((found > 1.0) & (found <= 1.0 + ROUNDING), 1.0, found)
