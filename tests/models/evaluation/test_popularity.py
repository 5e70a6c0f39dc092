"""Popularity bias: by hand, at its extremes, and with intervals that cover."""

import numpy as np
import pytest

from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.popularity import (
    SHARES,
    Concentration,
    concentration,
    concentration_rise,
    exposure_gap,
    popular_items,
)
from models.settings import GateSettings

GATE = GateSettings(bootstrap_replicates=60)


def curve(items: np.ndarray, placed: np.ndarray, catalogue: int) -> Concentration:
    found = concentration(items, placed, catalogue, settings=GATE, seed=0)
    assert isinstance(found, Concentration)
    return found


def sound(found: object) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


def test_an_even_spread_lies_on_the_diagonal_and_one_item_at_the_bottom() -> None:
    """The two ends of the curve."""
    even = curve(np.arange(10), np.ones(10), 10)
    assert [sound(e).value for e in even.items_behind] == pytest.approx(SHARES)
    assert sound(even.coverage).value == 1.0
    one = curve(np.array([3, 3, 4]), np.array([2.0, 1.0, 0.0]), 10)
    assert {sound(e).value for e in one.items_behind} == {0.1}
    assert sound(one.coverage).value == 0.1


def test_the_curve_by_hand_does_not_depend_on_row_order() -> None:
    """6, 3, 1 of ten placements: one item holds 60 %, two hold 90 %, the third is needed for the rest."""
    items, placed = np.array([7, 5, 9, 7]), np.array([2.0, 3, 1, 4])
    by_hand = [n / 6 for n in (1, 1, 1, 1, 1, 1, 2, 2, 2, 3)]
    for order in (slice(None), slice(None, None, -1)):
        found = curve(items[order], placed[order], 6)
        assert [sound(e).value for e in found.items_behind] == pytest.approx(by_hand)


def test_the_rise_by_hand() -> None:
    """80 % of the placements are held by 4 of 5 items before and by 2 after: the set shrinks by half."""
    items, after = np.arange(5), np.array([5.0, 4, 1, 0, 0])
    found = concentration_rise(np.tile(items, 40), np.ones(200), np.tile(after, 40), 5, settings=GATE, seed=0)
    assert sound(found).value == pytest.approx(0.5)
    even = concentration_rise(np.tile(items, 40), np.ones(200), np.ones(200), 5, settings=GATE, seed=0)
    assert (sound(even).low, sound(even).high) == (0.0, 0.0)


def test_the_curves_intervals_hold_what_logs_of_their_size_show_in_the_mean() -> None:
    """95 % intervals, users resampled whole; the truth is the mean over many logs of the same size."""
    chances = 1 / np.arange(1, 61)

    def log(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        items = rng.choice(60, 1_800, p=chances / chances.sum())
        users = np.repeat(np.arange(300), 6)
        return items, np.ones(1_800), rng.random(1_800) * (1 + (items < 10)), users

    rises, tops = [], []
    for seed in range(150):
        items, before, after, users = log(seed)
        rises.append(sound(concentration_rise(items, before, after, 60, settings=GATE, seed=seed, clusters=users)))
        found = concentration(items, before, 60, settings=GATE, seed=seed, clusters=users)
        assert isinstance(found, Concentration)
        tops.append(sound(found.items_behind[7]))
    for estimates in (rises, tops):
        truth = np.mean([e.value for e in estimates])
        assert 0.9 <= np.mean([e.low <= truth <= e.high for e in estimates]) <= 1.0


def test_the_gap_by_hand() -> None:
    """Popular candidates are placed with 0.6 in the mean, the others with 0.1; among the wanted it is 0.4 and 0.2."""
    placed, popular = np.array([0.8, 0.4, 0.2, 0.0]), np.array([True, True, False, False])
    found = exposure_gap(np.tile(placed, 9), np.tile(popular, 9), settings=GATE, seed=0)
    wanted = exposure_gap(
        np.tile(placed, 9), np.tile(popular, 9), wanted=np.tile([False, True, True, False], 9), settings=GATE, seed=0
    )
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(0.5)
    assert isinstance(wanted, Estimate)
    assert wanted.value == pytest.approx(0.2)


def test_the_gap_covers_the_truth() -> None:
    """95 % intervals hold the true gap about 95 times in 100, users resampled whole."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        taste = np.repeat(rng.uniform(0, 0.4, 150), 6)
        popular = rng.random(900) < 0.3
        found = exposure_gap(
            taste + 0.2 * popular, popular, clusters=np.repeat(np.arange(150), 6), settings=GATE, seed=seed
        )
        assert isinstance(found, Estimate)
        held += found.low <= 0.2 <= found.high
    assert 0.90 <= held / 200 <= 0.99


def test_popular_items_hold_their_share_and_ties_go_to_the_smaller() -> None:
    """Which items count as popular must not depend on the order of rows."""
    assert popular_items(np.array([4, 2, 9, 1]), np.array([1.0, 5, 5, 0]), 0.4).tolist() == [2]
    assert popular_items(np.array([9, 4, 2, 1]), np.array([5.0, 1, 5, 0]), 0.5).tolist() == [2, 9]
    assert popular_items(np.array([1]), np.zeros(1)).tolist() == []


def test_what_cannot_be_told_is_refused_and_nonsense_is_an_error() -> None:
    """No recommendations, one group only; negative counts, probabilities above one, a catalogue too small."""
    assert isinstance(concentration(np.arange(2), np.zeros(2), 5, settings=GATE, seed=0), Refusal)
    assert isinstance(concentration_rise(np.arange(2), np.ones(2), np.zeros(2), 5, settings=GATE, seed=0), Refusal)
    assert isinstance(exposure_gap(np.ones(3), np.ones(3, bool), settings=GATE, seed=0), Refusal)
    one = concentration_rise(np.zeros(2, int), np.ones(2), np.ones(2), 5, settings=GATE, seed=0)
    assert one == Refusal("the popularity curve needs 2 items to choose from; found 1 in 2 rows", 2)
    with pytest.raises(ValueError, match="at least 2 items is needed; found 1"):
        concentration(np.arange(2), np.ones(2), 1, settings=GATE, seed=0)
    with pytest.raises(ValueError, match=r"figures from 0 to 1e\+30 are needed"):
        concentration(np.arange(2), np.array([1.0, -1]), 5, settings=GATE, seed=0)
    with pytest.raises(ValueError, match=r"\[0, 1\] are needed; found 2"):
        exposure_gap(np.full(3, 2.0), np.ones(3, bool), settings=GATE, seed=0)
