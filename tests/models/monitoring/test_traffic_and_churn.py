"""Repeats, busy users, propensities and proxies of churn: by hand, and where the truth is planted."""

import numpy as np
import pytest

from models.evaluation.estimate import Estimate, Refusal
from models.monitoring.churn import FEWEST, proxies
from models.monitoring.traffic import busiest_share, mean_weight, repeated_share
from models.settings import GateSettings


def value(found: Estimate | Refusal) -> float:
    assert isinstance(found, Estimate)
    return found.value


def test_an_event_repeats_on_its_day_or_from_the_day_before() -> None:
    """Of five events one is there twice, and one was there yesterday at the same time."""
    today, yesterday = np.array([1, 2, 2, 3, 4]), np.array([3, 9])
    assert value(repeated_share([today], [yesterday], 0.95)) == pytest.approx(2 / 5)
    assert value(repeated_share([today], [yesterday[:0]], 0.95)) == pytest.approx(1 / 5)
    assert isinstance(repeated_share([today[:0]], [yesterday], 0.95), Refusal)


def test_ten_users_of_a_hundred_make_what_they_make() -> None:
    users = np.concatenate([np.repeat(np.arange(10), 10), np.arange(10, 110)])
    assert value(busiest_share(users)) == pytest.approx(0.5)
    assert isinstance(busiest_share(np.arange(10)), Refusal)


def test_weights_average_one_for_the_policy_that_logged_and_for_no_other() -> None:
    rng = np.random.default_rng(0)
    chances = np.array([0.5, 0.2, 0.2, 0.1])
    taken = chances[rng.choice(4, 20_000, p=chances)]
    candidates = np.full(20_000, 4.0)
    right, wrong = (mean_weight(p, candidates, 0.95) for p in (taken, taken**0.5 / (chances**0.5).sum()))
    assert isinstance(right, Estimate)
    assert right.low < 1 < right.high
    assert isinstance(wrong, Estimate)
    assert not wrong.low < 1 < wrong.high


def test_rows_without_a_propensity_are_left_out() -> None:
    found = mean_weight(np.array([0.5, 0.5, np.nan, 0.25]), np.array([2.0, 2.0, 2.0, np.nan]), 0.95)
    assert isinstance(found, Estimate)
    assert (found.value, found.n) == (1.0, 2)
    assert isinstance(mean_weight(np.full(3, np.nan), np.full(3, 2.0), 0.95), Refusal)


def test_the_figure_that_goes_with_coming_back_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    clicks, noise = rng.poisson(3, 2_000).astype(float), rng.normal(size=2_000)
    returned = rng.random(2_000) < 1 / (1 + np.exp(1.0 - 0.5 * clicks))
    found = proxies({"clicks": clicks, "noise": noise}, returned, GateSettings())
    assert isinstance(found["clicks"], Estimate)
    assert isinstance(found["noise"], Estimate)
    assert found["clicks"].low > 0.6
    assert found["noise"].low < 0.5 < found["noise"].high


def test_too_few_who_left_are_refused() -> None:
    returned = np.arange(500) >= FEWEST - 1
    found = proxies({"clicks": np.arange(500.0)}, returned, GateSettings())["clicks"]
    assert isinstance(found, Refusal)
    assert f"found {FEWEST - 1}" in found.reason
