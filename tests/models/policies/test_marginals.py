"""Marginal placement probabilities against enumeration of every slate, and the accuracy that sampling states."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.policies.choice import first_choice
from models.policies.marginals import placement_marginals, sampled_marginals
from models.settings import PolicySettings

POLICIES = [
    PolicySettings(kind="greedy"),
    PolicySettings(kind="epsilon_greedy", epsilon=0.3),
    PolicySettings(kind="plackett_luce", temperature=0.5),
    PolicySettings(kind="plackett_luce", temperature=0.05),
    PolicySettings(kind="thompson", evidence=30),
]


def enumerated(scores: np.ndarray, k: int, policy: PolicySettings) -> np.ndarray:
    """Every ordered slate, its chance the product of first choices among what is left."""
    n = len(scores)
    found = np.zeros((n, k))
    for order in permutations(range(n), k):
        chance, left = 1.0, list(range(n))
        for item in order:
            chances = first_choice(scores[left], np.array([0, len(left)]), policy)
            chance *= chances[left.index(item)]
            left.remove(item)
        found[list(order), range(k)] += chance
    return found


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: f"{p.kind}-{p.temperature}")
@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=5), k=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_marginals_are_sums_over_all_slates(policy: PolicySettings, scores: list[float], k: int) -> None:
    """Scores of 0 and ties included: a wrong marginal biases every position-wise estimate."""
    k = min(k, len(scores))
    found = placement_marginals(np.array(scores), k, policy)
    np.testing.assert_allclose(found, enumerated(np.array(scores), k, policy), atol=1e-9)


def test_places_and_candidates_add_up_for_many_candidates() -> None:
    """Each place holds one candidate; a slate as long as the list holds each candidate once."""
    scores = np.random.default_rng(0).beta(1, 20, 40)
    found = placement_marginals(scores, 40, PolicySettings())
    np.testing.assert_allclose(found.sum(axis=0), 1)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-8)
    np.testing.assert_allclose(found[:, 0], first_choice(scores, np.array([0, 40]), PolicySettings()), atol=1e-9)


@pytest.mark.parametrize("policy", POLICIES[1:], ids=lambda p: f"{p.kind}-{p.temperature}")
def test_sampling_is_as_accurate_as_it_says(policy: PolicySettings) -> None:
    """The stated error is a bound on the standard error of every cell."""
    scores = np.array([0.3, 0.1, 0.25, 0.05, 0.28])
    found, error = sampled_marginals(scores, 3, policy, 500, np.random.default_rng(0))
    exact = placement_marginals(scores, 3, policy)
    assert np.abs(found - exact).max() < 4 * error


def test_what_cannot_be_had_is_an_error() -> None:
    """Too many paths, an empty slate, no draws."""
    with pytest.raises(ValueError, match="use sampled_marginals"):
        placement_marginals(np.linspace(0.1, 0.9, 60), 4, PolicySettings(kind="epsilon_greedy"))
    with pytest.raises(ValueError, match="k >= 1"):
        placement_marginals(np.array([]), 1, PolicySettings())
    with pytest.raises(ValueError, match="at least 1 draw; found 0"):
        sampled_marginals(np.ones(2), 1, PolicySettings(), 0, np.random.default_rng(0))
