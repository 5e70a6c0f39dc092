"""Item-item collaborative filtering: what those who took up the same items also took up, by the cosine of items."""

from collections.abc import Mapping
from typing import Self

import numpy as np

from models.retrieval.interactions import Floats, Interactions, Sparse
from models.retrieval.popularity import FILE as POPULAR_FILE
from models.retrieval.popularity import popularity
from models.retrieval.protocol import array_bytes, array_of, need_width, sparse_files, sparse_of
from models.settings import RetrievalSettings

NAME = "neighbours"


class ItemCF:
    """A history scores an item by the sum of its similarities to the history's items (Deshpande & Karypis 2004).

    similarity(i, j) = x_i . x_j / (|x_i| |x_j| + shrinkage), where x_i is the item's column of users; 0 to itself, and
    only the nearest neighbours of an item are kept. Users with very many items make its cost: their square each.
    """

    kind = "item_cf"

    def __init__(self, neighbours: Sparse, popular: Floats) -> None:
        """`neighbours` (items, items): row i holds the similarities of i's neighbours."""
        self._neighbours = neighbours
        self.popular = popular

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """Sparse sums; see `Retriever.fit`."""
        popular = popularity(interactions, settings.half_life_days)
        return cls(_neighbours(interactions.matrix(), settings.item_cf.neighbours, settings.item_cf.shrinkage), popular)

    def scores(self, history: Sparse) -> Floats:
        """Sums of similarities; weights of the history do not matter."""
        need_width(history, len(self.popular))
        return np.asarray(((history > 0).astype(np.float64) @ self._neighbours).toarray())

    def to_files(self) -> dict[str, bytes]:
        """The similarities and the popularity, as arrays."""
        return {**sparse_files(NAME, self._neighbours), POPULAR_FILE: array_bytes(self.popular)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very retriever `to_files` wrote."""
        return cls(sparse_of(NAME, files), array_of(files[POPULAR_FILE]))


def _neighbours(matrix: Sparse, kept: int, shrinkage: float) -> Sparse:
    """(items, items) similarities, the `kept` largest of each row, ties to the smaller code."""
    from scipy.sparse import csr_array

    length = np.sqrt(np.asarray((matrix * matrix).sum(axis=0)))
    together = (matrix.T @ matrix).tocoo()
    row, column, value = together.row, together.col, together.data
    other = row != column
    row, column, value = row[other], column[other], value[other]
    value = value / (length[row] * length[column] + shrinkage)
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    near = rank < kept
    found = csr_array((value[near], (row[near], column[near])), shape=together.shape)
    found.sort_indices()
    return found
