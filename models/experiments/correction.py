"""Many metrics, one risk: p-values adjusted so that each may be compared with it."""

import numpy as np
from numpy.typing import NDArray

from models.experiments.rules import Correction

Floats = NDArray[np.float64]


def adjusted(p_values: Floats, method: Correction) -> Floats:
    """(m,) p-values to (m,) in [0, 1], none smaller than it was.

    `holm`: the chance of any false finding is bounded, whatever hangs together (Holm 1979). `bh`: the expected share of
    false ones among the findings is, for p-values that are independent or rise together (Benjamini & Hochberg 1995).
    Always-valid p-values may be adjusted alike. Raises ValueError for a p-value outside [0, 1].
    """
    p = np.asarray(p_values, float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"needs p-values in [0, 1]; found {p.tolist()}")
    if not len(p):
        return p
    if method == "bh":
        from scipy.stats import false_discovery_control  # which takes most of a second to load

        return np.asarray(false_discovery_control(p, method="bh"))
    order = np.argsort(p, kind="stable")
    raised = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    found = np.empty(len(p))
    found[order] = raised
    return found
