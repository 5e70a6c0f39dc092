"""One day of the world, drawn: requests, what was shown how probably, clicks, purchases, and how they were logged.

Times are whole microseconds since the first midnight of the world. Every kind of draw has its own stream, and draws
belong to a request and a place on its page: showing something else there leaves all other draws as they were.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.world.policy import draw_candidates, plackett_luce
from models.world.population import Floats, Ints, stream
from models.world.world import DEVICES, SURFACE_SHARES, SURFACES, World

Bools = NDArray[np.bool_]

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
REQUEST_STREAM, POLICY_STREAM, CLICK_STREAM, PURCHASE_STREAM, TRANSPORT_STREAM = 11, 12, 13, 14, 15
LOGGING_POLICY = "logging"

DELAY_KNOTS = (
    (0.0, 20 * SECOND),
    (0.34, 1 * HOUR),
    (0.52, 24 * HOUR),
    (0.80, 72 * HOUR),
    (1.0, 7 * 24 * HOUR - 1 * SECOND),
)
"""Click-to-purchase delay: share of purchases made by then; log-linear in between."""
HOURLY_TRAFFIC = np.array(
    [4, 3, 2, 1, 1, 1, 2, 4, 6, 7, 7, 8, 9, 8, 7, 7, 7, 8, 10, 12, 13, 12, 9, 6], dtype=np.float64
)


@dataclass(frozen=True)
class Requests:
    """n requests in order of time, with what retrieval offered: `candidates` (n, m) item indices."""

    time: Ints
    user: Ints
    surface: Ints
    device: Ints
    topic: Ints
    """The category searched for, -1 off the search surface."""
    source_item: Ints
    """The item whose page this is, -1 off the similar surface."""
    candidates: Ints


@dataclass(frozen=True)
class Shown:
    """What was placed: `item` (n, slate) item indices, -1 for an empty place, and `propensity` (NaN: not known).

    `policy` (n,) indexes `policies`.
    """

    item: Ints
    propensity: Floats
    policy: Ints
    policies: tuple[str, ...] = (LOGGING_POLICY,)


@dataclass(frozen=True)
class Outcomes:
    """What came of each place, (n, slate): times are those of the event, whatever day that is; -1 where none."""

    click_time: Ints
    purchase_time: Ints


@dataclass(frozen=True)
class Transport:
    """How events reached the log, (n, slate) each: days late (0, 1, 2), lag inside the day, whether logged twice."""

    impression_late: Ints
    click_late: Ints
    purchase_late: Ints
    lag: Ints
    impression_twice: Bools
    click_twice: Bools
    purchase_twice: Bools


@dataclass(frozen=True)
class Day:
    """Everything that started on one day."""

    index: int
    requests: Requests
    shown: Shown
    outcomes: Outcomes
    transport: Transport


def draw_requests(world: World, day: int) -> Requests:
    """The requests of a day, with candidates."""
    settings, users, items = world.settings, world.users, world.items
    rng = stream(settings, REQUEST_STREAM, day)
    n = settings.requests_per_day
    hour = rng.choice(24, n, p=HOURLY_TRAFFIC / HOURLY_TRAFFIC.sum())
    time = np.sort(day * DAY + hour * HOUR + rng.integers(0, HOUR, n))
    rate = np.cumsum(np.where(users.created_day <= day, users.activity, 0.0))
    user = np.minimum(np.searchsorted(rate, rng.random(n) * rate[-1], side="right"), len(rate) - 1)
    surface = rng.choice(len(SURFACES), n, p=SURFACE_SHARES)
    device = rng.choice(len(DEVICES), n, p=[0.62, 0.3, 0.08])
    exists = world.items_on(day)
    category = items.category[:exists]
    weight = np.exp(0.5 * items.reputation[:exists])
    source = np.minimum(np.searchsorted(np.cumsum(weight), rng.random(n) * weight.sum(), side="right"), exists - 1)
    wanted = world.taste(day, user) @ world.category_centres.T / np.sqrt(settings.latent_dimensions)
    topic = np.argmax(wanted + rng.gumbel(size=wanted.shape), axis=1)
    stocked = np.isin(topic, category)
    topic = np.where((surface == SURFACES.index("search")) & stocked, topic, -1)
    source = np.where(surface == SURFACES.index("similar"), source, -1)
    about = np.where(source >= 0, category[source], topic)
    candidates = draw_candidates(rng, weight, category, about, min(settings.candidates, exists))
    return Requests(time, user, surface, device, topic, source, candidates)


def show(world: World, day: int, requests: Requests) -> Shown:
    """The logging policy's slates."""
    scores = world.logging_scores(day, requests.user, requests.candidates)
    rng = stream(world.settings, POLICY_STREAM, day)
    columns, propensity = plackett_luce(
        rng, scores, world.settings.logging_temperature, min(world.settings.slate_size, scores.shape[1])
    )
    item = np.take_along_axis(requests.candidates, columns, axis=1)
    return Shown(item, propensity, np.zeros(len(item), dtype=np.int64))


def respond(world: World, day: int, requests: Requests, shown: Shown) -> Outcomes:
    """Clicks and purchases, by the world's own probabilities, of what was really shown."""
    shape = shown.item.shape
    rng = stream(world.settings, CLICK_STREAM, day)
    position = np.arange(1, shape[1] + 1)
    chance = world.click_probability(day, requests.user, shown.item, requests.surface, position)
    clicked = rng.random(shape) < chance
    wait = 2 * SECOND + (rng.exponential(25.0, shape) * SECOND).astype(np.int64)
    click_time = np.where(clicked, requests.time[:, None] + wait, -1)
    rng = stream(world.settings, PURCHASE_STREAM, day)
    bought = clicked & (rng.random(shape) < world.purchase_probability(day, requests.user, shown.item))
    purchase_time = np.where(bought, click_time + delay(rng.random(shape)), -1)
    return Outcomes(click_time, purchase_time)


def delay(quantile: Floats) -> Ints:
    """The click-to-purchase delay in microseconds at each quantile in [0, 1)."""
    at, by = zip(*DELAY_KNOTS, strict=True)
    return np.exp(np.interp(quantile, at, np.log(by))).astype(np.int64)


def bought_within(wait: int) -> float:
    """The share of purchases made at most `wait` microseconds after their click, exact: `delay` read backwards."""
    at, by = zip(*DELAY_KNOTS, strict=True)
    return float(np.interp(np.log(wait), np.log(by), at))


def transport(world: World, day: int, shape: tuple[int, ...]) -> Transport:
    """Which events arrive late (a whole page at a time, or a click or purchase alone) and which arrive twice."""
    rng = stream(world.settings, TRANSPORT_STREAM, day)
    late, twice = world.settings.late_share, world.settings.duplicate_share
    page = np.where(rng.random((shape[0], 1)) < late, rng.integers(1, 3, (shape[0], 1)), 0)
    alone = [np.where(rng.random(shape) < late, rng.integers(1, 3, shape), 0) for _ in range(2)]
    return Transport(
        impression_late=np.broadcast_to(page, shape),
        click_late=np.maximum(page, alone[0]),
        purchase_late=alone[1],
        lag=rng.integers(SECOND // 10, 30 * SECOND, shape),
        impression_twice=rng.random(shape) < twice,
        click_twice=rng.random(shape) < twice,
        purchase_twice=rng.random(shape) < twice,
    )


def draw_day(world: World, day: int, shown: Shown | None = None) -> Day:
    """Day index `day`, any day in any order; `shown` replaces the logging policy's slates."""
    requests = draw_requests(world, day)
    placed = show(world, day, requests) if shown is None else shown
    outcomes = respond(world, day, requests, placed)
    return Day(day, requests, placed, outcomes, transport(world, day, placed.item.shape))


def answered(shown: Shown, rows: Ints, item: Ints, propensity: Floats, policy: list[str]) -> Shown:
    """`shown` with the slates of `rows` replaced; raises ValueError where the slates differ in size."""
    if item.shape != (len(rows), shown.item.shape[1]) or propensity.shape != item.shape:
        raise ValueError(f"slates of size {shown.item.shape[1]} are needed; found {item.shape}, {propensity.shape}")
    names = (*shown.policies, *sorted(set(policy) - set(shown.policies)))
    items, propensities, policies = shown.item.copy(), shown.propensity.copy(), shown.policy.copy()
    items[rows], propensities[rows] = item, propensity
    policies[rows] = [names.index(name) for name in policy]
    return replace(shown, item=items, propensity=propensities, policy=policies, policies=names)
