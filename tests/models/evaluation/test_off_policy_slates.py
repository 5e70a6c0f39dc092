"""Slate estimators against exact enumeration: every page of a small world once, so that means are expectations."""

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from models.evaluation.off_policy import ips
from models.evaluation.slates import cascade_dr, iips, pseudo_inverse, pseudo_inverse_of_permutations, rips

ITEMS, SIZE = 5, 3
PAGES = list(permutations(range(ITEMS), SIZE))
"""What a uniform logging policy shows, each page as likely as any other."""
SCORE = np.array([3.0, 1.0, 0.5, 2.0, 1.5])
RNG = np.random.default_rng(0)
WORTH = RNG.random((SIZE, ITEMS))
"""Reward by position and item."""
Arrays = dict[str, Any]


def plackett_luce(page: tuple[int, ...]) -> np.ndarray:
    """The target's probability of each placement given all above it."""
    left, chances = SCORE.sum(), []
    for item in page:
        chances.append(SCORE[item] / left)
        left -= SCORE[item]
    return np.array(chances)


TARGET = np.array([plackett_luce(page).prod() for page in PAGES])
AT = np.array([[sum(TARGET[i] for i, p in enumerate(PAGES) if p[k] == a) for a in range(ITEMS)] for k in range(SIZE)])
"""The target's marginal probability of each item at each position."""


def placements(pages: list[tuple[int, ...]]) -> Arrays:
    """Ids and positions, from 1, of pages laid end to end."""
    size = len(pages[0])
    return {"slate": np.repeat(np.arange(len(pages)), size), "position": np.tile(np.arange(1, size + 1), len(pages))}


def interacting(page: tuple[int, ...], k: int) -> float:
    """A reward that depends on everything down to k, in no simple way."""
    return float(WORTH[k, page[k]] / (1 + sum((j + 1) * page[j] for j in range(k))))


def cascade(reward: Any = interacting) -> Arrays:
    return {
        **placements(PAGES),
        "reward": np.array([reward(page, k) for page in PAGES for k in range(SIZE)]),
        "logged": np.tile([1 / ITEMS, 1 / (ITEMS - 1), 1 / (ITEMS - 2)], len(PAGES)),
        "target": np.concatenate([plackett_luce(page) for page in PAGES]),
    }


def truth(reward: Any = interacting) -> float:
    return sum(chance * sum(reward(page, k) for k in range(SIZE)) for chance, page in zip(TARGET, PAGES, strict=True))


def marginal() -> Arrays:
    items = np.concatenate(PAGES)
    positions = np.tile(np.arange(SIZE), len(PAGES))
    return {
        **placements(PAGES),
        "reward": WORTH[positions, items],
        "logged": np.full(len(items), 1 / ITEMS),
        "target": AT[positions, items],
    }


def by_item(page: tuple[int, ...], k: int) -> float:
    return float(WORTH[k, page[k]])


def test_position_wise_is_exact_without_interaction() -> None:
    """Rewards by item and position: the mean over all pages is the target's value, to rounding."""
    assert iips(**marginal()).value == pytest.approx(truth(by_item), abs=1e-12)


def test_reward_interaction_is_exact_down_the_page() -> None:
    """Rewards that depend on what stands above: weights down to the placement are right, its own alone is not."""
    assert rips(**cascade()).value == pytest.approx(truth(), abs=1e-12)
    wrong = {**marginal(), "reward": cascade()["reward"]}
    assert abs(iips(**wrong).value - truth()) > 1e-3


def foreseen(q: Any) -> Arrays:
    """q_k of the page down to k, and its mean over the target's choice at k."""
    logged, target = [], []
    for page in PAGES:
        for k in range(SIZE):
            others = [a for a in range(ITEMS) if a not in page[:k]]
            total = sum(SCORE[a] for a in others)
            logged.append(q(page[: k + 1]))
            target.append(sum(SCORE[a] / total * q((*page[:k], a)) for a in others))
    return {"predicted_logged": np.array(logged), "predicted_target": np.array(target)}


def to_come(down_to: tuple[int, ...]) -> float:
    """The true sum of rewards from the last of these placements down, under the target."""
    k = len(down_to) - 1
    here = interacting(down_to, k)
    if len(down_to) == SIZE:
        return here
    others = [a for a in range(ITEMS) if a not in down_to]
    total = sum(SCORE[a] for a in others)
    return here + sum(SCORE[a] / total * to_come((*down_to, a)) for a in others)


def test_cascade_dr_is_exact_whatever_the_model() -> None:
    """A model made of noise changes nothing in the mean; without one it is `rips`; a perfect one leaves no variance."""
    noise = {page[: k + 1]: RNG.normal() for page in PAGES for k in range(SIZE)}
    wild = cascade_dr(**cascade(), **foreseen(noise.__getitem__))
    assert wild.value == pytest.approx(truth(), abs=1e-12)
    blank = cascade_dr(**cascade(), **foreseen(lambda page: 0.0))
    plain = rips(**cascade())
    assert (blank.value, blank.stderr) == (pytest.approx(plain.value), pytest.approx(plain.stderr))
    perfect = cascade_dr(**cascade(), **foreseen(to_come))
    assert perfect.value == pytest.approx(truth(), abs=1e-12)
    assert perfect.stderr < 1e-12 < plain.stderr


def test_pseudo_inverse_of_independent_slots() -> None:
    """Only the total is known, on any placement; slots drawn by themselves, items may repeat: exact by enumeration."""
    chance = np.array([2, 1, 1]) / 4
    target = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    worth = RNG.random((2, 3))
    pages = [p for p in product(range(3), repeat=2) for _ in range(round(16 * chance[p[0]] * chance[p[1]]))]
    assert len(pages) == 16
    items, at = np.concatenate(pages), np.tile([0, 1], 16)
    total = np.array([worth[0, a] + worth[1, b] for a, b in pages])
    arrays = {
        **placements(pages),
        "reward": np.column_stack([np.zeros(16), total]).ravel(),
        "logged": chance[items],
        "target": target[at, items],
    }
    assert pseudo_inverse(**arrays).value == pytest.approx(float((target * worth).sum()), abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pseudo_inverse_of_permutations(size: int) -> None:
    """Pages without repetition: weights equal those of the numerical pseudo-inverse, up to pages of all items."""
    m = 3
    pages = list(permutations(range(m), size))
    chances = RNG.dirichlet(np.ones(len(pages)))
    shown = np.zeros((len(pages), size * m))
    for i, page in enumerate(pages):
        shown[i, [k * m + a for k, a in enumerate(page)]] = 1
    gamma, q = shown.T @ shown / len(pages), chances @ shown
    expected = shown @ np.linalg.pinv(gamma) @ q
    table = q.reshape(size, m)
    items, at = np.concatenate(pages), np.tile(np.arange(size), len(pages))
    worth = RNG.random((size, m))

    def estimate(reward: np.ndarray) -> float:
        found = pseudo_inverse_of_permutations(
            **placements(pages), reward=reward, candidates=np.full(len(items), m), target=table[at, items],
            target_anywhere=table.sum(axis=0)[items],
        )  # fmt: skip
        return found.value

    for i in range(len(pages)):
        alone = np.zeros(len(items))
        alone[i * size] = len(pages)
        assert estimate(alone) == pytest.approx(expected[i], abs=1e-12)
    assert estimate(worth[at, items]) == pytest.approx(float((table * worth).sum()), abs=1e-12)


def test_pages_of_one_placement_are_plain_decisions() -> None:
    """With one placement a page all of them are IPS, errors and clusters included."""
    n = 200
    arrays: Arrays = {
        "reward": RNG.random(n), "logged": RNG.uniform(0.2, 1, n), "target": RNG.uniform(0, 1, n),
        "clusters": np.arange(n) // 3,
    }  # fmt: skip
    pages = {"slate": RNG.permutation(n), "position": np.ones(n, int)}
    expected = ips(**arrays)
    for estimator in (iips, rips, pseudo_inverse):
        found = estimator(**arrays, **pages)
        assert list(found.as_dict().values()) == pytest.approx(list(expected.as_dict().values()), abs=1e-12)


def test_pages_of_all_sizes_in_any_order() -> None:
    """Rows are told apart by page and position, not by where they stand; short pages count as pages."""
    arrays = cascade()
    arrays["clusters"] = arrays["slate"] // 2
    keep = (arrays["position"] < 3) | (arrays["slate"] % 3 > 0)
    short = {key: a[keep] for key, a in arrays.items()}
    at = np.random.default_rng(1).permutation(int(keep.sum()))
    for estimator in (iips, rips):
        whole, shuffled = estimator(**short), estimator(**{key: a[at] for key, a in short.items()})
        assert list(shuffled.as_dict().values()) == pytest.approx(list(whole.as_dict().values()), abs=1e-12)
        assert whole.n == len(PAGES)
    by_hand = [
        sum(
            np.prod(short["target"][rows[: k + 1]] / short["logged"][rows[: k + 1]]) * short["reward"][rows[k]]
            for k in range(len(rows))
        )
        for rows in (np.flatnonzero(short["slate"] == page) for page in range(len(PAGES)))
    ]
    assert rips(**short).value == pytest.approx(np.mean(by_hand))


def test_impossible_pages_are_errors() -> None:
    """Two items in one place, more placements than candidates, arrays of other lengths."""
    arrays = cascade()
    twice = {**arrays, "position": np.where(arrays["position"] == 2, 1, arrays["position"])}
    with pytest.raises(ValueError, match=r"^a page needs each position once; found position 1 twice on page 0$"):
        rips(**twice)
    with pytest.raises(ValueError, match=r"one length; found slate \(180,\), position \(2,\)"):
        rips(**{**arrays, "position": np.ones(2, int)})
    n = len(arrays["slate"])
    given = {key: arrays[key] for key in ("slate", "position", "reward", "target")}
    with pytest.raises(ValueError, match=r"^a page needs at most as many placements as candidates; found 3 of 2$"):
        pseudo_inverse_of_permutations(**given, candidates=np.full(n, 2), target_anywhere=np.ones(n))
    with pytest.raises(ValueError, match="2 or more candidates"):
        pseudo_inverse_of_permutations(**given, candidates=np.full(n, 1), target_anywhere=np.ones(n))
