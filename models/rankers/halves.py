"""A network's first layer in two halves: what it makes of an item, once for every request, and what of all the rest.

The layer is linear in its inputs, so it is the sum of what it makes of the item's and of the others. Both are made by
the one formula of `models.rankers.network`, of fewer columns. The products of pairs alone are not:
a sum of vectors a of the item and b of the others has those within a, those within b, and a x b.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.rankers import graph, network
from models.rankers.embeddings import Embeddings
from models.rankers.features import is_of_item
from models.rankers.graph import BLOCK, Graph, Said, Traced
from models.rankers.layout import VECTOR, Layout
from models.rankers.logistic import Scaling
from models.rankers.network import Arrays, Weights
from models.rankers.protocol import Columns, of_part, parts

A = TypeVar("A")
Singles = NDArray[np.float32]


class Half(NamedTuple):
    """Of m rows of inputs, the others' being zero: what the first layer makes of them (m, h), and the sum of their
    vectors (m, d).
    """

    first: Singles
    vectors: Singles

    def take(self, rows: NDArray[np.int64]) -> "Half":
        """Some rows."""
        return Half(self.first.take(rows, axis=0), self.vectors.take(rows, axis=0))


class Parts(NamedTuple, Generic[A]):
    """What a graph of halves is given of n rows: the item's half of each, (n, h) and (n, d); of m kinds of them the
    others' half, likewise, and the number of the surface (m,) int32; and of which kind each row is, `kind` (n,) int64.
    """

    item: A
    item_vectors: A
    other: A
    other_vectors: A
    surface: A
    kind: A


class Side:
    """Some of a network's columns, and the part of its first layer that looks at them."""

    def __init__(self, layout: Layout, table: Embeddings, weights: Arrays, mine: Callable[[str], bool]) -> None:
        """`mine`: whether a column is."""
        d = int(table.rows.shape[1])
        self._layout, places = _only(layout, d, mine)
        self._table = table
        self._weights = np.ascontiguousarray(network.flat(np, weights)[places])
        listed = self._layout.fields[len(self._layout.words) :]
        self._nowhere = np.array([table.unknown(field) for field in listed], dtype=np.int32)

    def of(self, columns: Columns) -> Half:
        """Of n rows; columns that are not its own are not looked at."""
        layout, d, words = self._layout, int(self._table.rows.shape[1]), len(self._layout.words)
        n = len(columns[layout.numeric[0]])
        found = Half(np.empty((n, self._weights.shape[1]), np.float32), np.empty((n, d), np.float32))
        for part in parts(n):
            some = of_part(columns, (*layout.of_numbers, *layout.sources), part)
            codes = layout.codes(some, self._table, len(found.first[part]))
            looked = self._table.rows[codes].astype(np.float32)
            present = (codes[:, words:] != self._nowhere).astype(np.float32)
            x = network.inputs(np, layout.numbers(some), looked, present)
            found.first[part] = _in_blocks(x, self._weights)
            found.vectors[part] = network.vectors(x, layout.width, words, layout.listed, d)
        return found


def _in_blocks(x: Singles, weights: Singles) -> Singles:
    """(n, m) x (m, h), as blocks of one size add it up: a row says the same alone as in a batch."""
    whole = np.zeros((-(-len(x) // BLOCK) * BLOCK, x.shape[1]), np.float32)
    whole[: len(x)] = x
    found: Singles = (whole.reshape(-1, BLOCK, x.shape[1]) @ weights).reshape(len(whole), -1)[: len(x)]
    return found


class Halves:
    """What makes them of one network's columns."""

    def __init__(self, layout: Layout, table: Embeddings, weights: Arrays) -> None:
        self.items = Side(layout, table, weights, is_of_item)
        """By their own columns."""
        self.others = Side(layout, table, weights, lambda name: not is_of_item(name))
        """By all but the items' own."""
        self.width = int(network.flat(np, weights).shape[1])
        """h."""
        self.dimensions = int(table.rows.shape[1])
        """d."""


def _only(layout: Layout, d: int, mine: Callable[[str], bool]) -> tuple[Layout, NDArray[np.int64]]:
    """The columns that are `mine`, and the places of their inputs among those of all."""
    k, words = len(layout.numeric), len(layout.words)
    numeric = np.flatnonzero([mine(name) for name in layout.numeric])
    own = np.flatnonzero([mine(name) for name in layout.words])
    lists = tuple(name for name in layout.lists if mine(name))
    if lists not in ((), layout.lists):
        raise ValueError(f"lists are pooled together and need to be of one side; found {lists} of {layout.lists}")
    vector = np.arange(k, k + layout.vector if mine(VECTOR) else k)
    scaled = np.concatenate([numeric, vector])
    flags = np.concatenate([numeric, vector[:1]]) + k + layout.vector
    vectors = (layout.width + own[:, None] * d + np.arange(d)).ravel()
    pooled = layout.width + words * d + np.arange(d + 1 if layout.lists else 0)
    m = network.width(layout.width, words, len(layout.lists), d)
    places = [scaled, flags, vectors, *((pooled,) if lists else ()), np.arange(m - d, m)]
    scaling = Scaling(layout.scaling.mean[scaled], layout.scaling.spread[scaled])
    found = Layout(
        tuple(layout.numeric[at] for at in numeric),
        tuple(layout.words[at] for at in own),
        *(lists, layout.listed if lists else 0, scaling, len(vector)),
    )
    return found, np.concatenate(places)


@runtime_checkable
class Halved(Protocol):
    """A ranker whose graph can be given halves."""

    @property
    def halves(self) -> Halves | None:
        """What makes them; None where this ranker's predictions need whole rows."""
        ...

    def surfaces(self, features: Columns) -> NDArray[np.int32]:
        """(n,) the number of each row's surface, as far as its predictions differ by that."""
        ...

    def traced_halves(self, to: Graph, given: Parts[Traced]) -> Said:
        """`predict` of rows in halves."""
        ...


def halves_of(ranker: object) -> Halves | None:
    """Those of a ranker that has any."""
    return ranker.halves if isinstance(ranker, Halved) else None


def joined(weights: Weights, given: Parts[Traced]) -> Traced:
    """(h, n) what the first layer makes of whole rows, in a graph with these weights.

    Not in blocks, as whole rows are: what follows is done to each of h in one piece, in less time.
    """
    other, other_vectors = (graph.take(of, given.kind) for of in (given.other, given.other_vectors))
    across = given.item_vectors * other_vectors
    product = across @ network.of_pairs(graph, weights, across.shape[-1])
    return graph.swapaxes(given.item + other + product, -1, -2)
