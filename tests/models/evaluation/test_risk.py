"""Risk of a false promotion: no window spends more than it has, and simulated teams without a gain promote rarely.

The simulation knows the truth: a look is a z statistic, normal around its true gain, and promotes where the lower limit
of its interval is above zero, as the gate does with the value.
"""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from models.evaluation.risk import spend

ALPHA, DAYS = 0.05, 14
Floats = NDArray[np.float64]


def in_turn(at: Iterable[int], expected: int, window: int = DAYS) -> list[float]:
    """What looks on the days `at` (in order) may spend, each counting those of the `window` days before."""
    done: list[tuple[int, float]] = []
    for day in at:
        done.append((day, spend([risk for then, risk in done if then > day - window], ALPHA, expected)))
    return [risk for _, risk in done]


def limits(spent: list[float]) -> Floats:
    """How many standard errors the interval of each look reaches."""
    return np.asarray(norm.isf(np.array(spent) / 2))


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=80).map(sorted),
    st.integers(1, 40),
    st.integers(1, 30),
)
def test_no_window_of_looks_spends_more_than_its_risk(at: list[int], expected: int, window: int) -> None:
    """Whenever they come, however many a day: and there is always something left for another."""
    spent = in_turn(at, expected, window)
    assert min(spent) > 0
    for first in at:
        assert sum(risk for day, risk in zip(at, spent, strict=True) if first <= day < first + window) < ALPHA


@pytest.mark.parametrize("expected", [1, 2, 14, 28])
def test_as_many_looks_as_expected_spend_alike_for_ever(expected: int) -> None:
    """No day of the fortnight is worse than another, in the first one or the tenth."""
    every = [day * DAYS // expected for day in range(10 * expected)]
    assert in_turn(every, expected) == pytest.approx([ALPHA / (expected + 1)] * len(every))


def test_more_looks_than_expected_spend_ever_less() -> None:
    """The first of them half of what was left, the next a third of that; none is refused."""
    spent = in_turn([0] * 6, expected=2)
    left = ALPHA / 3
    assert spent == pytest.approx([left, left, left / 2, left / 6, left / 12, left / 20])


@pytest.mark.parametrize(
    ("spent", "risk", "expected", "said"),
    [
        ([0.03, 0.02], 0.05, 2, "0.05 spent by 2 looks"),
        ([0.06], 0.05, 2, "0.06 spent by 1 looks"),
        ([], 0.0, 2, "in \\(0, 1\\)"),
        ([], 1.0, 2, "in \\(0, 1\\)"),
        ([], 0.05, 0, "at least one expected; found 0.05, 0"),
        ([-0.01], 0.05, 2, "at least nothing; found -0.01"),
    ],
)
def test_what_cannot_be_spent_is_refused(spent: list[float], risk: float, expected: int, said: str) -> None:
    """A window that was given more than there is now, after somebody raised the confidence; and nonsense."""
    with pytest.raises(ValueError, match=said):
        spend(spent, risk, expected)


def promoted(z: Floats, a_day: int, expected: int) -> NDArray[np.bool_]:
    """(fortnights, looks) which of the looks promote; `z` (fortnights, days x `a_day`) in their order."""
    days = np.repeat(np.arange(z.shape[1] // a_day), a_day)
    return z > limits(in_turn(days.tolist(), expected))


def drawn(a_day: int, gain: float, seed: int, alike: float = 0.9, fortnights: int = 40_000) -> Floats:
    """Looks of `DAYS` days: challengers of one day are judged on the same rows, so they err alike (correlation)."""
    rng = np.random.default_rng(seed)
    of_day = np.repeat(rng.standard_normal((fortnights, DAYS)), a_day, axis=1)
    own = rng.standard_normal((fortnights, DAYS * a_day))
    return gain + np.sqrt(alike) * of_day + np.sqrt(1 - alike) * own


@pytest.mark.parametrize(("a_day", "alike"), [(1, 0.0), (2, 0.9), (8, 0.0), (8, 0.5), (8, 0.9)])
@pytest.mark.parametrize("expected", [1, 14, 112])
def test_a_fortnight_without_any_gain_promotes_rarely(a_day: int, alike: float, expected: int) -> None:
    """At most 2.5 % promote anything, with daily looks and with eight challengers a day; uncorrected 30 % and more do.

    2.5 % and not 5 %, since an error on the side of harm promotes nothing; and promotions are counted, not fortnights.
    """
    z = drawn(a_day, 0.0, seed=a_day, alike=alike)
    found = promoted(z, a_day, expected)
    sampling = 4 * np.sqrt(ALPHA / 2 / len(z))
    assert found.sum(axis=1).mean() <= ALPHA / 2 + sampling
    assert (z > norm.isf(ALPHA / 2)).any(axis=1).mean() > 0.25


def test_what_is_expected_costs_power_and_never_the_risk() -> None:
    """A gain of 3.5 standard errors: a look alone finds it in 94 %, one of a fortnight's in 71 %."""
    z = drawn(1, 3.5, seed=1)
    alone = (z > norm.isf(ALPHA / 2)).mean()
    planned, hasty = (promoted(z, 1, expected).mean(axis=0) for expected in (14, 1))
    assert alone == pytest.approx(0.94, abs=0.01)
    assert planned == pytest.approx([0.714] * DAYS, abs=0.015)
    assert (planned > hasty).sum() >= 11, "who expects one look spends half on the first and little on the last"
    assert hasty[0] > planned[0]


def test_the_interval_of_the_best_of_a_window_covers_it_too() -> None:
    """The winner's curse: whoever looks best looks better than it is, and its interval allows for that."""
    z = drawn(8, 0.0, seed=3, alike=0.5)
    reach = limits(in_turn(np.repeat(np.arange(DAYS), 8).tolist(), expected=112))
    best = np.arange(len(z)), (z - reach).argmax(axis=1)
    assert (np.abs(z[best]) <= reach[best[1]]).mean() >= 1 - ALPHA
    assert (np.abs(z[best]) <= norm.isf(ALPHA / 2)).mean() < 0.8
