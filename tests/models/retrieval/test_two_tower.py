"""Two towers against a softmax over all items, a step by hand, and histories in plain Python."""

import numpy as np
import pytest
import torch

from models.retrieval.batch_softmax import Table, softmax_loss
from models.retrieval.interactions import Interactions
from models.retrieval.protocol import candidates
from models.retrieval.two_tower import Steps, TwoTower
from models.settings import RetrievalSettings
from tests.models.retrieval.worlds import GROUPS, grouped

SETTINGS = RetrievalSettings(content={"dimensions": 8}, two_tower={"batch": 64, "epochs": 20})


def test_histories_are_what_came_before_newest_first() -> None:
    """A history that holds its own answer, or another user's items, is a leak."""
    data = grouped(users=20)
    steps = Steps.of(data, 3)
    expected = []
    for user in range(data.users):
        rows = np.flatnonzero(data.user == user)
        items = data.item[rows[np.lexsort((data.item[rows], data.time[rows]))]].tolist()
        expected += [([*items[:at][::-1], -1, -1][:3], items[at]) for at in range(1, len(items))]
    assert list(zip(steps.before.tolist(), steps.item.tolist(), strict=True)) == expected
    with pytest.raises(ValueError, match="users with two interactions; found none in 1"):
        Steps.of(data.at(np.array([0])), 3)


def test_the_loss_is_a_softmax_corrected_for_inclusion() -> None:
    """Written out row by row: the logarithm of how probably an item is in the batch is taken off."""
    rng = np.random.default_rng(0)
    users, items = (torch.from_numpy(rng.standard_normal((n, d)).astype(np.float32)) for n, d in ((5, 3), (4, 4)))
    label, included = np.array([2, 0, 2, 1, 3]), np.array([0.1, 0.2, 0.3, 0.4])
    losses = []
    for row in range(5):
        logits = [float(users[row] @ items[at, :3] + items[at, 3]) - np.log(included[at]) for at in range(4)]
        losses.append(np.log(np.exp(logits).sum()) - logits[label[row]])
    assert float(softmax_loss(users, items, label, included)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_step_moves_only_the_rows_that_were_asked_for() -> None:
    """Row-wise Adagrad by hand: the first step is rate x gradient / its root mean square; an item twice adds up."""
    table = Table(np.random.default_rng(0), torch.zeros((6, 0)), 3)
    before = table.own.clone()
    table.vectors(np.array([4, 1, 4]), np.array([True, True, True])).pow(2).sum().backward()
    table.learn(0.1)
    gradient = 2 * before[[1, 4]] * torch.tensor([[1.0], [2.0]])
    step = 0.1 * gradient / gradient.pow(2).mean(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(table.own[[1, 4]], before[[1, 4]] - step)
    assert torch.equal(table.own[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    assert not table.whole()[[0, 2, 3, 5]].any()


@pytest.mark.parametrize(("chances", "batch"), [([0.4, 0.25, 0.15, 0.1, 0.06, 0.04], 256), ([0.3] + [0.035] * 20, 16)])
def test_scores_are_log_probabilities_though_a_batch_is_no_fair_sample(chances: list[float], batch: int) -> None:
    """Everyone draws from one skewed distribution: batches that hold nearly all items, and few of them."""
    rng = np.random.default_rng(1)
    n, users, items = 8_000, 400, len(chances)
    data = Interactions(
        rng.integers(0, users, n), rng.choice(items, n, p=chances), rng.random(n), np.ones(n), users, items
    )
    settings = RetrievalSettings(
        two_tower={"batch": batch, "epochs": 3, "dimensions": 4, "hidden": 8, "rate": 0.02, "history": 5}
    )
    scores = TwoTower.fit(data, settings).scores(data.matrix())
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose((found / found.sum(axis=1, keepdims=True)).mean(axis=0), chances, atol=0.05)


def test_words_place_an_item_nobody_has_taken_up() -> None:
    """New items of the right group are offered before those of other groups; without words nothing can tell them."""
    data = grouped(users=400, stray=0.0)
    old = data.at(data.item < data.items - GROUPS)
    histories = Interactions(
        np.arange(GROUPS), np.arange(GROUPS), np.zeros(GROUPS), np.ones(GROUPS), GROUPS, data.items
    ).matrix()
    found = TwoTower.fit(old, SETTINGS).scores(histories)[:, -GROUPS:]
    assert (found.argmax(axis=1) == np.arange(GROUPS)).all()
    mute = Interactions(old.user, old.item, old.time, old.weight, old.users, old.items)
    blind = TwoTower.fit(mute, SETTINGS).scores(histories)[:, -GROUPS:]
    assert not blind.any()


def test_it_learns_who_likes_what_without_words() -> None:
    """Ids alone suffice where there are interactions."""
    data = grouped(users=400)
    mute = Interactions(data.user, data.item, data.time, data.weight, data.users, data.items)
    histories = Interactions(
        np.arange(GROUPS), np.arange(GROUPS), np.zeros(GROUPS), np.ones(GROUPS), GROUPS, data.items
    ).matrix()
    found = candidates(TwoTower.fit(mute, SETTINGS), histories, 5)
    assert (found % GROUPS == np.arange(GROUPS)[:, None]).mean() > 0.9
