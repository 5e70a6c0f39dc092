"""Days of the simulated world as `monitor` sees them, quiet or with an incident planted, without a lake or a stage.

The model that is watched is trained anew every week and knows most of the truth: its probabilities are the expected
click rates given a noisy view of a user's taste and of an item's worth, put level on the week before.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Finding
from models.monitoring import day as figures
from models.monitoring.day import Held, Traffic
from models.monitoring.profile import Profile
from models.settings import GateSettings, WatchSettings, WorldSettings
from models.world import DAY, DEVICES, REGIONS, SURFACES, World, draw_day
from models.world.population import stream
from models.world.world import TASTE_LOGIT, sigmoid

GATE = GateSettings()
SECOND = 1_000_000
FEATURE_STREAM, MODEL_STREAM = 41, 42
WEEK = 7
KNOWN_TASTE = 0.8
"""Correlation of what the model sees of a user's liking with the liking itself."""
Floats = NDArray[np.float64]
Plant = Callable[["Watched", int], Traffic]


def world(seed: int, requests: int) -> World:
    """One whose tastes walk far in two months, and whose catalogue grows a little every day."""
    return World(
        WorldSettings(
            seed=seed, days=120, users=requests, items=1_500, new_items_per_day=5, requests_per_day=requests,
            drift_per_day=0.03, logging_temperature=0.9,
        )
    )  # fmt: skip


@dataclass
class Watched:
    """A world and its days, each drawn once."""

    world: World
    days: dict[int, Traffic] = field(default_factory=dict)
    profiles: dict[int, Profile] = field(default_factory=dict)

    def day(self, index: int) -> Traffic:
        """A quiet day."""
        if index not in self.days:
            self.days[index] = self.level(self.drawn(index), index)
        return self.days[index]

    def drawn(self, index: int, stale_days: int = 0) -> Traffic:
        """A day whose model is not yet put level."""
        return _traffic(self.world, index, stale_days)

    def level(self, traffic: Traffic, index: int) -> Traffic:
        """With the model's probabilities times what makes its week level: it learned from what came before."""
        return replace(traffic, p_click=np.minimum(traffic.p_click * self._factor(index), 1.0))

    def profile(self, index: int) -> Profile:
        """Of the week before the newest training."""
        last = index - index % WEEK
        if last not in self.profiles:
            week = [self.day(last - back) for back in range(WEEK, 0, -1)]
            columns = {name: np.concatenate([one.features[name] for one in week]) for name in week[0].features}
            columns["p_click"] = np.concatenate([one.p_click for one in week])
            users, surface = (np.concatenate([getattr(one, name) for one in week]) for name in ("users", "surface"))
            days = np.repeat(np.arange(WEEK), [len(one) for one in week])
            self.profiles[last] = Profile.of(columns, users, surface, days=days)
        return self.profiles[last]

    @cached_property
    def _factors(self) -> dict[int, float]:
        return {}

    def _factor(self, index: int) -> float:
        week = index // WEEK
        if week not in self._factors:
            before = [self.drawn(one) for one in (week * WEEK - 1, week * WEEK - 3) if one >= 0]
            clicked, promised = (sum(float(getattr(t, name).sum()) for t in before) for name in ("clicked", "p_click"))
            self._factors[week] = clicked / promised if before else 1.0
        return self._factors[week]


def _traffic(world: World, index: int, stale_days: int = 0) -> Traffic:
    """What a day looks like to `monitor`: the first placements' features, labels, scores and propensities."""
    drawn = draw_day(world, index)
    asked, shown, came = drawn.requests, drawn.shown, drawn.outcomes
    n, places = shown.item.shape
    user, item = np.repeat(asked.user, places), shown.item.reshape(-1)
    surface, position = np.repeat(asked.surface, places), np.tile(np.arange(1, places + 1), n)
    clicked = (came.click_time >= 0).reshape(-1).astype(np.float64)
    bought = ((came.purchase_time >= 0) & (came.purchase_time < (index + 1) * DAY)).reshape(-1).astype(np.float64)
    time = np.repeat(asked.time, places)
    features = _features(world, index, user, item, position, asked.device.repeat(places))
    waited = (came.click_time.reshape(-1) - time + drawn.transport.lag.reshape(-1)) / SECOND
    later = (came.purchase_time.reshape(-1) - time) / SECOND
    return Traffic(
        features=features,
        users=user,
        requests=np.repeat(np.arange(n), places),
        surface=np.array(SURFACES, object)[surface],
        position=position.astype(np.float64),
        clicked=clicked,
        converted=bought,
        p_click=_model(world, index, user, item, surface, position, stale_days),
        p_conversion=np.full(len(user), np.nan),
        propensity=shown.propensity.reshape(-1),
        candidates=np.full(len(user), float(asked.candidates.shape[1])),
        age_days=features["item_age_days"],
        waits={
            "click": (waited[clicked > 0], user[clicked > 0]),
            "conversion": (later[later > 0], user[later > 0]),
        },
        keys=(user, item, time % DAY, position),
    )


def _features(world: World, index: int, user: Any, item: Any, position: Any, device: Any) -> dict[str, NDArray[Any]]:
    """Counts and rates that wander from day to day as a window's do, and words."""
    rng = stream(world.settings, FEATURE_STREAM, index)
    users, items = world.users, world.items
    seen = rng.poisson(20 * users.activity * np.clip((index - users.created_day) / 30, 0, 1)).astype(np.float64)
    liked = rng.binomial(seen.astype(np.int64), 0.08)
    since = np.where(liked > 0, np.floor(rng.exponential(10 / (1 + 0.1 * liked))), np.nan)
    rate = (rng.poisson(400 * sigmoid(items.quality - 2.4)) + 8) / 500
    age = np.maximum(index - items.created_day, 0).astype(np.float64)
    region = np.array(REGIONS, object)[users.region]
    category = np.array([f"category-{number}" for number in range(world.settings.categories)], object)
    return {
        "user_impressions": seen[user],
        "user_click_rate": ((liked + 4) / (seen + 50))[user],
        "user_days_since_click": since[user],
        "region": region[user],
        "device": np.array(DEVICES, object)[device],
        "position": position.astype(np.float64),
        "item_click_rate": rate[item],
        "item_age_days": age[item],
        "item_price": items.price[item],
        "item_category": category[items.category[item]],
    }


def _model(world: World, index: int, user: Any, item: Any, surface: Any, position: Any, stale_days: int) -> Floats:
    """P(click) given a noisy view of liking and worth, as of some days ago; items of since then are unknown to it."""
    rng = stream(world.settings, MODEL_STREAM, index)
    now = max(0, index - 1 - stale_days)
    liking = KNOWN_TASTE * world.affinity(now, user, item)
    liking += np.sqrt(1 - KNOWN_TASTE**2) * rng.standard_normal(len(user))
    exact = world.click_probability(index, user, item, surface, position)
    logit_there = world.appeal(index, user, item, surface)
    examined = exact / sigmoid(logit_there)
    known = np.where(world.items.created_day[item] <= now, world.items.quality[item], 0.0)
    unknown = world.items.quality[item] - known
    logit = logit_there - unknown - TASTE_LOGIT * world.affinity(index, user, item) + TASTE_LOGIT * KNOWN_TASTE * liking
    # What is not seen is averaged over: a normal of the rest's variance, three points of Gauss and Hermite.
    rest = TASTE_LOGIT * np.sqrt(1 - KNOWN_TASTE**2)
    mean = (sigmoid(logit - np.sqrt(3) * rest) + 4 * sigmoid(logit) + sigmoid(logit + np.sqrt(3) * rest)) / 6
    return np.asarray(examined * mean)


# -- judging ------------------------------------------------------------------------------------------------------
History = dict[tuple[str, str], list[Finding]]
"""Metric and surface to its figures of the days before, oldest first."""


def held(watched: Watched, index: int, traffic: Traffic, before: History, settings: WatchSettings) -> list[Held]:
    """Every figure of a day, judged."""
    confidence = GATE.confidence

    def days(metric: str, surface: str) -> Sequence[Finding]:
        return before.get((metric, surface), [])[-settings.baseline_days :]

    def all_of_it() -> Iterator[Held]:
        yield from figures.drifts(traffic, watched.profile(index), settings, confidence)
        yield from figures.levels(figures.rates(traffic, confidence), days, settings)
        yield figures.repeats(traffic, watched.day(index - 1).keys, settings, confidence)
        yield from figures.promises(traffic, settings, GATE)

    return figures.judged(list(all_of_it()), settings)


def remember(history: History, found: Sequence[Held]) -> None:
    """A quiet day's figures join the days before."""
    for one in found:
        if not one.alarm:
            history.setdefault((one.metric, one.surface), []).append(one.finding)


# -- incidents ----------------------------------------------------------------------------------------------------
def _changed(traffic: Traffic, **features: NDArray[Any]) -> Traffic:
    return replace(traffic, features={**traffic.features, **features})


def broken_feature(watched: Watched, index: int) -> Traffic:
    """One feature, another each time, is null everywhere, one value everywhere, or in another unit."""
    traffic = watched.day(index)
    numbers = [name for name, of in traffic.features.items() if of.dtype != object and name != "position"]
    name = numbers[index % len(numbers)]
    values = traffic.features[name]
    kinds = (np.full(len(values), np.nan), np.full(len(values), np.nanmedian(values)), values * 100)
    return _changed(traffic, **{name: kinds[index % 3]})


def drifted_population(watched: Watched, index: int) -> Traffic:
    """A campaign brings people of one region, of whom nothing is known: three in ten requests are theirs."""
    traffic = watched.day(index)
    new = np.random.default_rng(index).random(int(traffic.requests.max()) + 1) < 0.3
    there = new[traffic.requests]
    features = dict(traffic.features)
    features["user_impressions"] = np.where(there, 0.0, features["user_impressions"])
    features["user_days_since_click"] = np.where(there, np.nan, features["user_days_since_click"])
    features["region"] = np.where(there, "west", features["region"])
    return replace(traffic, features=features)


def stale_model(watched: Watched, index: int) -> Traffic:
    """The endpoint answers with the world's first model, six weeks old or more; it costs about .05 of AUC."""
    return watched.level(watched.drawn(index, stale_days=index), index)


def halved_clicks(watched: Watched, index: int) -> Traffic:
    """Every second click is lost."""
    traffic = watched.day(index)
    kept = np.random.default_rng(index).random(len(traffic)) < 0.5
    return replace(traffic, clicked=traffic.clicked * kept)


def bot_flood(watched: Watched, index: int) -> Traffic:
    """Five users add a tenth to the requests, and never click."""
    traffic = watched.day(index)
    rng = np.random.default_rng(index)
    copied = np.flatnonzero(rng.random(int(traffic.requests.max()) + 1)[traffic.requests] < 0.1)
    more = traffic.of(copied)
    bots = traffic.users.max() + 1 + rng.integers(0, 5, int(traffic.requests.max()) + 1)[more.requests]
    keys = (bots, *more.keys[1:])
    more = replace(more, users=bots, requests=more.requests + traffic.requests.max() + 1, keys=keys)
    return together(traffic, replace(more, clicked=np.zeros(len(more)), converted=np.zeros(len(more))))


def mislogged_propensities(watched: Watched, index: int) -> Traffic:
    """Those of another temperature than was drawn at."""
    traffic = watched.day(index)
    return replace(traffic, propensity=traffic.propensity**1.5)


def day_twice(watched: Watched, index: int) -> Traffic:
    """Upstream delivers the day twice, under new ids."""
    traffic = watched.day(index)
    return together(traffic, replace(traffic, requests=traffic.requests + traffic.requests.max() + 1))


def doubled_delay(watched: Watched, index: int) -> Traffic:
    """Clicks and conversions take twice as long to be heard of."""
    traffic = watched.day(index)
    waits = {name: (2 * seconds, users) for name, (seconds, users) in traffic.waits.items()}
    return replace(traffic, waits=waits)


def together(one: Traffic, other: Traffic) -> Traffic:
    """Both on one day."""
    names = [name for name in one.__dataclass_fields__ if name not in ("features", "keys", "waits")]
    whole: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    features = {name: np.concatenate([of, other.features[name]]) for name, of in one.features.items()}
    keys = tuple(np.concatenate([a, b]) for a, b in zip(one.keys, other.keys, strict=True))
    return Traffic(features=features, keys=keys, waits=one.waits, **whole)


INCIDENTS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        broken_feature, drifted_population, stale_model, halved_clicks, bot_flood, mislogged_propensities, day_twice,
        doubled_delay,
    )
}  # fmt: skip
