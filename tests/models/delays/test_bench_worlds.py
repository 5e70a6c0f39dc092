"""A small version of `tests/bench/bench_delay.py`: its worlds' truth adds up, and its table tells good from bad."""

import numpy as np
import pytest

from models.delays.observed import Observed
from tests.bench.bench_delay import CALIBRATED, averaged, judged, of_seed
from tests.bench.delay_worlds import HORIZON, LAWS, TRAIN_DAYS, sample


@pytest.mark.parametrize("law", LAWS)
def test_what_is_called_true_is_true(law: str) -> None:
    """Final labels come as often as the world says, before and after the law moved; or the methods would be blamed."""
    of = sample(1, 1_500, LAWS[law])
    for side in (of.clicks.day < TRAIN_DAYS - 7, of.clicks.day >= TRAIN_DAYS - 7):
        p = of.p[side]
        assert abs(of.final[side].mean() - p.mean()) < 3.5 * np.sqrt((p * (1 - p)).sum()) / len(p)
    assert of.delay[of.final].max() <= HORIZON
    known: Observed = of.observed(np.flatnonzero(of.clicks.day < TRAIN_DAYS))
    assert known.come.sum() < of.final[of.clicks.day < TRAIN_DAYS].sum()


def test_figures_are_expectations_over_outcomes() -> None:
    """Against outcomes drawn many times."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.4, 500)
    said = np.clip(1.2 * p + 0.02 * rng.standard_normal(500), 0.01, 0.99)
    everywhere = np.zeros(500, dtype=np.int64)
    found = judged(p, said, everywhere)
    losses, higher = [], []
    for _ in range(400):
        y = rng.random(500) < p
        losses.append(-np.where(y, np.log(said), np.log1p(-said)).mean())
        higher.append((said[y][:, None] > said[~y][None]).mean())
    assert found["log_loss"] == pytest.approx(np.mean(losses), abs=0.003)
    assert found["auc"] == pytest.approx(np.mean(higher), abs=0.01)
    assert found["bias"] == pytest.approx(said.mean() / p.mean() - 1)
    assert found["ece"] == pytest.approx(said.mean() - p.mean(), rel=0.05)
    assert judged(p, p, everywhere)["ece"] == 0
    assert judged(p, p, everywhere)["log_loss"] < found["log_loss"]


def test_the_curve_follows_a_risen_rate_and_as_seen_does_not() -> None:
    """One small log: bias of the newest week, within what so few clicks can tell; of the month, once it is shifted."""
    learners = ("logistic", "xgboost")
    rows = averaged("rates rise", [of_seed("rates rise", 7, 1_500, learners)[0]])
    bias = {(row["learner"], row["rows"], row["method"]): row["bias"] for row in rows}
    for learner in learners:
        assert bias[learner, "newest", "as_seen"] < -0.15
        assert abs(bias[learner, "newest", "plug_in"] - bias[learner, "newest", "oracle"]) < 0.08
        assert min(bias[learner, "all", "plug_in"], bias[learner, "all", "oracle"]) < -0.2
        assert abs(bias[learner, "all", f"plug_in{CALIBRATED}"]) < 0.1
