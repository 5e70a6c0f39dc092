"""Content: items near in words to those of the history, so that an item nobody has taken up yet can be found."""

import re
import zlib
from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.retrieval.interactions import Floats, Interactions, Sparse
from models.retrieval.popularity import FILE as POPULAR_FILE
from models.retrieval.popularity import popularity
from models.retrieval.protocol import array_bytes, array_of, need_width
from models.settings import RetrievalSettings

VECTORS_FILE = "content.items.npy"
WORD = re.compile(r"\w+")


class ContentRetriever:
    """Words are hashed into buckets (Weinberger et al. 2009), weighted by rarity, and cut to few dimensions by a
    truncated SVD (latent semantic indexing, Deerwester et al. 1990); vectors have length one. A user is the mean of the
    history's vectors. It knows words as they are written: neither their stems nor what they mean.
    """

    kind = "content"

    def __init__(self, vectors: NDArray[np.float32], popular: Floats) -> None:
        """`vectors` (items, d) in single precision."""
        self._vectors, self.popular = vectors, popular
        self._wide = vectors.astype(np.float64)

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """Reads the items' text alone; raises ValueError where no item has a word. See `Retriever.fit`."""
        popular = popularity(interactions, settings.half_life_days)
        return cls(content_vectors(interactions, settings), popular)

    @property
    def item_vectors(self) -> Floats:
        """(items, d); zeros for an item without words."""
        return self._wide

    def user_vectors(self, history: Sparse) -> Floats:
        """(n, d): the mean of the history's vectors, by weight."""
        need_width(history, len(self._vectors))
        total = np.asarray(history.sum(axis=1))[:, None]
        found: Floats = (history @ self.item_vectors) / np.where(total > 0, total, 1.0)
        return found

    def scores(self, history: Sparse) -> Floats:
        """Inner products: the mean cosine to the history's items."""
        return self.user_vectors(history) @ self.item_vectors.T

    def to_files(self) -> dict[str, bytes]:
        """Two arrays."""
        return {VECTORS_FILE: array_bytes(self._vectors), POPULAR_FILE: array_bytes(self.popular)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very retriever `to_files` wrote."""
        return cls(array_of(files[VECTORS_FILE]), array_of(files[POPULAR_FILE]))


def content_vectors(interactions: Interactions, settings: RetrievalSettings) -> NDArray[np.float32]:
    """(items, d) of length one, zeros without words; raises ValueError where no item has a word."""
    words = _weighted_words(interactions.text, settings.content.buckets)
    return _reduced(words, settings.content.dimensions, settings.seed)


def _weighted_words(texts: tuple[str, ...], buckets: int) -> Sparse:
    """(items, buckets that occur): rarity log((1 + items) / (1 + items with it)) + 1, rows of length one."""
    from scipy.sparse import csr_array

    words = [sorted({zlib.crc32(word.encode()) % buckets for word in WORD.findall(text.lower())}) for text in texts]
    if not any(words):
        raise ValueError(f"content vectors need items with words; found none in {len(texts)} texts")
    row = np.repeat(np.arange(len(words)), [len(of_item) for of_item in words])
    _, column = np.unique(np.concatenate([np.array(of_item, dtype=np.int64) for of_item in words]), return_inverse=True)
    rarity = np.log((1 + len(words)) / (1 + np.bincount(column))) + 1
    length = np.sqrt(np.bincount(row, weights=rarity[column] ** 2, minlength=len(words)))
    return csr_array((rarity[column] / length[row], (row, column)), shape=(len(words), len(rarity)))


def _reduced(words: Sparse, dimensions: int, seed: int) -> NDArray[np.float32]:
    """(items, d) in single precision; all words where they are no more than the dimensions."""
    from scipy.sparse.linalg import svds

    if min(words.shape) <= dimensions:
        vectors = words.toarray()
    else:
        start = np.random.default_rng(seed).standard_normal(min(words.shape))
        left, strength, _ = svds(words, k=dimensions, v0=start)
        vectors = left * strength
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = np.where(length > 1e-9, vectors / np.maximum(length, 1e-9), 0.0).astype(np.float32)
    return found
