"""Who and what lives in the world: users and items with latent tastes, fixed by the seed and a day's drift.

Items come in cohorts (one on the first day, a small one every day after), each with its own random stream, so any day
can be looked at alone and a longer world has the same beginning.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.settings import WorldSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SEGMENTS = 6
USER_STREAM, DRIFT_STREAM, CENTRE_STREAM, ITEM_STREAM = 1, 2, 3, 4
SEGMENT_SHARE = 0.6
"""How much of the variance of a user's taste its segment explains."""
CATEGORY_SHARE = 0.85
"""How much of the variance of an item's character its category explains."""
OLD_USERS_SHARE = 0.9
"""The rest of the users sign up while the world runs."""
BACK_CATALOGUE_DAYS = 365


def stream(settings: WorldSettings, kind: int, *place: int) -> np.random.Generator:
    """The random numbers of one thing at one place (a day, a cohort): independent of what was drawn before."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, kind, *place])))


@dataclass(frozen=True)
class Users:
    """Arrays of length users; `taste` and `drift` are (users, latent_dimensions) of unit variance."""

    taste: Floats
    drift: Floats
    segment: Ints
    region: Ints
    activity: Floats
    """Relative rate of visits; lognormal, so a few users make much of the traffic."""
    created_day: Ints
    """Day index (negative: before the world began)."""

    @classmethod
    def of(cls, settings: WorldSettings, centres: Floats) -> Self:
        """The users of the world, with `centres` the tastes of their segments (SEGMENTS, latent_dimensions)."""
        n, dimensions = settings.users, settings.latent_dimensions
        rng = stream(settings, USER_STREAM)
        segment = rng.integers(0, SEGMENTS, n)
        own = rng.standard_normal((n, dimensions))
        taste = np.sqrt(SEGMENT_SHARE) * centres[segment] + np.sqrt(1 - SEGMENT_SHARE) * own
        region = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
        activity = rng.lognormal(0.0, 1.0, n)
        new = rng.random(n) >= OLD_USERS_SHARE
        created = np.where(new, rng.integers(1, settings.days + 1, n), -rng.integers(1, BACK_CATALOGUE_DAYS, n))
        drift = stream(settings, DRIFT_STREAM).standard_normal((n, dimensions))
        return cls(taste, drift, segment, region, activity, created)


@dataclass(frozen=True)
class Items:
    """Arrays of length items, in order of arrival; `character` is (items, latent_dimensions)."""

    character: Floats
    category: Ints
    quality: Floats
    """Logit every user agrees on."""
    reputation: Floats
    """What the logging policy believes of the quality: right on average, and noisy."""
    appetite: Floats
    """Logit of buying after a click."""
    price: Floats
    tier: Ints
    created_day: Ints

    @classmethod
    def cohort(cls, settings: WorldSettings, centres: Floats, day: int) -> Self:
        """The items that appear on day index `day`; day 0 brings the back catalogue."""
        n = settings.items if day == 0 else settings.new_items_per_day
        rng = stream(settings, ITEM_STREAM, day)
        category = rng.integers(0, settings.categories, n)
        own = rng.standard_normal((n, settings.latent_dimensions))
        character = np.sqrt(CATEGORY_SHARE) * centres[category] + np.sqrt(1 - CATEGORY_SHARE) * own
        quality = 0.6 * rng.standard_normal(n)
        known = 1.0 if day == 0 else 0.0  # nobody knows yet what a new item is worth
        reputation = known * (0.8 * quality + 0.25 * rng.standard_normal(n))
        price = np.round(np.exp(3.0 + 0.3 * quality + 0.5 * rng.standard_normal(n)), 2)
        appetite = -0.3 * (np.log(price) - 3.0) + 0.3 * rng.standard_normal(n)
        tier = np.digitize(quality + 0.6 * rng.standard_normal(n), [-0.4, 0.5])
        created = -rng.integers(1, BACK_CATALOGUE_DAYS, n) if day == 0 else np.full(n, day)
        return cls(character, category, quality, reputation, appetite, np.asarray(price, np.float64), tier, created)

    def __len__(self) -> int:
        return len(self.category)

    def __add__(self, later: "Items") -> "Items":
        return Items(*(np.concatenate([getattr(self, f.name), getattr(later, f.name)]) for f in fields(self)))


def centres(settings: WorldSettings) -> tuple[Floats, Floats]:
    """Where segments (SEGMENTS, d) and categories (categories, d) lie in the latent space; unit variance."""
    rng = stream(settings, CENTRE_STREAM)
    return (
        rng.standard_normal((SEGMENTS, settings.latent_dimensions)),
        rng.standard_normal((settings.categories, settings.latent_dimensions)),
    )
