"""Boosts, blocks, caps and diversity: they hold on every page, and the propensities behind them stay exact."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.policies.choice import first_choice, placed_choice, slate
from models.policies.heuristics import words_in
from models.settings import HeuristicSettings, PolicySettings, SurfaceSettings

CATEGORY, BRAND = "item_category", "attributes.item.brand"
WORD = st.sampled_from(["tea", "mugs", None])
TIMES = st.sampled_from([0.1, 0.5, 1.0, 3.0])
OF = st.sampled_from(["category", "item.brand"])


def _rules(**fields: Any) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries({"of": OF, **fields}), max_size=2)


HEURISTICS = st.fixed_dictionaries(
    {
        "boosts": _rules(word=st.sampled_from(["tea", "mugs"]), times=TIMES),
        "blocks": _rules(words=st.just(["mugs"])),
        "caps": _rules(most=st.integers(1, 2)),
        "repeats": _rules(times=TIMES),
    }
).map(HeuristicSettings.model_validate)
POLICIES = [
    PolicySettings(kind="greedy"),
    PolicySettings(kind="epsilon_greedy", epsilon=0.3),
    PolicySettings(kind="plackett_luce", temperature=0.5),
    PolicySettings(kind="thompson", evidence=30),
]
CANDIDATE = st.tuples(st.floats(0, 1), WORD, WORD)


def columns(candidates: list[tuple[float, str | None, str | None]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    scores = np.array([score for score, _, _ in candidates])
    words = {name: np.array([c[at] for c in candidates] + [0], object)[:-1] for at, name in ((1, CATEGORY), (2, BRAND))}
    return scores, words


def by_hand(
    candidates: list[tuple[float, str | None, str | None]], above: list[int], policy: PolicySettings
) -> dict[int, float]:
    """The oracle: what may stand below `above`, and with which probability, one candidate and rule at a time."""
    rules = policy.heuristics
    scores = {}
    for at, candidate in enumerate(candidates):
        word = {"category": candidate[1], "item.brand": candidate[2]}
        beside = {of: [candidates[up][1 if of == "category" else 2] for up in above].count(word[of]) for of in word}
        beside = {of: count if word[of] is not None else 0 for of, count in beside.items()}
        if at in above or any(word[block.of] in block.words for block in rules.blocks):
            continue
        if any(beside[cap.of] >= cap.most for cap in rules.caps):
            continue
        times = 1.0
        for boost in rules.boosts:
            times *= boost.times if word[boost.of] == boost.word else 1.0
        for repeat in rules.repeats:
            times *= repeat.times ** beside[repeat.of]
        score = max(candidate[0], 1e-12)
        scores[at] = score * times / (1 - score + score * times)
    chance = first_choice(np.array(list(scores.values())), np.array([0, len(scores)]), policy.plain)
    return dict(zip(scores, chance.tolist(), strict=True))


@given(
    candidates=st.lists(CANDIDATE, min_size=1, max_size=4),
    k=st.integers(1, 5),
    policy=st.sampled_from(POLICIES),
    rules=HEURISTICS,
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_every_page_has_the_probability_that_enumeration_gives_it(
    candidates: list[tuple[float, str | None, str | None]],
    k: int,
    policy: PolicySettings,
    rules: HeuristicSettings,
    seed: int,
) -> None:
    """What is logged and what a replay computes are both the oracle's; pages of all orders add up to one."""
    policy = policy.model_copy(update={"heuristics": rules})
    scores, words = columns(candidates)
    pages: list[tuple[list[int], float]] = [([], 1.0)]
    for _ in range(k):
        longer = []
        for above, chance in pages:
            below = by_hand(candidates, above, policy)
            longer += [([*above, at], chance * p) for at, p in below.items()] or [(above, chance)]
        pages = longer
    assert sum(chance for _, chance in pages) == pytest.approx(1)
    order, logged = slate(scores, k, policy, np.random.default_rng(seed), words)
    assert order.tolist() in [page for page, chance in pages if chance > 0]
    for at, propensity in enumerate(logged):
        assert by_hand(candidates, order[:at].tolist(), policy)[int(order[at])] == pytest.approx(propensity)
    place = np.zeros(len(candidates), np.int64)
    place[order] = np.arange(1, len(order) + 1)
    offsets = np.array([0, len(candidates)])
    replayed = placed_choice(scores, offsets, place, policy, words=words)[order]
    np.testing.assert_allclose(replayed, logged, rtol=1e-9)
    if len(order):
        assert first_choice(scores, offsets, policy, words=words)[order[0]] == pytest.approx(logged[0])
    for block in rules.blocks:
        assert not set(block.words) & set(words[block.column][order])
    for cap in rules.caps:
        stand = [word for word in words[cap.column][order] if word is not None]
        assert all(stand.count(word) <= cap.most for word in stand)


@given(pages=st.lists(st.lists(CANDIDATE, max_size=5), min_size=1, max_size=4), rules=HEURISTICS, data=st.data())
@settings(deadline=None, max_examples=60)
def test_pages_and_surfaces_do_not_see_each_other(
    pages: list[list[tuple[float, str | None, str | None]]], rules: HeuristicSettings, data: st.DataObject
) -> None:
    """Many requests at once, some of a surface with heuristics of its own, are as each alone; also what a stage cut."""
    own = HeuristicSettings.model_validate({"caps": [{"most": 1}]})
    policy = PolicySettings(heuristics=rules, surfaces={"search": SurfaceSettings(heuristics=own)})
    surfaces = np.array([data.draw(st.sampled_from(["home", "search"])) for _ in pages] + [0], object)[:-1]
    scores, words = columns([candidate for page in pages for candidate in page])
    offsets = np.cumsum([0, *map(len, pages)])
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))), bool)
    place = np.zeros(len(scores), np.int64)
    firsts, below = np.zeros(len(scores)), np.zeros(len(scores))
    for page, (first, last) in enumerate(pairwise(offsets)):
        alone, rows = policy.on(surfaces[page]), np.flatnonzero(kept[first:last]) + first
        if not len(rows):
            continue
        mine = {name: of[rows] for name, of in words.items()}
        order, chance = slate(scores[rows], 3, alone, np.random.default_rng(page), mine)
        place[rows[order]], below[rows[order]] = np.arange(1, len(order) + 1), chance
        firsts[rows] = first_choice(scores[rows], np.array([0, len(rows)]), alone, words=mine)
    found = first_choice(scores, offsets, policy, kept, surfaces, words)
    np.testing.assert_allclose(found, firsts, rtol=1e-9, atol=1e-12)
    found = placed_choice(scores, offsets, place, policy, kept, surfaces, words)
    np.testing.assert_allclose(found, below, rtol=1e-9, atol=1e-12)


def test_a_page_by_hand() -> None:
    """Tea is worth twice the odds, a second item of a kind half, mugs are not shown, and two of a kind are enough."""
    rules = HeuristicSettings.model_validate(
        {
            "boosts": [{"word": "tea", "times": 2}],
            "repeats": [{"times": 0.5}],
            "blocks": [{"words": ["mugs"]}],
            "caps": [{"most": 2}],
        }
    )
    policy = PolicySettings(kind="greedy", heuristics=rules)
    scores = np.array([0.5, 0.45, 0.4, 0.6, 0.99, 0.3])
    words = {CATEGORY: np.array(["tea", "tea", "tea", "cups", "mugs", None], object)}
    order, propensity = slate(scores, 6, policy, np.random.default_rng(0), words)
    # odds: tea 2.0, 1.64, 1.33, cups 1.5, without a category 0.43; after the first tea the others' halve, and so on
    assert order.tolist() == [0, 3, 1, 5]
    assert propensity.tolist() == [1, 1, 1, 1]


def test_pages_come_as_often_as_their_propensities_say() -> None:
    """A formula may be right and the draw wrong: chi-square over all pages of two of four (p about 1e-4)."""
    rules = HeuristicSettings.model_validate({"boosts": [{"word": "tea", "times": 2}], "repeats": [{"times": 0.3}]})
    policy = PolicySettings(temperature=1.0, heuristics=rules)
    scores, words = np.array([0.3, 0.1, 0.3, 0.05]), {CATEGORY: np.array(["tea", "tea", "mugs", None], object)}
    rng, drawn, chances = np.random.default_rng(1), {}, {}
    for _ in range(4000):
        order, propensity = slate(scores, 2, policy, rng, words)
        page = tuple(order.tolist())
        drawn[page], chances[page] = drawn.get(page, 0) + 1, propensity.prod()
    assert sum(chances.values()) == pytest.approx(1)
    statistic = sum((drawn[page] - 4000 * chance) ** 2 / (4000 * chance) for page, chance in chances.items())
    assert len(chances) == 12
    assert statistic < 39


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=8), policy=st.sampled_from(POLICIES))
@settings(deadline=None, max_examples=40)
def test_rules_that_change_nothing_change_nothing(scores: list[float], policy: PolicySettings) -> None:
    """A boost of 1, and words that no item has, are as no heuristics; without any the draw itself is what it was."""
    idle = HeuristicSettings.model_validate(
        {"boosts": [{"word": "tea", "times": 1}], "blocks": [{"words": ["mugs"]}], "caps": [{"most": 1}]}
    )
    table, offsets = np.array(scores), np.array([0, len(scores)])
    nothing = words_in({"item_id": table}, policy.model_copy(update={"heuristics": idle}))
    found = first_choice(table, offsets, policy.model_copy(update={"heuristics": idle}), words=nothing)
    np.testing.assert_allclose(found, first_choice(table, offsets, policy), rtol=1e-9)
    for one, other in zip(
        slate(table, 3, policy, np.random.default_rng(0)),
        slate(table, 3, policy, np.random.default_rng(0), nothing),
        strict=True,
    ):
        assert one.tobytes() == other.tobytes()


def test_heuristics_without_words_are_refused() -> None:
    """A cap that cannot see categories would cap nothing, and the propensity would be of another policy."""
    policy = PolicySettings(heuristics=HeuristicSettings.model_validate({"caps": [{"most": 1}]}))
    with pytest.raises(ValueError, match="need words of 2 candidates in item_category; found"):
        slate(np.array([0.5, 0.5]), 1, policy, np.random.default_rng(0))
    with pytest.raises(ValueError, match="need words of 2 candidates"):
        first_choice(np.array([0.5, 0.5]), np.array([0, 2]), policy, words={CATEGORY: np.array([None], object)})


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"boosts": [{"word": "tea", "times": 0}]}, "greater than 0"),
        ({"blocks": [{"words": []}]}, "at least 1"),
        ({"caps": [{"most": 0}]}, "greater than or equal to 1"),
        ({"caps": [{"of": "brand", "most": 1}]}, "must be category or item.<attribute>; not brand"),
        ({"cap": []}, "Extra inputs"),
    ],
)
def test_rules_that_mean_nothing_are_refused(rules: dict[str, Any], reason: str) -> None:
    """A misspelt rule silently doing nothing is found by customers."""
    with pytest.raises(ValueError, match=reason):
        HeuristicSettings.model_validate(rules)
