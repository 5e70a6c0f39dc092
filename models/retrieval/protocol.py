"""What every retriever is: fitted by construction, scores for any history of items, plain bytes to disk and back."""

import io
from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.retrieval.interactions import Bools, Floats, Interactions, Ints, Sparse
from models.settings import RetrievalSettings


class Retriever(Protocol):
    """Never half-fitted: an instance exists only fitted. Same interactions, settings and seed give the same bytes, on
    one linear algebra library with as many threads: sums that are dealt otherwise round otherwise.

    It knows items, not users: a user is the items of a history, so users never seen in training get an answer.
    """

    kind: str
    popular: Floats
    """(items,) >= 0: the order of items that score alike, and so the answer for a history that says nothing."""

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """A new retriever; raises ValueError without interactions."""
        ...

    def scores(self, history: Sparse) -> Floats:
        """(n, items), higher is better, for n histories (n, items); a row that is empty scores all items alike."""
        ...

    def to_files(self) -> dict[str, bytes]:
        """File name to content, no pickle; the whole retriever."""
        ...

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very retriever `to_files` wrote."""
        ...


@runtime_checkable
class VectorRetriever(Retriever, Protocol):
    """A retriever whose scores are inner products, so that an index can search them."""

    @property
    def item_vectors(self) -> Floats:
        """(items, d); zeros for an item it knows nothing of."""
        ...

    def user_vectors(self, history: Sparse) -> Floats:
        """(n, d) for n histories (n, items); zeros for a history that says nothing."""
        ...

    def user_vector(self, codes: Ints) -> Floats:
        """(d,) of the history of these items (n,), each once with weight 1: a request's, without a matrix."""
        ...


def candidates(retriever: Retriever, history: Sparse, k: int, removed: Bools | None = None) -> Ints:
    """(n, k) item codes, best first, all items ranked: none of the history, none `removed` (items,); -1: none is left.

    Ties go to the more popular item, then to the smaller code. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"candidates need k >= 1; found {k}")
    scores = np.where(history.toarray() > 0, -np.inf, retriever.scores(history))
    if removed is not None:
        scores[:, removed] = -np.inf
    by_popularity = np.argsort(-retriever.popular, kind="stable")
    rows = [best(row, by_popularity, k) for row in scores]
    return np.array(rows, dtype=np.int64).reshape(len(rows), k)


def best(scores: Floats, by_popularity: Ints, k: int) -> Ints:
    """(k,) codes of the largest of one row's scores (items,), largest first; -1 where only -inf is left.

    Ties go to whoever comes first in `by_popularity` (items,).
    """
    ordered = scores[by_popularity]
    size = min(k, len(ordered))
    found = np.full(k, -1, dtype=np.int64)
    if not size:
        return found
    least = np.partition(ordered, len(ordered) - size)[len(ordered) - size]
    above = np.flatnonzero(ordered > least)
    level = np.flatnonzero(ordered == least)[: size - len(above)]
    at = np.concatenate([above[np.argsort(-ordered[above], kind="stable")], level])
    found[:size] = np.where(ordered[at] > -np.inf, by_popularity[at], -1)
    return found


def array_bytes(array: NDArray[Any]) -> bytes:
    """The array in numpy's own .npy format, which holds no pickle for numbers."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def array_of(content: bytes) -> NDArray[Any]:
    """The array `array_bytes` wrote."""
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


def sparse_files(name: str, matrix: Sparse) -> dict[str, bytes]:
    """A csr_array as three arrays, and its shape."""
    shape = np.array(matrix.shape, dtype=np.int64)
    parts = {"values": matrix.data, "columns": matrix.indices, "rows": matrix.indptr, "shape": shape}
    return {f"{name}.{part}.npy": array_bytes(array) for part, array in parts.items()}


def sparse_of(name: str, files: Mapping[str, bytes]) -> Sparse:
    """The matrix `sparse_files` wrote."""
    from scipy.sparse import csr_array

    parts = {part: array_of(files[f"{name}.{part}.npy"]) for part in ("values", "columns", "rows", "shape")}
    rows, columns = parts["shape"].tolist()
    return csr_array((parts["values"], parts["columns"], parts["rows"]), shape=(rows, columns))


def need_width(history: Sparse, items: int) -> None:
    """Raise ValueError for a history of other items than were learned from."""
    if history.shape[1] != items:
        raise ValueError(f"histories need a column for each of {items} items; found {history.shape[1]}")
