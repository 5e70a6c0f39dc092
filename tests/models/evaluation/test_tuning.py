"""Arms of heuristics chosen from logs: the better one is found, and how often a worse one is stays below the risk."""

import numpy as np
import pytest
from scipy.stats import binom

from models.evaluation.estimate import Estimate
from models.evaluation.tuning import tuned
from models.settings import GateSettings
from tests.models.evaluation.tuning_world import ARMS, PRESENT, TuningWorld

SETTINGS = GateSettings()
WORLD, NOTHING = TuningWorld(seed=3), TuningWorld(seed=3, tired=1.0, alike=True)


def test_the_world_has_better_and_worse_arms_and_the_other_none() -> None:
    """Or what follows would show nothing."""
    gains = {name: value - WORLD.values[PRESENT] for name, value in WORLD.values.items()}
    assert gains["diverse"] > 0.01
    assert gains["more tea"] < 0
    assert np.ptp(list(NOTHING.values.values())) == pytest.approx(0, abs=1e-12)


def test_the_better_arm_is_found_without_having_been_shown() -> None:
    found = tuned(**WORLD.log(60_000, seed=1), settings=SETTINGS)
    best = max(WORLD.values, key=WORLD.values.__getitem__)
    assert found.chosen == best
    assert best in found.why
    for name, of in found.arms.items():
        assert isinstance(of.difference, Estimate)
        truth = WORLD.values[name] - WORLD.values[PRESENT]
        assert abs(of.difference.value - truth) < 4 * of.difference.stderr
        assert of.places == 3


def test_few_pages_leave_the_present_one() -> None:
    found = tuned(**WORLD.log(300, seed=2), settings=SETTINGS)
    assert found.chosen == PRESENT
    assert all(name in found.why for name in ARMS if name != PRESENT)


def test_weights_that_cannot_carry_an_estimate_choose_nothing() -> None:
    """An arm that the logging policy hardly ever drew earns, on paper, whatever chance gave those pages."""
    log = WORLD.log(5_000, seed=4)
    lucky = (log["reward"] == 1) & (np.arange(len(log["reward"])) % 500 < 3)
    log["arms"] = {PRESENT: log["arms"][PRESENT], "lucky": np.where(lucky, 1.0, 1e-6)}
    found = tuned(**log, settings=SETTINGS)
    assert found.chosen == PRESENT
    assert "lucky is refused" in found.why


def test_where_no_arm_is_better_one_is_chosen_as_seldom_as_the_risk_says() -> None:
    """Four arms share (1 - confidence) / 2; `bench_surfaces` counts thousands."""
    logs = 100
    chosen = sum(tuned(**NOTHING.log(1_500, seed), settings=SETTINGS).chosen != PRESENT for seed in range(logs))
    assert chosen <= binom.ppf(0.999, logs, (1 - SETTINGS.confidence) / 2)


def test_a_gain_that_is_not_worth_having_is_none() -> None:
    """`gate.min_lift`, a share of what the present arm earns."""
    log = WORLD.log(60_000, seed=1)
    assert tuned(**log, settings=SETTINGS.model_copy(update={"min_lift": 0.5})).chosen == PRESENT


def test_tuning_without_another_arm_is_refused() -> None:
    log = WORLD.log(10, seed=1)
    for arms in ({PRESENT: log["arms"][PRESENT]}, {"diverse": log["arms"]["diverse"]}):
        with pytest.raises(ValueError, match="tuning needs the present policy, present, and another; found"):
            tuned(**{**log, "arms": arms}, settings=SETTINGS)
