"""Pseudo-random numbers that are a function of their key, so separate partitions agree on them."""

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Words = NDArray[np.uint64]


def hashed(keys: Keys, seed: int) -> Words:
    """(n,) integers to (n,) 64-bit words; neighbouring keys and other seeds give unrelated words."""
    words = np.asarray(keys).astype(np.int64).view(np.uint64)
    # Plain ints are made arrays: numpy's uint64 scalars warn when they wrap, its arrays do not.
    return scrambled(words ^ scrambled(np.array([seed], dtype=np.uint64)))


def scrambled(x: Words) -> Words:
    """Bits mixed so that one changed bit changes half of them (SplitMix64; Steele, Lea & Flood 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
