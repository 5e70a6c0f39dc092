"""Many metrics, one risk: p-values adjusted so that each may be compared with it."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

Floats = NDArray[np.float64]
METHODS = ("holm", "bh")


def adjusted(p_values: Floats, method: str) -> Floats:
    """(m,) p-values to (m,) in [0, 1], none smaller than it was.

    `holm`: the chance of any false finding is bounded, whatever hangs together (Holm 1979). `bh`: the expected share of
    false ones among the findings is, for p-values that are independent or rise together (Benjamini & Hochberg 1995).
    Always-valid p-values may be adjusted alike. Raises ValueError for another method or a p-value outside [0, 1].
    """
    p = np.asarray(p_values, float)
    if method not in METHODS or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"needs p-values in [0, 1] and one of {', '.join(METHODS)}; found {method!r} and {p.tolist()}")
    if not len(p):
        return p
    if method == "bh":
        return np.asarray(false_discovery_control(p, method="bh"))
    order = np.argsort(p, kind="stable")
    raised = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    found = np.empty(len(p))
    found[order] = raised
    return found
