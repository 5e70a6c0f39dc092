"""The first stage of a bundle: which items may be worth ranking for a history of items, and who found them.

Only items the training knew can be found; a younger one has to be offered by whoever knows today's catalogue.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.retrieval.content import ContentRetriever
from models.retrieval.ease import Ease
from models.retrieval.ials import Ials
from models.retrieval.interactions import Bools, Floats, Ints, Sparse
from models.retrieval.item_cf import ItemCF
from models.retrieval.popularity import PopularityRetriever
from models.retrieval.protocol import Retriever, VectorRetriever, best
from models.retrieval.skip_gram import SkipGram
from models.retrieval.two_tower import TwoTower
from models.retrieval.vector_index import VectorIndex, embeddings_version
from models.settings import RetrievalSettings

RETRIEVERS: dict[str, type[Retriever]] = {
    retriever.kind: retriever
    for retriever in (PopularityRetriever, ItemCF, Ease, Ials, SkipGram, ContentRetriever, TwoTower)
}
"""Simplest first: the first of two that are as good is chosen."""
POPULARITY = PopularityRetriever.kind
STAGE_FILE, ITEMS_FILE = "stage.json", "items.json"


@dataclass(frozen=True, eq=False)
class Found:
    """Item ids (n,), best first, and the kind of the retriever that found them."""

    among: NDArray[np.object_]
    """The ids, or those that `codes` are places of."""
    by: str
    scores: Floats
    """(n,) of that retriever."""
    codes: Ints | None = None
    """(n,) places in `FirstStage.items`, for whoever keeps something by them; None where it was none that found."""

    @property
    def ids(self) -> NDArray[np.object_]:
        """(n,), looked up when they are asked for: a thousand strings lie in a thousand places."""
        return self.among if self.codes is None else self.among[self.codes]

    @property
    def items(self) -> list[str]:
        """The ids as a list."""
        items: list[str] = self.ids.tolist()
        return items

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Found) and (self.by, self.items) == (other.by, other.items)


@dataclass(frozen=True)
class Vector:
    """Of an item or of a history of items; two of one space have a retriever's score as their inner product."""

    space: str
    """The retriever's kind."""
    values: Floats


class Finder:
    """A retriever, with an index of its vectors where its scores are inner products."""

    def __init__(self, retriever: Retriever, index: VectorIndex | None) -> None:
        """Raises ValueError for an index of other embeddings than the retriever's."""
        if isinstance(retriever, VectorRetriever) != (index is not None):
            raise ValueError(f"an index is needed of a retriever with vectors, and of no other; found {retriever.kind}")
        if index is not None and isinstance(retriever, VectorRetriever):
            index.need_version(embeddings_version(retriever.item_vectors))
        self.retriever, self.index = retriever, index
        # Told once: whether a class keeps a protocol takes longer to find out than the vector of a history.
        self.vectors = retriever if isinstance(retriever, VectorRetriever) else None

    @classmethod
    def build(cls, retriever: Retriever, histories: Sparse, settings: RetrievalSettings, removed: Bools) -> Self:
        """`histories` (n, items) like those that will come; raises what `VectorIndex.build` raises."""
        if not isinstance(retriever, VectorRetriever):
            return cls(retriever, None)
        vectors = retriever.item_vectors
        queries = retriever.user_vectors(histories)
        asked = queries[queries.any(axis=1)]
        return cls(retriever, VectorIndex.build(vectors, asked if len(asked) else vectors, settings, removed))

    def find(self, own: Ints, k: int, barred: Bools, by_popularity: Ints) -> tuple[Ints, Floats] | None:
        """Up to k item codes and their scores, none of `barred` (items,) and none of the history's `own`, ascending;
        None where that says nothing.
        """
        if self.index is not None and self.vectors is not None:
            query = self.vectors.user_vector(own)
            if not query.any():
                return None
            codes, products = self.index.search(query[None], k, barred, own)
            there = codes[0] >= 0
            return (codes[0], products[0]) if there.all() else (codes[0][there], products[0][there])
        scores = self.retriever.scores(_history(own, len(barred)))[0]
        if self.retriever.kind != POPULARITY and scores.min() == scores.max():
            return None
        left = np.where(barred, -np.inf, scores)
        left[own] = -np.inf
        found = best(left, by_popularity, k)
        found = found[found >= 0]
        return found, scores[found]

    def to_files(self) -> dict[str, bytes]:
        """Those of the retriever and of its index."""
        return {**self.retriever.to_files(), **(self.index.to_files() if self.index else {})}

    @classmethod
    def from_files(cls, kind: str, files: Mapping[str, bytes]) -> Self:
        """Raises ValueError where the index does not find what its canary knows, or is of other embeddings."""
        retriever = RETRIEVERS[kind].from_files(files)
        vectors = isinstance(retriever, VectorRetriever)
        return cls(retriever, VectorIndex.from_files(files) if vectors else None)


class FirstStage:
    """The retriever that was chosen; for a history it knows nothing of the content's, where items have words; for
    whoever has no history at all the most popular items.
    """

    def __init__(self, items: Sequence[str], finders: Sequence[Finder], k: int, removed: Collection[str] = ()) -> None:
        """`items`: their ids by code; `finders` in the order in which they are asked, `k`: how many items to find.

        `removed`: items that were removed when it was built.
        """
        self.items, self.k, self.removed = list(items), k, frozenset(removed)
        self._finders = list(finders)
        self._ids = np.array(self.items, dtype=object)
        self._code = {item: code for code, item in enumerate(self.items)}
        self._by_popularity = np.argsort(-finders[0].retriever.popular, kind="stable")

    @classmethod
    def build(
        cls,
        items: Sequence[str],
        retrievers: Sequence[Retriever],
        histories: Sparse,
        settings: RetrievalSettings,
        removed: Bools,
    ) -> Self:
        """With indexes of what has vectors, without the items `removed` (items,); raises what `Finder.build` raises."""
        finders = [Finder.build(retriever, histories, settings, removed) for retriever in retrievers]
        return cls(items, finders, settings.k, [items[code] for code in np.flatnonzero(removed).tolist()])

    @property
    def kind(self) -> str:
        """That of the retriever that was chosen."""
        return self._finders[0].retriever.kind

    @property
    def canary_recalls(self) -> dict[str, float]:
        """Of each retriever with an index: the share of its canary's exact answers that the index finds."""
        return {one.retriever.kind: one.index.canary_recall for one in self._finders if one.index is not None}

    def barred(self, removed: Collection[str], listed: Collection[str] | None = None) -> Bools:
        """(items,) which must not be found: the `removed`, and where there is a catalogue those it does not list. To be
        read only.
        """
        codes = [self._code[item] for item in removed if item in self._code]
        found = np.zeros(len(self.items), dtype=bool)
        if listed is not None:
            found[:] = True
            found[[self._code[item] for item in listed if item in self._code]] = False
        found[codes] = True
        found.setflags(write=False)
        return found

    @property
    def spaces(self) -> dict[str, tuple[str, int]]:
        """Version (`embeddings_version`) and dimensions of each retriever with vectors, in the order of the finders."""
        return {kind: (version, vectors.shape[1]) for kind, version, vectors in self._spaces()}

    def code(self, item: str) -> int:
        """Its place in `items`; -1 where the training did not know it."""
        return self._code.get(item, -1)

    def search(self, recent: Sequence[str], barred: Bools | None = None, k: int | None = None) -> Found:
        """Up to `k` items (the stage's own k) for the items last taken up, in any order; none of those, none that is
        `barred` (items,).

        Nobody who says what is barred means: what was removed when it was built.
        """
        k = self.k if k is None else k
        codes = self._known(recent)
        barred = self.barred(self.removed) if barred is None else barred
        for finder in self._finders if len(codes) else ():
            found = finder.find(codes, k, barred, self._by_popularity)
            if found is not None and len(found[0]):
                return Found(self._ids, finder.retriever.kind, found[1], found[0])
        gone = barred.copy()
        gone[codes] = True
        left = self._by_popularity[~gone[self._by_popularity]][:k]
        return Found(self._ids, POPULARITY, self._finders[0].retriever.popular[left], left)

    def of_item(self, item: str) -> Vector | None:
        """Its vector in the first space that knows it; None where none does."""
        code = self._code.get(item)
        for kind, _, vectors in self._spaces() if code is not None else ():
            if vectors[code].any():
                return Vector(kind, vectors[code])
        return None

    def of_history(self, recent: Sequence[str]) -> Vector | None:
        """The vector of whoever took these items up, likewise."""
        codes = self._known(recent)
        for finder in self._finders if len(codes) else ():
            if finder.vectors is not None:
                found = finder.vectors.user_vector(codes)
                if found.any():
                    return Vector(finder.retriever.kind, found)
        return None

    def _spaces(self) -> Iterator[tuple[str, str, Floats]]:
        """Kind, version and item vectors."""
        for one in self._finders:
            if one.index is not None and isinstance(one.retriever, VectorRetriever):
                yield one.retriever.kind, one.index.version, one.retriever.item_vectors

    def _known(self, recent: Sequence[str]) -> Ints:
        """The codes of known items, ascending, each once."""
        return np.array(sorted({self._code[item] for item in recent if item in self._code}), dtype=np.int64)

    def to_files(self) -> dict[str, bytes]:
        """The item ids and the order of the retrievers as JSON, each retriever's files in a folder of its kind."""
        by_kind = {one.retriever.kind: one.to_files() for one in self._finders}
        files = {f"{kind}/{name}": content for kind, own in by_kind.items() for name, content in own.items()}
        stage = {"k": self.k, "kinds": list(by_kind), "removed": sorted(self.removed)}
        return {STAGE_FILE: json.dumps(stage).encode(), ITEMS_FILE: json.dumps(self.items).encode(), **files}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very stage `to_files` wrote; raises ValueError where an index is not as good as when it was built."""
        stage = json.loads(files[STAGE_FILE])
        finders = []
        for kind in stage["kinds"]:
            own = {name.removeprefix(f"{kind}/"): data for name, data in files.items() if name.startswith(f"{kind}/")}
            finders.append(Finder.from_files(kind, own))
        return cls(json.loads(files[ITEMS_FILE]), finders, int(stage["k"]), stage["removed"])


def _history(codes: Ints, items: int) -> Sparse:
    """(1, items) the history of these."""
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(codes)), codes, np.array([0, len(codes)])), shape=(1, items))
