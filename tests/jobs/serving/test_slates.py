"""What is drawn of a request hangs on its id alone, the same in every version that says so."""

import hashlib

import numpy as np

from jobs.serving.slates import _rng


def test_a_requests_generator_is_numpys_own_of_its_hash() -> None:
    """An answer can be given again as long as this holds: `default_rng` of the first 16 bytes, as one number."""
    for request_id in ("r1", "ü", *(f"r{n:06d}" for n in range(200))):
        seed = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:16], "big")
        assert _rng(request_id).bit_generator.state == np.random.default_rng(seed).bit_generator.state


def test_a_number_with_leading_zeros_is_the_same_in_words() -> None:
    """A hash whose first bytes are zeros is a shorter number, and as many words."""
    for seed in (0, 5, 2**32, 2**96 - 1):
        words = np.frombuffer(seed.to_bytes(16, "little"), "<u4")
        assert np.random.PCG64(words).state == np.random.default_rng(seed).bit_generator.state
