"""Interleaving: fair pages, credit to whom it is due, and the bias that each way of mixing is known for."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.estimate import Estimate, Refusal
from models.experiments.interleaving import Mixed, credit, mixed, preferences
from tests.bench.interleaving_worlds import two_rankers, variety
from tests.bench.ratio_worlds import TASTES, missed, read_preferences

METHODS = ("balanced", "team_draft", "probabilistic", "optimised")
A, SHIFTED = ("a", "b", "c", "d"), ("b", "c", "d", "a")


def pages(method: Any, lists: Any, k: int, n: int, seed: int = 0) -> list[Mixed]:
    rng = np.random.default_rng(seed)
    return [mixed(method, lists, k, rng) for _ in range(n)]


def wins(found: list[Mixed], clicked: Any) -> float:
    """(pages that prefer the second - those that prefer the first) / all."""
    return float(np.mean([np.sign(np.diff(credit(page, clicked(page)))[0]) for page in found]))


def once_at_random(found: list[Mixed], seed: int = 1) -> tuple[float, float]:
    """Mean gain of the second ranker from one click at any place, and its wins."""
    rng = np.random.default_rng(seed)
    clicks = [np.arange(len(page.items)) == rng.integers(len(page.items)) for page in found]
    gaps = np.array([np.diff(credit(page, click))[0] for page, click in zip(found, clicks, strict=True)])
    return float(gaps.mean()), float(np.sign(gaps).mean())


@settings(deadline=None, max_examples=25)
@given(
    st.permutations("abcdef"),
    st.permutations("abcghi"),
    st.sampled_from(METHODS),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_every_page_is_a_page(one: list[str], other: list[str], method: Any, k: int, seed: int) -> None:
    """k items, none twice, none from nowhere; and swapping the rankers swaps what clicks are worth on average."""
    page = mixed(method, [one, other], k, np.random.default_rng(seed))
    assert len(page.items) == len(set(page.items)) == k
    assert set(page.items) <= {*one, *other}
    assert page.worth.shape == page.ranks.shape == (k, 2)
    assert (credit(page, np.ones(k, bool)) >= 0).all()
    assert not credit(page, np.zeros(k, bool)).any()


@pytest.mark.parametrize("method", METHODS)
def test_two_rankers_that_agree_are_never_told_apart(method: Any) -> None:
    gain, won = once_at_random(pages(method, [A, A], 3, 400))
    assert abs(gain) < 0.15
    assert abs(won) < 0.15


@pytest.mark.parametrize("method", METHODS)
def test_a_better_ranker_wins_by_the_clicks_on_what_it_has_higher(method: Any) -> None:
    found = pages(method, [("x", "y", "z", "good"), ("good", "x", "y", "z")], 4, 300)
    assert wins(found, lambda page: np.array([item == "good" for item in page.items])) > 0.4


def test_clicks_at_random_prefer_a_list_that_is_shifted_on_a_balanced_page_alone() -> None:
    """The known fault of balanced interleaving: whoever clicks blindly is heard to prefer the shifted list."""
    told = {method: once_at_random(pages(method, [A, SHIFTED], 4, 700)) for method in METHODS}
    assert told["balanced"][1] > 0.3
    assert abs(told["team_draft"][1]) < 0.1
    assert abs(told["probabilistic"][0]) < 0.1
    assert abs(told["optimised"][0]) < 0.1


def test_team_draft_does_not_hear_a_preference_that_others_hear() -> None:
    """The known deafness of team draft: its teams split an item's clicks evenly though one ranker has it higher."""
    lists = [("a", "b", "good", "d"), ("b", "good", "a", "d")]
    good = lambda page: np.array([item == "good" for item in page.items])  # noqa: E731
    told = {method: wins(pages(method, lists, 3, 700), good) for method in METHODS}
    assert abs(told["team_draft"]) < 0.1
    assert told["probabilistic"] > 0.2
    assert told["optimised"] > 0.2


def test_clicks_that_hang_on_the_place_alone_prefer_neither_ranker_but_on_a_balanced_page() -> None:
    """Whichever place it is: optimised pages promise it of every depth, drafted and drawn ones of every place."""
    for place in range(4):
        told = {}
        for method in METHODS:
            gaps = [np.diff(credit(page, np.arange(4) == place))[0] for page in pages(method, [A, SHIFTED], 4, 500)]
            told[method] = float(np.mean(gaps)), float(np.std(gaps) / 500**0.5)
        assert all(abs(gap) < 4 * error + 0.01 for method, (gap, error) in told.items() if method != "balanced")


def test_a_probabilistic_page_may_begin_with_what_neither_ranker_would_show_first() -> None:
    """The known price of drawing every place: users meet pages that are worse than either ranker's."""
    worse = {
        method: np.mean([page.items[0] not in ("a", "b") for page in pages(method, [A, SHIFTED], 4, 500)])
        for method in METHODS
    }
    assert 0.02 < worse.pop("probabilistic") < 0.3
    assert set(worse.values()) == {0.0}


def test_every_beginning_of_an_optimised_page_is_made_of_beginnings() -> None:
    for page in pages("optimised", [A, SHIFTED], 4, 30):
        for length, (i, j) in product(range(1, 5), product(range(5), repeat=2)):
            if set(page.items[:length]) == {*A[:i], *SHIFTED[:j]}:
                break
        else:
            pytest.fail(f"{page.items}")


def test_many_rankers_share_a_page_alike() -> None:
    lists = [tuple(f"{ranker}{n}" for n in range(6)) for ranker in "abcd"]
    found = pages("team_draft", lists, 4, 200)
    for page in found:
        assert page.worth.sum(axis=0).tolist() == [1, 1, 1, 1]
    assert abs(np.mean([page.worth[0] for page in found], axis=0) - 0.25).max() < 0.12


def test_lists_that_run_out_end_the_page() -> None:
    for method in METHODS:
        page = mixed(method, [("a",), ("a", "b")], 5, np.random.default_rng(0))
        assert sorted(page.items) == ["a", "b"]
    assert mixed("team_draft", [(), ()], 5, np.random.default_rng(0)).items == ()


@pytest.mark.parametrize(
    ("method", "lists", "k", "message"),
    [
        ("team_draft", [A], 3, "2 lists or more; found 1"),
        ("balanced", [A, A, A], 3, "balanced needs 2 lists; found 3"),
        ("team_draft", [A, ("a", "a")], 3, "each item once"),
        ("team_draft", [A, A], 0, "k of at least 1"),
        ("optimised", [A, A], 11, "at most 10 places"),
    ],
)
def test_bad_lists_are_refused(method: Any, lists: Any, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixed(method, lists, k, np.random.default_rng(0))


def test_a_preference_by_hand() -> None:
    """Two users with one page each: 3 to 1 and 1 to 1 are 2 / 6."""
    [found] = preferences(np.array([[1.0, 3.0], [1.0, 1.0]]), np.array([0, 1]), 0.95)
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(1 / 3)
    assert (found.n, found.effective_n) == (2, 2)
    [refused] = preferences(np.zeros((5, 2)), np.arange(5), 0.95)
    assert isinstance(refused, Refusal)


def test_users_who_all_divide_credit_alike_tell_no_preference() -> None:
    """Two who gave it all to one ranker are no proof of it."""
    [found] = preferences(np.array([[0.0, 2.0], [0.0, 1.0]]), np.array([0, 1]), 0.95)
    assert isinstance(found, Refusal)
    assert "users who differ" in found.reason


def test_one_users_credit_is_no_preference_of_all() -> None:
    credits = np.vstack([np.eye(2)[[0, 1] * 10], [[0.0, 500.0]]])
    [found] = preferences(credits, np.arange(21), 0.95)
    assert isinstance(found, Estimate)
    assert (found.low, found.high, found.stderr) == (-1, 1, 1)


@pytest.mark.parametrize("world", TASTES)
def test_preferences_err_as_seldom_as_promised(world: str) -> None:
    """Of users who return, and differ in how much they click and in whom they prefer, read once and at seven looks."""
    rng, runs, wrong = np.random.default_rng(2), 1000, np.zeros(2)
    for _ in range(runs):
        told, _ = read_preferences(rng, *TASTES[world])
        wrong += missed(told)
    assert (wrong / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5).all()


def test_interleaving_needs_far_fewer_sessions_most_of_all_where_users_leave_by_relevance() -> None:
    """The bench tells how many; here that the law holds (Iizuka et al. 2023), and that both find the same ranker."""
    content, random = (two_rankers(0, 1500, leaving) for leaving in ("once content", "at random"))
    assert content.a_b / content.interleaved > 2 * random.a_b / random.interleaved > 2
    assert content.a_b_gain > 0 < content.interleaved_gain


def test_what_a_page_is_worth_as_a_whole_misleads_interleaving() -> None:
    """The planted case: alone, the varied ranker keeps users reading; mixed, the other one reaps it."""
    found = variety(0, 200)
    assert found.a_b_gain > 0 > found.interleaved_gain
