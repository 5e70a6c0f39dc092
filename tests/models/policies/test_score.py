"""One score for choice, replay and serving: what is weighed, and what cannot be."""

import numpy as np
import pytest

from jobs.config import Config
from models.policies.score import score
from models.rankers.protocol import Predictions
from models.settings import OutcomeSettings, PolicySettings

SAID = Predictions(np.array([0.2, 0.1]), np.array([0.05, 0.5]), {"like": np.array([0.0, 0.9])})


def by(**weights: float) -> np.ndarray:
    return score(SAID, PolicySettings(score_weights=weights))


def test_by_default_it_is_the_click_to_the_last_bit() -> None:
    """Bundles from before there were weights go on as they were judged."""
    assert score(SAID, PolicySettings()) is SAID.p_click
    assert by(click=3.0) is SAID.p_click


def test_it_is_the_mean_of_probabilities_by_weight() -> None:
    """Of impressions: a conversion's is p(click) times p(conversion | click), so a score stays in [0, 1]."""
    np.testing.assert_allclose(by(click=1.0, conversion=9.0), [(0.2 + 9 * 0.01) / 10, (0.1 + 9 * 0.05) / 10])
    np.testing.assert_allclose(by(like=2.0), [0.0, 0.9])
    np.testing.assert_allclose(by(click=2.0, conversion=20.0), by(click=0.1, conversion=1.0))


def test_an_outcome_that_was_not_learned_has_no_say() -> None:
    """The fallback knows of no likes, and must answer all the same."""
    np.testing.assert_array_equal(by(click=1.0, conversion=1.0, share=5.0), by(click=1.0, conversion=1.0))
    assert by(share=5.0) is SAID.p_click


@pytest.mark.parametrize("weights", [{}, {"click": 0.0}, {"click": -1.0, "conversion": 2.0}, {"click": float("inf")}])
def test_weights_that_weigh_nothing_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="score_weights"):
        PolicySettings(score_weights=weights)


def test_only_probabilities_are_weighed() -> None:
    """Seconds beside probabilities would be all of the score; and a name nobody declared is a slip of the pen."""
    outcomes = {"like": OutcomeSettings(), "watch": OutcomeSettings(kind="value")}
    assert Config(outcomes=outcomes, policy=PolicySettings(score_weights={"like": 1.0})).policy.score_weights
    for name in ("watch", "likes"):
        with pytest.raises(ValueError, match=f"policy.score_weights: .*click, conversion, like; found {name}"):
            Config(outcomes=outcomes, policy=PolicySettings(score_weights={name: 1.0}))
