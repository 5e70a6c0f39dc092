"""Arms of heuristics chosen from logs: the better one is found, and how often a worse one is stays below the risk."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.thompson import chances, drawn
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


def of(value: float, stderr: float) -> Estimate:
    return Estimate(value, stderr, value - 2 * stderr, value + 2 * stderr, 100, 100.0)


def test_chances_are_those_of_the_beliefs() -> None:
    """By hand for one arm, by a million draws for several; a refused one has none, and they add up to 1."""
    assert chances({"a": of(0.2, 0.1)}, PRESENT) == pytest.approx({PRESENT: norm.cdf(-2), "a": norm.cdf(2)})
    assert chances({"a": Refusal("few"), "b": Refusal("few")}, PRESENT) == {PRESENT: 1.0, "a": 0.0, "b": 0.0}
    gains = {"a": of(0.1, 0.2), "b": of(0.2, 0.05), "c": of(-0.1, 0.3), "d": of(-9.0, 0.1), "e": of(0.15, 0.001)}
    found = chances({**gains, "f": Refusal("few")}, PRESENT)
    assert sum(found.values()) == pytest.approx(1)
    assert found["f"] == 0.0
    rng = np.random.default_rng(1)
    drawn_gains = [np.zeros(1_000_000), *(rng.normal(of.value, of.stderr, 1_000_000) for of in gains.values())]
    share = np.bincount(np.argmax(drawn_gains, axis=0), minlength=6) / 1_000_000
    assert [found[name] for name in (PRESENT, *gains)] == pytest.approx(share, abs=0.003)


def test_an_arm_is_drawn_as_often_as_its_propensity_says_and_again_by_the_same_name() -> None:
    likely = {PRESENT: 0.5, "a": 0.3, "b": 0.0, "c": 0.2}
    arms = [drawn(likely, f"day {n}") for n in range(20_000)]
    assert arms == [drawn(likely, f"day {n}") for n in range(20_000)]
    shares = {name: arms.count(name) / len(arms) for name in likely}
    assert shares == pytest.approx(likely, abs=0.02)
    assert shares["b"] == 0.0


def test_what_is_drawn_is_the_better_the_longer_the_log() -> None:
    """Of few pages any arm may be drawn, of many the best almost always; where none is better each has its turn."""
    best = max(WORLD.values, key=WORLD.values.__getitem__)
    few, many = (tuned(**WORLD.log(pages, seed=1), settings=SETTINGS).chances for pages in (600, 60_000))
    assert few[best] < many[best]
    assert many[best] > 0.95
    assert many["more tea"] < 0.001
    idle = [tuned(**NOTHING.log(1_500, seed), settings=SETTINGS).chances for seed in range(40)]
    mean = {name: float(np.mean([one[name] for one in idle])) for name in ARMS}
    assert max(mean.values()) < 0.45, mean


def test_a_gain_that_is_not_worth_having_is_none() -> None:
    """`gate.min_lift`, a share of what the present arm earns."""
    log = WORLD.log(60_000, seed=1)
    assert tuned(**log, settings=SETTINGS.model_copy(update={"min_lift": 0.5})).chosen == PRESENT


def test_tuning_without_another_arm_is_refused() -> None:
    log = WORLD.log(10, seed=1)
    for arms in ({PRESENT: log["arms"][PRESENT]}, {"diverse": log["arms"]["diverse"]}):
        with pytest.raises(ValueError, match="tuning needs the present policy, present, and another; found"):
            tuned(**{**log, "arms": arms}, settings=SETTINGS)
