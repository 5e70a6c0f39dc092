"""Laws of the probabilities that get logged: backtests divide by them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from models.policies.choice import first_choice, placed_choice, slate
from models.policies.stages import kept
from models.settings import PolicySettings, SurfaceSettings

POLICIES = [
    PolicySettings(kind="greedy"),
    PolicySettings(kind="epsilon_greedy", epsilon=0.3),
    PolicySettings(kind="plackett_luce", temperature=0.5),
    PolicySettings(kind="thompson", evidence=30),
]
PAGE = st.lists(st.floats(0, 1), max_size=6)
SEGMENTS = st.lists(PAGE, max_size=6)


@given(segments=SEGMENTS, policy=st.sampled_from(POLICIES))
@settings(deadline=None, max_examples=60)
def test_first_choice_sums_to_one_in_every_segment(segments: list[list[float]], policy: PolicySettings) -> None:
    """Empty segments included: a request without candidates must not shift its neighbours."""
    offsets = np.cumsum([0, *map(len, segments)])
    p = first_choice(np.array([x for s in segments for x in s]), offsets, policy)
    for first, last, segment in zip(offsets[:-1], offsets[1:], segments, strict=True):
        assert ((p[first:last] >= 0) & (p[first:last] <= 1)).all()
        if segment:
            assert p[first:last].sum() == pytest.approx(1)
            alone = first_choice(np.array(segment), np.array([0, len(segment)]), policy)
            np.testing.assert_allclose(alone, p[first:last])


def test_first_choice_by_hand() -> None:
    """Greedy shares ties; epsilon mixes in uniform; Plackett-Luce goes as p ** (1 / T)."""
    scores, offsets = np.array([0.2, 0.4, 0.4, 0.1]), np.array([0, 3, 3, 4])
    greedy, epsilon, luce = (first_choice(scores, offsets, policy) for policy in POLICIES[:3])
    np.testing.assert_allclose(greedy, [0, 0.5, 0.5, 1])
    np.testing.assert_allclose(epsilon, [0.1, 0.45, 0.45, 1])
    np.testing.assert_allclose(luce, [0.04 / 0.36, 0.16 / 0.36, 0.16 / 0.36, 1])


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.kind)
def test_slates_come_as_often_as_their_propensities_say(policy: PolicySettings) -> None:
    """The product of a slate's propensities is how often that very slate is drawn; the first follows first_choice."""
    scores = np.array([0.3, 0.1, 0.3, 0.05])
    rng = np.random.default_rng(0)
    draws = 4000
    counts: dict[tuple[int, ...], int] = {}
    chances: dict[tuple[int, ...], float] = {}
    for _ in range(draws):
        order, propensity = slate(scores, 2, policy, rng)
        key = tuple(int(x) for x in order)
        counts[key] = counts.get(key, 0) + 1
        chance = float(propensity.prod())
        assert chances.setdefault(key, chance) == pytest.approx(chance)
        assert len(set(key)) == 2
    assert sum(chances.values()) == pytest.approx(1, abs=0.01)
    for key, count in counts.items():
        spread = np.sqrt(draws * chances[key] * (1 - chances[key])) + 1
        assert abs(count - draws * chances[key]) < 4.5 * spread
    first = first_choice(scores, np.array([0, 4]), policy)
    for candidate in range(4):
        drawn = sum(count for key, count in counts.items() if key[0] == candidate)
        spread = np.sqrt(draws * first[candidate] * (1 - first[candidate])) + 1
        assert abs(drawn - draws * first[candidate]) < 4.5 * spread


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=8),
    k=st.integers(1, 10),
    policy=st.sampled_from(POLICIES),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_the_first_propensity_is_first_choice(scores: list[float], k: int, policy: PolicySettings, seed: int) -> None:
    """The endpoint logs slate's propensity, the backtest computes first_choice: one number."""
    order, propensity = slate(np.array(scores), k, policy, np.random.default_rng(seed))
    assert len(order) == len(propensity) == min(k, len(scores))
    assert ((propensity > 0) & (propensity <= 1)).all()
    p = first_choice(np.array(scores), np.array([0, len(scores)]), policy)
    assert propensity[0] == pytest.approx(p[order[0]])
    if len(order) == len(scores):
        assert propensity[-1] == pytest.approx(1)


@given(a=st.floats(0.001, 0.999), b=st.floats(0.001, 0.999), evidence=st.floats(1, 1e5))
@settings(deadline=None, max_examples=60)
def test_thompson_of_two_is_the_normal_probability_of_their_order(a: float, b: float, evidence: float) -> None:
    """The one case with a closed form: the difference of two normals; it is also the accuracy that is claimed."""
    policy = PolicySettings(kind="thompson", evidence=evidence)
    found = first_choice(np.array([a, b]), np.array([0, 2]), policy)
    apart = (np.arcsin(np.sqrt(a)) - np.arcsin(np.sqrt(b))) * 2 * np.sqrt(evidence) / np.sqrt(2)
    np.testing.assert_allclose(found, [ndtr(apart), ndtr(-apart)], atol=1e-9)


def test_thompson_is_the_share_of_draws_won_and_sharpens_with_evidence() -> None:
    """Many candidates, against drawing for real; much evidence makes it greedy, little makes it uniform."""
    scores, offsets = np.array([0.1, 0.12, 0.3, 0.28, 0.02]), np.array([0, 5])
    draws = np.arcsin(np.sqrt(scores)) + np.random.default_rng(0).normal(size=(200_000, 5)) / (2 * np.sqrt(50))
    won = np.bincount(draws.argmax(axis=1), minlength=5) / len(draws)
    np.testing.assert_allclose(
        first_choice(scores, offsets, PolicySettings(kind="thompson", evidence=50)), won, atol=0.004
    )
    sharp = first_choice(scores, offsets, PolicySettings(kind="thompson", evidence=1e6))
    flat = first_choice(scores, offsets, PolicySettings(kind="thompson", evidence=1e-6))
    np.testing.assert_allclose(sharp, [0, 0, 1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(flat, [0.2] * 5, atol=1e-2)


def test_low_temperature_is_greedy_and_high_is_uniform() -> None:
    """Extreme temperatures must neither overflow nor divide by zero."""
    scores, offsets = np.array([0.0, 0.2, 0.9]), np.array([0, 3])
    cold = first_choice(scores, offsets, PolicySettings(temperature=1e-3))
    hot = first_choice(scores, offsets, PolicySettings(temperature=1e6))
    np.testing.assert_allclose(cold, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(hot, [1 / 3] * 3, atol=1e-4)


@pytest.mark.parametrize("scores", [[0.5, np.nan], [-0.1, 0.5], [1.1, 0.5]])
def test_impossible_scores_are_refused(scores: list[float]) -> None:
    """A NaN score would become a NaN propensity in the logs, for good."""
    for policy in POLICIES:
        with pytest.raises(ValueError, match=r"scores in \[0, 1\]"):
            first_choice(np.array(scores), np.array([0, 2]), policy)
        with pytest.raises(ValueError, match=r"scores in \[0, 1\]"):
            slate(np.array(scores), 1, policy, np.random.default_rng(0))


@pytest.mark.parametrize("offsets", [[0, 1], [1, 2], [0, 2, 1, 2], []])
def test_offsets_must_cover_the_scores(offsets: list[int]) -> None:
    """A wrong offset would compare candidates of different requests."""
    with pytest.raises(ValueError, match="offsets"):
        first_choice(np.array([0.5, 0.5]), np.array(offsets, dtype=int), POLICIES[0])


def test_an_empty_slate_is_refused() -> None:
    """Nothing to choose from, or nothing to choose: the caller's mistake."""
    for scores, k in (([], 1), ([0.5], 0)):
        with pytest.raises(ValueError, match="k >= 1"):
            slate(np.array(scores), k, POLICIES[0], np.random.default_rng(0))


@given(
    pages=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=7), min_size=1, max_size=5),
    k=st.integers(1, 8),
    policy=st.sampled_from(POLICIES),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_placed_choice_is_the_propensity_that_slates_log(
    pages: list[list[float]], k: int, policy: PolicySettings, seed: int
) -> None:
    """The endpoint logs slate's propensities, the backtest weighs whole pages with these: one number each."""
    rng, place, logged = np.random.default_rng(seed), [], []
    for scores in pages:
        order, propensity = slate(np.array(scores), k, policy, rng)
        at, chance = np.zeros(len(scores), int), np.zeros(len(scores))
        at[order], chance[order] = np.arange(1, len(order) + 1), propensity
        place.append(at)
        logged.append(chance)
    offsets = np.cumsum([0, *map(len, pages)])
    found = placed_choice(np.concatenate(pages), offsets, np.concatenate(place), policy)
    np.testing.assert_allclose(found, np.concatenate(logged), rtol=1e-9, atol=1e-12)


def test_placed_choice_leaves_pages_without_placements_alone() -> None:
    """And a page that was shown in part is weighed as far as it goes."""
    scores, offsets = np.array([0.2, 0.4, 0.4, 0.1, 0.3]), np.array([0, 3, 3, 5])
    found = placed_choice(scores, offsets, np.array([2, 1, 0, 0, 0]), PolicySettings(temperature=1.0))
    np.testing.assert_allclose(found, [0.2 / 0.6, 0.4, 0, 0, 0])


@pytest.mark.parametrize("place", [[1, 3, 0], [1, 1, 0], [2, 0, 0], [-1, 0, 0], [1, 2]])
def test_a_page_with_a_gap_is_refused(place: list[int]) -> None:
    """What stood in the gap is unknown, and so is what was left for the places below."""
    with pytest.raises(ValueError, match="places"):
        placed_choice(np.full(3, 0.5), np.array([0, 3]), np.array(place), POLICIES[0])


@given(segments=SEGMENTS, policy=st.sampled_from(POLICIES), keep=st.integers(1, 4), data=st.data())
@settings(deadline=None, max_examples=60)
def test_what_a_stage_cuts_is_as_if_it_had_never_been_a_candidate(
    segments: list[list[float]], policy: PolicySettings, keep: int, data: st.DataObject
) -> None:
    """A light stage before the policy: serving drops what it cuts, a replay gives it no chance, at any place."""
    offsets = np.cumsum([0, *map(len, segments)])
    scores = np.array([x for s in segments for x in s])
    light = np.array(data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=len(scores), max_size=len(scores))))
    left = kept(light, offsets, keep)
    place = np.zeros(len(scores), dtype=np.int64)
    for first, last in pairwise(offsets):
        best = sorted(range(first, last), key=lambda at: (-light[at], at))[:keep]
        assert np.flatnonzero(left[first:last]).tolist() == sorted(at - first for at in best)
        place[best] = np.arange(1, len(best) + 1)
    bounds = np.concatenate([[0], np.cumsum([left[a:b].sum() for a, b in pairwise(offsets)])])
    alone = np.zeros(len(scores))
    alone[left] = first_choice(scores[left], bounds.astype(np.int64), policy)
    np.testing.assert_allclose(first_choice(scores, offsets, policy, left), alone)
    alone[left] = placed_choice(scores[left], bounds.astype(np.int64), place[left], policy)
    np.testing.assert_allclose(placed_choice(scores, offsets, place, policy, left), alone)


def test_a_stage_refuses_what_it_cannot_cut_by() -> None:
    for scores, keep in ((np.array([0.1, np.nan]), 1), (np.array([0.1, 0.2]), 0), (np.array([0.1]), 1)):
        with pytest.raises(ValueError, match="a stage keeps at least one"):
            kept(scores, np.array([0, 2]), keep)


BY_SURFACE = PolicySettings(
    kind="epsilon_greedy",
    epsilon=0.2,
    surfaces={
        "search": SurfaceSettings(epsilon=0.02),
        "home": SurfaceSettings(kind="thompson", evidence=30),
        "similar": SurfaceSettings(kind="plackett_luce"),
    },
)


@given(
    pages=st.lists(st.tuples(st.sampled_from(["home", "search", "similar", "other", None]), PAGE), max_size=6),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_each_surface_has_its_own_policy(pages: list[tuple[str | None, list[float]]], seed: int) -> None:
    """Pages of several surfaces laid end to end get what each gets alone, by its surface's policy, at every place."""
    rng, first, place, logged, cut = np.random.default_rng(seed), [], [], [], []
    for surface, page in pages:
        scores, policy = np.array(page), BY_SURFACE.on(surface)
        left, at, chance = rng.random(len(page)) < 0.7, np.zeros(len(page), int), np.zeros(len(page))
        if left.any():
            order, chance[np.flatnonzero(left)[order]] = slate(scores[left], 2, policy, rng)
            at[np.flatnonzero(left)[order]] = np.arange(1, len(order) + 1)
        first.append(first_choice(scores, np.array([0, len(page)]), policy, left))
        place, logged, cut = [*place, *at], [*logged, *chance], [*cut, *left]
    surfaces = np.array([*(surface for surface, _ in pages), None], dtype=object)[:-1]
    offsets, scores = (
        np.cumsum([0, *(len(page) for _, page in pages)]),
        np.array([x for _, page in pages for x in page]),
    )
    kept_ = np.array(cut, dtype=bool)
    found = first_choice(scores, offsets, BY_SURFACE, kept_, surfaces)
    np.testing.assert_array_equal(found, np.concatenate([[], *first]))
    found = placed_choice(scores, offsets, np.array(place, dtype=int), BY_SURFACE, kept_, surfaces)
    np.testing.assert_allclose(found, logged, rtol=1e-9, atol=1e-12)


def test_a_surface_differs_in_what_is_said_of_it_alone() -> None:
    """The rest is the policy's own, for surfaces nobody named all of it."""
    assert BY_SURFACE.on("search") == PolicySettings(kind="epsilon_greedy", epsilon=0.02)
    assert BY_SURFACE.on("home") == PolicySettings(kind="thompson", epsilon=0.2, evidence=30)
    assert BY_SURFACE.on("similar").temperature == PolicySettings().temperature
    assert BY_SURFACE.on("other") == BY_SURFACE.on(None) == PolicySettings(kind="epsilon_greedy", epsilon=0.2)


def test_a_policy_by_surface_must_be_told_the_surface() -> None:
    """Propensities of another surface's policy would be wrong without a sign of it."""
    scores, offsets = np.full(3, 0.5), np.array([0, 2, 3])
    for surfaces, found in ((None, "none"), (np.array(["home"], dtype=object), "1")):
        with pytest.raises(ValueError, match=f"the surface of each of 2 segments; found {found}"):
            first_choice(scores, offsets, BY_SURFACE, None, surfaces)
        with pytest.raises(ValueError, match=f"the surface of each of 2 segments; found {found}"):
            placed_choice(scores, offsets, np.array([1, 0, 1]), BY_SURFACE, None, surfaces)
    with pytest.raises(ValueError, match="needs the policy of its surface; found those of search, home, similar"):
        slate(scores, 1, BY_SURFACE, np.random.default_rng(0))


def test_a_surface_sets_only_what_its_kind_of_policy_reads() -> None:
    """An epsilon that nothing reads would be a share of exploration that never comes."""
    with pytest.raises(ValueError, match="surface search has a policy of kind plackett_luce, which reads no epsilon"):
        PolicySettings(surfaces={"search": {"epsilon": 0.1}})  # type: ignore[dict-item]
    for wrong in ({"epsilon": 1.5, "kind": "epsilon_greedy"}, {"temperature": 0.0}, {"explores": 0.1}):
        with pytest.raises(ValueError, match=r"surfaces\.search"):
            PolicySettings(surfaces={"search": wrong})  # type: ignore[dict-item]
