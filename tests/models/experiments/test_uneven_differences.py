"""Differences whose users weigh unlike: missed as seldom as promised where they once were not, and dear to nobody."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from models.evaluation.estimate import Estimate
from models.experiments.compare import Difference
from models.experiments.rates import difference_of_rates
from models.experiments.ratio import spread, told_by_others
from models.experiments.switchback import compare_blocks
from tests.bench.difference_worlds import ALIKE, BLOCKS, UNEVEN, pairs_of_blocks
from tests.bench.switchback_worlds import HOUR, PLAN
from tests.bench.uneven_differences import NEEDS, blocks_by_delta_method, missed_once, told

RUNS = 700
MOST = 0.05 + 2 * (0.05 * 0.95 / RUNS) ** 0.5


@pytest.mark.parametrize(
    "world",
    [
        "click rate, 130 an arm, the few heavier",
        "click rate, 15 % treated, the active click more",
        "click rate, 15 % treated, adjusted, +20 %",
        "revenue, 15 % treated, adjusted",
    ],
)
def test_a_difference_is_missed_as_seldom_as_promised(world: str) -> None:
    shares, refused = missed_once(UNEVEN[world], 5, RUNS)
    assert shares["missed"] <= MOST < shares["delta_method"]
    assert refused < RUNS / 8


@pytest.mark.parametrize("world", ALIKE)
def test_where_users_are_alike_nothing_is_lost(world: str) -> None:
    shares, _ = missed_once(ALIKE[world], 6, RUNS // 5)
    assert 1 - 1e-9 <= shares["width"] < 1.04


def test_a_switchback_of_unlike_blocks_is_missed_as_seldom_as_promised() -> None:
    pairs, heavy, within = BLOCKS["40 pairs, a few blocks have"]
    rng, missed, before = np.random.default_rng(7), 0, 0
    for _ in range(RUNS // 2):
        rows = pairs_of_blocks(rng, pairs, heavy, within)
        one, (least, most) = compare_blocks(PLAN, *rows, now=2 * pairs * HOUR, **NEEDS), blocks_by_delta_method(*rows)
        assert isinstance(one, Difference)
        missed += not one.fixed.low <= 0 <= one.fixed.high
        before += not least <= 0 <= most
    assert missed / (RUNS // 2) <= MOST < before / (RUNS // 2)


@pytest.mark.parametrize("world", UNEVEN)
def test_what_holds_at_any_look_holds_the_fixed_interval_and_p_agrees_with_it(world: str) -> None:
    rng = np.random.default_rng(8)
    for _ in range(10):
        for arms in UNEVEN[world].looks(rng, 2):
            one = told(*arms)
            if isinstance(one, Difference):
                assert one.always[0] <= one.fixed.low <= one.fixed.high <= one.always[1]
                assert (one.p_value < 0.05) == (not one.fixed.low <= 0 <= one.fixed.high)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_rates_of_requests_and_of_users_are_one(seed: int) -> None:
    [(y, x, treated, _)] = UNEVEN["click rate, 15 % treated"].looks(np.random.default_rng(seed))
    one = told(y, x, treated, None)
    gap = difference_of_rates(successes=y, trials=x, variant=treated, users=np.arange(len(y)), confidence=0.95)
    assert isinstance(one, Difference)
    assert isinstance(gap["difference"], Estimate)
    assert gap["difference"].as_dict() == pytest.approx(one.fixed.as_dict())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(20, 60), st.floats(1e-20, 1e20))
def test_an_error_told_by_others_is_that_of_a_line_fitted_without_the_user(seed: int, n: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    columns, y = np.column_stack([np.ones(n), rng.random(n)]), scale * rng.normal(size=n)
    hat = columns @ np.linalg.pinv(columns)
    without = [y[at] - columns[at] @ np.linalg.lstsq(np.delete(columns, at, 0), np.delete(y, at))[0] for at in range(n)]
    assert told_by_others(y - hat @ y, hat.diagonal() + 1 / n) == pytest.approx(np.array(without), rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 60), st.floats(1e-20, 1e20))
def test_a_spread_of_users_without_a_tail_is_students(seed: int, n: int, scale: float) -> None:
    errors = scale * np.random.default_rng(seed).permutation(np.linspace(0, 1, n))
    one, book = spread([errors]), ttest_1samp(errors, 0.0)
    assert one.freedom == one.usual == pytest.approx(n - 1)
    low, high = book.confidence_interval(0.95)
    assert (one.reach(0.95), one.told(0.95)) == pytest.approx(((high - low) / 2, errors.mean() / book.statistic))


def test_one_user_of_all_leaves_no_freedom_and_users_alike_no_error() -> None:
    one = spread([np.append(np.zeros(999), 1.0), np.arange(200) % 2])
    assert 1 <= one.freedom < 3 < one.usual
    assert spread([np.ones(5), np.ones(7)]).reach(0.95) == 0.0
