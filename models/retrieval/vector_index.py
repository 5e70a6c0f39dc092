"""An index of item vectors: the items with the largest inner products, exact or nearly so, never a removed one.

At k = 1000 a graph (hnsw) is slower and less exact than a scan in half precision or inverted lists: it is an option
only.
"""

import hashlib
import json
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.rankers.threads import threads_for
from models.retrieval.canary import Canary
from models.retrieval.interactions import Bools, Floats, Ints
from models.retrieval.protocol import array_bytes, array_of
from models.settings import RetrievalSettings

INDEX_FILE, CODES_FILE, FACTS_FILE = "vectors.faiss", "vectors.codes.npy", "vectors.json"
MIN_TRAINED = 1_000
"""Fewer vectors than this cannot train lists or codes worth having; a scan of them is instant."""
LISTS_PER_ROOT = 2.0
TRAINED_PER_LIST = 39
"""faiss's own advice: vectors a centroid is trained from, at least."""


@dataclass(frozen=True)
class Facts:
    """What an index must know of itself when it is loaded.

    `version` is that of the embeddings it was built from, `scale` what they were divided by, so that half precision
    holds vectors of any length.
    """

    kind: str
    version: str
    scale: float
    breadth: int
    min_recall: float


class VectorIndex:
    """Item codes by inner product. Items without a direction (zeros) and items removed when it was built are not in it.

    Items removed later are looked past in every answer: as exact for any number, but where the nearest are gone more is
    searched.
    """

    def __init__(self, index: Any, codes: Ints, facts: Facts, canary: Canary) -> None:
        """`index`: faiss's; `codes`: the item of each of its rows, ascending. Raises ValueError where a canary dies.

        A canary that finds less than `facts.min_recall` of its exact answers is an index that was built, saved or read
        wrongly, or whose approximation is too coarse.
        """
        if index.ntotal != len(codes):
            raise ValueError(f"an index needs an item for each of its {index.ntotal} rows; found {len(codes)}")
        self._index, self._codes, self._facts, self._canary = index, codes, facts, canary
        self._absent = np.setdiff1d(np.arange(codes[-1] + 1 if len(codes) else 0), codes)
        self._counted: tuple[weakref.ref[Bools], int] | None = None
        self.canary_recall = canary.recall(self.search(canary.queries.astype(np.float64), canary.k)[0])
        if self.canary_recall < facts.min_recall:
            raise ValueError(
                f"an index needs to find {facts.min_recall:g} of the exact answers to its canary's {canary.size}"
                f" queries; {facts.kind} found {self.canary_recall:.3f}"
            )

    @classmethod
    def build(cls, vectors: Floats, queries: Floats, settings: RetrievalSettings, removed: Bools | None = None) -> Self:
        """From `vectors` (items, d); `queries` (m, d), like those that will come, of which some become the canary.

        Raises ValueError for other widths, numbers that are not finite, no vector with a direction, no query, too few
        vectors for the kind, or an index that finds too little.
        """
        _need_numbers(vectors, "vectors")
        _need_numbers(queries, "queries", vectors.shape[1])
        kept = (vectors != 0).any(axis=1)
        if removed is not None:
            kept &= ~removed
        codes = np.flatnonzero(kept)
        if not len(codes) or not len(queries):
            raise ValueError(f"an index needs vectors and queries; found {len(codes)} with a direction, {len(queries)}")
        scale = float(np.abs(vectors[codes]).max())
        scaled = np.ascontiguousarray(vectors[codes] / scale, dtype=np.float32)
        kind = _kind(len(codes), settings)
        with _threads(1 if kind == "hnsw" else threads_for(len(codes))):  # a graph grows as its threads happen to meet
            index = _empty(kind, len(codes), scaled.shape[1], settings)
            wide = _even(scaled) if kind == "pq" else scaled
            index.train(wide)
            index.add(wide)
            if kind == "ivf":
                _search_by_product(index)
        facts = Facts(
            kind, embeddings_version(vectors), scale, settings.index.hnsw_breadth, settings.index.canary_min_recall
        )
        canary = Canary.of(scaled, codes, queries, settings.k, settings.index.canary_queries)
        return cls(index, codes, facts, canary)

    @property
    def kind(self) -> str:
        """exact, ivf, pq or hnsw."""
        return self._facts.kind

    @property
    def version(self) -> str:
        """That of the embeddings it was built from, see `embeddings_version`."""
        return self._facts.version

    def need_version(self, version: str) -> None:
        """Raise ValueError where queries come from other embeddings: their inner products would mean nothing."""
        if version != self.version:
            raise ValueError(
                f"an index needs queries of the embeddings it was built from ({self.version[:12]}…);"
                f" found {version[:12]}…"
            )

    def search(
        self, queries: Floats, k: int, removed: Bools | None = None, own: Ints | None = None
    ) -> tuple[Ints, Floats]:
        """Codes (n, k) and inner products (n, k), largest first, of `queries` (n, d); -1 and -inf where none is left.

        None of `removed` (items,) comes back, whatever is asked, and none of the few codes `own`. A query of zeros says
        nothing and gets items in no order: ask a retriever's popularity instead. Raises ValueError for k < 1, another
        width, numbers that are not finite, or a `removed` that does not tell of every item.
        """
        if k < 1:
            raise ValueError(f"a search needs k >= 1; found {k}")
        _need_numbers(queries, "queries", self._width)
        if removed is not None and len(removed) <= self._codes[-1]:
            raise ValueError(f"removed needs an entry for each item up to {self._codes[-1]}; found {len(removed)}")
        scores, found, allowed = self._allowed(np.ascontiguousarray(queries, dtype=np.float32), k, removed, own)
        if len(found) == 1:  # as a request asks
            left = np.flatnonzero(allowed[0])[:k]
            if len(left) == k:
                return found[:, left], scores[:, left] * self._facts.scale
        first = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
        allowed, found = np.take_along_axis(allowed, first, axis=1), np.take_along_axis(found, first, axis=1)
        scores = np.take_along_axis(scores, first, axis=1)
        shape, width = (len(queries), k), found.shape[1]
        codes, products = np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf)
        codes[:, :width] = np.where(allowed, found, -1)
        products[:, :width] = np.where(allowed, scores * self._facts.scale, -np.inf)
        return codes, products

    def to_files(self) -> dict[str, bytes]:
        """The index in faiss's own format, its items, its canary, and facts as JSON."""
        return {
            INDEX_FILE: _library().serialize_index(self._index).tobytes(),
            CODES_FILE: array_bytes(self._codes),
            FACTS_FILE: json.dumps(asdict(self._facts), sort_keys=True).encode(),
            **self._canary.to_files(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very index `to_files` wrote; raises ValueError where it no longer finds what its canary knows."""
        index = _library().deserialize_index(np.frombuffer(files[INDEX_FILE], dtype=np.uint8))
        return cls(index, array_of(files[CODES_FILE]), Facts(**json.loads(files[FACTS_FILE])), Canary.from_files(files))

    @property
    def _width(self) -> int:
        return int(self._canary.queries.shape[1])

    def _allowed(
        self, queries: NDArray[np.float32], k: int, removed: Bools | None, own: Ints | None
    ) -> tuple[Floats, Ints, Bools]:
        """Products, codes and which of them may come back: k each, or as many as there are.

        The `removed` are looked past: twice k is asked for first, more only while too few are left.
        """
        gone = 0 if removed is None else self._removed(removed)
        most = min(k + gone + (0 if own is None else len(own)), len(self._codes))
        asked = min(2 * k, most)
        while True:
            scores, at = self._searched(queries, asked)
            allowed, codes = at >= 0, self._codes[at]
            if removed is not None and gone:
                allowed &= ~removed[codes]
            if own is not None:
                allowed &= ~(codes == own[:, None, None]).any(axis=0)
            if asked == most or (allowed.sum(axis=1) >= k).all():
                return scores, codes, allowed
            asked = min(4 * asked, most)

    def _removed(self, removed: Bools) -> int:
        """How many of them are in the index; counted once where nobody can change them: a million are a tenth of a
        search.
        """
        known = self._counted
        if known is not None and known[0]() is removed:
            return known[1]
        there = int(np.count_nonzero(removed[: self._codes[-1] + 1]))
        found = there - int(np.count_nonzero(removed[self._absent]))
        if not removed.flags.writeable:
            self._counted = weakref.ref(removed), found
        return found

    def _searched(self, queries: NDArray[np.float32], k: int) -> tuple[Floats, Ints]:
        """faiss's own answer: products of scaled vectors and rows of the index, -1 where it found fewer."""
        wide = _even(queries) if self.kind == "pq" else queries
        if self.kind == "hnsw":
            parameters = _library().SearchParametersHNSW(efSearch=max(self._facts.breadth, k))
            scores, at = self._index.search(wide, k, params=parameters)
        else:
            scores, at = self._index.search(wide, k)
        return scores.astype(np.float64), at


def embeddings_version(vectors: Floats) -> str:
    """A sha256 of (items, d) vectors in single precision: equal embeddings have equal versions."""
    single = np.ascontiguousarray(vectors, dtype="<f4")
    return hashlib.sha256(f"{single.shape}".encode() + single.tobytes()).hexdigest()


def _kind(n: int, settings: RetrievalSettings) -> str:
    """The kind that was asked for, or by size."""
    kind = settings.index.kind
    if kind == "auto":
        kind = "exact" if n <= settings.index.exact_max_items else "ivf"
    if kind in ("ivf", "pq") and n < MIN_TRAINED:
        raise ValueError(f"an index of kind {kind} needs at least {MIN_TRAINED} vectors; found {n}: use auto")
    return kind


def _empty(kind: str, n: int, d: int, settings: RetrievalSettings) -> Any:
    """An untrained index for n vectors (n, d)."""
    faiss = _library()
    product, half = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_fp16
    if kind == "exact":
        return faiss.IndexScalarQuantizer(d, half, product)
    if kind == "ivf":
        lists = max(1, min(round(LISTS_PER_ROOT * n**0.5), n // TRAINED_PER_LIST))
        index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatL2(d), d, lists, half, product)
        index.cp.spherical = False
        index.nprobe = min(settings.index.ivf_probed, lists)
        return index
    if kind == "pq":
        # Four bits for two dimensions each: what fast-scan reads from registers. Then a look in half precision.
        index = faiss.index_factory(d + d % 2, f"PQ{(d + 1) // 2}x4fs,Refine(SQfp16)", product)
        index.k_factor = settings.index.pq_refine
        return index
    index = faiss.IndexHNSWSQ(d, half, settings.index.hnsw_links, product)
    index.hnsw.efConstruction = settings.index.hnsw_breadth
    return index


def _search_by_product(index: Any) -> None:
    """Lists of vectors that are near each other, looked into where their centre's product is large (Guo et al. 2020).

    Lists by product, which faiss makes of itself, gather what is long around few centres: at 64 of 2,000 lists they had
    0.76 of the 1,000 nearest of a million, these 0.89, in half the time (`make bench`, `ann`).
    """
    faiss = _library()
    near = faiss.downcast_index(index.quantizer)
    centres = faiss.IndexFlatIP(index.d)
    centres.add(near.reconstruct_n(0, index.nlist))
    index.quantizer, index.own_fields = centres, True
    centres.this.disown()  # the index frees it


def _even(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, d) with a column of zeros more where d is odd: codes are of two dimensions each."""
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, vectors.shape[1] % 2))))


def _need_numbers(vectors: Floats, name: str, width: int | None = None) -> None:
    if vectors.ndim != 2 or (width is not None and vectors.shape[1] != width) or not np.isfinite(vectors).all():
        wanted = "(n, d)" if width is None else f"(n, {width})"
        raise ValueError(f"{name} need finite numbers of shape {wanted}; found shape {vectors.shape} or others")


def _library() -> Any:
    """faiss, loaded when it is needed; its stubs do not know its own classes."""
    import faiss

    return faiss


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """faiss with so many threads: the same bytes on every machine."""
    faiss = _library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
