"""Content: items like those of the history in words or images, so that one nobody has taken up yet can be found."""

import re
import zlib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.retrieval.interactions import Floats, Interactions, Ints, Sparse
from models.retrieval.popularity import FILE as POPULAR_FILE
from models.retrieval.popularity import popularity
from models.retrieval.protocol import array_bytes, array_of, need_width
from models.settings import RetrievalSettings

VECTORS_FILE = "content.items.npy"
WORD = re.compile(r"\w+")


class ContentRetriever:
    """Words are hashed into buckets (Weinberger et al. 2009), weighted by rarity, and cut to few dimensions by a
    truncated SVD (latent semantic indexing, Deerwester et al. 1990); given vectors, of images say, are cut likewise and
    stand beside them: a likeness is the mean of both. Vectors have length one. A user is the mean of the history's
    vectors. It knows words as they are written: neither their stems nor what they mean.
    """

    kind = "content"

    def __init__(self, vectors: NDArray[np.float32], popular: Floats) -> None:
        """`vectors` (items, d) in single precision."""
        self._vectors, self.popular = vectors, popular
        self._wide = vectors.astype(np.float64)

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """Reads the items' text and vectors alone; raises ValueError where there are none. See `Retriever.fit`."""
        popular = popularity(interactions, settings.half_life_days)
        vectors = content_vectors(interactions, settings)
        if not vectors.shape[1]:
            raise ValueError(f"content needs items with words or vectors; found none in {interactions.items} items")
        return cls(vectors, popular)

    @property
    def item_vectors(self) -> Floats:
        """(items, d); zeros for an item without words and vector."""
        return self._wide

    def user_vectors(self, history: Sparse) -> Floats:
        """(n, d): the mean of the history's vectors, by weight."""
        need_width(history, len(self._vectors))
        total = np.asarray(history.sum(axis=1))[:, None]
        found: Floats = (history @ self.item_vectors) / np.where(total > 0, total, 1.0)
        return found

    def user_vector(self, codes: Ints) -> Floats:
        """The same of one history."""
        found: Floats = self._wide[codes].sum(axis=0) / max(len(codes), 1)
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
    """(items, d) of length one, zeros for items without words and vector.

    d is at most `content.dimensions` of words and as many of given vectors; 0 where no item has any.
    """
    parts = [_reduced(part, settings.content.dimensions, settings.seed) for part in _known(interactions, settings)]
    return parts[0] if len(parts) == 1 else _of_length_one(np.hstack([np.zeros((interactions.items, 0)), *parts]))


def _known(interactions: Interactions, settings: RetrievalSettings) -> list[Sparse]:
    """What is known of the items, rows of length one: words, given vectors, either, both or none."""
    from scipy.sparse import csr_array

    found = []
    if WORD.search(" ".join(interactions.text)):
        found.append(_weighted_words(interactions.text, settings.content.buckets))
    if interactions.vectors is not None and interactions.vectors.any():
        found.append(csr_array(_of_length_one(interactions.vectors).astype(np.float64)))
    return found


def _weighted_words(texts: tuple[str, ...], buckets: int) -> Sparse:
    """(items, buckets that occur): rarity log((1 + items) / (1 + items with it)) + 1, rows of length one."""
    from scipy.sparse import csr_array

    words = [sorted({zlib.crc32(word.encode()) % buckets for word in WORD.findall(text.lower())}) for text in texts]
    row = np.repeat(np.arange(len(words)), [len(of_item) for of_item in words])
    _, column = np.unique(np.concatenate([np.array(of_item, dtype=np.int64) for of_item in words]), return_inverse=True)
    rarity = np.log((1 + len(words)) / (1 + np.bincount(column))) + 1
    length = np.sqrt(np.bincount(row, weights=rarity[column] ** 2, minlength=len(words)))
    return csr_array((rarity[column] / length[row], (row, column)), shape=(len(words), len(rarity)))


def _reduced(words: Sparse, dimensions: int, seed: int) -> NDArray[np.float32]:
    """(items, d) in single precision; all columns where they are no more than the dimensions."""
    from scipy.sparse.linalg import svds

    if min(words.shape) <= dimensions:
        vectors = words.toarray()
    else:
        start = np.random.default_rng(seed).standard_normal(min(words.shape))
        left, strength, _ = svds(words, k=dimensions, v0=start)
        vectors = left * strength
    return _of_length_one(vectors)


def _of_length_one(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Rows (n, d) of zeros stay so."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = np.where(length > 1e-9, vectors / np.maximum(length, 1e-9), 0.0).astype(np.float32)
    return found
