"""Calibration: what the figures are by hand, and how wrong they are on data whose true error is known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.calibration import calibration_error, calibration_ratio, ece, ece_by_chance, reliability
from models.evaluation.estimate import Estimate, Refusal
from models.settings import GateSettings
from tests.bench.bench_calibration import cleared
from tests.bench.click_worlds import MODELS, ClickWorld, true_error, true_ratio

GATE = GateSettings(bootstrap_replicates=60)


def drawn(n: int, shift: float, seed: int, a: float = 1.0, b: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Clicks by probability p, scores p + shift: the true calibration error is |shift| everywhere."""
    rng = np.random.default_rng(seed)
    p = 0.05 + 0.8 * rng.beta(a, b, n)
    return (rng.random(n) < p).astype(float), p + shift


def sound(found: object) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


def plain(labels: np.ndarray, scores: np.ndarray, **options: Any) -> float:
    return sound(ece(labels, scores, settings=GATE, **options)).value


def test_bins_by_hand() -> None:
    """Two bins: of equal width the first holds three rows; of equal mass each holds two."""
    labels, scores = np.array([0.0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.9])
    width = reliability(labels, scores, kind="width", bins=2)
    assert [(b.n, b.observed) for b in width] == [(3, pytest.approx(1 / 3)), (1, 1.0)]
    mass = reliability(labels, scores, kind="mass", bins=2)
    assert [(b.n, b.observed, b.predicted) for b in mass] == [
        (2, 0.5, pytest.approx(0.15)),
        (2, 0.5, pytest.approx(0.6)),
    ]
    assert plain(labels, scores, kind="width", bins=2) == pytest.approx((3 * (1 / 3 - 0.2) + 0.1) / 4)
    assert plain(labels, scores, kind="mass", bins=2) == pytest.approx((2 * 0.35 + 2 * 0.1) / 4)


def test_ties_share_a_bin() -> None:
    """A popularity ranker has few distinct scores: splitting one over bins would depend on the order of rows."""
    found = reliability(np.array([0.0, 0, 1, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.9]), bins=3)
    assert [b.n for b in found] == [5, 1]


@pytest.mark.parametrize("kind", ["mass", "width"])
@pytest.mark.parametrize("n", [1_000, 5_000])
def test_debiasing_takes_off_what_chance_adds(kind: str, n: int) -> None:
    """Of a perfect model the plain error is far from 0, so a limit on it would punish small test days."""
    logs = [drawn(n, 0.0, seed) for seed in range(200)]
    biased = [plain(y, p, kind=kind) for y, p in logs]
    assert np.mean(biased) == pytest.approx(np.mean([ece_by_chance(p, kind=kind) for _, p in logs]), rel=0.1)  # type: ignore[arg-type]
    debiased = [sound(calibration_error(y, p, kind=kind, settings=GATE)) for y, p in logs]  # type: ignore[arg-type]
    assert np.median([e.value for e in debiased]) < 0.5 * np.mean(biased)
    assert np.mean([e.low > 0 for e in debiased]) <= 0.06, "a perfect model is told off"


@pytest.mark.parametrize("shift", [-0.04, 0.03, 0.06])
@pytest.mark.parametrize("rows_per_user", [1, 10])
def test_the_interval_covers_a_true_error(shift: float, rows_per_user: int) -> None:
    """Nominal 95 % intervals hold a uniform miscalibration about 95 times in 100, a user's rows alike or not."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(3_000 // rows_per_user), rows_per_user)
        p = 0.1 + 0.6 * rng.beta(1, 5, len(users))
        # A user's mood moves all their clicks, and averages out over users: the scores stay calibrated but for a shift.
        mood = rng.choice([-0.05, 0.05], len(users))[users] if rows_per_user > 1 else 0.0
        y = (rng.random(len(users)) < p + mood).astype(float)
        found = sound(calibration_error(y, p + shift, settings=GATE, clusters=users))
        held += found.low <= abs(shift) <= found.high
    assert 0.915 <= held / 200 <= 0.985


@pytest.mark.parametrize("model", ["calibrated", "a third too high", "too steep", "three times", "almost none"])
@pytest.mark.parametrize(
    "world",
    [
        ClickWorld(0.02, 1.5, 2_000, 10),
        ClickWorld(0.2, 2.0, 200, 50),
        ClickWorld(0.05, 0.5, 2_000, 1),
        ClickWorld(0.05, 1.0, 400, 20, even=False),
    ],
    ids=str,
)
def test_error_and_ratio_hold_the_truth_where_users_differ(world: ClickWorld, model: str) -> None:
    """Rows of a user fall into several bins: taken as independent there, 95 % intervals held 58 to 90 %."""
    error, ratio, logs = 0, 0, 100
    for seed in range(logs):
        log = world.draw(seed)
        p = MODELS[model](log.p)
        found = sound(calibration_error(log.clicked, p, settings=GATE, clusters=log.users))
        error += found.low <= true_error(world, model) <= found.high
        found = sound(calibration_ratio(log.clicked, p, settings=GATE, clusters=log.users))
        ratio += found.low <= true_ratio(world, model) <= found.high
    assert error / logs >= 0.88  # a true error near 0 is held by more
    assert 0.88 <= ratio / logs <= 0.995


def test_a_ratio_by_hand() -> None:
    """Of each four rows two are clicked and one is expected: half as many are predicted as come."""
    labels, scores = np.tile([0.0, 1, 0, 1], 10), np.tile([0.1, 0.2, 0.3, 0.4], 10)
    found = sound(calibration_ratio(labels, scores, settings=GATE))
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high
    assert sound(calibration_ratio(labels, 0 * scores, settings=GATE)) == Estimate(0.0, 0.0, 0.0, 0.0, 40, 40.0)


@given(factor=st.floats(0.01, 1.0), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_a_ratio_scales_with_the_predictions(factor: float, seed: int) -> None:
    """Ends and all: what is known of the clicks does not depend on what was predicted."""
    labels, scores = drawn(500, 0.0, seed)
    users = np.arange(500) // 5
    whole, part = (
        sound(calibration_ratio(labels, s, settings=GATE, clusters=users)) for s in (scores, factor * scores)
    )
    np.testing.assert_allclose(
        [part.value, part.low, part.high], factor * np.array([whole.value, whole.low, whole.high])
    )


def test_a_ratio_without_clicks_says_what_was_predicted() -> None:
    """Three clicks expected and none come is news, but no figure; one that comes is a very vague figure."""
    found = calibration_ratio(np.zeros(300), np.full(300, 0.01), settings=GATE)
    assert isinstance(found, Refusal)
    assert found.reason == "a calibration ratio needs clicks; found none of 300 rows, where 3.0 were predicted"
    vague = sound(calibration_ratio(np.eye(300)[0], np.full(300, 0.01), settings=GATE))
    assert vague.low < 0.1 < 3 < 90 < vague.high


CLEARS = {
    "calibrated": (0.95, 1.0),
    "three times": (0.0, 0.0),
    "almost none": (0.0, 0.0),
    "a third too high": (0, 0.05),
}


@pytest.mark.parametrize("world", [ClickWorld(0.02, 1.0, 3_000, 20), ClickWorld(0.12, 1.0, 2_400, 15)], ids=str)
@pytest.mark.parametrize("model", CLEARS)
def test_the_gate_clears_a_calibrated_model_and_none_that_is_off_by_a_third(world: ClickWorld, model: str) -> None:
    """At 2 % and at 12 % clicked, by default: an absolute limit of 0.05 let three times the clicks by, and none."""
    low, high = CLEARS[model]
    assert low <= np.mean([cleared(world.draw(seed), model) for seed in range(20)]) <= high


def test_a_small_log_holds_even_a_calibrated_model() -> None:
    """100 clicks are 20 % more or less: whether the level is right cannot be seen, and is not taken on trust."""
    world = ClickWorld(0.02, 1.0, 500, 10)
    assert not any(cleared(world.draw(seed), "calibrated") for seed in range(20))


@pytest.mark.parametrize("kind", ["mass", "width"])
def test_the_plain_errors_interval_holds_its_mean(kind: str) -> None:
    """It is of the biased figure: the mean of logs of the same size, where bins are truly off."""
    found = [sound(ece(*drawn(3_000, 0.05, seed), kind=kind, settings=GATE)) for seed in range(200)]  # type: ignore[arg-type]
    truth = np.mean([e.value for e in found])
    assert 0.91 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.985


def test_reliability_intervals_hold_the_true_rate() -> None:
    """What is drawn as an error bar must be one."""
    held, n = 0, 0
    for seed in range(40):
        for b in reliability(*drawn(2_000, 0.0, seed)):
            held, n = held + (b.low <= b.predicted <= b.high), n + 1
    assert 0.93 <= held / n <= 0.975


def test_what_calibration_cannot_carry() -> None:
    """No rows is a finding, a score above 1 is an error of the caller."""
    assert isinstance(calibration_error(np.zeros(0), np.zeros(0), settings=GATE), Refusal)
    assert isinstance(calibration_error(np.ones(2), np.ones(2), settings=GATE, clusters=np.zeros(2, int)), Refusal)
    assert isinstance(calibration_ratio(np.zeros(0), np.zeros(0), settings=GATE), Refusal)
    assert isinstance(calibration_ratio(np.ones(2), np.ones(2), settings=GATE, clusters=np.zeros(2, int)), Refusal)
    assert isinstance(ece(np.zeros(0), np.zeros(0), settings=GATE), Refusal)
    assert reliability(np.zeros(0), np.zeros(0)) == []
    with pytest.raises(ValueError, match=r"scores in \[0, 1\]; found 0.5 to 1.5"):
        calibration_error(np.array([0.0, 1]), np.array([0.5, 1.5]), settings=GATE)
    with pytest.raises(ValueError, match="at least 1 bin; found 0"):
        ece(np.array([0.0, 1]), np.array([0.5, 0.5]), bins=0, settings=GATE)
