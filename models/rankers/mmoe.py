"""MMoE: one network for every outcome, with vectors of users, items, categories and the last items clicked."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import sigmoid
from models.rankers import heads as further
from models.rankers import network
from models.rankers.embeddings import Admission, Embeddings, Sightings, cold, of_columns, sightings
from models.rankers.encoding import Encoding, require
from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, EVERYTHING, IDS, LISTS, NUMERIC
from models.rankers.heads import Head
from models.rankers.labels import Label, click_label, conversion_label, without_conversions
from models.rankers.logistic import Scaling, logged
from models.rankers.network import EXPERT_AXIS, TASKS, Arrays
from models.rankers.protocol import Columns, Floats, Inputs, Predictions, TrainingData
from models.rankers.tensors import from_bytes, to_bytes
from models.settings import MMoESettings

if TYPE_CHECKING:
    from models.rankers.learner import Batch

log = logging.getLogger(__name__)
SHARED = dict.fromkeys(LISTS, "item_id")
"""Lists of ids and the column whose vectors they share."""
PARENTS = {"item_id": "item_category"}
"""A new value of the first begins where the values of its second are, on average."""
BLOCK, BLOCKS_AT_ONCE = 64, 128
"""Rows are scored in blocks of one size: a matrix product may add in another order where there are fewer."""
LAYOUT_FILE, NETWORK_FILE = "layout.json", "network.safetensors"


@dataclass(frozen=True)
class Pruning:
    """What dropping experts cost: their largest share of any task's gate, which stay, log-loss (nats) by task."""

    usage: tuple[float, ...]
    kept: tuple[int, ...]
    log_loss_before: dict[str, float]
    log_loss_after: dict[str, float]


@dataclass(frozen=True)
class Layout:
    """What the network is told of a row: numbers, then one word each of `words`, then the words of `lists`."""

    numeric: tuple[str, ...]
    words: tuple[str, ...]
    lists: tuple[str, ...]
    listed: int
    """Entries of all lists together."""
    scaling: Scaling

    @classmethod
    def fit(cls, features: Columns, rows: NDArray[np.int64]) -> Self:
        """Every numeric and categorical column, each `attributes.*`, id and list column there is; needed from then on.

        A list is left out where the column is not there whose vectors it shares.
        """
        require(features, (*NUMERIC, *CATEGORICAL))
        attributes = sorted(name for name in features if name.startswith(ATTRIBUTE_PREFIX))
        words = (*CATEGORICAL, *attributes, *(name for name in IDS if name in features))
        lists = tuple(name for name, of in SHARED.items() if name in features and of in words)
        listed = sum(np.asarray(features[name]).shape[1] for name in lists)
        numbers = logged(Encoding(NUMERIC, {}), {name: np.asarray(features[name])[rows] for name in NUMERIC})
        return cls(NUMERIC, words, lists, listed, Scaling.fit(numbers))

    @property
    def sources(self) -> dict[str, str]:
        """Each column of strings and the field whose rows it looks up."""
        return {**{name: name for name in self.words}, **{name: SHARED[name] for name in self.lists}}

    @property
    def fields(self) -> tuple[str, ...]:
        """The field of each code of a row."""
        of_lists = [SHARED[name] for name in self.lists for _ in range(self.listed // max(1, len(self.lists)))]
        return (*self.words, *of_lists)

    def numbers(self, features: Columns) -> NDArray[np.float32]:
        """(n, 2 numeric): logarithms of what is heavy-tailed, standardised, and one flag per missing value."""
        return self.scaling.apply(logged(Encoding(self.numeric, {}), features))

    def codes(self, features: Columns, table: Embeddings) -> NDArray[np.int32]:
        """(n, words + listed) rows of the table; a missing `attributes.*` column is unknown, any other an error."""
        require(features, [name for name in self.sources if not name.startswith(ATTRIBUTE_PREFIX)])
        return of_columns(table, features, self.sources, len(features[self.numeric[0]]))

    def seen(self, features: Columns, rows: NDArray[np.int64], days: NDArray[np.int64]) -> dict[str, Sightings]:
        """Of each field, in some rows of the columns that look it up."""
        columns = {
            name: np.asarray(features[name])[rows] if name in features else np.full(len(rows), None, dtype=object)
            for name in self.sources
        }
        found = {}
        for field in self.words:
            mine = [(columns[name], days) for name, of in self.sources.items() if of == field]
            parent = (columns[field], columns[PARENTS[field]]) if field in PARENTS else None
            found[field] = sightings(mine, parent)
        return found


class MMoERanker:
    """Experts that all tasks share, a gate and a tower for each (see `models.rankers.network`); P(conversion | click)
    is learned over all impressions whose conversion is known, as a factor of P(conversion).

    A warm start continues weights, Adam's moments, vectors and their accumulators. Vectors are copied by id; an id not
    seen keeps its bytes, and goes when it was not seen for `expire_after_days`. Vectors are float16 between fits and in
    serving, so a day's change of less than half a step of float16 is lost. Admission counts the rows of one training:
    what is rare on every single day waits for the next full one. Where open
    conversions teach too, they are learned of clicks alone. Where a warm start knows too few it
    rehearses its parent's P(conversion | click) on the new rows: close to what it was, not equal, since the experts it
    rests on go on learning. A further outcome has a task of its own (see `models.rankers.heads`) from the full training
    on that knows enough of it. Scores need numpy only; there is no ONNX file, for the environment has no runtime for
    it.
    """

    kind = "mmoe"
    inputs = EVERYTHING | Inputs(outcomes=True)

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
    def fit(cls, data: TrainingData, settings: MMoESettings, seed: int, start_from: Self | None = None) -> Self:
        """Minibatches of the weighted log-losses, one pass by default; see `Ranker.fit`.

        Learning with no epochs from rows whose ids are all known gives the parent's very bytes.
        """
        from models.rankers.learner import Learner  # torch: a second to import, needed only here

        rng = np.random.default_rng(seed)
        if start_from:
            data = start_from._newer(data)
        click, conversion = click_label(data), conversion_label(data)
        layout = start_from._layout if start_from else Layout.fit(data.features, click.rows)
        heads = start_from._heads if start_from else further.heads(data, click.rows)
        days = np.zeros(len(click.rows), np.int64) if data.days is None else data.days[click.rows]
        seen = layout.seen(data.features, click.rows, days)
        admission = Admission(settings.admit_after, settings.expire_after_days, settings.max_ids)
        if start_from:
            table = start_from._table.grown(seen, admission, PARENTS, int(days.max()))
            weights, memory = start_from._weights, start_from._memory
        else:
            table = cold(seen, admission, settings.embedding_dimensions, rng)
            weights, memory = _first_weights(layout, settings, click, _first_biases(heads, data, click), rng), {}
        before = start_from._conversion if start_from else 0.0
        constant = None if conversion else without_conversions(data, before)
        if conversion and before is not None:  # the tower has not learned yet
            weights = {**weights, "out.bias": weights["out.bias"].copy()}
            weights["out.bias"][TASKS.index("conversion")] = _logit(conversion)
        rows = _batch(layout, table, data, click, conversion, heads)
        if conversion is None and start_from and before is None:
            rows.rehearsed[:] = start_from.predict(data.features).p_conversion_given_click[click.rows]
        epochs = settings.warm_epochs if start_from else settings.epochs
        held_out = None
        if data.held_out is not None and epochs > 1:
            known = Label.of(data.held_out.clicked, data.held_out.weight)
            held_out = _batch(layout, table, data.held_out, known, None, heads) if len(known.rows) else None
        goes_on = start_from is not None and before is None and conversion is not None
        rate = settings.warm_learning_rate if start_from else settings.learning_rate
        settings = settings.model_copy(update={"learning_rate": rate})
        learner = Learner(weights, memory, table, layout.fields, settings, goes_on, heads)
        learner.learn(rows, epochs, layout.listed, rng, held_out)
        ranker = cls(layout, *learner.finished(), constant, heads)
        if settings.prune_below:
            ranker, cost = ranker.pruned(settings.prune_below, data.held_out or data)
            log.info("mmoe: of %d experts %d kept: %s", len(cost.usage), len(cost.kept), cost)
        return ranker

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
        return Predictions(p[:, 0].copy(), given, further.predictions(self._heads, both[:, len(TASKS) :], p[:, 0]))

    def gate_usage(self, features: Columns) -> Floats:
        """(tasks, experts): the mean share that each task's gate gives to each expert; a task's sum to 1.

        Raises ValueError for no rows.
        """
        n = len(features[self._layout.numeric[0]])
        if not n:
            raise ValueError("gate usage needs rows; found none")
        shares = [network.gates(np, self._weights, x) for x in self._blocks(features)]
        mean: Floats = np.concatenate([part.reshape(-1, *part.shape[2:]) for part in shares])[:n].mean(
            axis=0, dtype=np.float64
        )
        return mean

    def pruned(self, below: float, data: TrainingData) -> tuple[Self, Pruning]:
        """Without the experts that no task gives a share of `below`, and what that costs on `data`.

        A task's most used expert stays. Nothing is learned afterwards: the gates' shares go to the experts left.
        """
        usage = self.gate_usage(data.features)
        kept = np.flatnonzero((usage >= below).any(axis=0) | np.isin(np.arange(usage.shape[1]), usage.argmax(axis=1)))

        def fewer(arrays: Arrays) -> Arrays:
            axes = {name: EXPERT_AXIS.get(name) or EXPERT_AXIS.get(name.rpartition(".")[0]) for name in arrays}
            axes |= {name: 0 for name in arrays if name.startswith("experts.bias")}
            return {
                name: value if axes[name] is None or not value.ndim else np.take(value, kept, axis=axes[name])
                for name, value in arrays.items()
            }

        found = type(self)(
            self._layout, fewer(self._weights), fewer(self._memory), self._table, self._conversion, self._heads
        )
        cost = Pruning(
            tuple(usage.max(axis=0).tolist()), tuple(kept.tolist()), self.log_losses(data), found.log_losses(data)
        )
        return found, cost

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
        memory = {f"adam.{name}": value for name, value in self._memory.items()}
        return {
            LAYOUT_FILE: json.dumps(tree, indent=0).encode(),
            NETWORK_FILE: to_bytes({**self._weights, **memory}),
            **self._table.to_files(),
        }

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
            Layout(numeric, words, lists, tree["listed"], scaling),
            weights,
            memory,
            Embeddings.from_files(files),
            tree["conversion"],
            tuple(Head(**head) for head in tree.get("heads", ())),
        )

    def _blocks(self, features: Columns) -> Iterable[NDArray[np.float32]]:
        """The network's inputs, (blocks, BLOCK, m) some blocks at once; the last rows of the last one are made up."""
        codes = self._layout.codes(features, self._table)
        numbers = self._layout.numbers(features)
        words = len(self._layout.words)
        unknown = np.array([self._table.unknown(field) for field in self._layout.fields[words:]], dtype=np.int32)
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
    layout: Layout, settings: MMoESettings, click: Label, biases: list[float], rng: np.random.Generator
) -> Arrays:
    """`biases`: of the further tasks."""
    d = settings.embedding_dimensions
    m = network.width(2 * len(layout.numeric), len(layout.words), len(layout.lists), d)
    sizes = settings.experts, settings.expert_width, settings.tower_width
    weights = network.initial(m, *sizes, settings.shared, rng, len(TASKS) + len(biases))
    weights["out.bias"][0] = _logit(click)
    weights["out.bias"][len(TASKS) :] = biases
    return weights


def _first_biases(heads: tuple[Head, ...], data: TrainingData, click: Label) -> list[float]:
    taught = further.labels(heads, data, click.rows).astype(np.float64)
    return [head.first_bias(label) for head, label in zip(heads, taught.T, strict=True)]


def _logit(label: Label) -> float:
    rate = label.rate()
    return float(np.log(rate / (1 - rate)))


def _batch(
    layout: Layout,
    table: Embeddings,
    data: TrainingData,
    click: Label,
    conversion: Label | None,
    heads: tuple[Head, ...] = (),
) -> "Batch":
    """The rows whose click is known; `conversion`: theirs, of all rows where closed, or as `data.conversion` says.

    A conversion is paid to a click: without one there is none.
    """
    from models.rankers.learner import Batch

    features = {
        name: np.asarray(column)[click.rows] for name, column in data.features.items() if _is_input(layout, name)
    }
    n = len(click.rows)
    converted, seen, of_click = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
    if conversion is not None and _closed(conversion, data):
        converted = data.converted[click.rows] * click.value
    elif conversion is not None:
        at = np.searchsorted(click.rows, conversion.rows)
        converted[at], of_click[at] = conversion.value, conversion.weight / click.weight.mean()
        seen[at] = 1.0 if conversion.seen is None else conversion.seen
    return Batch(
        layout.numbers(features),
        layout.codes(features, table),
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


def _is_input(layout: Layout, name: str) -> bool:
    return name in layout.numeric or name in layout.sources
