"""The second opinion: right and much narrower where kinds tell everything, and its distance tells where they do not."""

import numpy as np
import pytest

from models.evaluation.choices import Choices
from models.evaluation.estimate import Estimate
from models.evaluation.linear import Linear
from models.evaluation.marginal import kinds, marginal_difference
from models.evaluation.value import Value, value_of
from models.settings import GateSettings

GATE = GateSettings(min_effective_n=50)
DECISIONS, CANDIDATES, EPSILON, WORLDS = 4_000, 8, 0.2, 80


def log(seed: int, known_to_logger: float) -> tuple[Choices, float]:
    """Decisions of an epsilon-greedy policy and the true gain of one of two others; with what only the logger knows.

    A click's log-odds are what both sides see through noise, plus `known_to_logger` times what the logging policy chose
    by, the challenger sees a little of and the champion nothing: then what was shown often is better than its kind.
    """
    rng = np.random.default_rng([seed, 17])
    shape = (DECISIONS, CANDIDATES)
    seen, hidden, shared = (rng.normal(size=shape) for _ in range(3))
    p = 1 / (1 + np.exp(-(-2.0 + 0.7 * seen + known_to_logger * hidden)))
    scores = {
        "champion": 0.7 * seen + 0.5 * shared + 0.3 * rng.normal(size=shape),
        "challenger": 0.7 * seen + 0.4 * shared + 0.3 * rng.normal(size=shape) + 0.4 * known_to_logger * hidden,
        "logging": 0.5 * seen + 1.0 * hidden,
    }
    chosen = {name: _epsilon_greedy(score) for name, score in scores.items()}
    shown = (chosen["logging"].cumsum(axis=1) > rng.random((DECISIONS, 1))).argmax(axis=1)
    rows = np.arange(DECISIONS)
    taken = np.zeros(shape, bool)
    taken[rows, shown] = True
    choices = Choices(
        offsets=np.arange(DECISIONS + 1) * CANDIDATES,
        taken=taken.ravel(),
        reward=(rng.random(DECISIONS) < p[rows, shown]).astype(float),
        logged=chosen["logging"][rows, shown],
        chosen={side: chosen[side].ravel() for side in ("champion", "challenger")},
        predicted={side: 1 / (1 + np.exp(2.2 - scores[side].ravel())) for side in ("champion", "challenger")},
        users=rows,
        items=np.tile(np.arange(CANDIDATES), DECISIONS),
        days=np.zeros(DECISIONS, np.int64),
    )
    return choices, float(((chosen["challenger"] - chosen["champion"]) * p).sum() / DECISIONS)


def _epsilon_greedy(score: np.ndarray) -> np.ndarray:
    return EPSILON / CANDIDATES + (1 - EPSILON) * (score == score.max(axis=1, keepdims=True))


def told(seed: int, known_to_logger: float) -> tuple[Value, float]:
    choices, gain = log(seed, known_to_logger)
    return value_of(choices, GATE), gain


def holds(found: object, truth: float) -> bool:
    return isinstance(found, Estimate) and found.low <= truth <= found.high


@pytest.fixture(scope="module")
def honest() -> list[tuple[Value, float]]:
    """What the logger knows is what the sides know: kinds tell everything."""
    return [told(seed, 0.0) for seed in range(WORLDS)]


def test_where_kinds_tell_everything_it_is_right_and_needs_a_fifth_of_the_decisions(
    honest: list[tuple[Value, float]],
) -> None:
    """80 logs: 95 % intervals hold the truth in at least 88 %, variances are a fifth of the unbiased estimator's."""
    assert np.mean([holds(found.marginal["difference"], gain) for found, gain in honest]) >= 0.88
    errors = [
        (one.stderr, other.stderr)
        for found, _ in honest
        if isinstance(one := found.marginal["difference"], Estimate)
        and isinstance(other := found.of("difference"), Estimate)
    ]
    assert len(errors) >= 0.9 * WORLDS
    assert np.median([(ours / theirs) ** 2 for ours, theirs in errors]) < 0.2


def test_there_its_distance_to_the_unbiased_estimate_is_none(honest: list[tuple[Value, float]]) -> None:
    """The interval of the distance holds 0 in at least 88 % of 80 logs."""
    assert np.mean([holds(found.marginal["apart"], 0.0) for found, _ in honest]) >= 0.88


def test_where_the_logging_policy_knew_more_it_is_biased_and_the_distance_tells_by_how_much() -> None:
    """Over 80 logs the mean distance is the bias, which is many standard errors of that mean away from 0.

    Where the weights carry no value there is no distance, and the second opinion stands alone.
    """
    found = [told(seed, 1.5) for seed in range(WORLDS)]
    off, apart = [], []
    for value, gain in found:
        one, distance = value.marginal["difference"], value.marginal["apart"]
        if isinstance(one, Estimate) and isinstance(distance, Estimate):
            off.append(one.value - gain)
            apart.append(distance.value)
    bias, error = float(np.mean(off)), float(np.std(off) / np.sqrt(len(off)))
    assert abs(bias) > 4 * error
    assert abs(np.mean(apart) - bias) < 4 * float(np.std(apart) / np.sqrt(len(apart)))


def test_its_influence_is_its_derivative() -> None:
    """A decision more moves it as its influence says: the jackknife agrees, levels held as they are."""
    choices, _ = log(3, 0.0)
    choices = choices.where(np.arange(400))
    expected = np.full(len(choices.items), 0.1)
    whole: Linear = marginal_difference(choices, expected)
    without = [
        marginal_difference(choices.where(np.arange(400) != i), expected[choices.row != i]).value for i in range(60)
    ]
    moved = 399 * (whole.value - np.array(without)) / 400
    assert whole.influence.sum() == pytest.approx(0.0, abs=1e-12)
    assert moved == pytest.approx(whole.influence[:60], abs=0.05 * np.abs(whole.influence).max())


def test_every_level_has_decisions_to_tell_it() -> None:
    """Levels are of what was shown: about as many in each, of a side with few just one."""
    choices, _ = log(4, 0.0)
    expected = choices.predicted["champion"]
    shown = kinds(choices, expected)[choices.shown]
    counts = np.bincount(shown)
    assert counts[counts > 0].min() >= 40
    few = choices.where(np.arange(60))
    assert len(np.unique(kinds(few, expected[:480]))) <= 3
