"""Coins that fall alike wherever they are thrown: what is kept of many rows is a function of their ids."""

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

TWO_TO_53 = 2.0**53


def uniform(ids: pa.ChunkedArray, purpose: str, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) per id, the same wherever and whenever it is asked for; independent between purposes.

    The upper 53 bits of SipHash (Aumasson & Bernstein 2012) under a key made of purpose and seed.
    """
    key = f"{purpose[:6]:6}{seed:010d}"
    hashed = pd.util.hash_array(ids.to_numpy().astype(object), hash_key=key, categorize=False)
    return (hashed >> np.uint64(11)) / TWO_TO_53
