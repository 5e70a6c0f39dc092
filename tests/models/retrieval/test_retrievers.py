"""Each retriever against the sum, the equations or the dense matrix its docstring names."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from models.retrieval.content import ContentRetriever
from models.retrieval.ease import Ease
from models.retrieval.ials import Ials, Penalty, objective, solved
from models.retrieval.interactions import Interactions
from models.retrieval.item_cf import ItemCF
from models.retrieval.popularity import popularity
from models.retrieval.protocol import candidates
from models.retrieval.skip_gram import neighbours
from models.settings import RetrievalSettings
from tests.models.retrieval.worlds import GROUPS, grouped


def small(seed: int = 0, users: int = 30, items: int = 9, n: int = 120) -> Interactions:
    """Pairs at random, some of them repeated, with weights of 1 to 3."""
    rng = np.random.default_rng(seed)
    return Interactions(
        rng.integers(0, users, n),
        rng.integers(0, items, n),
        rng.random(n) * 5,
        rng.integers(1, 4, n) * 1.0,
        users,
        items,
    )


def test_a_pair_counts_once_with_its_largest_weight() -> None:
    """Who opens one thing a hundred times is one user; a purchase is not drowned by clicks."""
    data = Interactions(
        np.array([0, 0, 0, 1]), np.array([2, 2, 1, 0]), np.zeros(4), np.array([1.0, 3.0, 1.0, 0.0]), 2, 3
    )
    assert data.matrix().toarray().tolist() == [[0, 1, 3], [0, 0, 0]]


def test_popularity_halves_with_every_half_life() -> None:
    """By hand: one interaction now, two a half-life ago, four two half-lives ago all come to one."""
    item, age = np.repeat([0, 1, 2], [1, 2, 4]), np.repeat([0.0, 7.0, 14.0], [1, 2, 4])
    data = Interactions(np.zeros(7, dtype=np.int64), item, 20 - age, np.ones(7), 1, 4)
    assert popularity(data, 7.0).tolist() == [1, 1, 1, 0]


def test_item_cf_is_the_dense_cosine() -> None:
    """With every neighbour kept it is the dense computation; with few, each row keeps its largest."""
    data, shrinkage = small(), 2.0
    dense = data.matrix().toarray()
    length = np.linalg.norm(dense, axis=0)
    cosine = dense.T @ dense / (np.outer(length, length) + shrinkage)
    np.fill_diagonal(cosine, 0)
    settings = RetrievalSettings(item_cf={"shrinkage": shrinkage})
    history = data.matrix()
    np.testing.assert_allclose(ItemCF.fit(data, settings).scores(history), (dense > 0) @ cosine, atol=1e-12)
    for kept in (1, 3):
        least = -np.sort(-cosine, axis=1)[:, kept - 1]
        near = np.where(cosine >= least[:, None], cosine, 0.0)
        assert ((near > 0).sum(axis=1) == kept).all()  # no ties in this log, or the comparison would be loose
        few = ItemCF.fit(data, RetrievalSettings(item_cf={"shrinkage": shrinkage, "neighbours": kept}))
        np.testing.assert_allclose(few.scores(history), (dense > 0) @ near, atol=1e-12)


def test_ease_is_the_constrained_least_squares() -> None:
    """Each column by itself: the ridge regression of an item on all others, which never sees the item."""
    data, l2 = small(), 3.0
    x = (data.matrix().toarray() > 0).astype(float)
    expected = np.zeros((9, 9))
    for item in range(9):
        others = np.delete(np.arange(9), item)
        left = x[:, others].T @ x[:, others] + l2 * np.eye(8)
        expected[others, item] = np.linalg.solve(left, x[:, others].T @ x[:, item])
    found = Ease.fit(data, RetrievalSettings(ease={"l2": l2})).scores(data.matrix())
    np.testing.assert_allclose(found, x @ expected, atol=1e-5)


def test_ease_leaves_out_items_nobody_took_up_and_refuses_too_many() -> None:
    """The catalogue may be larger than what its square is affordable for; the error says by how much."""
    data = small()
    wider = Interactions(data.user, data.item * 2, data.time, data.weight, data.users, 40)
    narrow, wide = (Ease.fit(d, RetrievalSettings(ease={"l2": 3})).scores(d.matrix()) for d in (data, wider))
    np.testing.assert_allclose(wide[:, ::2][:, :9], narrow, atol=1e-6)
    assert not wide[:, 1::2].any()
    with pytest.raises(ValueError, match="at most 8 items; found 9"):
        Ease.fit(data, RetrievalSettings(ease={"max_items": 8}))


PENALTY = Penalty(unobserved=0.2, l2=0.05, exponent=1.0)


def test_a_step_of_ials_is_the_minimum_a_general_optimiser_finds() -> None:
    """The closed form against the objective itself, spelled out over all pairs, for every user at once."""
    data = small()
    weight = data.matrix().toarray()
    items = np.random.default_rng(1).standard_normal((9, 3))
    size = PENALTY.l2 * (weight.sum(axis=1) + PENALTY.unobserved * 9)

    def loss(flat: np.ndarray) -> float:
        users = flat.reshape(30, 3)
        product = users @ items.T
        pairs = weight * (1 - product) ** 2 + PENALTY.unobserved * product**2
        return float(pairs.sum() + (size * (users**2).sum(axis=1)).sum())

    found = solved(data.matrix(), items, items.T @ items, PENALTY)
    best = minimize(loss, np.zeros(90), method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10})
    np.testing.assert_allclose(found.ravel(), best.x, atol=1e-4)
    rest = PENALTY.l2 * ((weight.sum(axis=0) + PENALTY.unobserved * 30) * (items**2).sum(axis=1)).sum()
    assert objective(data.matrix(), found, items, PENALTY) == pytest.approx(loss(found.ravel()) + rest)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_every_step_of_ials_lowers_its_objective(exponent: float) -> None:
    """Alternating least squares cannot go up: where it does, an equation is wrong."""
    data, penalty = grouped(), Penalty(0.1, 0.02, exponent)
    by_user = data.matrix()
    by_item = by_user.T.tocsr()
    rng = np.random.default_rng(0)
    users, items = (0.05 * rng.standard_normal((n, 6)) for n in (data.users, data.items))
    values = [objective(by_user, users, items, penalty)]
    for _ in range(6):
        users = solved(by_user, items, items.T @ items, penalty)
        values.append(objective(by_user, users, items, penalty))
        items = solved(by_item, users, users.T @ users, penalty)
        values.append(objective(by_user, users, items, penalty))
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(values))
    assert values[-1] < 0.7 * values[0]


def test_ials_solves_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a block ends must not matter, nor a user without a history in between."""
    data = small(n=40)
    assert (np.diff(data.matrix().indptr) == 0).any()
    whole = Ials.fit(data, RetrievalSettings(ials={"dimensions": 4})).user_vectors(data.matrix())
    monkeypatch.setattr("models.retrieval.ials.BLOCK", 7)
    again = Ials.fit(data, RetrievalSettings(ials={"dimensions": 4})).user_vectors(data.matrix())
    np.testing.assert_allclose(again, whole, atol=1e-9)
    assert not whole[np.diff(data.matrix().indptr) == 0].any()


def test_content_finds_an_item_nobody_has_taken_up() -> None:
    """What no other retriever can: the newest items of the right group come before any item of another."""
    data = grouped(stray=0.0)
    old = data.at(data.item < data.items - GROUPS)
    new = np.arange(data.items - GROUPS, data.items)
    histories = Interactions(
        np.arange(GROUPS), np.arange(GROUPS), np.zeros(GROUPS), np.ones(GROUPS), GROUPS, data.items
    ).matrix()
    settings = RetrievalSettings(content={"dimensions": 8})
    found = candidates(ContentRetriever.fit(old, settings), histories, 11)
    assert all(new[group] in found[group] for group in range(GROUPS))
    blind = candidates(ItemCF.fit(old, settings), histories, 11)
    assert not any(new[group] in blind[group] for group in range(GROUPS))


def test_content_without_reduction_is_the_cosine_of_rare_words() -> None:
    """Few words need no SVD; by hand: a word both items have, weighed by how rare it is."""
    text = ("red shoe", "red hat", "green hat", "")
    data = Interactions(np.array([0]), np.array([0]), np.zeros(1), np.ones(1), 1, 4, text)
    found = ContentRetriever.fit(data, RetrievalSettings()).scores(data.matrix())[0]
    twice, once = np.log(5 / 3) + 1, np.log(5 / 2) + 1
    cosine = twice**2 / (np.hypot(twice, once) * np.hypot(twice, twice))
    np.testing.assert_allclose(found, [1, cosine, 0, 0], atol=1e-6)
    with pytest.raises(ValueError, match="items with words or vectors; found none in 4 items"):
        ContentRetriever.fit(Interactions(data.user, data.item, data.time, data.weight, 1, 4), RetrievalSettings())


def test_given_vectors_stand_beside_words() -> None:
    """An image's vector finds a new item that has no word; of items with both the likeness is the mean of the two."""
    text, images = ("red shoe", "red shoe", "", ""), np.array([[3, 0], [0, 2], [1, 0], [0, 0]], dtype=np.float32)
    data = Interactions(np.array([0]), np.array([0]), np.zeros(1), np.ones(1), 1, 4, text, images)
    found = ContentRetriever.fit(data, RetrievalSettings()).scores(data.matrix())[0]
    np.testing.assert_allclose(found, [1, 0.5, np.sqrt(0.5), 0], atol=1e-6)
    alone = ContentRetriever.fit(replace(data, text=()), RetrievalSettings()).scores(data.matrix())[0]
    np.testing.assert_allclose(alone, [1, 0, 1, 0], atol=1e-6)
    many = np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32)
    wide = Interactions(data.user, data.item, data.time, data.weight, 1, 50, (), many)
    assert ContentRetriever.fit(wide, RetrievalSettings(content={"dimensions": 8})).item_vectors.shape == (50, 8)
    with pytest.raises(ValueError, match="finite numbers is needed for each of 4 items"):
        replace(data, vectors=images[:3])


@pytest.mark.parametrize(("window", "pause"), [(1, 1.0), (3, 0.5), (10, 100.0)])
def test_skip_gram_pairs_are_those_of_a_walk_through_each_session(window: int, pause: float) -> None:
    """In plain Python: a pause ends a session, an item is no neighbour of itself, nobody meets another user's."""
    data = small()
    expected = []
    for user in range(data.users):
        rows = np.flatnonzero(data.user == user)
        rows = rows[np.lexsort((data.item[rows], data.time[rows]))]
        for a, row in enumerate(rows):
            for b in range(a + 1, min(len(rows), a + window + 1)):
                between = data.time[rows[a : b + 1]]
                if (np.diff(between) <= pause).all() and data.item[row] != data.item[rows[b]]:
                    expected += [(data.item[row], data.item[rows[b]]), (data.item[rows[b]], data.item[row])]
    found = neighbours(data, window, pause)
    assert sorted(zip(*(column.tolist() for column in found), strict=True)) == sorted(expected)
    with pytest.raises(ValueError, match="sessions of two items; found none in 1 interactions"):
        neighbours(data.at(np.array([0])), window, pause)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": np.array([0])}, "columns of one length"),
        ({"item": np.array([0, 3])}, r"item codes need to be in \[0, 3\); found 0..3"),
        ({"user": np.array([-1, 0])}, r"user codes need to be in \[0, 2\)"),
        ({"weight": np.array([1.0, -1.0])}, "finite weights >= 0"),
        ({"time": np.array([1.0, np.nan])}, "finite times"),
        ({"text": ("a",)}, "each of 3 items, or none; found 1"),
    ],
)
def test_bad_interactions_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    """A code out of range would be another item's vector."""
    right = {
        "user": np.array([0, 1]), "item": np.array([0, 2]), "time": np.zeros(2), "weight": np.ones(2), "users": 2,
        "items": 3,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Interactions(**{**right, **change})  # type: ignore[arg-type]
