"""Switchback: one of each pair, washed out, and as sure as pairs allow, however many requests a block has."""

import numpy as np
import pytest

from models.evaluation.estimate import Refusal
from models.experiments.assignment import Switchback
from models.experiments.compare import Difference
from models.experiments.rules import LEAST_PAIRS
from models.experiments.switchback import compare_blocks, kept, treated
from tests.bench.switchback_worlds import HOUR, PLAN, requests

SETTINGS = {"interesting": 0.2, "confidence": 0.9}


def found(plan: Switchback, blocks: int, *world: np.ndarray) -> Difference:
    one = compare_blocks(plan, *world, now=blocks * HOUR, **SETTINGS)
    assert isinstance(one, Difference)
    return one


def test_of_each_pair_one_block_is_treated_in_an_order_that_is_drawn() -> None:
    arms = treated(PLAN, np.arange(400))
    assert (arms[::2] != arms[1::2]).all()
    assert 60 < arms[::2].sum() < 140
    assert arms.tolist() == [PLAN.treated(block) for block in range(400)]


def test_a_a_errs_as_often_as_promised_where_requests_alone_would_not() -> None:
    """The bench counts 1,000 of them, read every day too."""
    rng = np.random.default_rng(0)
    runs = [found(PLAN, 72, *requests(rng, 72, 0.0)) for _ in range(250)]
    assert np.mean([one.fixed.low <= 0 <= one.fixed.high for one in runs]) == pytest.approx(0.9, abs=0.06)
    assert np.mean([one.always[0] <= 0 <= one.always[1] for one in runs]) > 0.95
    assert np.mean([one.p_value < 0.1 for one in runs]) == pytest.approx(0.1, abs=0.06)


def test_a_lift_is_found_and_what_carries_over_is_washed_out() -> None:
    rng = np.random.default_rng(1)
    world = requests(rng, 401, 0.1, carry=0.5)
    one, biased = found(PLAN, 401, *world), found(Switchback("prices", HOUR), 401, *world)
    assert one.fixed.low < 0.1 < one.fixed.high
    assert biased.fixed.value < one.fixed.value
    assert one.fixed.effective_n == 200
    assert one.always[0] < one.fixed.low


def test_what_is_not_over_or_still_washes_out_is_not_read() -> None:
    """Of a first pair that is over, of minutes past the washout; nothing of the second, which is under way."""
    minutes = np.array([-1.0, 5.0, 15.0, 65.0, 75.0, 119.0, 130.0, 200.0])
    assert kept(PLAN, 60 * minutes, 3.5 * HOUR).tolist() == [False, False, True, False, True, True, False, False]


def test_a_washout_must_leave_something_and_few_pairs_tell_nothing() -> None:
    with pytest.raises(ValueError, match="within its block"):
        Switchback("a", 600.0, 600.0)
    few = compare_blocks(PLAN, *requests(np.random.default_rng(2), 50, 0.0), now=50 * HOUR, **SETTINGS)
    assert isinstance(few, Refusal)
    assert few.reason == f"a switchback needs {LEAST_PAIRS} pairs of blocks or more; found 25"
    seconds, _, trials = requests(np.random.default_rng(2), 80, 0.0)
    none = compare_blocks(PLAN, seconds, 0 * trials, trials, now=80 * HOUR, **SETTINGS)
    assert isinstance(none, Refusal)
    assert "users who differ" in none.reason
