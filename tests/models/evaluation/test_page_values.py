"""Whole pages of two policies against a world where what stands above matters and every page can be enumerated."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.off_policy import snips, snips_difference
from models.evaluation.page_values import SIDES, Depth, PageStatistics
from models.evaluation.slates import rips, snrips
from models.policies.choice import placed_choice
from models.settings import GateSettings, PolicySettings

KINDS, ITEMS, PLACES = 3, 5, 3
"""Kinds of requests; items to choose from; places of a page."""
PAGES = np.array(list(permutations(range(ITEMS), PLACES)))
WORTH = np.random.default_rng(5).uniform(0.1, 0.7, (KINDS, ITEMS))
SCORES = {
    "logging": np.tile(np.linspace(0.2, 0.5, ITEMS), (KINDS, 1)),
    "champion": np.random.default_rng(6).uniform(0.2, 0.5, (KINDS, ITEMS)),
    "challenger": 0.5 * WORTH,
}
POLICIES = {
    "logging": PolicySettings(temperature=1.0),
    "champion": PolicySettings(kind="epsilon_greedy", epsilon=0.7),
    "challenger": PolicySettings(temperature=0.8),
}
STOPS = 0.5
"""Chance that a click ends the visit: what stands below is then never seen, nor logged."""
LENIENT = GateSettings(
    min_effective_n=20, max_weight_share=0.2, max_tail_shape=5, max_mean_weight_z=9, min_decisions_that_matter=1
)
Arrays = dict[str, Any]


def chances(side: str) -> np.ndarray:
    """(KINDS, pages, PLACES) of each placement given those above, by the policy's own function."""
    offsets = np.arange(len(PAGES) + 1) * ITEMS
    place = np.zeros((len(PAGES), ITEMS), int)
    np.put_along_axis(place, PAGES, np.arange(1, PLACES + 1)[None], 1)
    of_kind = []
    for kind in range(KINDS):
        scores = np.tile(SCORES[side][kind], len(PAGES))
        found = placed_choice(scores, offsets, place.ravel(), POLICIES[side]).reshape(place.shape)
        of_kind.append(np.take_along_axis(found, PAGES, 1))
    return np.array(of_kind)


CHANCES = {side: chances(side) for side in SCORES}


def clicks(kind: np.ndarray, page: np.ndarray) -> np.ndarray:
    """P(click at each place | seen): an item after a much better one looks worse."""
    worth = np.take_along_axis(WORTH[kind], page, 1)
    above = np.concatenate([np.zeros((len(page), 1)), np.maximum.accumulate(worth, axis=1)[:, :-1]], axis=1)
    return worth / (1.0 + 2.0 * above)


def truth(side: str, places: int) -> float:
    """Expected clicks per page on its first places, over every page and every place it may end at."""
    total = 0.0
    for kind in range(KINDS):
        p = clicks(np.full(len(PAGES), kind), PAGES)
        seen = np.cumprod(np.concatenate([np.ones((len(p), 1)), 1 - STOPS * p[:, :-1]], axis=1), axis=1)
        total += float(CHANCES[side][kind].prod(axis=1) @ (seen * p)[:, :places].sum(axis=1)) / KINDS
    return total


def log(n: int, seed: int, users: int | None = None) -> Arrays:
    """n pages of the logging policy as far down as their users looked, placements laid end to end."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users or n, n)
    kind = (user + rng.integers(0, KINDS, n)) % KINDS
    of_page = CHANCES["logging"].prod(axis=2)
    which = (rng.random((n, 1)) > np.cumsum(of_page, axis=1)[kind]).sum(axis=1)
    p = clicks(kind, PAGES[which])
    clicked = rng.random(p.shape) < p
    ends = clicked & (rng.random(p.shape) < STOPS)
    seen = np.cumsum(np.concatenate([np.zeros((n, 1), int), ends[:, :-1]], axis=1), axis=1) == 0
    page, place = np.nonzero(seen)
    return {
        "slate": page,
        "position": place + 1,
        "reward": clicked[seen].astype(float),
        "clusters": user[page],
        **{
            name: CHANCES[side][kind[page], which[page], place]
            for name, side in (("logged", "logging"), ("champion", "champion"), ("challenger", "challenger"))
        },
    }


def depths(arrays: Arrays, settings: GateSettings = LENIENT) -> list[Depth]:
    return PageStatistics.of(**arrays, places=PLACES).depths(settings)


def same(one: Finding, other: Finding) -> None:
    """All six figures of two estimates."""
    assert isinstance(one, Estimate)
    assert one.as_dict() == pytest.approx(other.as_dict(), rel=1e-9)


def test_the_first_place_alone_is_the_value_of_the_first_choice() -> None:
    """Two code paths for one figure: value, interval and effective n of both sides, their difference, and the logs."""
    arrays = log(3_000, seed=1, users=900)
    first = arrays["position"] == 1
    row = {name: arrays[name][first] for name in arrays}
    shared = {"reward": row["reward"], "logged": row["logged"], "clusters": row["clusters"], "settings": GateSettings()}
    found = depths(arrays, GateSettings())[0]
    for side, target in zip(SIDES, ("champion", "challenger", "logged"), strict=True):
        same(getattr(found, side), snips(**shared, target=row[target]))
    difference = snips_difference(**shared, champion=row["champion"], challenger=row["challenger"])
    same(found.difference, difference)


def test_every_depth_finds_what_the_world_would_pay() -> None:
    """100,000 pages: each figure within its own narrow interval of the enumerated truth, at every depth."""
    for found in depths(log(100_000, seed=2)):
        for side in SIDES:
            estimate, exact = getattr(found, side), truth(side, found.places)
            assert isinstance(estimate, Estimate)
            assert abs(estimate.value - exact) < 3.5 * estimate.stderr < 0.04, (side, found.places)
        assert isinstance(found.difference, Estimate)
        exact = truth("challenger", found.places) - truth("champion", found.places)
        assert abs(found.difference.value - exact) < 3.5 * found.difference.stderr


def test_the_first_place_cannot_stand_for_the_page() -> None:
    """What this is for: here the difference on the page is another one than that of the first place times three."""
    apart = [truth("challenger", k) - truth("champion", k) for k in (1, 2, 3)]
    assert len({round(figure, 2) for figure in apart}) == 3


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """150 logs of 1,000 pages of 400 users: 95 % intervals at every depth, 2.5 binomial standard errors allowed for."""
    logs, held = 150, np.zeros((PLACES, 2))
    exact = [(truth("challenger", k), truth("challenger", k) - truth("champion", k)) for k in range(1, PLACES + 1)]
    for seed in range(logs):
        for k, depth in enumerate(depths(log(1_000, seed=1_000 + seed, users=400))):
            for which, estimate in enumerate((depth.challenger, depth.difference)):
                assert isinstance(estimate, Estimate), estimate
                held[k, which] += estimate.low <= exact[k][which] <= estimate.high
    assert (np.abs(held / logs - 0.95) < 2.5 * np.sqrt(0.95 * 0.05 / logs)).all(), held / logs


def test_batches_add_up_whatever_the_split() -> None:
    """A user's pages in any batch, in any order: the same figures, so that a day may be read in parts."""
    arrays = log(900, seed=3, users=300)
    batch = arrays["slate"] % 3
    parts = [PageStatistics.of(**{name: a[batch == b] for name, a in arrays.items()}, places=PLACES) for b in (2, 0, 1)]
    for found, whole in zip((parts[0] + parts[1] + parts[2]).depths(LENIENT), depths(arrays), strict=True):
        for side in (*SIDES, "difference"):
            same(getattr(found, side), getattr(whole, side))
    with pytest.raises(ValueError, match="one number of places; found 3 and 2"):
        parts[0] + PageStatistics.of(**arrays, places=2)


def test_it_stops_where_the_weights_can_carry_no_more() -> None:
    """The refused depth says why, and for both sides' difference too; nothing is said of deeper ones."""
    arrays = log(3_000, seed=4)
    worth = [min(side.effective_n for side in (found.champion, found.challenger)) for found in depths(arrays)]
    assert worth[0] > worth[1] > worth[2]
    strict = GateSettings(min_effective_n=(worth[1] + worth[2]) / 2)
    found = depths(arrays, strict)
    assert isinstance(found[1].difference, Estimate)
    assert isinstance(found[2].difference, Refusal)
    assert "effective n" in found[2].difference.reason
    assert len(depths(arrays, GateSettings(min_effective_n=5_000))) == 1


def test_self_normalising_takes_the_chance_of_who_was_drawn_out() -> None:
    """A reward of one everywhere is worth the number of places for sure; `rips` only on average."""
    arrays = log(2_000, seed=5)
    whole = np.bincount(arrays["slate"])[arrays["slate"]] == PLACES
    given = {name: arrays[name][whole] for name in ("slate", "position", "logged")}
    given |= {"target": arrays["challenger"][whole], "reward": np.ones(int(whole.sum()))}
    assert snrips(**given).value == pytest.approx(PLACES, abs=1e-12)
    assert snrips(**given).stderr == 0
    assert rips(**given).stderr > 0.01


@pytest.mark.parametrize("change", [{"places": 0}, {"position": 1}])
def test_what_is_no_page_is_refused(change: Arrays) -> None:
    arrays = log(20, seed=6)
    if "position" in change:
        change = {"position": np.ones_like(arrays["position"])}
    with pytest.raises(ValueError, match="need"):
        PageStatistics.of(**({**arrays, "places": PLACES} | change))
