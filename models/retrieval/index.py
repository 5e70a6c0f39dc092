"""Items that the users of a few items also clicked, nearest first."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import faiss

INDEX_FILE, ITEMS_FILE = "items.faiss", "items.json"
MIN_USERS = MIN_ITEMS = 3
"""Fewer than this many clicking users or clicked items carry no direction worth searching."""


class ItemIndex:
    """Item vectors from who clicked what, in an exact inner-product index; built whole or not at all.

    It is exact (flat) and knows only items that were clicked; content features and approximate search come later.
    """

    def __init__(self, items: Sequence[str], index: "faiss.Index") -> None:
        """`items`: ids in the index's order, most clicked first."""
        self._items = list(items)
        self._at = {item: at for at, item in enumerate(self._items)}
        self._index = index

    @classmethod
    def fit(
        cls, user_ids: NDArray[Any] | Sequence[Any], item_ids: NDArray[Any] | Sequence[Any], dimensions: int, seed: int
    ) -> Self | None:
        """Vectors by truncated SVD of the user x item click matrix (PureSVD: Cremonesi, Koren & Turrin 2010).

        One entry per click, ids as strings; a click of an unknown user (None or NaN) is left out, a repeated one counts
        once. Returns None where fewer than three users or three items are left: too few for an index, and no error.
        Dimensions are cut to what the matrix has. Raises ValueError for columns of unequal length or dimensions < 1.
        """
        import faiss
        from scipy.sparse import csr_matrix
        from scipy.sparse.linalg import svds

        if len(user_ids) != len(item_ids) or dimensions < 1:
            raise ValueError(
                "an index needs one user and item per click and dimensions >= 1;"
                f" found {len(user_ids)} users, {len(item_ids)} items, dimensions {dimensions}"
            )
        pairs = sorted({(u, i) for u, i in zip(user_ids, item_ids, strict=True) if _known(u) and _known(i)})
        users, items = sorted({u for u, _ in pairs}), _by_clicks([i for _, i in pairs])
        if len(users) < MIN_USERS or len(items) < MIN_ITEMS:
            return None
        row, column = ({name: at for at, name in enumerate(names)} for names in (users, items))
        where = (np.array([row[u] for u, _ in pairs]), np.array([column[i] for _, i in pairs]))
        clicks = csr_matrix((np.ones(len(pairs)), where), shape=(len(users), len(items)))
        start = np.random.default_rng(seed).standard_normal(min(clicks.shape))
        _, strength, directions = svds(clicks, k=min(dimensions, min(clicks.shape) - 1), v0=start)
        vectors = _unit((directions * strength[:, None]).T)
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return cls(items, index)

    def search(self, recent_items: Sequence[str], k: int) -> list[str]:
        """Up to k item ids, nearest to the mean of the recent items' vectors first; they themselves may be among them.

        When none of them is known: the most clicked items. Raises ValueError for k < 1.
        """
        if k < 1:
            raise ValueError(f"a search needs k >= 1; found {k}")
        k = min(k, len(self._items))
        known = [self._at[item] for item in recent_items if item in self._at]
        if not known:
            return self._items[:k]
        recent = np.stack([self._index.reconstruct(at) for at in known]).astype(np.float64)
        _, found = self._index.search(_unit(recent.mean(axis=0, keepdims=True)), k)
        return [self._items[at] for at in found[0]]

    def to_files(self) -> dict[str, bytes]:
        """The index in faiss's own format and the item ids as JSON."""
        import faiss

        return {INDEX_FILE: faiss.serialize_index(self._index).tobytes(), ITEMS_FILE: json.dumps(self._items).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very index `to_files` wrote."""
        import faiss

        index = faiss.deserialize_index(np.frombuffer(files[INDEX_FILE], dtype=np.uint8))
        return cls(json.loads(files[ITEMS_FILE]), index)


def _known(value: Any) -> bool:
    return isinstance(value, str)


def _by_clicks(item_ids: list[str]) -> list[str]:
    """Distinct items, most clicking users first, ties to the smaller id."""
    return [item for item, _ in sorted(Counter(item_ids).items(), key=lambda pair: (-pair[1], pair[0]))]


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of length one, as faiss wants them; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.ascontiguousarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)
    return unit
