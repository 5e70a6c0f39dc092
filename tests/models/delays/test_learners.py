"""One loss, three kinds of learner: logistic regression, trees and torch take the same `Targets`."""

import numpy as np
import pytest
import torch
import xgboost as xgb

from models.delays.autograd import loss
from models.delays.curve import DelayCurve
from models.delays.methods import as_seen, fake_negatives, plug_in
from models.delays.observed import Floats
from models.delays.targets import Targets, sigmoid
from models.rankers.labels import Label
from models.rankers.lbfgs import Design, minimise
from models.settings import LogisticSettings
from tests.models.delays.late_world import DAYS, LateWorld
from tests.models.delays.test_methods import newton

WORLD = LateWorld(5, rows=20_000)
CURVE = DelayCurve.fit(WORLD.observed)
NEWEST = np.flatnonzero(WORLD.observed.age < DAYS / 4)
TARGETS = plug_in(WORLD.observed, CURVE).take(NEWEST)


def start(targets: Targets) -> Floats:
    return np.array([np.log(targets.rate() / (1 - targets.rate())), 0.0])


@pytest.mark.parametrize("targets", [TARGETS, as_seen(WORLD.observed), fake_negatives(WORLD.observed)])
def test_the_logistic_head_finds_the_minimum(targets: Targets) -> None:
    """L-BFGS in single precision ends where Newton's method does, on a loss that is not the log-loss too."""
    numbers = WORLD.x[targets.rows, None].astype(np.float32)
    design = Design(numbers, np.zeros((len(targets), 0), np.int32), ())
    found = minimise(design, targets, start(targets), 0.0, LogisticSettings().steps)
    asked = np.linspace(-2, 2, 5)
    assert sigmoid(found[0] + found[1] * asked) == pytest.approx(newton(WORLD.x)(targets)(asked), rel=2e-3)


def test_where_all_was_to_be_seen_it_is_the_log_loss() -> None:
    """To what single precision can tell: a ranker that waits learns what it always learned."""
    targets = as_seen(WORLD.observed)
    design = Design(WORLD.x[:, None].astype(np.float32), np.zeros((len(targets), 0), np.int32), ())
    weights = torch.tensor([-1.3, 0.6], dtype=torch.float64)
    value, slope = design.loss(targets)(weights)
    plain, plain_slope = design.loss(Label(targets.rows, targets.label, targets.weight))(weights)
    assert value == pytest.approx(plain, rel=1e-6)
    assert slope.numpy() == pytest.approx(plain_slope.numpy(), abs=1e-7)


def boosted(targets: Targets) -> Floats:
    """P of every row of `WORLD`, from trees on the rows of `targets`."""
    matrix = xgb.DMatrix(WORLD.x[targets.rows, None])
    parameters = {
        "objective": "binary:logistic",
        "base_score": targets.rate(),
        "max_depth": 2,
        "eta": 0.3,
        "nthread": 1,
    }
    booster = xgb.train(parameters, matrix, 30, obj=lambda z, _: targets.at(z.astype(np.float64))[1:])
    return booster.inplace_predict(WORLD.x[:, None]).astype(np.float64)


def test_trees_take_it_as_an_objective() -> None:
    """On the newest week p x F is right on average where the same trees fed with what was seen are far short."""
    truth = WORLD.p.mean()
    assert boosted(TARGETS).mean() / truth == pytest.approx(1, abs=0.06)
    assert boosted(as_seen(WORLD.observed).take(NEWEST)).mean() / truth < 0.85
    assert np.corrcoef(boosted(TARGETS), WORLD.p)[0, 1] > 0.95


def test_trees_with_nothing_hidden_are_the_product_objective() -> None:
    """The custom objective is binary:logistic where F is 1."""
    targets = as_seen(WORLD.observed)
    parameters = {
        "objective": "binary:logistic",
        "base_score": targets.rate(),
        "max_depth": 2,
        "eta": 0.3,
        "nthread": 1,
    }
    plain = xgb.train(parameters, xgb.DMatrix(WORLD.x[:, None], label=targets.label), 30)
    assert boosted(targets) == pytest.approx(plain.inplace_predict(WORLD.x[:, None]), abs=1e-4)


def test_torch_gradients_are_the_slopes() -> None:
    """Through a network, a weighted mean, and minibatches that add up to the whole."""
    some = TARGETS.take(np.arange(500))
    z = torch.linspace(-3, 1, 500, dtype=torch.float64, requires_grad=True)
    whole = loss(z, some)
    whole.backward()
    value, slope, _ = some.at(z.detach().numpy())
    assert float(whole.detach()) == pytest.approx(value.sum() / some.weight.sum())
    assert z.grad is not None
    assert z.grad.numpy() == pytest.approx(slope / some.weight.sum())
    parts = [loss(z.detach()[at], some.take(at.numpy())) for at in torch.arange(500).split(100)]
    assert float(torch.stack(parts).mean()) == pytest.approx(float(whole.detach()))
    with pytest.raises(ValueError, match=r"targets of 500 rows need as many logits; found \(3,\)"):
        loss(z[:3], some)


def test_torch_learns_what_newton_learns() -> None:
    """A linear layer in float32 by Adam."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(1, 1)
    x = torch.from_numpy(WORLD.x[TARGETS.rows, None]).float()
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        loss(layer(x).squeeze(1), TARGETS).backward()
        optimiser.step()
    asked = np.linspace(-2, 2, 5)
    found = torch.sigmoid(layer(torch.from_numpy(asked[:, None]).float())).detach().numpy().ravel()
    assert found == pytest.approx(newton(WORLD.x)(TARGETS)(asked), rel=0.01)
