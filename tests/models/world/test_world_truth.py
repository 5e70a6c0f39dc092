"""The world's expectations are the very probabilities its draws follow: else no estimate could be held to them."""

import numpy as np
import pytest

from models.settings import WorldSettings
from models.world import SURFACES, World, draw_day
from models.world.day import DAY, HOUR, bought_within, delay
from models.world.policy import draw_candidates, plackett_luce, softmax
from models.world.world import LOGGED_TASTE, TASTE_LOGIT

TINY = WorldSettings(
    days=12, users=300, items=120, new_items_per_day=3, categories=8, requests_per_day=400, candidates=10
)
BUSY = TINY.model_copy(update={"requests_per_day": 20_000})
LARGE = WorldSettings(days=14, users=4_000, items=600, requests_per_day=6_000)


@pytest.fixture(scope="module")
def large():
    """A world with enough data to learn from, and its days."""
    world = World(LARGE)
    return world, [draw_day(world, day) for day in range(LARGE.days)]


def _taste_policy(world: World, day: int, users, candidates):
    """A target policy far enough from the logging one to be worth re-weighting."""
    return softmax(world.logging_scores(day, users, candidates) + world.affinity(day, users, candidates), 0.8)


def test_a_day_is_the_same_whichever_days_came_before():
    """A lookup of one day must not depend on the path to it: ingest runs days in any order and again."""
    forwards, backwards = World(TINY), World(TINY)
    one = [draw_day(forwards, day) for day in range(6)]
    other = [draw_day(backwards, day) for day in reversed(range(6))][::-1]
    for a, b in zip(one, other, strict=True):
        for part in ("requests", "shown", "outcomes", "transport"):
            for name, value in vars(getattr(a, part)).items():
                np.testing.assert_array_equal(value, getattr(getattr(b, part), name), err_msg=f"{part}.{name}")


def test_a_longer_world_begins_like_a_shorter_one_in_its_catalogue():
    """New items come in cohorts of their own streams: asking for more days must not reshuffle what exists."""
    short, long = World(TINY).items, World(TINY.model_copy(update={"days": 30})).items
    np.testing.assert_array_equal(short.character, long.character[: len(short)])


def test_another_seed_is_another_world():
    """Else seeds would be decoration."""
    one = draw_day(World(TINY), 0).shown.item
    assert (one != draw_day(World(TINY.model_copy(update={"seed": 1})), 0).shown.item).any()


def test_candidates_are_distinct_and_exist():
    """A repeated candidate would have two propensities; an item from the future cannot be shown."""
    world = World(TINY)
    for day in (0, 11):
        candidates = draw_day(world, day).requests.candidates
        assert candidates.shape == (TINY.requests_per_day, TINY.candidates)
        assert all(len(set(row)) == TINY.candidates for row in candidates.tolist())
        assert candidates.min() >= 0
        assert candidates.max() < world.items_on(day)


def test_candidates_fill_up_when_a_topic_has_too_few_items():
    """A search in a one-item category must still offer a full list."""
    rng = np.random.default_rng(0)
    category = np.array([0, *[1] * 11])
    found = draw_candidates(rng, np.ones(12), category, np.zeros(200, dtype=np.int64), 12)
    assert all(sorted(row) == list(range(12)) for row in found.tolist())


def test_propensities_are_the_frequencies_of_the_draws():
    """What is logged as a probability must be how often it happens, at the first place and given the first, later."""
    scores = np.array([1.2, 0.3, 0.0, -0.8, 0.5])
    n = 200_000
    slate, propensity = plackett_luce(np.random.default_rng(1), np.tile(scores, (n, 1)), 0.6, 3)
    first = softmax(scores[None], 0.6)[0]
    assert first.sum() == pytest.approx(1.0)
    seen = np.bincount(slate[:, 0], minlength=5) / n
    np.testing.assert_allclose(seen, first, atol=4 * np.sqrt(0.25 / n))
    np.testing.assert_allclose(propensity[:, 0], first[slate[:, 0]], rtol=1e-12)
    given = slate[:, 0] == 0
    second = first / (1 - first[0])
    seen = np.bincount(slate[given, 1], minlength=5) / given.sum()
    np.testing.assert_allclose(seen[1:], second[1:], atol=4 * np.sqrt(0.25 / given.sum()))
    np.testing.assert_allclose(propensity[given, 1], second[slate[given, 1]], rtol=1e-12)


def test_logged_propensities_are_those_of_the_logging_scores():
    """The propensity in the log is the first-placement softmax over that request's own candidates."""
    world = World(TINY)
    day = draw_day(world, 3)
    users, candidates = day.requests.user, day.requests.candidates
    chances = softmax(world.logging_scores(3, users, candidates), TINY.logging_temperature)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    placed = candidates == day.shown.item[:, :1]
    assert (placed.sum(axis=1) == 1).all()
    np.testing.assert_allclose(day.shown.propensity[:, 0], chances[placed])


def test_clicks_follow_the_stated_probabilities_at_every_place():
    """Per surface and position, observed clicks agree with the exact expectation within 4 sigma."""
    world = World(BUSY)
    day = draw_day(world, 2)
    position = np.arange(1, day.shown.item.shape[1] + 1)
    chance = world.click_probability(2, day.requests.user, day.shown.item, day.requests.surface, position)
    clicked = day.outcomes.click_time >= 0
    for surface in range(len(SURFACES)):
        rows = day.requests.surface == surface
        error = np.sqrt((chance[rows] * (1 - chance[rows])).sum(axis=0))
        assert (np.abs((clicked[rows] - chance[rows]).sum(axis=0)) < 4 * error).all()
    assert (np.diff(chance.mean(axis=0)) < 0).all(), "the page is looked at from the top"


def test_true_value_is_what_a_simulation_of_the_policy_would_find():
    """By expectation and by Monte Carlo, the same number within 4 sigma."""
    world = World(TINY)
    requests = draw_day(world, 5).requests
    target = _taste_policy(world, 5, requests.user, requests.candidates)
    exact = world.true_value(5, requests.user, requests.candidates, requests.surface, target)
    rng, rounds = np.random.default_rng(3), 300
    chance = world.click_probability(5, requests.user, requests.candidates, requests.surface)
    upto = np.cumsum(target, axis=1)
    found = []
    for _ in range(rounds):
        column = np.minimum((rng.random((len(target), 1)) > upto).sum(axis=1), target.shape[1] - 1)
        found.append((rng.random(len(target)) < chance[np.arange(len(target)), column]).mean())
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / np.sqrt(rounds)


def test_true_value_refuses_what_is_not_a_policy():
    """Unnormalised scores handed in as probabilities would give a value that looks fine and is not."""
    world = World(TINY)
    requests = draw_day(world, 0).requests
    with pytest.raises(ValueError, match="rows summing to 1"):
        world.true_value(0, requests.user, requests.candidates, requests.surface, np.ones(requests.candidates.shape))


def test_reweighted_logs_cover_the_truth():
    """IPS and SNIPS of a known policy on logged first placements agree with its true value: support is real."""
    world = World(BUSY)
    for index in range(3):
        day = draw_day(world, index)
        users, candidates = day.requests.user, day.requests.candidates
        target = _taste_policy(world, index, users, candidates)
        truth = world.true_value(index, users, candidates, day.requests.surface, target)
        weight = target[candidates == day.shown.item[:, :1]] / day.shown.propensity[:, 0]
        clicked = day.outcomes.click_time[:, 0] >= 0
        ips = weight * clicked
        assert abs(ips.mean() - truth) < 4 * ips.std() / np.sqrt(len(ips))
        snips = ips.sum() / weight.sum()
        error = np.sqrt(((weight * (clicked - snips)) ** 2).sum()) / weight.sum()
        assert abs(snips - truth) < 4 * error
        assert weight.mean() == pytest.approx(1.0, abs=0.05)


def test_personalisation_pays_and_popularity_is_decent(large):
    """A user's past clicks by category beat item popularity clearly, and popularity beats chance."""
    world, days = large
    clicks, views = np.zeros(len(world.items)), np.zeros(len(world.items))
    mine = np.zeros((2, LARGE.users, LARGE.categories))
    for day in days[:-1]:
        item, clicked = day.shown.item, day.outcomes.click_time >= 0
        user = np.broadcast_to(day.requests.user[:, None], item.shape)
        seen = np.broadcast_to(np.arange(1, item.shape[1] + 1) ** -0.6, item.shape)
        np.add.at(clicks, item, clicked)
        np.add.at(views, item, seen)
        np.add.at(mine[0], (user, world.items.category[item]), clicked)
        np.add.at(mine[1], (user, world.items.category[item]), seen)
    rate = clicks.sum() / views.sum()
    popularity = (clicks + 20 * rate) / (views + 20)
    interest = (mine[0] + 5 * rate) / (mine[1] + 5)
    last = days[-1].requests
    category = world.items.category[last.candidates]
    chance = np.full(last.candidates.shape, 1 / last.candidates.shape[1])

    def value(scores):
        best = np.zeros(scores.shape)
        best[np.arange(len(best)), scores.argmax(axis=1)] = 1.0
        return world.true_value(13, last.user, last.candidates, last.surface, best)

    popular = value(popularity[last.candidates])
    personal = value(popularity[last.candidates] * interest[last.user[:, None], category])
    assert popular > 1.3 * world.true_value(13, last.user, last.candidates, last.surface, chance)
    assert personal > 1.05 * popular


def test_the_top_of_the_page_is_clicked_as_often_as_real_ones(large):
    """8 to 16 % at the top: realistic noise, so that intervals in the demo mean something."""
    _, days = large
    top = np.mean([(day.outcomes.click_time[:, 0] >= 0).mean() for day in days])
    assert 0.08 < top < 0.16


def test_purchases_come_with_the_stated_delays(large):
    """About a third within the hour, half within the day, none after seven days: maturity rests on it."""
    _, days = large
    waits = np.concatenate(
        [(d.outcomes.purchase_time - d.outcomes.click_time)[d.outcomes.purchase_time >= 0] for d in days]
    )
    assert 0.28 < (waits <= HOUR).mean() < 0.40
    assert 0.46 < (waits <= DAY).mean() < 0.58
    assert waits.min() > 0
    assert waits.max() < 7 * DAY
    assert (waits > 5 * DAY).mean() > 0.03
    assert (np.diff(delay(np.linspace(0, 1, 1001))) >= 0).all()
    bought = np.mean([(d.outcomes.purchase_time >= 0).sum() / (d.outcomes.click_time >= 0).sum() for d in days])
    assert bought == pytest.approx(LARGE.purchase_rate, abs=0.02)


def test_the_share_bought_by_then_is_the_delays_read_backwards(large):
    """Exact for any window of attribution: where a window is short, part of the purchases is nobody's."""
    quantiles = np.linspace(0.001, 0.999, 99)
    found = [bought_within(int(wait)) for wait in delay(quantiles)]
    np.testing.assert_allclose(found, quantiles, atol=1e-6)
    assert bought_within(7 * DAY) == bought_within(30 * DAY) == 1.0
    assert bought_within(1) == 0.0
    _, days = large
    waits = np.concatenate(
        [(d.outcomes.purchase_time - d.outcomes.click_time)[d.outcomes.purchase_time >= 0] for d in days]
    )
    for window in (1, 2, 5):
        share = bought_within(window * DAY)
        assert abs((waits < window * DAY).mean() - share) < 4 * np.sqrt(share * (1 - share) / len(waits))


def test_tastes_drift_as_far_as_the_setting_says():
    """Yesterday's model must age, at a pace that is a setting; without drift nobody changes."""
    everybody = np.arange(LARGE.users)
    for pace in (0.0, 0.05):
        world = World(LARGE.model_copy(update={"drift_per_day": pace}))
        moved = world.taste(10, everybody) - world.taste(0, everybody)
        assert np.sqrt((moved**2).mean()) == pytest.approx(10 * pace, rel=0.15, abs=1e-9)


def test_the_logging_policy_is_only_weakly_personal():
    """Else there would be nothing for a challenger to win."""
    assert LOGGED_TASTE < 0.3 * TASTE_LOGIT


def test_a_day_outside_the_world_is_an_error_that_names_the_span():
    """A typo in a day must not extrapolate."""
    world = World(TINY)
    with pytest.raises(ValueError, match=r"2026-01-01\.\.2026-01-12"):
        world.index(TINY.first_day.replace(year=2027))
