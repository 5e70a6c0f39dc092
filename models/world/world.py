"""The simulated world: what users would click and buy, known exactly, so that every estimate can be held to it.

Click model: P(click) = examination(surface, position) x sigmoid(appeal(user, item, day)) (position-based model,
Richardson et al. 2007); clicks on a page are independent given what was shown. `World` holds the expectations,
`models.world.day` draws from them. Not there yet: anonymous users, seasonality, slate effects, attacks.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.settings import WorldSettings
from models.world.population import Floats, Ints, Items, Users, centres

SURFACES = ("home", "search", "similar")
SURFACE_SHARES = (0.6, 0.25, 0.15)
SURFACE_LOGIT = np.array([0.0, 0.15, -0.1])
POSITION_DECAY = np.array([0.6, 0.9, 0.45])
"""Examination falls as position ** -decay."""
TOP_EXAMINATION = 0.6
"""How many visitors look even at the top place."""
DEVICES = ("mobile", "desktop", "tablet")
REGIONS = ("north", "south", "east", "west")

TASTE_LOGIT = 1.1
"""Standard deviation of the personal part of the appeal."""
NOVELTY_LOGIT, NOVELTY_DAYS = 0.5, 4.0
LOGGED_TASTE = 0.2
"""How weakly the logging policy is personalised: its score's part of the personal appeal."""


@dataclass(frozen=True)
class World:
    """The world of `settings`; everything about a day is computable without the days before it."""

    settings: WorldSettings

    @property
    def span(self) -> tuple[date, date]:
        """First and last day."""
        first = self.settings.first_day
        return first, first + timedelta(days=self.settings.days - 1)

    def index(self, day: date) -> int:
        """Days since the first; raises ValueError naming the span for a day outside it."""
        first, last = self.span
        if not first <= day <= last:
            raise ValueError(f"the simulated world has the days {first}..{last}; found {day}")
        return (day - first).days

    @cached_property
    def _centres(self) -> tuple[Floats, Floats]:
        return centres(self.settings)

    @property
    def category_centres(self) -> Floats:
        """Where categories lie in the latent space, (categories, latent_dimensions)."""
        return self._centres[1]

    @cached_property
    def users(self) -> Users:
        """All users, those who sign up later included."""
        return Users.of(self.settings, self._centres[0])

    @cached_property
    def items(self) -> Items:
        """All items of the world's days in order of arrival; `items_on` says how many exist on a day."""
        items = Items.cohort(self.settings, self._centres[1], 0)
        for day in range(1, self.settings.days):
            items += Items.cohort(self.settings, self._centres[1], day)
        return items

    def items_on(self, day: int) -> int:
        """How many items exist on day index `day`: the first that many of `items`."""
        return self.settings.items + day * self.settings.new_items_per_day

    # -- expectations -----------------------------------------------------------------------------
    def taste(self, day: int, users: Ints) -> Floats:
        """The users' tastes on a day, (n, latent_dimensions): each walks its own straight way."""
        moved = self.users.taste[users] + self.settings.drift_per_day * day * self.users.drift[users]
        return np.asarray(moved / np.sqrt(1 + (self.settings.drift_per_day * day) ** 2))

    def affinity(self, day: int, users: Ints, items: Ints) -> Floats:
        """How well items suit users, unit variance: (n,) and (n,) give (n,); (n,) and (n, m) give (n, m)."""
        taste, character = self.taste(day, users), self.items.character[items]
        product = np.einsum("nd,n...d->n...", taste, character)
        return np.asarray(product / np.sqrt(self.settings.latent_dimensions))

    def appeal(self, day: int, users: Ints, items: Ints, surface: Ints) -> Floats:
        """The click logit at the top position; `users`, `surface` (n,), `items` (n,) or (n, m)."""
        age = np.maximum(day - self.items.created_day[items], 0)
        novelty = NOVELTY_LOGIT * np.exp(-age / NOVELTY_DAYS)
        common = self.settings.base_click_logit + self.items.quality[items] + novelty
        place = SURFACE_LOGIT[surface].reshape(-1, *[1] * (items.ndim - 1))
        return np.asarray(common + place + TASTE_LOGIT * self.affinity(day, users, items))

    def click_probability(self, day: int, users: Ints, items: Ints, surface: Ints, position: Ints | int = 1) -> Floats:
        """P(click | shown), exact, in [0, 1]; shapes as in `appeal`, `position` (1 is the top) broadcast to `items`.

        An item of -1 (an empty place) is never clicked.
        """
        decay = POSITION_DECAY[surface].reshape(-1, *[1] * (items.ndim - 1))
        examined = TOP_EXAMINATION * np.asarray(position, dtype=np.float64) ** -decay
        return np.where(items >= 0, examined * sigmoid(self.appeal(day, users, items, surface)), 0.0)

    def purchase_probability(self, day: int, users: Ints, items: Ints) -> Floats:
        """P(purchase | click), exact; shapes as in `affinity`."""
        rate = self.settings.purchase_rate
        logit = np.log(rate / (1 - rate)) - 0.4  # clicks go to what suits, so the mean logit lies above the base
        return sigmoid(logit + self.items.appetite[items] + 0.4 * self.affinity(day, users, items))

    def logging_scores(self, day: int, users: Ints, items: Ints) -> Floats:
        """What the logging policy ranks by: reputation, and a little of the user's taste."""
        return np.asarray(self.items.reputation[items] + LOGGED_TASTE * self.affinity(day, users, items))

    def true_value(self, day: int, users: Ints, candidates: Ints, surface: Ints, probabilities: Floats) -> float:
        """A policy's expected clicks at the top position per request, by expectation, not by sampling.

        `candidates` (n, m) item indices and `probabilities` (n, m) of each at the first placement, rows summing to 1.
        Raises ValueError where they do not.
        """
        if probabilities.shape != candidates.shape or not np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-6):
            raise ValueError(
                f"true_value needs probabilities of shape {candidates.shape} with rows summing to 1; "
                f"found shape {probabilities.shape}, sums {probabilities.sum(axis=1)[:3]}"
            )
        clicks = self.click_probability(day, users, candidates, surface)
        return float((probabilities * clicks).sum(axis=1).mean())


def sigmoid(logit: Floats) -> NDArray[np.float64]:
    """1 / (1 + exp(-logit))."""
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))
