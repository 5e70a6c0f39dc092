"""Two arms in one metric: hand-computed, refused where nothing can be told, and erring as often as promised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from models.evaluation.estimate import Refusal
from models.experiments.compare import Difference, compare
from models.experiments.correction import adjusted
from models.experiments.plan import Design, detectable, power_of
from models.experiments.sequences import evidence, half_width
from tests.bench.experiment_worlds import looks

SETTINGS = {"interesting": 0.1, "confidence": 0.9}


def users(seed: int, n: int = 800, lift: float = 0.0) -> tuple[np.ndarray, ...]:
    """Numerators, denominators, arms and figures from before."""
    rng = np.random.default_rng(seed)
    rate, treated = rng.beta(1, 6, n), rng.random(n) < 0.5
    trials, past = rng.geometric(0.1, n), 20 * rng.geometric(0.1, n)
    clicks = rng.binomial(trials, np.minimum(1, rate * (1 + lift * treated)))
    return clicks.astype(float), trials.astype(float), treated, np.column_stack([rng.binomial(past, rate), past]) * 1.0


def found(*args: np.ndarray, **more: object) -> Difference:
    one = compare(*args, **{**SETTINGS, **more})
    assert isinstance(one, Difference)
    return one


def test_a_mean_per_user_of_like_users_is_welchs_interval() -> None:
    """Figures without a tail: their kurtosis leaves every degree of freedom."""
    rng, treated = np.random.default_rng(0), np.arange(800) % 5 > 1
    y = rng.random(800) * (1 + treated)
    one, book = found(y, np.ones(800), treated), ttest_ind(y[treated], y[~treated], equal_var=False)
    assert one.fixed.value == pytest.approx(y[treated].mean() - y[~treated].mean())
    assert (one.fixed.low, one.fixed.high) == pytest.approx(tuple(book.confidence_interval(0.9)))
    assert (one.p_value, one.fixed.stderr) == pytest.approx((book.pvalue, one.fixed.value / book.statistic))
    assert one.variance_left == pytest.approx(1)
    assert one.always[0] < one.fixed.low < one.fixed.high < one.always[1]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_order_arms_and_scale_mean_nothing(seed: int, scale: float) -> None:
    y, x, treated, before = users(seed, 400)
    base, order = found(y, x, treated, before=before), np.random.default_rng(seed).permutation(len(y))
    same = found(y[order], x[order], treated[order], before=before[order])
    swapped, scaled = found(y, x, ~treated, before=before), found(scale * y, x, treated, before=7 * before + 3)
    assert (same.fixed.value, same.fixed.low) == pytest.approx((base.fixed.value, base.fixed.low))
    assert (swapped.fixed.value, swapped.fixed.low) == pytest.approx((-base.fixed.value, -base.fixed.high))
    assert scaled.fixed.stderr == pytest.approx(scale * base.fixed.stderr)
    assert scaled.always_p == pytest.approx(base.always_p)


def test_what_users_did_before_saves_users_and_moves_nothing_on_average() -> None:
    pairs = [(found(y, x, arm, before=b), found(y, x, arm)) for y, x, arm, b in (users(s, 600, 0.3) for s in range(40))]
    kept = np.mean([adjusted.variance_left for adjusted, _ in pairs])
    shift = np.array([adjusted.fixed.value - plain.fixed.value for adjusted, plain in pairs])
    assert kept < 0.8
    assert abs(shift.mean()) < 3 * shift.std() / len(shift) ** 0.5


def test_users_of_whom_nothing_is_known_before_stay_in() -> None:
    y, x, treated, before = users(1)
    before[::4] = np.nan
    one = found(y, x, treated, before=before)
    assert one.fixed.n == len(y)
    assert one.variance_left < 1


def test_unknown_users_are_left_out_of_both_sums() -> None:
    y, x, treated, _ = users(2)
    y[:100] = np.nan
    assert found(y, x, treated).fixed.value == pytest.approx(found(y[100:], x[100:], treated[100:]).fixed.value)


def test_arms_unlike_before_the_start_are_not_sound() -> None:
    y, x, treated, before = users(3, 2000)
    assert found(y, x, treated, before=before).sound
    before[treated, 0] += 10
    assert not found(y, x, treated, before=before).sound


def test_one_buyer_of_a_thousand_pairs_of_shoes_does_not_decide() -> None:
    y, _, treated, _ = users(4)
    y[treated.argmax()] = 1e6
    one, whole = found(y, np.ones(len(y)), treated, cap=0.99), found(y, np.ones(len(y)), treated)
    assert one.fixed.stderr < whole.fixed.stderr / 1000
    assert 0 < one.capped <= 0.01


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda y, x, arm: (y, x, np.zeros(len(y), bool)), "treated: needs at least 100 users"),
        (lambda y, x, arm: (y * ~arm, x, arm), "treated: needs at least 100 users, 10 of them with a figure"),
        (lambda y, x, arm: (x, x, arm), "needs users who differ"),
        (lambda y, x, arm: (y, np.where(np.arange(len(x)) == arm.argmax(), 1e6, x), arm), "found 100% of one's"),
    ],
)
def test_refusals_say_why(change: object, reason: str) -> None:
    y, x, treated, _ = users(5)
    one = compare(*change(y, x, treated), **SETTINGS)  # type: ignore[operator]
    assert isinstance(one, Refusal)
    assert reason in one.reason


def test_bad_input_raises() -> None:
    y, x, treated, _ = users(6)
    for wrong in ({"numerators": y[1:]}, {"denominators": -x}, {"cap": 0.0}, {"interesting": 0.0}):
        with pytest.raises(ValueError, match="need"):
            compare(**{"numerators": y, "denominators": x, "treated": treated, **SETTINGS, **wrong})


def test_a_daily_reader_errs_with_the_fixed_interval_and_not_with_the_other() -> None:
    """Forty A/A experiments of a fortnight are enough to tell 20 % from at most 10 %; the bench tells the rest."""
    fixed, always, end = 0, 0, 0
    for seed in range(60):
        seen = [
            found(*look.of("click_rate"), look.treated, before=look.before)
            for look in looks(np.random.default_rng(seed), 700, 10)
        ]
        fixed += any(one.p_value < 0.1 for one in seen)
        always += any(not one.always[0] <= 0 <= one.always[1] for one in seen)
        end += not seen[-1].fixed.low <= 0 <= seen[-1].fixed.high
    assert fixed > 12
    assert always <= 6
    assert end <= 13


def test_the_any_look_interval_and_its_evidence_agree() -> None:
    for stderr in (0.01, 0.1, 1.0):
        reach = half_width(stderr, 0.3, 0.95)
        assert evidence(reach, stderr, 0.3) == pytest.approx(20)
        assert reach > 1.96 * stderr
    with pytest.raises(ValueError, match="scale above 0"):
        half_width(0.1, 0.0, 0.95)


def test_a_mixture_is_fair_under_no_effect() -> None:
    """Its mean over draws without an effect is one: what makes reading it always safe."""
    draws = np.random.default_rng(0).normal(0, 0.1, 20_000)
    assert np.mean([evidence(draw, 0.1, 0.1) for draw in draws]) == pytest.approx(1, abs=0.05)


def test_a_design_finds_what_it_was_made_for() -> None:
    design = Design(2.0, 3.0, (0.5, 0.5))
    once, always = (design.users_needed(0.05, 0.95, sequential=s) for s in (False, True))
    assert once == pytest.approx(4 * 3.0**2 * (1.959964 + 0.841621) ** 2 / 0.1**2, rel=1e-3)
    assert 1.2 * once < always < 2.5 * once
    assert power_of(0.1, design.stderr(always), 0.95, scale=0.1) == pytest.approx(0.8, abs=1e-3)
    assert detectable(design.stderr(once), 0.95) == pytest.approx(0.1, rel=1e-3)
    assert Design(0.0, 3.0, (0.5, 0.5)).users_needed(0.05, 0.95) == np.inf


def test_corrections_are_those_of_the_books() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert adjusted(p, "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted(p, "bh") == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert not len(adjusted(p[:0], "holm"))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        adjusted(2 * p + 1, "holm")
