"""Experiment readouts: right differences, honest error rates, refusals where the data carries nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.estimate import Estimate, Refusal
from models.experiments.rates import difference_of_rates


def simulate(rng: np.random.Generator, lift: float, by_user: bool, users: int = 150) -> dict[str, np.ndarray]:
    """Users who differ a lot in how often they come and how often they click."""
    visits = rng.geometric(0.15, users)
    user = np.repeat(np.arange(users), visits)
    rate = rng.beta(0.5, 2.0, users)[user]
    variant = (rng.random(users) < 0.4)[user] if by_user else rng.random(len(user)) < 0.4
    clicked = rng.random(len(user)) < np.clip(rate + lift * variant, 0, 1)
    return {"successes": clicked.astype(float), "trials": np.ones(len(user)), "variant": variant, "users": user}


@pytest.mark.parametrize("by_user", [True, False])
def test_an_a_a_experiment_raises_its_hand_as_often_as_promised(by_user: bool) -> None:
    """Treating requests as independent would call every third A/A of such users a success."""
    rng = np.random.default_rng(3)
    misses = 0
    for _ in range(600):
        found = difference_of_rates(**simulate(rng, 0.0, by_user), confidence=0.9)["difference"]
        assert isinstance(found, Estimate)
        misses += not found.low <= 0.0 <= found.high
    assert 0.063 < misses / 600 < 0.137  # 3 binomial standard errors around 0.1


def test_requests_taken_as_independent_would_lie() -> None:
    """The simulation above is hard enough to tell: without users the same A/A misses far too often."""
    rng = np.random.default_rng(4)
    misses = 0
    for _ in range(200):
        drawn = simulate(rng, 0.0, by_user=True)
        drawn["users"] = np.arange(len(drawn["users"]))
        found = difference_of_rates(**drawn, confidence=0.9)["difference"]
        misses += not found.low <= 0.0 <= found.high
    assert misses / 200 > 0.18


def test_a_real_lift_is_found_and_covered() -> None:
    rng = np.random.default_rng(5)
    found = difference_of_rates(**simulate(rng, 0.2, by_user=True, users=3000), confidence=0.99)["difference"]
    assert isinstance(found, Estimate)
    assert found.low > 0.1
    assert found.low <= 0.2 * 0.95 <= found.high  # clipping at 1 eats a little of the lift


def test_hand_computed() -> None:
    """Two users an arm, one request each: the classical Welch interval of two means."""
    found = difference_of_rates(
        successes=np.array([0.0, 1.0, 1.0, 3.0]),
        trials=np.ones(4),
        variant=np.array([False, False, True, True]),
        users=np.arange(4),
        confidence=0.95,
    )
    difference = found["difference"]
    assert isinstance(difference, Estimate)
    assert difference.value == pytest.approx(1.5)
    assert difference.stderr == pytest.approx(np.sqrt(0.5 / 2 + 2.0 / 2))
    assert difference.n == 4
    assert difference.effective_n == 4


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_order_arms_and_scale(seed: int, scale: float) -> None:
    """Row order means nothing; swapping arms flips the sign; scaling successes scales the estimate."""
    rng = np.random.default_rng(seed)
    drawn = simulate(rng, 0.1, by_user=True, users=30)
    base = difference_of_rates(**drawn, confidence=0.9)["difference"]
    if isinstance(base, Refusal):
        return
    order = rng.permutation(len(drawn["users"]))
    shuffled = difference_of_rates(**{k: v[order] for k, v in drawn.items()}, confidence=0.9)["difference"]
    swapped = difference_of_rates(**{**drawn, "variant": ~drawn["variant"]}, confidence=0.9)["difference"]
    scaled = difference_of_rates(**{**drawn, "successes": scale * drawn["successes"]}, confidence=0.9)["difference"]
    assert (shuffled.value, shuffled.low) == pytest.approx((base.value, base.low))
    assert (swapped.value, swapped.low) == pytest.approx((-base.value, -base.high))
    assert (scaled.value, scaled.stderr) == pytest.approx((scale * base.value, scale * base.stderr))


@pytest.mark.parametrize(
    ("successes", "variant", "users", "reason"),
    [
        ([1, 0, 1], [False] * 3, [0, 1, 2], "variant: a rate needs trials"),
        ([1, 0, 1, 0], [False, False, True, True], [0, 1, 2, 2], "variant: an interval needs at least 2 users"),
        ([0, 0, 1, 0], [False, False, True, True], [0, 1, 2, 3], "control: an interval needs users who differ"),
        ([], [], [], "control: a rate needs trials"),
    ],
)
def test_refusals_say_why(successes: list[int], variant: list[bool], users: list[int], reason: str) -> None:
    """An interval of width zero from an arm without clicks would look like certainty."""
    found = difference_of_rates(
        successes=np.array(successes, float),
        trials=np.ones(len(users)),
        variant=np.array(variant, bool),
        users=np.array(users, np.int64),
        confidence=0.95,
    )["difference"]
    assert isinstance(found, Refusal)
    assert reason in found.reason


def test_wrong_shapes_and_values_raise() -> None:
    good = simulate(np.random.default_rng(0), 0.0, by_user=True, users=5)
    for wrong in ({"users": np.arange(2)}, {"trials": -good["trials"]}, {"successes": good["successes"] * np.nan}):
        with pytest.raises(ValueError, match="an experiment needs"):
            difference_of_rates(**{**good, **wrong}, confidence=0.9)
