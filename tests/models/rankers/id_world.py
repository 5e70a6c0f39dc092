"""Clicks that depend on who and what: users, items and their match have effects no number tells of. The truth is known.

A click's logit is a base, the user's own, the item's own around its category's, and the product of their two tastes; a
conversion's depends on the item. Numbers hold a little of it and much noise, with values missing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.rankers.features import CATEGORICAL, NUMERIC
from models.rankers.protocol import Floats, TrainingData

LISTED = 10


@dataclass(frozen=True)
class Drawn:
    """n rows and what is true of each."""

    data: TrainingData
    p_click: Floats
    p_conversion: Floats


class IdWorld:
    """Fixed tastes; `rows` draws impressions of them."""

    def __init__(self, users: int = 800, items: int = 400, categories: int = 12, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.users, self.items, self.categories = users, items, categories
        self.category = rng.integers(0, categories, items)
        self.item = (0.6 * rng.standard_normal(categories))[self.category] + 0.7 * rng.standard_normal(items)
        self.buys = 0.8 * rng.standard_normal(items)
        self.user = 0.6 * rng.standard_normal(users)
        self.tastes = rng.standard_normal((users, 2))
        kinds = rng.standard_normal((categories, 2))
        self.kind = (0.8 * kinds[self.category] + 0.4 * rng.standard_normal((items, 2))) * 0.6
        liked = self.tastes @ self.kind.T + 0.3 * rng.gumbel(size=(users, items))
        self.last = np.argsort(-liked, axis=1)[:, :LISTED]

    def rows(self, n: int, seed: int, first_item: int = 0) -> Drawn:
        """Impressions of items from `first_item` on, each user and item as likely as any other."""
        rng = np.random.default_rng(seed)
        u, i = rng.integers(0, self.users, n), rng.integers(first_item, self.items, n)
        match = (self.tastes[u] * self.kind[i]).sum(axis=1)
        number = rng.standard_normal((n, len(NUMERIC)))
        logit = -2.0 + self.user[u] + self.item[i] + match + 0.5 * number[:, 1]
        p_click = 1 / (1 + np.exp(-logit))
        p_given = 1 / (1 + np.exp(1.0 - self.buys[i]))
        number[rng.random(number.shape) < 0.1] = np.nan
        features: dict[str, Any] = {name: number[:, at].copy() for at, name in enumerate(NUMERIC)}
        features["position"] = rng.integers(1, 5, n).astype(float)
        for name in CATEGORICAL:
            features[name] = np.array([None, "a", "b"], dtype=object)[rng.integers(0, 3, n)]
        words = np.array([f"c{k}" for k in range(self.categories)], dtype=object)
        items = np.array([f"i{k}" for k in range(self.items)], dtype=object)
        features["item_category"] = words[self.category[i]]
        features["attributes.hour"] = np.array([f"h{k}" for k in range(24)], dtype=object)[rng.integers(0, 24, n)]
        features["item_id"] = items[i]
        features["user_id"] = np.array([f"u{k}" for k in range(self.users)], dtype=object)[u]
        last = items[self.last[u]]
        last[rng.random(last.shape) < 0.3] = None
        features["last_items"] = last
        clicked = (rng.random(n) < p_click).astype(float)
        converted = clicked * (rng.random(n) < p_given)
        return Drawn(TrainingData(features, clicked, converted, np.ones(n)), p_click, p_click * p_given)


def log_loss(y: Floats, p: Floats) -> float:
    """The mean, in nats."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(y > 0, np.log(p), np.log1p(-p))))


def excess(truth: Floats, p: Floats) -> float:
    """By how much p's expected log-loss exceeds the truth's, in nats: no draw's noise in it."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(np.mean(truth * np.log(truth / p) + (1 - truth) * np.log((1 - truth) / (1 - p))))
