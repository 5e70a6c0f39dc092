"""A factorisation machine: every user, item and category has a vector, and what meets in a row scores by products."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import Targets, sigmoid
from models.rankers import graph
from models.rankers.embeddings import ROWS, TABLE_FILE, Admission, Embeddings, Sightings, cold, of_columns, sightings
from models.rankers.encoding import Encoding, require
from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, IDS, NUMERIC, TABLE, attributes_of
from models.rankers.graph import Encoded, Graph, Said, Traced
from models.rankers.heads import Head
from models.rankers.labels import Label, click_label, conversion_label, without_conversions
from models.rankers.logistic import Scaling, logged, scaling_of
from models.rankers.protocol import Columns, Diverged, Floats, Inputs, Predictions, TrainingData, taken
from models.rankers.tensors import from_bytes, to_bytes
from models.rankers.words import Words
from models.settings import FactorizationSettings

log = logging.getLogger(__name__)
NUMBERS = Encoding(NUMERIC, {})
PARENTS = {"item_id": "item_category"}
"""A new value of the first begins where the values of its second are, on average."""
EPSILON = 1e-8
FURTHEST, BISECTIONS = 8.0, 40
"""How far an intercept is set from where the last batch left it."""
AT_ONCE = 8_192
"""Rows whose vectors are held together."""
LAYOUT_FILE, WEIGHTS_FILE = "layout.json", "weights.safetensors"
CLICK, CONVERSION = "click", "conversion"


@dataclass(frozen=True)
class Machine:
    """logit = bias + numbers · weights + sum of words' own weights + sum over pairs of words of their vectors' product
    (Rendle 2010); a row of the table is a word's vector and, last, its own weight.

    `squares`: AdaGrad's sums, of the bias and each number's weight.
    """

    table: Embeddings
    linear: Floats
    squares: Floats

    def logits(self, numbers: NDArray[np.float32], codes: NDArray[np.int32]) -> Floats:
        """(n,) of (n, k) numbers and (n, f) rows of the table; column by column, so that no row depends on others."""
        found = np.empty(len(codes))
        for first in range(0, len(codes), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            found[part] = self._pairs(codes[part])
        found += self.linear[0]
        for at in range(numbers.shape[1]):
            found += numbers[:, at].astype(np.float64) * self.linear[1 + at]
        return found

    def _pairs(self, codes: NDArray[np.int32]) -> Floats:
        total = np.zeros((len(codes), self.table.rows.shape[1]))
        squares = np.zeros(len(codes))
        for at in range(codes.shape[1]):
            row = self.table.rows[codes[:, at]].astype(np.float64)
            total += row
            squares += np.square(row[:, :-1]).sum(axis=1)
        found: Floats = total[:, -1] + (np.square(total[:, :-1]).sum(axis=1) - squares) / 2
        return found

    def traced(self, stored: Traced, numbers: Traced, codes: Traced) -> Traced:
        """(n,) the logits, of the table as it is stored."""
        d = stored.shape[-1] - 1
        looked = graph.take(stored, codes).astype(np.float32)
        vectors, own = looked[..., :d], looked[..., d].sum(-1)
        whole = vectors.sum(-2)
        pairs = (whole * whole).sum(-1) - (vectors * vectors).sum(-2).sum(-1)
        of_numbers = (numbers * self.linear[1:]).sum(-1)
        return own.astype(np.float64) + pairs.astype(np.float64) / 2.0 + of_numbers.astype(np.float64) + self.linear[:1]

    def to_files(self, name: str) -> dict[str, bytes]:
        """The table's files and one of the numbers' weights."""
        files = {**self.table.to_files(), WEIGHTS_FILE: to_bytes({"linear": self.linear, "squares": self.squares})}
        return {f"{name}.{file}": content for file, content in files.items()}

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """The very machine `to_files` wrote."""
        mine = {file.removeprefix(f"{name}."): content for file, content in files.items()}
        tensors = from_bytes(mine[WEIGHTS_FILE])
        return cls(Embeddings.from_files(mine), tensors["linear"], tensors["squares"])


class FactorizationRanker:
    """A machine of clicks over all rows and one of conversions over clicks.

    Minibatches with row-wise AdaGrad, in numpy: a word that no row has keeps its bytes. A warm start goes on from the
    given ranker's weights, vectors and accumulators, which it does not touch; new words begin at the mean of their
    parent's, and words not seen for `expire_after_days` go. Vectors are float16 between fits and in serving.
    """

    kind = "factorization"
    inputs = TABLE | Inputs(ids=IDS)
    several_labels = False
    heads: tuple[Head, ...] = ()

    def __init__(self, words: tuple[str, ...], scaling: Scaling, click: Machine, conversion: Machine | float) -> None:
        """`words`: the columns of strings; `conversion`: given a click, a machine or a constant."""
        self._words = words
        self._scaling = scaling
        self._click = click
        self._conversion = conversion

    @classmethod
    def fit(
        cls, data: TrainingData, settings: FactorizationSettings, seed: int, start_from: Self | None = None
    ) -> Self:
        """Some passes over the weighted log-losses; see `Ranker.fit`."""
        require(data.features, (*NUMERIC, *CATEGORICAL, *IDS))
        rng = np.random.default_rng(seed)
        click, conversion = click_label(data), conversion_label(data)
        attributes, _ = attributes_of(data.features)
        words = start_from._words if start_from else (*CATEGORICAL, *attributes, *IDS)
        scaling = start_from._scaling if start_from else scaling_of(NUMBERS, data.features, click.rows)
        before: Machine | float = start_from._conversion if start_from else 0.0

        def learned(label: Label, start: Machine | None) -> Machine:
            return _learned(data, words, scaling, label, settings, rng, start)

        if conversion is None:
            after = without_conversions(data, before)
        else:
            after = learned(conversion, None if isinstance(before, float) else before)
        return cls(words, scaling, learned(click, start_from._click if start_from else None), after)

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows."""
        numbers = self._scaling.apply(logged(NUMBERS, features))
        p_click = _probability(self._click, self._words, numbers, features)
        if isinstance(self._conversion, float):
            return Predictions(p_click, np.full(len(p_click), self._conversion))
        return Predictions(p_click, _probability(self._conversion, self._words, numbers, features))

    def encoded(self, features: Columns) -> Encoded[NDArray[Any]]:
        """Numbers as they come, and the rows of each machine's table."""
        numbers = NUMBERS.numbers(features)
        machines = [self._click, *([] if isinstance(self._conversion, float) else [self._conversion])]
        return Encoded(numbers, np.hstack([_codes(of, self._words, features, len(numbers)) for of in machines]))

    def traced(self, to: Graph, given: Encoded[Traced]) -> Said:
        """As `predict`, with sums in float32."""
        numbers, files, width = self._scaling.traced(given.numbers, NUMERIC), self.to_files(), len(self._words)

        def probability(machine: Machine, name: str, codes: Traced) -> Traced:
            file = f"{name}.{TABLE_FILE}"
            return graph.sigmoid(machine.traced(to.stored(file, files[file])[ROWS], numbers, codes))

        click = probability(self._click, CLICK, given.codes[..., :width])
        if isinstance(self._conversion, float):
            return Said(click, graph.full_like(click, self._conversion))
        return Said(click, probability(self._conversion, CONVERSION, given.codes[..., width:]))

    def to_files(self) -> dict[str, bytes]:
        """JSON and safetensors: the layout, each machine's vectors, their values and weights."""
        constant = self._conversion if isinstance(self._conversion, float) else None
        tree = {
            "words": self._words,
            "mean": self._scaling.mean.tolist(),
            "spread": self._scaling.spread.tolist(),
            "conversion": constant,
        }
        files = {LAYOUT_FILE: json.dumps(tree, indent=0).encode(), **self._click.to_files(CLICK)}
        return files if isinstance(self._conversion, float) else {**files, **self._conversion.to_files(CONVERSION)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        tree = json.loads(files[LAYOUT_FILE])
        constant = tree["conversion"]
        return cls(
            tuple(tree["words"]),
            Scaling(np.array(tree["mean"]), np.array(tree["spread"])),
            Machine.from_files(CLICK, files),
            Machine.from_files(CONVERSION, files) if constant is None else float(constant),
        )


def _learned(
    data: TrainingData,
    words: tuple[str, ...],
    scaling: Scaling,
    label: Label,
    settings: FactorizationSettings,
    rng: np.random.Generator,
    start: Machine | None,
) -> Machine:
    """A machine of a label's rows; `start` is continued in a copy."""
    features = {name: taken(column, label.rows, data.room) for name, column in data.features.items()}
    days = np.zeros(len(label.rows), np.int64) if data.days is None else data.days[label.rows]
    seen = _seen(features, words, days)
    admission = Admission(settings.admit_after, settings.expire_after_days, settings.max_ids)
    if start is None:
        table = cold(seen, admission, settings.dimensions + 1, rng)
        table.rows[:, -1] = 0.0
        rate = label.rate()
        linear = np.zeros(1 + 2 * len(NUMERIC))
        linear[0] = np.log(rate / (1 - rate))
        machine = Machine(table, linear, np.zeros(len(linear)))
    else:
        table = start.table.grown(seen, admission, PARENTS, int(days.max()))
        machine = Machine(table, start.linear.copy(), start.squares.copy())
    codes = of_columns(table, features, {name: name for name in words}, len(label.rows), data.room)
    numbers = scaling.of_rows(NUMBERS, features, data.room)
    targets = replace(label.targets, rows=np.arange(len(label.rows)))
    for epoch in range(settings.epochs if start is None else settings.warm_epochs):
        loss = _pass(machine, numbers, codes, targets, settings, rng)
        if not np.isfinite(loss):
            raise Diverged(f"learning needs a finite loss; found {loss} in epoch {epoch + 1}: a smaller rate may help")
        log.info("factorization: epoch %d of %d rows, loss %.5f", epoch + 1, len(codes), loss)
    machine = replace(machine, table=table.at_rest())
    machine.linear[0] += _level(machine.logits(numbers, codes), targets)
    return machine


def _pass(
    machine: Machine,
    numbers: NDArray[np.float32],
    codes: NDArray[np.int32],
    targets: Targets,
    settings: FactorizationSettings,
    rng: np.random.Generator,
) -> float:
    """One pass over the rows in a new order, learned in place; their mean loss before each step, by weight."""
    order, total = rng.permutation(len(codes)), 0.0
    rows, sums, rate = machine.table.rows, machine.table.accumulators, settings.rate
    for first in range(0, len(order), settings.batch_size):
        at = order[first : first + settings.batch_size]
        looked = rows[codes[at]]  # (b, f, d + 1)
        vectors = looked[:, :, :-1]
        whole = vectors.sum(axis=1)
        own = looked[:, :, -1].sum(axis=1).astype(np.float64)
        pairs = (np.square(whole).sum(axis=1) - np.square(vectors).sum(axis=(1, 2))) / 2
        told = numbers[at].astype(np.float64)
        logit = machine.linear[0] + told @ machine.linear[1:] + own + pairs
        losses, slopes, _ = targets.take(at).at(logit)
        total += float(losses.sum())
        slope = (slopes / len(at)).astype(np.float32)
        gradient = np.empty_like(looked)
        gradient[:, :, :-1] = slope[:, None, None] * (whole[:, None, :] - vectors)
        gradient[:, :, -1] = slope[:, None]
        flat = codes[at].ravel()
        by_row = np.argsort(flat, kind="stable")
        starts = np.flatnonzero(np.append(True, np.diff(flat[by_row]) > 0))
        touched = flat[by_row][starts]
        step = np.add.reduceat(gradient.reshape(len(flat), -1)[by_row], starts, axis=0)
        step += (settings.l2 / len(order)) * rows[touched]
        sums[touched] += np.square(step).mean(axis=1)
        rows[touched] -= (rate / (np.sqrt(sums[touched]) + EPSILON))[:, None] * step
        of_linear = np.append(slope.sum(), slope.astype(np.float64) @ told)
        machine.squares[:] += np.square(of_linear)
        machine.linear[:] -= settings.linear_rate / (np.sqrt(machine.squares) + EPSILON) * of_linear
    return total / float(targets.weight.sum())


def _level(logit: Floats, targets: Targets) -> float:
    """By how much the intercept must rise for the loss of all rows to fall no further: what the last batches left of a
    bias goes."""
    low, high = -FURTHEST, FURTHEST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if float(targets.at(logit + middle)[1].sum()) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _seen(features: Columns, words: tuple[str, ...], days: NDArray[np.int64]) -> dict[str, Sightings]:
    columns = {name: Words.of(features.get(name, Words.unknown(len(days)))) for name in words}
    return {
        name: sightings([(columns[name], days)], (columns[name], columns[PARENTS[name]]) if name in PARENTS else None)
        for name in words
    }


def _probability(machine: Machine, words: tuple[str, ...], numbers: NDArray[np.float32], features: Columns) -> Floats:
    return sigmoid(machine.logits(numbers, _codes(machine, words, features, len(numbers))))


def _codes(machine: Machine, words: tuple[str, ...], features: Columns, n: int) -> NDArray[np.int32]:
    require(features, [name for name in words if not name.startswith(ATTRIBUTE_PREFIX)])
    return of_columns(machine.table, features, {name: name for name in words}, n)
