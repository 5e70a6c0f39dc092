"""A ranker as an ONNX graph, scored by ONNX Runtime: the same numbers to `CLOSE`, sooner.

Words and ids become rows of tables before the graph (`Exportable.encoded`): a dictionary of millions of ids is no
arithmetic, and must grow and lose ids as its ranker does. From raw numbers to calibrated probabilities all is in it.
What the ranker keeps as safetensors lies in that file alone: the graph names the place.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.rankers import heads as further
from models.rankers.graph import BLOCK, Encoded, Graph, Said, Traced
from models.rankers.heads import Head
from models.rankers.protocol import Columns, Inputs, Predictions, Scorer

GRAPH_FILE = "ranker.onnx"
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

    def __init__(self, ranker: Exportable, content: bytes, files: Mapping[str, bytes]) -> None:
        """`content`: the graph; `files`: those of the ranker, where the graph finds its tables."""
        self.kind: str = ranker.kind
        self.inputs: Inputs = ranker.inputs
        self.ranker = ranker
        self._content = content
        self._session = _session(content, files)

    @classmethod
    def of(cls, ranker: Exportable, rows: Columns) -> "Served":
        """With its graph, which says of these rows what the ranker says; else raises `Unlike`."""
        to, files, encoded = Graph(), ranker.to_files(), ranker.encoded(rows)
        given = (to.given(name, of.dtype, of.shape[1]) for name, of in encoded._asdict().items())
        said = ranker.traced(to, Encoded(*given))
        for name, of in zip(SAYS, (said.click, said.conversion, *said.further), strict=False):
            to.give(name, of)
        found = cls(ranker, to.to_bytes(), files)
        apart = furthest(ranker.predict(rows), found.predict(rows))
        if not apart <= CLOSE:  # NaN is not close either
            raise Unlike(
                f"the graph of {ranker.kind} needs to say what it says to {CLOSE:g}; found {apart:g} between them"
            )
        return found

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows, one thread."""
        given = self.ranker.encoded(features)
        n = len(given.numbers)
        parts = [
            self._session.run(None, {name: _filled(of[at : at + AT_ONCE]) for name, of in given._asdict().items()})
            for at in range(0, max(1, n), AT_ONCE)
        ]
        click, conversion, *rest = (np.concatenate(of)[:n] for of in zip(*parts, strict=True))
        if not rest:
            return Predictions(click, conversion)
        (within, logits), heads = rest, self.ranker.heads
        outcomes = further.predictions(heads, logits, within, features)
        return Predictions(click, conversion, outcomes, further.quantiles(heads, logits, within))

    def to_files(self) -> dict[str, bytes]:
        """Those of the ranker, and the graph."""
        return {**self.ranker.to_files(), GRAPH_FILE: self._content}


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
