"""A network over vectors of users, items, categories and the last items clicked: what the kinds of it share."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import sigmoid
from models.rankers import graph, halves, network
from models.rankers import heads as further
from models.rankers.embeddings import ROWS, TABLE_FILE, Admission, Embeddings, cold
from models.rankers.encoding import Encoding
from models.rankers.features import EVERYTHING
from models.rankers.graph import BLOCK, OPEN, Encoded, Graph, Said, Traced
from models.rankers.halves import Halves, Parts
from models.rankers.heads import Head
from models.rankers.labels import Label, click_label, conversion_label, without_conversions
from models.rankers.layout import PARENTS, VECTOR, Layout, rows_of
from models.rankers.logistic import Scaling
from models.rankers.network import TASKS, Arrays
from models.rankers.protocol import Checkpoints, Columns, Floats, Inputs, Predictions, TrainingData
from models.rankers.tensors import from_bytes, to_bytes
from models.rankers.words import Words
from models.settings import NetworkSettings

if TYPE_CHECKING:
    from models.rankers.batches import Batch

log = logging.getLogger(__name__)
BLOCKS_AT_ONCE = 128
LAYOUT_FILE, NETWORK_FILE = "layout.json", "network.safetensors"


class Experts(NamedTuple):
    """How many there are: of all tasks together where `shared`, else of each."""

    number: int
    shared: bool


class VectorRanker:
    """Towers, one for each task, over experts (see `models.rankers.network`); P(conversion | click) is learned over all
    impressions whose conversion is known, as a factor of P(conversion). A kind says which experts there are.

    A warm start continues weights, Adam's moments, vectors and their accumulators. Vectors are copied by id; an id not
    seen keeps its bytes, and goes when it was not seen for `expire_after_days`. Vectors are float16 between fits and in
    serving, so a day's change of less than half a step of float16 is lost. Admission counts the rows of one training:
    what is rare on every single day waits for the next full one. Where open conversions teach too, they are learned of
    clicks alone. Where a warm start knows too few it rehearses its parent's P(conversion | click) on the new rows:
    close to what it was, not equal, since what it rests on goes on learning. A further outcome has a task of its own
    (see `models.rankers.heads`) from the full training on that knows enough of it. Scores need numpy only, or
    ONNX Runtime.
    """

    kind: str
    inputs = EVERYTHING | Inputs(outcomes=True)
    several_labels = False

    def __init__(
        self,
        layout: Layout,
        weights: Arrays,
        memory: Arrays,
        table: Embeddings,
        conversion: float | None,
        heads: tuple[Head, ...] = (),
    ) -> None:
        """`memory`: Adam's; `conversion`: a constant P(conversion | click) where its tower has not learned; `heads`: of
        further outcomes.
        """
        self._layout = layout
        self._weights = weights
        self._memory = memory
        self._table = table
        self._conversion = conversion
        self._heads = heads

    @classmethod
    def _learned(
        cls,
        data: TrainingData,
        settings: NetworkSettings,
        experts: Experts,
        seed: int,
        start_from: Self | None,
        checkpoints: Checkpoints | None,
    ) -> Self:
        """Minibatches of the weighted log-losses, one pass by default; see `Resumable.fit`.

        Learning with no epochs from rows whose ids are all known gives the parent's very bytes.
        """
        from models.rankers.learner import Learner  # torch: a second to import, needed only here
        from models.rankers.shards import Begun

        rng = np.random.default_rng(seed)
        if start_from:
            data = start_from._newer(data)
        click, conversion = click_label(data), conversion_label(data)
        layout = start_from._layout if start_from else Layout.fit(data.features, click.rows)
        if start_from and (others := layout.otherwise_long(rows_of(data.features, (VECTOR,), click.rows))):
            log.warning("network: %d rows have an item's vector of another length than %d: none", others, layout.vector)
        heads = start_from._heads if start_from else further.heads(data, click.rows)
        days = np.zeros(len(click.rows), np.int64) if data.days is None else data.days[click.rows]
        words = layout.hashed(data.features, click.rows, data.room)
        seen = layout.seen(words, days)
        first_sum = settings.embedding_caution / settings.batch_size**2
        admission = Admission(settings.admit_after, settings.expire_after_days, settings.max_ids, first_sum)
        if start_from:
            table = start_from._table.grown(seen, admission, PARENTS, int(days.max()))
            weights, memory = start_from._weights, start_from._memory
        else:
            table = cold(seen, admission, settings.embedding_dimensions, rng)
            biases = _first_biases(heads, data, click)
            weights, memory = _first_weights(layout, settings, experts, biases, rng), {}
        before = start_from._conversion if start_from else 0.0
        constant = None if conversion else without_conversions(data, before)
        if conversion and before is not None:  # the tower has not learned yet
            weights = {**weights, "out.bias": weights["out.bias"].copy()}
            weights["out.bias"][TASKS.index("conversion")] = _logit(conversion)
        rows = _batch(layout, table, data, click, conversion, words, heads)
        if conversion is None and start_from and before is None:
            rows.rehearsed[:] = start_from.predict(data.features).p_conversion_given_click[click.rows]
        epochs = settings.warm_epochs if start_from else settings.epochs
        held_out = _watched(layout, table, data, heads) if epochs else None
        goes_on = start_from is not None and before is None and conversion is not None
        rate = settings.warm_learning_rate if start_from else settings.learning_rate
        settings = settings.model_copy(update={"learning_rate": rate})
        learner = Learner(Begun(weights, memory, table, layout.fields, settings, goes_on, heads))
        learner.learn(rows, epochs, layout.listed, rng, held_out, checkpoints)
        found = cls(layout, *learner.finished(), constant, heads)
        if not start_from and any(head.by for head in heads):
            said = found.predict(data.features)
            found._heads = further.levelled(heads, data, said.outcomes, said.p_click)
        return found

    def _newer(self, data: TrainingData) -> TrainingData:
        """The rows of days after the last it learned from; all where days are not told, or those tell no clicks.

        What it has learned once it would learn by heart: of a warm start's days most are its parent's too.
        """
        if data.days is None:
            return data
        newer = data.where(np.flatnonzero(data.days > self._table.last_seen.max(initial=0)))
        told = Label.of(newer.clicked, newer.weight)
        return newer if min(told.per_class()) else data

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows, float32 in numpy; no torch when serving."""
        found = [self._of_blocks(x) for x in self._blocks(features)]
        n = len(features[self._layout.numeric[0]])
        both = np.concatenate([np.zeros((0, len(self._weights["out.bias"]))), *found])[:n]
        p = sigmoid(both)
        given = p[:, 1].copy() if self._conversion is None else np.full(n, self._conversion)
        logit, of = both[:, len(TASKS) :], self._heads
        outcomes = further.predictions(of, logit, p[:, 0], features)
        return Predictions(p[:, 0].copy(), given, outcomes, further.quantiles(of, logit, p[:, 0]))

    def encoded(self, features: Columns) -> Encoded[NDArray[Any]]:
        """Numbers and vectors as they come, and rows of the table."""
        layout = self._layout
        numbers = np.hstack([Encoding(layout.numeric, {}).numbers(features), layout.vectors(features)])
        return Encoded(numbers, layout.codes(features, self._table, len(numbers)))

    def traced(self, to: Graph, given: Encoded[Traced]) -> Said:
        """As `predict`, in the same blocks: the formula of `models.rankers.network` once more."""
        layout, files = self._layout, self.to_files()
        table = to.stored(TABLE_FILE, files[TABLE_FILE])[ROWS]
        numbers = layout.scaling.traced(given.numbers, (*layout.numeric, *[VECTOR] * layout.vector))
        if layout.vector:
            numbers = numbers[..., : layout.width]
        present = given.codes[..., len(layout.words) :].differs(self._nowhere()).astype(np.float32)
        looked = graph.take(table, given.codes).astype(np.float32)
        own, looked, present = (of.reshape((OPEN, BLOCK, *of.shape[1:])) for of in (numbers, looked, present))
        x = network.inputs(graph, own, looked, present)
        return self._said(network.logits(graph, to.stored(NETWORK_FILE, files[NETWORK_FILE]), x))

    @property
    def halves(self) -> Halves | None:
        """See `Halved`; a value's quantile is looked up by a column of every row."""
        if any(head.by for head in self._heads):
            return None
        return Halves(self._layout, self._table, self._weights)

    def surfaces(self, features: Columns) -> NDArray[np.int32]:
        """See `Halved`."""
        return np.zeros(len(features[self._layout.numeric[0]]), np.int32)

    def traced_halves(self, to: Graph, given: Parts[Traced]) -> Said:
        """See `Halved`."""
        weights = to.stored(NETWORK_FILE, to_bytes(self._weights_and_memory()))
        return self._said(network.rest(graph, weights, halves.joined(weights, given)))

    def _said(self, found: list[Traced]) -> Said:
        """Of the logits of each task, in blocks."""
        logits = [of.reshape((OPEN,)).astype(np.float64) for of in found]
        click, given_click = map(graph.sigmoid, logits[: len(TASKS)])
        if self._conversion is not None:
            given_click = graph.full_like(click, self._conversion)
        if not self._heads:
            return Said(click, given_click)
        return Said(click, given_click, (click, graph.concatenate([of[..., None] for of in logits[len(TASKS) :]], -1)))

    @property
    def heads(self) -> tuple[Head, ...]:
        """Of further outcomes."""
        return self._heads

    def _nowhere(self) -> NDArray[np.int32]:
        """(listed,) the row of each place of a list that holds nothing."""
        fields = self._layout.fields[len(self._layout.words) :]
        return np.array([self._table.unknown(field) for field in fields], dtype=np.int32)

    def log_losses(self, data: TrainingData) -> dict[str, float]:
        """Weighted mean log-loss in nats by task, of the rows whose label is known: P(click), P(conversion)."""
        found = self.predict(data.features)
        losses = {}
        for task, p, of in zip(TASKS, (found.p_click, found.p_conversion), (data.clicked, data.converted), strict=True):
            label = Label.of(of, data.weight)
            if len(label.rows):
                said = np.clip(p[label.rows], 1e-12, 1 - 1e-12)
                losses[task] = float(
                    np.average(-np.where(label.value > 0, np.log(said), np.log1p(-said)), weights=label.weight)
                )
        return losses

    def to_files(self) -> dict[str, bytes]:
        """JSON and safetensors: the layout, the network with Adam's memory, the vectors, their values."""
        layout = self._layout
        tree: dict[str, Any] = {
            **({"vector": layout.vector} if layout.vector else {}),
            "numeric": layout.numeric,
            "words": layout.words,
            "lists": layout.lists,
            "listed": layout.listed,
            "mean": layout.scaling.mean.tolist(),
            "spread": layout.scaling.spread.tolist(),
            "conversion": self._conversion,
        }
        if self._heads:
            tree["heads"] = [asdict(head) for head in self._heads]
        return {
            LAYOUT_FILE: json.dumps(tree, indent=0).encode(),
            NETWORK_FILE: to_bytes(self._weights_and_memory()),
            **self._table.to_files(),
        }

    def _weights_and_memory(self) -> Arrays:
        return {**self._weights, **{f"adam.{name}": value for name, value in self._memory.items()}}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        tree = json.loads(files[LAYOUT_FILE])
        tensors = from_bytes(files[NETWORK_FILE])
        memory = {name.removeprefix("adam."): value for name, value in tensors.items() if name.startswith("adam.")}
        scaling = Scaling(np.array(tree["mean"]), np.array(tree["spread"]))
        numeric, words, lists = (tuple(tree[of]) for of in ("numeric", "words", "lists"))
        weights = {name: value for name, value in tensors.items() if not name.startswith("adam.")}
        return cls(
            Layout(numeric, words, lists, tree["listed"], scaling, tree.get("vector", 0)),
            weights,
            memory,
            Embeddings.from_files(files),
            tree["conversion"],
            tuple(further.read(head) for head in tree.get("heads", ())),
        )

    def _blocks(self, features: Columns) -> Iterable[NDArray[np.float32]]:
        """The network's inputs, (blocks, BLOCK, m) some blocks at once; the last rows of the last one are made up."""
        codes = self._layout.codes(features, self._table, len(features[self._layout.numeric[0]]))
        numbers = self._layout.numbers(features)
        words, unknown = len(self._layout.words), self._nowhere()
        for first in range(0, len(codes), BLOCK * BLOCKS_AT_ONCE):
            part = slice(first, first + BLOCK * BLOCKS_AT_ONCE)
            own, of = _filled(numbers[part]), _filled(codes[part])
            looked = self._table.rows[of].astype(np.float32)
            yield network.inputs(np, own, looked, (of[..., words:] != unknown).astype(np.float32))

    def _of_blocks(self, x: NDArray[np.float32]) -> Floats:
        found = network.logits(np, self._weights, x)
        return np.stack(found, axis=-1).reshape(-1, len(found)).astype(np.float64)


def _filled(rows: NDArray[Any]) -> NDArray[Any]:
    """(n, k) becomes (blocks, BLOCK, k), zeros after the last row."""
    whole = np.zeros((-(-len(rows) // BLOCK) * BLOCK, rows.shape[1]), dtype=rows.dtype)
    whole[: len(rows)] = rows
    return whole.reshape(-1, BLOCK, rows.shape[1])


def _first_weights(
    layout: Layout, settings: NetworkSettings, experts: Experts, biases: list[float], rng: np.random.Generator
) -> Arrays:
    """`biases`: of the tasks."""
    m = network.width(layout.width, len(layout.words), len(layout.lists), settings.embedding_dimensions)
    sizes = experts.number, settings.expert_width, settings.tower_width
    weights = network.initial(m, *sizes, experts.shared, rng, len(biases))
    weights["out.bias"][:] = biases
    return weights


def _first_biases(heads: tuple[Head, ...], data: TrainingData, click: Label) -> list[float]:
    """Of each task: what it says before it has learned anything; 0 of a conversion, until enough are known."""
    taught = further.labels(heads, data, click.rows).astype(np.float64)
    return [_logit(click), 0.0, *(head.first_bias(label) for head, label in zip(heads, taught.T, strict=True))]


def _logit(label: Label) -> float:
    rate = label.rate()
    return float(np.log(rate / (1 - rate)))


def _watched(layout: Layout, table: Embeddings, data: TrainingData, heads: tuple[Head, ...]) -> "Batch | None":
    """The rows held out to watch the learning by; None where there are none whose click is known."""
    later = data.held_out
    if later is None:
        return None
    known = Label.of(later.clicked, later.weight)
    words = layout.hashed(later.features, known.rows, data.room)
    return _batch(layout, table, later, known, None, words, heads) if len(known.rows) else None


def _batch(
    layout: Layout,
    table: Embeddings,
    data: TrainingData,
    click: Label,
    conversion: Label | None,
    words: Mapping[str, Words],
    heads: tuple[Head, ...] = (),
) -> "Batch":
    """The rows whose click is known; `conversion`: theirs, of all rows where closed, or as `data.conversion` says.

    A conversion is paid to a click: without one there is none.
    """
    from models.rankers.batches import Batch

    n = len(click.rows)
    converted, seen, of_click = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
    if conversion is not None and _closed(conversion, data):
        converted = data.converted[click.rows] * click.value
    elif conversion is not None:
        at = np.searchsorted(click.rows, conversion.rows)
        converted[at], of_click[at] = conversion.value, conversion.weight / click.weight.mean()
        seen[at] = 1.0 if conversion.seen is None else conversion.seen
    return Batch(
        layout.numbers(rows_of(data.features, layout.of_numbers, click.rows, data.room), data.room),
        layout.codes(words, table, n, data.room),
        click.value.astype(np.float32),
        converted.astype(np.float32),
        np.full(n, np.nan, dtype=np.float32),
        (click.weight / click.weight.mean()).astype(np.float32),
        seen.astype(np.float32),
        of_click.astype(np.float32),
        further.labels(heads, data, click.rows),
    )


def _closed(conversion: Label, data: TrainingData) -> bool:
    """Whether the label says no more than `data.converted` does."""
    own = (data.converted[conversion.rows], data.weight[conversion.rows])
    return conversion.seen is None and all(map(np.array_equal, own, (conversion.value, conversion.weight)))
