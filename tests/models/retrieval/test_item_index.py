"""The item index on clicks whose neighbourhoods are known: two groups of users, each with items of its own."""

from itertools import chain

import numpy as np
import pytest

from models.retrieval import ItemIndex


def clicks(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Users of one group click items a0-a9, of the other b0-b9; a0 is the most clicked."""
    rng = np.random.default_rng(seed)
    pairs = [
        (f"{group}-user{user}", f"{group}{item}")
        for group in "ab"
        for user in range(40)
        for item in rng.choice(10, 4, replace=False)
    ]
    pairs += [(f"a-user{user}", "a0") for user in range(40)]
    users, items = zip(*pairs, strict=True)
    return np.array(users, dtype=object), np.array(items, dtype=object)


@pytest.fixture(scope="module")
def index() -> ItemIndex:
    found = ItemIndex.fit(*clicks(), dimensions=4, seed=7)
    assert found is not None
    return found


def test_neighbours_come_from_the_same_group(index: ItemIndex) -> None:
    """Retrieval that mixes groups would send every request the same items."""
    for group in "ab":
        found = index.search([f"{group}3", f"{group}5"], 10)
        assert {item[0] for item in found} == {group}
        assert len(set(found)) == 10


def test_without_a_known_item_the_most_clicked_come_first(index: ItemIndex) -> None:
    """A new user still gets an answer."""
    assert index.search([], 3) == index.search(["unheard of"], 3)
    assert index.search([], 3)[0] == "a0"
    assert index.search(["unheard of", "b1"], 5) == index.search(["b1"], 5)


def test_more_than_there_is_gives_all(index: ItemIndex) -> None:
    """faiss pads with -1, which must not come back as an item."""
    assert sorted(index.search(["a1"], 99)) == sorted(f"{g}{i}" for g in "ab" for i in range(10))


def test_same_seed_same_bytes_and_order_free(index: ItemIndex) -> None:
    """A bundle's sha256 is its identity; the sign of a singular vector, and the order of clicks, are accidents."""
    users, items = clicks()
    at = np.random.default_rng(1).permutation(len(users))
    again = ItemIndex.fit(users[at], items[at], 4, 7)
    assert again is not None
    assert again.to_files() == index.to_files()


def test_saving_and_loading_changes_nothing(index: ItemIndex) -> None:
    """What serves is what was judged."""
    loaded = ItemIndex.from_files(index.to_files())
    assert loaded.to_files() == index.to_files()
    assert loaded.search(["a1"], 20) == index.search(["a1"], 20)


def test_repeated_clicks_and_unknown_users_change_nothing(index: ItemIndex) -> None:
    """A user who clicks one thing a hundred times is one user."""
    users, items = clicks()
    extra_users = np.array(list(chain(users, users[:50], [None, float("nan")])), dtype=object)
    extra_items = np.array(list(chain(items, items[:50], ["a1", "b1"])), dtype=object)
    again = ItemIndex.fit(extra_users, extra_items, 4, 7)
    assert again is not None
    assert again.to_files() == index.to_files()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_clicks_give_no_index(n: int) -> None:
    """Logs without user ids (Open Bandit) train on without retrieval."""
    names = np.array([f"x{k}" for k in range(n)], dtype=object)
    assert ItemIndex.fit(names, names, 4, 7) is None
    assert ItemIndex.fit(np.full(50, None, dtype=object), np.array(["a"] * 50, dtype=object), 4, 7) is None


def test_a_tiny_catalogue_cuts_the_dimensions() -> None:
    """Three users and three items have only two directions to offer."""
    names = np.array(["x", "y", "z"], dtype=object)
    index = ItemIndex.fit(names, names, 64, 7)
    assert index is not None
    assert len(index.search(["x"], 3)) == 3


def test_bad_arguments_are_errors(index: ItemIndex) -> None:
    """The caller's mistakes."""
    with pytest.raises(ValueError, match="dimensions"):
        ItemIndex.fit(np.array(["a"]), np.array(["b"]), 0, 7)
    with pytest.raises(ValueError, match="one user and item"):
        ItemIndex.fit(np.array(["a"]), np.array([]), 2, 7)
    with pytest.raises(ValueError, match="k >= 1"):
        index.search([], 0)
