"""Switchback: one of each pair, washed out, and as sure as pairs allow, however many requests a block has."""

import numpy as np
import pytest

from models.evaluation.estimate import Estimate
from models.experiments.switchback import Switchback

HOUR = 3600.0
PLAN = Switchback("prices", HOUR, 600.0)


def requests(rng: np.random.Generator, blocks: int, lift: float, carry: float = 0.0) -> tuple[np.ndarray, ...]:
    """40 requests a block; the rate walks from hour to hour; what was treated works on for ten minutes."""
    seconds = np.sort(rng.random(40 * blocks) * blocks * HOUR)
    block = (seconds // HOUR).astype(int)
    treated = PLAN.treated(block)
    level = 0.3 + 0.12 * np.sin(np.cumsum(rng.normal(0, 0.8, blocks)))[block]
    after = np.where(block > 0, PLAN.treated(np.maximum(block - 1, 0)), False) & (seconds % HOUR < 600)
    clicked = rng.random(len(seconds)) < level + lift * treated + carry * after
    return seconds, clicked.astype(float), np.ones(len(seconds))


def test_of_each_pair_one_block_is_treated_in_an_order_that_is_drawn() -> None:
    treated = PLAN.treated(np.arange(400))
    assert (treated[::2] != treated[1::2]).all()
    assert 60 < treated[::2].sum() < 140
    assert (PLAN.treated(np.arange(7, 9)) == treated[7:9]).all()


def test_a_a_errs_as_often_as_promised_where_requests_alone_would_not() -> None:
    rng = np.random.default_rng(0)
    found = [PLAN.difference(*requests(rng, 48, 0.0), 0.9)["difference"] for _ in range(300)]
    held = np.mean([one.low <= 0 <= one.high for one in found if isinstance(one, Estimate)])
    assert held == pytest.approx(0.9, abs=0.06)


def test_a_lift_is_found_and_what_carries_over_is_washed_out() -> None:
    rng = np.random.default_rng(1)
    found = PLAN.difference(*requests(rng, 401, 0.1, carry=0.5), 0.95)["difference"]
    biased = Switchback("prices", HOUR).difference(*requests(rng, 401, 0.1, carry=0.5), 0.95)["difference"]
    assert isinstance(found, Estimate)
    assert isinstance(biased, Estimate)
    assert found.low < 0.1 < found.high
    assert biased.value < found.value
    assert found.effective_n == 400


def test_a_washout_must_leave_something() -> None:
    with pytest.raises(ValueError, match="within its block"):
        Switchback("a", 600.0, 600.0)
