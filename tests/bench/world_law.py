"""How far any ranker could come in the simulated world: the world's own law, learned from the very same clicks.

A ranker has to find the law and the numbers in it; here the law is given (`models.world`: who looks where, that appeal
is a quality and a product of eight tastes, how widely all of these spread), and only the numbers are learned.

    items told   every item's quality and character are told, a user's taste is learned from its clicks: no ranker
                 that sees clicks and columns can do better, but for what Laplace's approximation is off by
    law told     items are learned too, by variational Bayes (Jaakkola & Jordan 2000, "Bayesian parameter estimation
                 via variational methods", for the logistic; mean field between users and items as in Lim & Teh 2007,
                 "Variational Bayesian approach to movie rating prediction"), from clicks, categories, segments, price
                 and tier, with what the logging policy believes of each item told: more than its impressions show
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from models.world import World, draw_day
from models.world.population import CATEGORY_SHARE, SEGMENT_SHARE, Floats, Ints
from models.world.world import (
    NOVELTY_DAYS,
    NOVELTY_LOGIT,
    POSITION_DECAY,
    SURFACE_LOGIT,
    TASTE_LOGIT,
    TOP_EXAMINATION,
)

SWEEPS, STEPS = 40, 12
QUALITY_DRAWS = 400_000
PRICES, BELIEF = (0.3, 0.5), (0.8, 0.25)
"""How a price's logarithm and a reputation come of a quality: slope and spread of the noise (`models.world`)."""
TIER_NOISE, TIER_BOUNDS, QUALITY_SPREAD = 0.6, (-0.4, 0.5), 0.6


@dataclass(frozen=True)
class Seen:
    """n placements of the days before the last: who saw what, how likely at all, and what else speaks for a click."""

    user: Ints
    item: Ints
    clicked: Floats
    looked: Floats
    """(n,) P(examined)."""
    known: Floats
    """(n,) the logit but for quality and taste."""


def seen(world: World, days: int) -> Seen:
    """Of the logging policy's placements on the first `days`."""
    parts = []
    for index in range(days):
        day = draw_day(world, index)
        places = day.shown.item.shape[1]
        user, surface = (np.repeat(of, places) for of in (day.requests.user, day.requests.surface))
        item, position = day.shown.item.ravel(), np.tile(np.arange(1, places + 1), len(day.shown.item))
        looked = TOP_EXAMINATION * position ** -POSITION_DECAY[surface]
        clicked = (day.outcomes.click_time.ravel() >= 0).astype(np.float64)
        parts.append((user, item, clicked, looked, _novelty(world, index, item) + SURFACE_LOGIT[surface]))
    return Seen(*map(np.concatenate, zip(*parts, strict=True)))


def _novelty(world: World, day: int, item: Ints) -> Floats:
    age = np.maximum(day - world.items.created_day[item], 0)
    return np.asarray(world.settings.base_click_logit + NOVELTY_LOGIT * np.exp(-age / NOVELTY_DAYS))


@dataclass(frozen=True)
class Believed:
    """Means and second moments of (1, taste) of each user and (quality, character) of each item, scaled so that the
    product of a user's and an item's is what they add to the logit: (users, 1 + d) and (users, 1 + d, 1 + d), likewise.
    """

    users: tuple[Floats, Floats]
    items: tuple[Floats, Floats]

    def scores(self, world: World, day: int, user: Ints, candidates: Ints) -> Floats:
        """(n, m) the expected P(click), but for what a page's items have in common (MacKay 1992)."""
        mean = np.einsum("nd,nmd->nm", self.users[0][user], self.items[0][candidates])
        flat = [of.reshape(len(of), -1) for of in (self.users[1], self.items[1])]
        square = np.stack([flat[1][some] @ flat[0][of] for of, some in zip(user, candidates, strict=True)])
        spread = np.maximum(square - mean**2, 0.0)
        return expit((mean + _novelty(world, day, candidates)) / np.sqrt(1 + np.pi / 8 * spread))


def shares(world: World) -> dict[str, float]:
    """By name, of the last day's requests: the share of the way from the logging policy to the best choice."""
    last = world.settings.days - 1
    rows, day = seen(world, last), draw_day(world, last)
    asked = day.requests
    truth = world.click_probability(last, asked.user, asked.candidates, asked.surface)
    shown = np.take_along_axis(truth, (asked.candidates == day.shown.item[:, :1]).argmax(axis=1)[:, None], axis=1)
    found = {}
    for name, of in (("items told", told), ("law told", learned)):
        best = of(world, rows).scores(world, last, asked.user, asked.candidates).argmax(axis=1)
        value = np.take_along_axis(truth, best[:, None], axis=1)
        found[name] = float((value - shown).mean() / (truth.max(axis=1)[:, None] - shown).mean())
    return found


def told(world: World, rows: Seen) -> Believed:
    """Items known; each user's taste by Newton's method from its segment's, which is known too."""
    d, settings = world.settings.latent_dimensions, world.settings
    scale = TASTE_LOGIT / np.sqrt(d)
    item = np.column_stack([world.items.quality, scale * world.items.character])
    squares = item[:, :, None] * item[:, None, :]
    start = np.sqrt(SEGMENT_SHARE) * world._centres[0][world.users.segment]
    taste, prior = start.copy(), np.eye(d) / (1 - SEGMENT_SHARE)
    for _ in range(STEPS):
        logit = rows.known + item[rows.item, 0] + (item[rows.item, 1:] * taste[rows.user]).sum(axis=1)
        p = expit(logit)
        click = rows.looked * p
        slope = np.where(rows.clicked > 0, 1 - p, -click * (1 - p) / (1 - click))
        bend = click * (1 - p) ** 2 / (1 - click)
        gradient = _by_user(rows, slope, settings.users, item)[:, 1:] - (taste - start) @ prior
        precision = _by_user(rows, bend, settings.users, squares)[:, 1:, 1:] + prior
        taste += np.linalg.solve(precision, gradient[..., None])[..., 0]
    return Believed(_with_one(taste, np.linalg.inv(precision)), (item, squares))


def learned(world: World, rows: Seen) -> Believed:
    """Users, segments, items and categories by turns, `SWEEPS` times."""
    settings, d = world.settings, world.settings.latent_dimensions
    scale, segment, category = TASTE_LOGIT / np.sqrt(d), world.users.segment, world.items.category
    rng = np.random.default_rng(0)
    spreads = [scale * of for of in (SEGMENT_SHARE, 1 - SEGMENT_SHARE, CATEGORY_SHARE, 1 - CATEGORY_SHARE)]
    of_segments = np.sqrt(spreads[0]) * rng.standard_normal((segment.max() + 1, d))
    of_categories = np.sqrt(spreads[2]) * rng.standard_normal((settings.categories, d))
    quality, variance = _qualities(world)
    n = len(category)
    prior = np.zeros((n, 1 + d, 1 + d))
    prior[:, 0, 0], prior[:, 1:, 1:] = 1 / variance, np.eye(d) / spreads[3]
    users = _with_one(of_segments[segment], np.broadcast_to(np.eye(d) * spreads[1], (settings.users, d, d)))
    items = _items(np.column_stack([quality, of_categories[category]]), np.linalg.inv(prior))
    for _ in range(SWEEPS):
        weight, pull = _bounded(rows, users, items)
        precision = _by_user(rows, weight, settings.users, items[1])
        rest = _by_user(rows, pull, settings.users, items[0])[:, 1:] - precision[:, 1:, 0]
        covariance = np.linalg.inv(precision[:, 1:, 1:] + np.eye(d) / spreads[1])
        taste = np.einsum("nij,nj->ni", covariance, rest + of_segments[segment] / spreads[1])
        users = _with_one(taste, covariance)
        of_segments = _centres(taste, segment, len(of_segments), spreads[1] / spreads[0])
        weight, pull = _bounded(rows, users, items)
        precision = _by_item(rows, weight, n, users[1]) + prior
        start = np.column_stack([quality, of_categories[category]])
        rest = _by_item(rows, pull, n, users[0]) + np.einsum("nij,nj->ni", prior, start)
        covariance = np.linalg.inv(precision)
        items = _items(np.einsum("nij,nj->ni", covariance, rest), covariance)
        of_categories = _centres(items[0][:, 1:], category, settings.categories, spreads[3] / spreads[2])
    return Believed(users, items)


def _qualities(world: World) -> tuple[Floats, Floats]:
    """(items,) mean and variance of a quality given price, tier and what the logging policy believes of it."""
    items, rng = world.items, np.random.default_rng(0)
    drawn = QUALITY_SPREAD * rng.standard_normal(QUALITY_DRAWS)
    tier = np.digitize(drawn + TIER_NOISE * rng.standard_normal(len(drawn)), TIER_BOUNDS)
    of_tier = [drawn[tier == at] for at in range(len(TIER_BOUNDS) + 1)]
    mean, variance = (np.array([of(part) for part in of_tier])[items.tier] for of in (np.mean, np.var))
    believed = items.created_day < 0
    precision, pull = 1 / variance, mean / variance
    for value, (slope, noise), there in (
        (np.log(items.price) - 3.0, PRICES, np.ones(len(items.price))),
        (items.reputation, BELIEF, believed),
    ):
        precision = precision + there * slope**2 / noise**2
        pull = pull + there * slope * value / noise**2
    return pull / precision, 1 / precision


def _bounded(rows: Seen, users: tuple[Floats, Floats], items: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """(n,) the precision that a placement brings to its logit, and its pull; a place nobody looked at brings none."""
    mean = rows.known + np.einsum("nd,nd->n", users[0][rows.user], items[0][rows.item])
    flat = [of.reshape(len(of), -1) for of in (users[1], items[1])]
    square = np.empty(len(mean))
    for first in range(0, len(mean), 20_000):
        part = slice(first, first + 20_000)
        square[part] = np.einsum("nk,nk->n", flat[0][rows.user[part]], flat[1][rows.item[part]])
    size = np.sqrt(np.maximum(square + 2 * rows.known * mean - rows.known**2, 1e-8))
    never = np.exp(-mean / 2 - np.logaddexp(size / 2, -size / 2))
    looked = np.where(rows.clicked > 0, 1.0, rows.looked * never / (1 - rows.looked + rows.looked * never))
    weight = looked * np.tanh(size / 2) / (2 * size)
    return weight, (rows.clicked - 0.5) * looked - weight * rows.known


def _by_user(rows: Seen, weight: Floats, users: int, of_items: Floats) -> Floats:
    return _summed(rows.user, rows.item, weight, users, of_items)


def _by_item(rows: Seen, weight: Floats, items: int, of_users: Floats) -> Floats:
    return _summed(rows.item, rows.user, weight, items, of_users)


def _summed(to: Ints, of: Ints, weight: Floats, n: int, values: Floats) -> Floats:
    """(n, ...): for each of `to` the weighted sum of the (m, ...) `values` that its rows are `of`."""
    flat = values.reshape(len(values), -1)
    found: Floats = csr_array((weight, (to, of)), shape=(n, len(values))) @ flat
    return found.reshape(n, *values.shape[1:])


def _with_one(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Of (1, x)."""
    whole = np.column_stack([np.ones(len(mean)), mean])
    square = whole[:, :, None] * whole[:, None, :]
    square[:, 1:, 1:] += covariance
    return whole, square


def _items(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    return mean, mean[:, :, None] * mean[:, None, :] + covariance


def _centres(of: Floats, group: NDArray[np.int64], groups: int, ratio: float) -> Floats:
    """(groups, d) the members' mean, a little towards 0: `ratio` is the members' own variance over the centres'."""
    total = np.zeros((groups, of.shape[1]))
    np.add.at(total, group, of)
    return total / (np.bincount(group, minlength=groups) + ratio)[:, None]
