"""Which figures are alarms, when an incident is one, and where a day was expected; error rates by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from models.evaluation.estimate import Estimate, Refusal
from models.monitoring.alarms import daily_risk, discoveries, p_beyond, state
from models.monitoring.levels import MIN_DAYS, Level, level


def figure(value: float, stderr: float = 0.01, n: int = 1_000) -> Estimate:
    return Estimate(value, stderr, value - 2 * stderr, value + 2 * stderr, n, float(n))


def test_discoveries_are_the_step_up_rule_of_benjamini_and_yekutieli() -> None:
    """Of four, at .1: levels .1 k / (4 x 25/12) = .012, .024, .036, .048; the third saves the second."""
    assert discoveries([0.9, 0.001, 0.034, 0.03], 0.1).tolist() == [False, True, True, True]
    assert discoveries([0.9, 0.001, 0.05, 0.03], 0.1).tolist() == [False, True, False, False]
    assert discoveries([], 0.1).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_order_of_figures_does_not_matter_and_more_risk_finds_no_less(p: list[float]) -> None:
    order = np.random.default_rng(len(p)).permutation(len(p))
    found = discoveries(p, 0.05)
    assert (discoveries(np.array(p)[order].tolist(), 0.05) == found[order]).all()
    assert (discoveries(p, 0.2) >= found).all()


@pytest.mark.parametrize(("p", "risk"), [([1.1], 0.1), ([float("nan")], 0.1), ([0.1], 0.0), ([0.1], 1.0)])
def test_what_is_no_probability_is_an_error(p: list[float], risk: float) -> None:
    with pytest.raises(ValueError, match="p-values in"):
        discoveries(p, risk)


def test_alike_figures_alarm_together_no_oftener_than_the_risk() -> None:
    """A day's figures lean on the same users: whatever depends on whatever, quiet days alarm at the day's risk."""
    rng, days = np.random.default_rng(0), 2_000
    z = np.sqrt(0.7) * rng.normal(size=(days, 1)) + np.sqrt(0.3) * rng.normal(size=(days, 50))
    assert np.mean([discoveries(day, 0.05).any() for day in 2 * norm.sf(np.abs(z))]) < 0.05
    assert daily_risk(0.5) == pytest.approx(1 / 60)


def test_at_the_bound_one_in_twenty_is_beyond_it() -> None:
    rng = np.random.default_rng(0)
    found = [p_beyond(one, 0.1, 0.5) < 0.05 for one in rng.normal(0.5, 0.1, 4_000)]
    assert 0.04 < np.mean(found) < 0.06
    assert p_beyond(0.2, 0.0, 0.5) == 1.0
    assert p_beyond(0.6, 0.0, 0.5) == 0.0


@pytest.mark.parametrize(
    ("alarms", "found"),
    [
        ([], ""),
        ([False, False], ""),
        ([False, True], "opened"),
        ([True, True], "open"),
        ([True, False], "open"),
        ([True, False, True], "open"),
        ([True, False, False], "closed"),
        ([True, False, None, False], "closed"),
        ([True, None, None], "open"),
        ([True, False, False, False], ""),
        ([True, False, False, True], "opened"),
    ],
)
def test_an_incident_opens_stays_open_and_closes(alarms: list[bool | None], found: str) -> None:
    assert state(alarms, quiet_days=2) == found


def test_an_incident_closes_after_at_least_a_day() -> None:
    with pytest.raises(ValueError, match="at least 1 quiet day"):
        state([True], 0)


def test_a_day_like_the_others_is_within_and_half_of_it_is_not() -> None:
    before = [figure(0.1 + 0.001 * n, 0.002) for n in (-1, 0, 1, 0, -1, 1, 0, 0)]
    usual, halved = (level(figure(value, 0.002), before, 0.22, relative=True) for value in (0.1, 0.05))
    assert isinstance(usual, Level)
    assert isinstance(halved, Level)
    assert usual.expected == pytest.approx(0.1, rel=0.01)
    assert usual.p_value > 0.9
    assert halved.p_value < 1e-4
    assert halved.low == pytest.approx(0.1 / np.exp(0.22), rel=0.01)


def of_a_count(count: float, n: int = 1_000) -> Estimate:
    return figure(count / n, np.sqrt(count) / n, n)


@pytest.mark.parametrize(("usual", "found", "low", "high"), [(100, 0, 0, 1e-9), (4, 0, 0.01, 0.2), (4, 1, 0.05, 0.3)])
def test_a_day_of_nothing_says_as_much_as_was_expected_of_it(usual: int, found: int, low: float, high: float) -> None:
    """None where four are usual happens once in fifty days; a day's own count of none has no noise to go by."""
    level_of = level(of_a_count(found), [of_a_count(usual)] * MIN_DAYS, 0.22, relative=True)
    assert isinstance(level_of, Level)
    assert low <= level_of.p_value < high


def test_few_events_raise_no_more_alarms_than_many() -> None:
    """Poisson counts of a few a day, all within the bound: each end at most at the level, however skewed they are."""
    rng = np.random.default_rng(2)
    for mean in (1.0, 3.0, 10.0, 300.0):
        p = []
        for _ in range(400):
            *before, today = (of_a_count(count) for count in rng.poisson(mean, 15))
            found = level(today, before, 0.22, relative=True)
            p += [] if isinstance(found, Refusal) else [found.p_value]
        assert np.mean(np.array(p) < 0.01) <= 0.02, mean


def test_too_few_days_and_refused_days_say_so() -> None:
    few = level(figure(1.0), [figure(1.0)] * (MIN_DAYS - 1) + [Refusal("none")], 0.1, relative=False)
    assert isinstance(few, Refusal)
    assert f"at least {MIN_DAYS} days before; found {MIN_DAYS - 1}" in few.reason
    assert level(Refusal("none"), [figure(1.0)] * 9, 0.1, relative=False) == Refusal("none")


@pytest.mark.parametrize("between", [0.0, 0.05, 0.2])
def test_days_that_differ_by_more_than_their_samples_raise_no_more_alarms(between: float) -> None:
    """At a bound of 0 a quiet day is beyond it at the level asked for, however much days differ of their own."""
    rng, trials, own = np.random.default_rng(1), 800, 0.05
    beyond = 0
    for _ in range(trials):
        truth = rng.normal(0, between, 15)
        seen = [figure(float(value), own) for value in truth + rng.normal(0, own, 15)]
        found = level(seen[-1], seen[:-1], 0.0, relative=False)
        assert isinstance(found, Level)
        beyond += found.p_value < 0.05
    assert beyond / trials < 0.08
