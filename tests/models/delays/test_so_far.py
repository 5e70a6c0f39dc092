"""Conversions before they close: right on average, intervals that hold the truth, and what moving delays do to them."""

from dataclasses import replace

import numpy as np
import pytest

from models.delays.curve import DelayCurve
from models.delays.so_far import FIGURES_SO_FAR, value_so_far
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.value import value_of
from tests.models.delays.late_world import LateWorld
from tests.models.delays.so_far_world import LAWS, SETTINGS, TRUE, Told, world

WORLDS = 60


@pytest.fixture(scope="module")
def told() -> dict[str, list[Told]]:
    return {name: [world(seed, law) for seed in range(WORLDS)] for name, law in LAWS.items() if name != "young"}


def figures(told: list[Told], name: str) -> tuple[list[Estimate], np.ndarray]:
    found = [of.found.findings[name] for of in told]
    assert all(isinstance(one, Estimate) for one in found)
    return [one for one in found if isinstance(one, Estimate)], np.array([of.truth[name] for of in told])


def held(told: list[Told], name: str) -> float:
    found, truth = figures(told, name)
    return float(np.mean([one.low <= true <= one.high for one, true in zip(found, truth, strict=True)]))


@pytest.mark.parametrize("law", ["stable", "delays by group"])
def test_it_is_right_where_delays_stay_and_its_intervals_hold_the_truth(told: dict[str, list[Told]], law: str) -> None:
    """What has been heard of is a third to a half too little; the curve makes it whole, for both sides and the logs."""
    for name in TRUE:
        found, truth = figures(told[law], name)
        assert held(told[law], name) > 0.9, name
        values = np.array([one.value for one in found])
        assert abs((values - truth).mean()) < 3.5 * (values - truth).std() / np.sqrt(WORLDS), name
        seen = np.mean([of.as_seen[name] for of in told[law]])
        assert seen < 0.75 * truth.mean(), name
    assert np.mean([of.found.drifted for of in told[law]]) <= 0.05


def test_where_delays_stretch_it_warns_widens_and_still_compares(told: dict[str, list[Told]]) -> None:
    """Levels come out too low, of which the interval knows a part; the difference keeps its coverage: both sides err
    alike.
    """
    stretched, stable = told["delays stretch"], told["stable"]
    assert np.mean([of.found.drifted for of in stretched]) > 0.3
    assert held(stretched, "difference") > 0.9
    assert held(stretched, "against_logging") > 0.9
    assert 0.65 < held(stretched, "challenger") < 0.95

    def width(told: list[Told], name: str) -> float:
        return float(np.mean([(one.high - one.low) / one.value for one in figures(told, name)[0]]))

    assert width(stretched, "challenger") > 1.2 * width(stable, "challenger")


def test_closed_labels_are_the_closed_figure() -> None:
    """What `reevaluate` finds: the same estimator, with nothing left to be read by a curve."""
    told = world(3, LAWS["stable"])
    choices, _, group, curve = told.asked
    closed = value_so_far(choices, np.full(len(choices), np.inf), group, curve, None, SETTINGS)
    plain = value_of(choices, SETTINGS)
    for name in ("champion", "challenger", "difference", "against_logging"):
        assert closed.findings[name] == plain.of(name)
    assert closed.findings["logging"] == plain.logging
    assert closed.seen == 1.0


def test_too_young_decisions_are_refused_whatever_came() -> None:
    """Whether a decision counts is told by its age alone."""
    told = world(3, LAWS["stable"])
    choices, age, group, curve = told.asked
    young = np.where(np.arange(len(age)) % 2 == 0, 0.0, age)
    found = value_so_far(choices, young, group, curve, None, SETTINGS)
    for name in FIGURES_SO_FAR:
        refused = found.findings[name]
        assert isinstance(refused, Refusal)
        assert "at least 90% of 4000; found 2000" in refused.reason
    half = value_so_far(choices, young, group, curve, None, SETTINGS.model_copy(update={"min_known_share": 0.4}))
    assert half.counted.sum() == 2_000
    all_came = replace(choices, reward=np.ones(len(choices)))
    same = value_so_far(all_came, young, group, curve, None, SETTINGS.model_copy(update={"min_known_share": 0.4}))
    assert np.array_equal(half.counted, same.counted)


def test_the_error_of_the_curve_is_what_drawing_it_again_does() -> None:
    """Of a sum over ages, whose errors go together: its standard deviation over curves of the same law, to 15 %."""
    rng = np.random.default_rng(0)
    age, effect, group = rng.uniform(0.3, 7.5, 60), rng.standard_normal(60) + 0.5, rng.integers(0, 2, 60)
    curves = [DelayCurve.fit(LateWorld(seed, rows=4_000, slow=2.0).observed) for seed in range(200)]
    sums = [float(effect @ np.log(curve.seen(age, group))) for curve in curves]
    errors = [curve.variance(effect, age, group) ** 0.5 for curve in curves]
    assert np.mean(errors) == pytest.approx(np.std(sums), rel=0.15)
