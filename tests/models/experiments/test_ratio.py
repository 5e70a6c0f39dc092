"""Limits of ratios against Student's own test, and counted where users are few, weigh unlike and have long tails."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from models.experiments.ratio import of_level, of_rate
from tests.bench.ratio_worlds import LEVELS, by_delta_method

RUNS = 1000
MOST = 0.05 + 2 * (0.05 * 0.95 / RUNS) ** 0.5


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(20, 200), st.floats(0.5, 0.99), st.floats(1e-6, 1e6))
def test_limits_of_a_rate_are_where_students_test_says_so(seed: int, n: int, confidence: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x = scale * rng.integers(1, 9, n).astype(float)
    y = rng.normal(0.3, 1.0, n) * x
    low, high = of_rate(y, x, n - 1, confidence)
    assert low < y.sum() / x.sum() < high
    for limit in (low, high):
        assert ttest_1samp(y - limit * x, 0.0).pvalue == pytest.approx(1 - confidence, rel=1e-6)


def test_users_of_like_weight_have_the_usual_limits() -> None:
    y, x = np.random.default_rng(0).normal(1.0, 1.0, 50), np.full(50, 4.0)
    assert of_rate(y, x, 49, 0.95) == pytest.approx(by_delta_method(y, x))


def test_a_rate_of_one_users_trials_has_no_limits() -> None:
    x = np.append(np.ones(100), 1000.0)
    assert of_rate(x / 2, x, 100, 0.95) == (-np.inf, np.inf)


def test_where_all_users_did_alike_a_level_is_certain() -> None:
    x = np.arange(1.0, 6.0)
    assert of_level(2 * x, x, 0.95) == (2.0, 2.0)


@pytest.mark.parametrize("world", LEVELS)
@pytest.mark.parametrize("users", [150, 500])
def test_a_level_is_missed_as_seldom_as_promised(world: str, users: int) -> None:
    rng, (draw, true), missed, before = np.random.default_rng(5), LEVELS[world], 0, 0
    for _ in range(RUNS):
        y, x = draw(rng, users)
        (low, high), (least, most) = of_level(y, x, 0.95), by_delta_method(y, x)
        missed += not low <= true <= high
        before += not least <= true <= most
    assert missed / RUNS <= MOST
    assert missed < before
