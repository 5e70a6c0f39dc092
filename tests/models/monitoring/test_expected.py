"""What predictions promise: by hand, with ties, right in the mean, and blind where it says that it is."""

import numpy as np
import pytest

from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.ranking import auc
from models.monitoring.expected import expected, expected_auc, shortfall
from models.settings import GateSettings

GATE = GateSettings()


def test_the_expected_auc_of_two_rows_by_hand() -> None:
    """Clicked pairs in order .8 x .7, out of order .2 x .3; both classes with .8 x .7 + .2 x .3."""
    assert expected_auc(np.array([0.8, 0.3]), np.array([2.0, 1.0])).value == pytest.approx(0.56 / 0.62)
    assert expected_auc(np.array([0.8, 0.3]), np.array([1.0, 2.0])).value == pytest.approx(0.06 / 0.62)


def test_ties_count_half_as_in_the_auc_itself() -> None:
    """A ranker of one value orders nothing, whatever it predicts."""
    p = np.random.default_rng(0).random(50)
    assert expected_auc(p, np.zeros(50)).value == pytest.approx(0.5)
    assert expected_auc(np.full(50, 0.1), np.full(50, 0.1)).value == pytest.approx(0.5)


def test_certain_predictions_promise_what_they_say() -> None:
    y = np.array([0.0, 1.0, 0.0, 1.0])
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    found = auc(y, scores, settings=GATE)
    assert isinstance(found, Estimate)
    assert expected_auc(y, scores).value == pytest.approx(found.value)


@pytest.mark.parametrize("decimals", [1, 6])
def test_right_probabilities_keep_their_promise_at_the_level(decimals: int) -> None:
    """Users whose rows are alike, and scores full of ties: the shortfall's interval misses 0 about as often as said."""
    rng, missed, values = np.random.default_rng(3), 0, []
    for _ in range(200):
        users = np.repeat(np.arange(400), 5)
        p = 1 / (1 + np.exp(2.5 - rng.normal(size=400)[users] - 0.5 * rng.normal(size=2000)))
        y = (rng.random(2000) < p).astype(float)
        found = shortfall(y, p, 0.95, users, np.round(p, decimals))["auc"]
        assert isinstance(found, Estimate)
        missed += not found.low <= 0 <= found.high
        values.append(found.value)
    assert missed / 200 < 0.09
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200) + 1e-3


def test_a_stale_model_promises_as_much_and_falls_short() -> None:
    """The assumption: what it cannot see it cannot promise less for. Labels show it."""
    rng = np.random.default_rng(4)
    p = 1 / (1 + np.exp(2.5 - rng.normal(size=20_000)))
    y = (rng.random(20_000) < rng.permutation(p)).astype(float)
    promised = expected(p, 0.95).auc
    assert isinstance(promised, Estimate)
    assert promised.value > 0.7
    found = shortfall(y, p, 0.95)
    assert isinstance(found["auc"], Estimate)
    assert isinstance(found["log_loss"], Estimate)
    assert found["auc"].high < -0.15
    assert found["log_loss"].low > 0.01


def test_what_is_no_probability_is_an_error_and_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="predictions in"):
        expected(np.array([0.2, 1.2]), 0.95)
    assert isinstance(expected(np.zeros(0), 0.95).auc, Refusal)
    assert isinstance(shortfall(np.zeros(3), np.full(3, 0.1), 0.95)["auc"], Refusal)
