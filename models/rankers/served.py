"""A ranker as an ONNX graph, scored by ONNX Runtime: the same numbers to `CLOSE`, sooner.

Words and ids become rows of tables before the graph (`Exportable.encoded`): a dictionary of millions of ids is no
arithmetic, and must grow and lose ids as its ranker does. From raw numbers to calibrated probabilities all is in it.
What the ranker keeps as safetensors lies in that file alone: the graph names the place.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.rankers import heads as further
from models.rankers.graph import BLOCK, Encoded, Graph, Said, Traced
from models.rankers.halves import Half, Halved, Halves, Parts, halves_of
from models.rankers.heads import Head
from models.rankers.protocol import Columns, Inputs, Predictions, Scorer

GRAPH_FILE, HALVES_FILE = "ranker.onnx", "halves.onnx"
"""The second begins where what is known of an item, and of all the rest, is added up."""
SAYS = ("p_click", "p_conversion_given_click", "p_click_of_outcomes", "logits_of_outcomes")
"""What comes out of the graph, the last two where there are further outcomes; the fields of `Encoded` go in."""
CLOSE = 1e-5
"""How far a graph may be from its ranker in any probability; of a value, as a share of it."""
AT_ONCE = 128 * BLOCK


class Unlike(ValueError):
    """A graph says something else than its ranker: it must not serve."""


@runtime_checkable
class Exportable(Scorer, Protocol):
    """A ranker that can be written down as a graph."""

    @property
    def heads(self) -> tuple[Head, ...]:
        """Of further outcomes, whose values by groups are looked up behind the graph."""
        ...

    def encoded(self, features: Columns) -> Encoded[NDArray[Any]]:
        """What the graph is given of n rows; raises as `predict` does."""
        ...

    def traced(self, to: Graph, given: Encoded[Traced]) -> Said:
        """`predict`, of what is given, a multiple of `BLOCK` rows."""
        ...


class Served:
    """Of its ranker's kind, and of its inputs; a row scores the same alone as in a batch."""

    def __init__(self, ranker: Exportable, graphs: Mapping[str, bytes], files: Mapping[str, bytes]) -> None:
        """`graphs` by file; `files`: those of the ranker, where the graphs find their tables."""
        self.kind: str = ranker.kind
        self.inputs: Inputs = ranker.inputs
        self.ranker = ranker
        self.halves: Halves | None = halves_of(ranker) if HALVES_FILE in graphs else None
        """What is made of items once, see `predict_halves`; None where rows are whole."""
        self._graphs = dict(graphs)
        self._session = _session(graphs[GRAPH_FILE], files)
        self._of_halves = _session(graphs[HALVES_FILE], files) if self.halves is not None else None

    @classmethod
    def of(cls, ranker: Exportable, rows: Columns) -> "Served":
        """With its graphs, which say of these rows what the ranker says; else raises `Unlike`."""
        files = ranker.to_files()
        found = cls(ranker, {GRAPH_FILE: _whole(ranker, rows), **_halved(ranker)}, files)
        need_alike(ranker.kind, "graph", ranker.predict(rows), found.predict(rows))
        if found.halves is not None:
            items = found.halves.items.of(rows)
            at = np.arange(len(items.first))
            halves = found.predict_halves(items, at, rows, at)
            need_alike(ranker.kind, "graph of halves", ranker.predict(rows), halves)
        return found

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows, one thread."""
        given = self.ranker.encoded(features)
        n = len(given.numbers)
        parts = [
            self._session.run(None, {name: _filled(of[at : at + AT_ONCE]) for name, of in given._asdict().items()})
            for at in range(0, max(1, n), AT_ONCE)
        ]
        return self._predictions(parts, n, features)

    def other_half(self, kinds: Columns) -> Half:
        """What is made of all but the items. Needs `halves`."""
        if self.halves is None:
            raise ValueError(f"halves need a graph of them; found a {self.kind} without")
        return self.halves.others.of(kinds)

    def predict_halves(
        self,
        items: Half,
        rows: NDArray[np.int64],
        kinds: Columns,
        kind: NDArray[np.int64],
        other: Half | None = None,
    ) -> Predictions:
        """`predict` of n rows: the item of each is row `rows[i]` of `items`, and what is not its item's is as in row
        `kind[i]` of the columns `kinds`. An item that is not among them, -1, is as in there too. Needs `halves`.

        `other`: the `other_half` of the kinds, where somebody has made it.
        """
        if self.halves is None or self._of_halves is None:
            raise ValueError(f"halves need a graph of them; found a {self.kind} without")
        other, n = self.other_half(kinds) if other is None else other, len(rows)
        surfaces = cast(Halved, self.ranker).surfaces(kinds)
        parts = []
        for at in range(0, max(1, n), AT_ONCE):
            some = items.take(_filled(rows[at : at + AT_ONCE]))
            unknown = np.flatnonzero(rows[at : at + AT_ONCE] < 0)
            if len(unknown):
                own = kind[at + unknown]
                strangers = self.halves.items.of({name: column[own] for name, column in kinds.items()})
                some.first[unknown], some.vectors[unknown] = strangers
            given = Parts(*some, *other, surfaces, _filled(kind[at : at + AT_ONCE]))
            parts.append(self._of_halves.run(None, given._asdict()))
        return self._predictions(parts, n, kinds)

    def _predictions(self, parts: Sequence[Sequence[NDArray[Any]]], n: int, features: Columns) -> Predictions:
        """Of what a graph says, some rows at once and more than n; `features`: of rows whose outcomes need them."""
        whole = parts[0] if len(parts) == 1 else [np.concatenate(of) for of in zip(*parts, strict=True)]
        click, conversion, *rest = (of[:n] for of in whole)
        if not rest:
            return Predictions(click, conversion)
        (within, logits), heads = rest, self.ranker.heads
        outcomes = further.predictions(heads, logits, within, features)
        return Predictions(click, conversion, outcomes, further.quantiles(heads, logits, within))

    def to_files(self) -> dict[str, bytes]:
        """Those of the ranker, and the graphs."""
        return {**self.ranker.to_files(), **self._graphs}


def _whole(ranker: Exportable, rows: Columns) -> bytes:
    """The graph that is given rows; some of them tell how wide they are."""
    to, encoded = Graph(), ranker.encoded(rows)
    given = (to.given(name, of.dtype, of.shape[1]) for name, of in encoded._asdict().items())
    return _given(to, ranker.traced(to, Encoded(*given)))


def _halved(ranker: Exportable) -> dict[str, bytes]:
    """The graph that is given halves, where there are any."""
    halves, to = halves_of(ranker), Graph()
    if halves is None:
        return {}
    first, vectors, others = halves.width, halves.dimensions, "kinds"
    given = Parts(
        to.given("item", np.float32, first),
        to.given("item_vectors", np.float32, vectors),
        to.given("other", np.float32, first, rows=others),
        to.given("other_vectors", np.float32, vectors, rows=others),
        to.given("surface", np.int32, rows=others),
        to.given("kind", np.int64),
    )
    return {HALVES_FILE: _given(to, cast(Halved, ranker).traced_halves(to, given))}


def _given(to: Graph, said: Said) -> bytes:
    """With what is said as its outputs."""
    for name, of in zip(SAYS, (said.click, said.conversion, *said.further), strict=False):
        to.give(name, of)
    return to.to_bytes()


def need_alike(kind: str, name: str, one: Predictions, other: Predictions) -> None:
    """Raises `Unlike` where they are not `CLOSE`."""
    apart = furthest(one, other)
    if not apart <= CLOSE:  # NaN is not close either
        raise Unlike(f"the {name} of {kind} needs to say what it says to {CLOSE:g}; found {apart:g} between them")


def with_graphs(ranker: Scorer, files: Mapping[str, bytes]) -> Scorer:
    """The ranker that wrote the files, scored by the graphs among them; itself where there are none."""
    graphs = {name: files[name] for name in (GRAPH_FILE, HALVES_FILE) if name in files}
    return Served(exportable(ranker), graphs, files) if graphs else ranker


def exportable(ranker: Scorer) -> Exportable:
    """The ranker, which has to be one."""
    if not isinstance(ranker, Exportable):
        raise TypeError(f"a graph needs a ranker that can be written as one; found {ranker.kind}")
    return ranker


def plain(ranker: Scorer) -> Scorer:
    """What is scored by numpy: the ranker behind a graph, or itself."""
    return ranker.ranker if isinstance(ranker, Served) else ranker


def furthest(one: Predictions, other: Predictions) -> float:
    """The largest difference of any probability, or of any value as a share of its size or of 1."""
    pairs = [(one.p_click, other.p_click), (one.p_conversion_given_click, other.p_conversion_given_click)]
    pairs += [(of, other.outcomes[name]) for name, of in one.outcomes.items()]
    return max(float((np.abs(a - b) / np.maximum(1.0, np.abs(a))).max(initial=0.0)) for a, b in pairs)


def _session(content: bytes, files: Mapping[str, bytes]) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    tables = {name: of for name, of in files.items() if name.endswith(".safetensors")}
    if tables:
        sizes = [len(of) for of in tables.values()]
        options.add_external_initializers_from_files_in_memory(list(tables), list(tables.values()), sizes)
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _filled(rows: NDArray[Any]) -> NDArray[Any]:
    """Whole blocks, at least one: zeros after the last row."""
    whole = np.zeros((max(1, -(-len(rows) // BLOCK)) * BLOCK, *rows.shape[1:]), dtype=rows.dtype)
    whole[: len(rows)] = rows
    return whole
