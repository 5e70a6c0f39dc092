"""Stages of ranking: which of a request's candidates a light ranker keeps for the heavy one."""

import numpy as np
from numpy.typing import NDArray

from models.policies.choice import Floats, Ints


def kept(scores: Floats, offsets: Ints, keep: int) -> NDArray[np.bool_]:
    """(n,) whether a candidate has one of the `keep` highest scores (n,) of its segment; ties go to the earlier one.

    `offsets`: (m + 1,) from 0 to n; segment i is `offsets[i]:offsets[i + 1]`. A segment of at most `keep` is kept
    whole. Raises ValueError for keep < 1, a score that is NaN, or offsets that do not cover the scores.
    """
    if keep < 1 or np.isnan(scores).any() or offsets[-1] != len(scores):
        raise ValueError(
            f"a stage keeps at least one and needs a score for each of {offsets[-1]} candidates;"
            f" found keep={keep}, {int((~np.isnan(scores)).sum())} scores"
        )
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((-scores, row))
    found = np.zeros(len(scores), dtype=bool)
    found[order] = np.arange(len(scores)) - offsets[row] < keep
    return found
