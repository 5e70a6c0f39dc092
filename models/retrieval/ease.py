"""EASE: the linear model that foretells each item from all others, in closed form."""

from collections.abc import Mapping
from typing import Self

import numpy as np

from models.retrieval.interactions import Floats, Interactions, Ints, Sparse
from models.retrieval.popularity import FILE as POPULAR_FILE
from models.retrieval.popularity import popularity
from models.retrieval.protocol import array_bytes, array_of, need_width
from models.settings import RetrievalSettings

WEIGHTS_FILE, ITEMS_FILE = "ease.weights.npy", "ease.items.npy"


class Ease:
    """min |X - X B|² + l2 |B|² with a diagonal of zeros: B = I - P diag(1 / diag P), P = (X'X + l2 I)^-1 (Steck 2019).

    X is who took up what, 0 or 1. Items without interactions have weights of 0; the others' are kept in single
    precision, 4 bytes x items².
    """

    kind = "ease"

    def __init__(self, weights: Floats, items: Ints, popular: Floats) -> None:
        """`weights` (m, m) between the m `items` that have interactions, ascending codes."""
        self._weights, self._items, self.popular = weights, items, popular

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """One inverse; raises ValueError for more than `ease.max_items` items with interactions."""
        popular = popularity(interactions, settings.half_life_days)
        matrix = (interactions.matrix() > 0).astype(np.float64)
        items = np.flatnonzero(np.asarray(matrix.sum(axis=0)) > 0)
        if len(items) > settings.ease.max_items:
            raise ValueError(f"EASE is for at most {settings.ease.max_items} items; found {len(items)}")
        known = matrix[:, items]
        gram = (known.T @ known).toarray()
        gram[np.diag_indices_from(gram)] += settings.ease.l2
        inverse = np.linalg.inv(gram)
        weights = -inverse / np.diag(inverse)
        weights[np.diag_indices_from(weights)] = 0.0
        return cls(weights.astype(np.float32), items, popular)

    def scores(self, history: Sparse) -> Floats:
        """What the history foretells of each item; its weights do not matter."""
        need_width(history, len(self.popular))
        found = np.zeros(history.shape)
        known = (history > 0).astype(np.float32)[:, self._items]
        found[:, self._items] = known @ self._weights
        return found

    def to_files(self) -> dict[str, bytes]:
        """Weights, their items and the popularity, as arrays."""
        arrays = {WEIGHTS_FILE: self._weights, ITEMS_FILE: self._items, POPULAR_FILE: self.popular}
        return {name: array_bytes(array) for name, array in arrays.items()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very retriever `to_files` wrote."""
        return cls(array_of(files[WEIGHTS_FILE]), array_of(files[ITEMS_FILE]), array_of(files[POPULAR_FILE]))
