"""Pages whose items wear each other out, and arms of heuristics over one ranker whose true values are enumerated."""

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.policies.choice import placed_choice
from models.settings import HeuristicSettings, PolicySettings

Floats = NDArray[np.float64]
KINDS, ITEMS, PLACES = 4, 5, 3
"""Kinds of requests; items to choose from; places of a page."""
PAGES = np.array(list(permutations(range(ITEMS), PLACES)))
CATEGORY = np.array(["tea", "tea", "mugs", "mugs", "cups"], object)
LOGGING = PolicySettings(temperature=1.5)
PRESENT = "present"


def arm(**rules: Any) -> PolicySettings:
    return PolicySettings(temperature=1.0, heuristics=HeuristicSettings.model_validate(rules))


ARMS = {
    PRESENT: arm(),
    "diverse": arm(repeats=[{"times": 0.2}]),
    "more tea": arm(boosts=[{"word": "tea", "times": 2.0}]),
    "one of each": arm(caps=[{"most": 1}]),
    "more cups": arm(boosts=[{"word": "cups", "times": 1.5}]),
}


@dataclass(frozen=True)
class TuningWorld:
    """`tired`: what a click is worth beside one more item of the same category above. 1.0 with `alike` items: every
    page earns the same, so that no arm is better than another.
    """

    seed: int = 0
    tired: float = 0.5
    alike: bool = False

    @cached_property
    def worth(self) -> Floats:
        """(KINDS, ITEMS) P(click) alone."""
        rng = np.random.default_rng(self.seed)
        if self.alike:
            return np.repeat(rng.uniform(0.1, 0.3, (KINDS, 1)), ITEMS, axis=1)
        return rng.uniform(0.1, 0.3, (KINDS, ITEMS))

    @cached_property
    def scores(self) -> Floats:
        """What a ranker says, which knows nothing of the page."""
        return np.clip(self.worth * np.random.default_rng(self.seed + 1).uniform(0.7, 1.3, self.worth.shape), 0, 1)

    def chances(self, policy: PolicySettings) -> Floats:
        """(KINDS, pages, PLACES) of each placement given those above."""
        offsets, place = np.arange(len(PAGES) + 1) * ITEMS, np.zeros((len(PAGES), ITEMS), int)
        np.put_along_axis(place, PAGES, np.arange(1, PLACES + 1)[None], 1)
        words = {"item_category": np.tile(CATEGORY, len(PAGES))}
        found = []
        for kind in range(KINDS):
            of = placed_choice(np.tile(self.scores[kind], len(PAGES)), offsets, place.ravel(), policy, words=words)
            found.append(np.take_along_axis(of.reshape(place.shape), PAGES, 1))
        return np.array(found)

    @cached_property
    def clicks(self) -> Floats:
        """(KINDS, pages, PLACES) P(click)."""
        category = CATEGORY[PAGES]
        above = np.array([[list(page[:k]).count(page[k]) for k in range(PLACES)] for page in category])
        return self.worth[:, PAGES] * self.tired ** above[None]

    @cached_property
    def of_arms(self) -> dict[str, Floats]:
        return {name: self.chances(policy) for name, policy in ARMS.items()}

    @cached_property
    def logging(self) -> Floats:
        return self.chances(LOGGING)

    @cached_property
    def values(self) -> dict[str, float]:
        """What a page of each arm earns, without sampling."""
        totals = self.clicks.sum(axis=2)
        return {name: float((of.prod(axis=2) * totals).sum(axis=1).mean()) for name, of in self.of_arms.items()}

    def log(self, pages: int, seed: int) -> dict[str, Any]:
        """Placements as `tuned` takes them."""
        rng = np.random.default_rng(seed)
        kind, page = rng.integers(0, KINDS, pages), np.zeros(pages, int)
        probability = self.logging.prod(axis=2)
        for number in range(KINDS):
            mine = kind == number
            page[mine] = rng.choice(len(PAGES), mine.sum(), p=probability[number])
        placed = np.arange(pages).repeat(PLACES)
        return {
            "slate": placed,
            "position": np.tile(np.arange(1, PLACES + 1), pages),
            "reward": (rng.random((pages, PLACES)) < self.clicks[kind, page]).ravel().astype(float),
            "logged": self.logging[kind, page].ravel(),
            "arms": {name: of[kind, page].ravel() for name, of in self.of_arms.items()},
            "present": PRESENT,
            "clusters": placed,
            "places": PLACES,
        }
