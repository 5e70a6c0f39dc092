"""The selector: right answers that are not first, ties, contradictions, refusals, and its promise in simulation."""

import numpy as np
import pytest

from models.evaluation import weighting
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.selection import slope
from models.evaluation.sufficient import SufficientStatistics
from models.evaluation.weighting import Log


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value, half / 2, value - half, value + half, 100, 50.0)


def test_the_narrowest_uncontradicted_one_is_chosen() -> None:
    """Bias shows at the third: the second is the best that none before it contradicts."""
    found = slope({"dr": estimate(1.0, 0.4), "dros": estimate(1.1, 0.2), "dm": estimate(2.0, 0.01)})
    assert (found.name, found.agreed) == ("dros", ("dr",))
    assert found.finding == Estimate(1.1, 0.1, 0.6, 1.4, 100, 50.0)
    agreeing = slope({"dr": estimate(1.0, 0.4), "dros": estimate(1.1, 0.2), "dm": estimate(1.05, 0.01)})
    assert (agreeing.name, agreeing.agreed) == ("dm", ("dr", "dros"))
    at_once = slope({"dr": estimate(1.0, 0.4), "dm": estimate(5.0, 0.01)})
    assert (at_once.name, at_once.finding) == ("dr", estimate(1.0, 0.4))


def test_agreement_with_the_last_is_not_enough() -> None:
    """Each step is small, the sum of steps is not: the walk stops where the first is contradicted."""
    steps = {"a": estimate(0.0, 1.0), "b": estimate(0.9, 0.6), "c": estimate(2.0, 0.4), "d": estimate(2.0, 0.3)}
    assert slope(steps).name == "b"


def test_wider_ties_and_refused_ones_are_passed_over() -> None:
    """More bias for no less width buys nothing; of equal widths the less biased stays; later ones still count."""
    passed = slope(
        {
            "dr": estimate(1.0, 0.3),
            "wide": estimate(9.0, 0.5),
            "tie": estimate(1.0, 0.3),
            "no": Refusal("x"),
            "dm": estimate(1.1, 0.2),
        }
    )
    assert (passed.name, passed.agreed) == ("dm", ("dr",))
    tie = slope({"dr": estimate(1.0, 0.3), "dm": estimate(1.0, 0.3)})
    assert tie.name == "dr"


def test_without_a_measure_of_bias_nothing_is_chosen() -> None:
    """Were the least biased refused and the model taken instead, every refusal would turn into a confident guess."""
    found = slope({"dr": Refusal("tails", 9, 2.0), "dm": estimate(1.0, 0.01)})
    assert found.finding == Refusal("dr, the least biased, is refused: tails", 9, 2.0)
    with pytest.raises(ValueError, match="at least one candidate; found none"):
        slope({})


@pytest.mark.parametrize("bias", [0.0, 0.02, 0.3])
def test_the_choice_is_nearly_as_good_as_hindsight(bias: float) -> None:
    """A model that is right, slightly off, far off: never far worse than DR, far better if right; the hull covers."""
    chances, target, click = np.array([0.9, 0.1]), np.array([0.1, 0.9]), np.array([0.2, 0.4])
    truth, errors, covered, runs = float(target @ click), [], 0, 200
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        action = rng.choice(2, 500, p=chances)
        reward = (rng.random(500) < click[action]).astype(float)
        log = Log.checked(reward, chances[action], target[action], click[action] + bias, np.full(500, truth + bias))
        estimators = {"dr": weighting.dr, "dros": weighting.dros(5.0), "dm": weighting.dm}
        candidates = {name: SufficientStatistics.of(e(log)).estimate() for name, e in estimators.items()}
        finding = slope(candidates).finding
        assert isinstance(finding, Estimate)
        covered += finding.low <= truth <= finding.high
        errors.append([finding.value - truth, *(c.value - truth for c in candidates.values())])
    rmse = np.sqrt((np.array(errors) ** 2).mean(axis=0))
    assert rmse[0] <= 2.5 * rmse[1]
    assert bias or rmse[0] <= 0.2 * rmse[1]
    assert covered >= 0.92 * runs
