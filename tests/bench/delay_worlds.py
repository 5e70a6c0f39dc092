"""Worlds of late conversions: clicks of the product's own world, and four laws of what they earn and when.

Clicks, their columns and P(conversion | click) are the simulated world's (`models.world`), drawn by its own functions;
a law moves the rate or the delay. Seen as a daily batch sees them, at the midnight after the last training day.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.delays.observed import Floats, Indices, Observed
from models.settings import WorldSettings
from models.world.day import DAY, delay, draw_requests, respond, show
from models.world.world import POSITION_DECAY, World, sigmoid

HORIZON = 7.0
"""Days a conversion may come after its click, the default attribution window."""
TRAIN_DAYS, TEST_DAYS, MOVED_DAYS = 28, 3, 7
"""The default training window; the days after the cut that are judged; how many days before the cut the law moved."""


@dataclass(frozen=True)
class Law:
    """What differs from the stable world. From `MOVED_DAYS` before the cut on: `rate` is added to the logit, delays are
    `stretch` times as long. `haste` per surface: the delay of quantile u is the world's of u ** haste, below 1 longer.
    """

    rate: float = 0.0
    stretch: float = 1.0
    haste: tuple[float, ...] = (1.0, 1.0, 1.0)


LAWS = {
    "stable": Law(),
    "rates rise": Law(rate=0.5),
    "delays stretch": Law(stretch=1.5),
    "delays by group": Law(haste=(0.5, 2.5, 1.0)),
}


@dataclass(frozen=True)
class Clicks:
    """n clicks: day they were made on, columns for a ranker, and what the law is told by."""

    day: Floats
    """With the time of day as its fraction."""
    numbers: NDArray[np.float32]
    codes: NDArray[np.int32]
    sizes: tuple[int, ...]
    surface: Indices
    user: Indices
    chance: Floats
    """P(conversion | click) in the stable world."""

    def __len__(self) -> int:
        return len(self.day)


@dataclass(frozen=True)
class Sample:
    """Clicks of one world: `p` of a conversion within the horizon, whether it converts, and after how many days."""

    clicks: Clicks
    p: Floats
    final: NDArray[np.bool_]
    delay: Floats

    def observed(self, rows: Indices) -> Observed:
        """What is known of some at the cut, in groups by surface."""
        age = TRAIN_DAYS - self.clicks.day[rows]
        waited = np.where(self.final[rows] & (self.delay[rows] <= age), self.delay[rows], np.nan)
        return Observed.of(age, waited, HORIZON, self.clicks.surface[rows])


@lru_cache(maxsize=1)
def clicks(seed: int, requests: int) -> Clicks:
    """All clicks of the training days and the days judged."""
    world = World(WorldSettings(seed=seed, requests_per_day=requests, days=TRAIN_DAYS + TEST_DAYS))
    days = [_clicks_of(world, day) for day in range(TRAIN_DAYS + TEST_DAYS)]
    day, numbers, codes, surface, user, chance = (np.concatenate([of[k] for of in days]) for k in range(6))
    known = day < TRAIN_DAYS
    numbers = (numbers - numbers[known].mean(axis=0)) / numbers[known].std(axis=0)
    sizes = tuple(int(size) + 1 for size in codes.max(axis=0))
    return Clicks(day, numbers.astype(np.float32), codes.astype(np.int32), sizes, surface, user, chance)


def _clicks_of(world: World, day: int) -> tuple[Floats, Floats, Indices, Indices, Indices, Floats]:
    requests = draw_requests(world, day)
    shown = show(world, day, requests)
    outcomes = respond(world, day, requests, shown)
    request, place = np.nonzero(outcomes.click_time >= 0)
    user, item = requests.user[request], shown.item[request, place]
    chance = world.purchase_probability(day, user, item)
    items, surface = world.items, requests.surface[request]
    age = np.log1p(day - items.created_day[item])
    # What an item earned before is a feature of the product too (`item_purchase_rate`): its logit, seen through noise.
    earned = (
        items.appetite[item] + 0.2 * np.random.default_rng([world.settings.seed, 5]).standard_normal(len(items))[item]
    )
    examined = -POSITION_DECAY[surface] * np.log1p(place)
    numbers = np.column_stack([np.log(items.price[item]), age, earned, examined])
    codes = np.column_stack(
        [surface, requests.device[request], world.users.region[user], world.users.segment[user], items.category[item],
         items.tier[item]]
    )  # fmt: skip
    return outcomes.click_time[request, place] / DAY, numbers, codes, surface, user, chance


def sample(seed: int, requests: int, law: Law) -> Sample:
    """What the clicks of a seed earn by a law. Every law draws from the same random numbers."""
    of = clicks(seed, requests)
    moved = of.day >= TRAIN_DAYS - MOVED_DAYS
    ever = sigmoid(np.log(of.chance / (1 - of.chance)) + np.where(moved, law.rate, 0.0))
    stretch = np.where(moved, law.stretch, 1.0)
    haste = np.array(law.haste)[of.surface]
    rng = np.random.default_rng([seed, 6])
    converts, quantile = rng.random(len(of)), rng.random(len(of))
    wait = stretch * delay(quantile**haste) / DAY
    within = _within(HORIZON / stretch) ** (1 / haste)
    return Sample(of, ever * within, (converts < ever) & (wait <= HORIZON), wait)


def _within(days: Floats) -> Floats:
    """The share of the world's delays up to so many days, read off `delay` on a fine grid."""
    grid = np.linspace(0, 1, 100_001)
    return np.interp(days * DAY, delay(grid), grid)
