"""Popularity: how often an item was taken up lately; what every other retriever must beat."""

from collections.abc import Mapping
from typing import Self

import numpy as np

from models.retrieval.interactions import Floats, Interactions, Sparse, need_some
from models.retrieval.protocol import array_bytes, array_of, need_width
from models.settings import RetrievalSettings

FILE = "popular.npy"


def popularity(interactions: Interactions, half_life_days: float) -> Floats:
    """(items,): weights of an item's interactions added up, each halved for every half-life before the newest."""
    need_some(interactions)
    age = interactions.time.max() - interactions.time
    decayed = interactions.weight * 0.5 ** (age / half_life_days)
    found: Floats = np.bincount(interactions.item, weights=decayed, minlength=interactions.items).astype(np.float64)
    return found


class PopularityRetriever:
    """The same answer for everyone: `popularity`."""

    kind = "popularity"

    def __init__(self, popular: Floats) -> None:
        self.popular = popular

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """Sums; see `Retriever.fit`."""
        return cls(popularity(interactions, settings.half_life_days))

    def scores(self, history: Sparse) -> Floats:
        """The items' popularity, whatever the history."""
        need_width(history, len(self.popular))
        return np.tile(self.popular, (history.shape[0], 1))

    def to_files(self) -> dict[str, bytes]:
        """One array."""
        return {FILE: array_bytes(self.popular)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very retriever `to_files` wrote."""
        return cls(array_of(files[FILE]))
