"""iALS: vectors of users and items whose inner products tell who took up what, by alternating least squares."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np

from models.retrieval.interactions import Floats, Interactions, Ints, Sparse
from models.retrieval.popularity import FILE as POPULAR_FILE
from models.retrieval.popularity import popularity
from models.retrieval.protocol import array_bytes, array_of, need_width
from models.settings import RetrievalSettings

VECTORS_FILE, SETTINGS_FILE = "ials.items.npy", "ials.json"
BLOCK = 512
"""Systems of equations solved in one call: each holds d² numbers."""


@dataclass(frozen=True)
class Penalty:
    """What keeps inner products small: of pairs not seen together, and of vectors, by how often they occur."""

    unobserved: float
    l2: float
    exponent: float

    def of(self, matrix: Sparse) -> Floats:
        """(rows,): what is added to the diagonal of each row's equations."""
        total = np.asarray(matrix.sum(axis=1)) + self.unobserved * matrix.shape[1]
        found: Floats = self.l2 * total**self.exponent
        return found


class Ials:
    """Matrix factorisation of implicit feedback (Hu, Koren & Volinsky 2008) by the recipe of Rendle et al. (2021).

        sum over seen pairs of weight (1 - w·h)²  +  unobserved x sum over all pairs of (w·h)²
            + l2 x sum over vectors of (own total weight + unobserved x how many it may meet)^exponent x |vector|²

    A user's vector is solved from the history when asked: those never seen in training are as well served.
    """

    kind = "ials"

    def __init__(self, vectors: Floats, penalty: Penalty, popular: Floats) -> None:
        """`vectors` (items, d) in single precision."""
        self._vectors, self._penalty, self.popular = vectors, penalty, popular
        self._wide = vectors.astype(np.float64)
        self._gram = _gram(self._wide)
        self._pull = penalty.unobserved * self._gram

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """Alternates between users and items; see `Retriever.fit`."""
        popular = popularity(interactions, settings.half_life_days)
        penalty = Penalty(settings.ials.unobserved, settings.ials.l2, settings.ials.l2_exponent)
        by_user = interactions.matrix()
        by_item = by_user.T.tocsr()
        d = settings.ials.dimensions
        rng = np.random.default_rng(settings.seed)
        items = rng.standard_normal((interactions.items, d)) * settings.ials.start / np.sqrt(d)
        for _ in range(settings.ials.iterations):
            users = solved(by_user, items, _gram(items), penalty)
            items = solved(by_item, users, _gram(users), penalty)
        return cls(items.astype(np.float32), penalty, popular)

    @property
    def item_vectors(self) -> Floats:
        """(items, d); zeros for an item without interactions."""
        return self._wide

    def user_vectors(self, history: Sparse) -> Floats:
        """(n, d): the least-squares vector of each history, its weights as in training."""
        need_width(history, len(self._vectors))
        return solved(history, self.item_vectors, self._gram, self._penalty)

    def user_vector(self, codes: Ints) -> Floats:
        """The same of one history."""
        if not len(codes):
            return np.zeros(self._wide.shape[1])
        vectors, total = self._wide[codes], len(codes) + self._penalty.unobserved * len(self._wide)
        left = vectors.T @ vectors
        left += self._pull
        left.flat[:: len(left) + 1] += self._penalty.l2 * total**self._penalty.exponent
        found: Floats = np.linalg.solve(left, vectors.sum(axis=0))
        return found

    def scores(self, history: Sparse) -> Floats:
        """Inner products."""
        return self.user_vectors(history) @ self.item_vectors.T

    def to_files(self) -> dict[str, bytes]:
        """Item vectors and popularity as arrays, the penalty as JSON."""
        return {
            VECTORS_FILE: array_bytes(self._vectors),
            POPULAR_FILE: array_bytes(self.popular),
            SETTINGS_FILE: json.dumps(asdict(self._penalty), sort_keys=True).encode(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very retriever `to_files` wrote."""
        penalty = Penalty(**json.loads(files[SETTINGS_FILE]))
        return cls(array_of(files[VECTORS_FILE]), penalty, array_of(files[POPULAR_FILE]))


def solved(matrix: Sparse, others: Floats, gram: Floats, penalty: Penalty) -> Floats:
    """(rows, d): each row's best vector given the columns' `others` (columns, d) and their `gram` (d, d).

    (sum of weight h h' + unobserved x gram + l2 I) w = sum of weight h; a row without entries is zeros.
    """
    rows, d = matrix.shape[0], others.shape[1]
    found, diagonal = np.zeros((rows, d)), penalty.of(matrix)
    begin, columns, weights = matrix.indptr, matrix.indices, matrix.data
    filled = np.flatnonzero(np.diff(begin))
    for start in range(0, len(filled), BLOCK):
        block = filled[start : start + BLOCK]
        left = np.empty((len(block), d, d))
        right = np.empty((len(block), d, 1))
        for at, row in enumerate(block):
            entries = slice(begin[row], begin[row + 1])
            vectors = others[columns[entries]]
            weighted = vectors.T * weights[entries]
            left[at], right[at, :, 0] = weighted @ vectors, weighted.sum(axis=1)
        left += penalty.unobserved * gram + diagonal[block, None, None] * np.eye(d)
        found[block] = np.linalg.solve(left, right)[:, :, 0]
    return found


def objective(matrix: Sparse, users: Floats, items: Floats, penalty: Penalty) -> float:
    """What `Ials` makes small, for vectors (users, d) and (items, d)."""
    seen = matrix.tocoo()
    product = np.einsum("nd,nd->n", users[seen.row], items[seen.col])
    everywhere = float((_gram(users) * _gram(items)).sum())
    lengths = ((matrix, users), (matrix.T.tocsr(), items))
    size = sum(float((penalty.of(rows) * (vectors**2).sum(axis=1)).sum()) for rows, vectors in lengths)
    return float((seen.data * (1 - product) ** 2).sum()) + penalty.unobserved * everywhere + size


def _gram(vectors: Floats) -> Floats:
    return vectors.T @ vectors
