"""Logistic regression: every feature's say is one weight that a person can read."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.methods import of_stages
from models.rankers import graph
from models.rankers.encoding import Encoding
from models.rankers.features import HEAVY_TAILED, TABLE
from models.rankers.graph import Encoded, Graph, Said, Traced
from models.rankers.heads import Head
from models.rankers.labels import Label, click_label, conversion_heads
from models.rankers.protocol import Columns, Floats, Predictions, Room, TrainingData, parts

LARGEST = 8.0
"""Standardised values are cut here, so that one absurd count cannot decide a score."""
ENCODING_FILE, WEIGHTS_FILE = "encoding.json", "logistic.json"


@dataclass(frozen=True)
class Scaling:
    """Mean and spread of each numeric column where it was known; a missing value becomes the mean and a flag."""

    mean: Floats
    spread: Floats

    @classmethod
    def fit(cls, numbers: Floats) -> Self:
        """From (n, numeric) with NaN; a column that is never known or constant gets mean 0 or itself, spread 1."""
        known = ~np.isnan(numbers)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, numbers, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(known, numbers - mean, 0.0).__pow__(2).sum(axis=0) / count)
        return cls(mean, np.where(spread > 1e-9, spread, 1.0))

    @classmethod
    def of_parts(cls, numbers: Callable[[], Iterable[Floats]]) -> Self:
        """The very scaling of `fit` of several columns, whose sums add row to row: of their rows in parts, twice."""

        def added(parts: Iterable[Floats]) -> Floats:
            total: Floats | float = 0.0
            for part in parts:
                total = np.vstack([np.broadcast_to(total, part.shape[1]), part]).sum(axis=0)
            return np.asarray(total)

        count = np.maximum(added(~np.isnan(part) * 1.0 for part in numbers()), 1)
        mean = added(np.where(np.isnan(part), 0.0, part) for part in numbers()) / count
        spread = np.sqrt(added(np.where(np.isnan(part), 0.0, part - mean) ** 2 for part in numbers()) / count)
        return cls(mean, np.where(spread > 1e-9, spread, 1.0))

    def of_rows(self, encoding: "Encoding", features: Columns, room: Room) -> NDArray[np.float32]:
        """(n, 2 numeric) `apply` of the rows' `logged` numbers, where there is room for all."""
        rows = np.arange(len(features[encoding.numeric[0]]))
        found: NDArray[np.float32] = room((len(rows), 2 * len(encoding.numeric)), np.float32)
        for part, numbers in zip(parts(len(rows)), encoding.by_parts(features, rows), strict=True):
            found[part] = self.apply(_logged(encoding, numbers))
        return found

    def apply(self, numbers: Floats) -> NDArray[np.float32]:
        """(n, numeric) with NaN becomes (n, 2 numeric): standardised values, then one flag per missing value."""
        missing = np.isnan(numbers)
        scaled = numbers - self.mean
        scaled /= self.spread
        np.minimum(np.maximum(scaled, -LARGEST, out=scaled), LARGEST, out=scaled)
        scaled[missing] = 0.0
        found = np.empty((len(numbers), 2 * numbers.shape[1]), np.float32)
        found[:, : numbers.shape[1]], found[:, numbers.shape[1] :] = scaled, missing
        return found

    def traced(self, numbers: Traced, names: Sequence[str]) -> Traced:
        """What `apply` makes of `logged`, of numbers (..., numeric) with NaN as they come."""
        heavy = numbers.graph.constant([name in HEAVY_TAILED for name in names])
        small = graph.where(heavy, graph.log(numbers.clip(min=0.0) + 1.0), numbers)
        scaled = ((small - self.mean) / self.spread).astype(np.float32).clip(-LARGEST, LARGEST)
        missing = graph.isnan(numbers)
        return graph.concatenate([graph.where(missing, 0.0, scaled), missing.astype(np.float32)], -1)


class LogisticRanker:
    """Weights over standardised numbers, missing flags and one-hot categories, one set per label.

    A warm start keeps the given ranker's encoding, begins at its weights and is pulled towards them instead of towards
    zero, as if they spoke for `warm_memory` times its rows: a few days would else overrule a month. What the new days
    say nothing about stays as it was: P(conversion | click) as a whole where they know too few conversions. It has no
    interactions yet.
    """

    kind = "logistic"
    inputs = TABLE
    several_labels = True
    heads: tuple[Head, ...] = ()

    def __init__(
        self, encoding: Encoding, scaling: Scaling, click: Floats, conversion: tuple[Floats, ...] | float
    ) -> None:
        """`click`, `conversion` (given a click, one or of each stage of the wait): intercept, numeric weights, category
        weights; or a constant.
        """
        self._encoding = encoding
        self._scaling = scaling
        self._click = click
        self._conversion = conversion

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        settings: Any,
        seed: int,  # noqa: ARG003 - nothing is drawn
        start_from: Self | None = None,
    ) -> Self:
        """Full-batch L-BFGS on the weighted log-loss plus L2, by `LogisticSettings`; see `Ranker.fit`."""
        click = click_label(data)
        encoding = (
            start_from._encoding if start_from else Encoding.fit(data.features, click.rows, settings.max_categories)
        )
        scaling = start_from._scaling if start_from else scaling_of(encoding, data.features, click.rows)
        codes, sizes = cls._codes(encoding, data.features, data.room)
        scaled = scaling.of_rows(encoding, data.features, data.room)

        def head(label: Label, before: Floats | None) -> Floats:
            start, memory = before, settings.warm_memory
            if start is None:
                memory = 0.0
                rate = label.rate()
                start = np.zeros(1 + scaled.shape[1] + sum(sizes))
                start[0] = np.log(rate / (1 - rate))
            rows = slice(None) if len(label.rows) == len(scaled) else label.rows  # all of them are no copy
            return cls._minimised(scaled[rows], codes[rows], sizes, label, start, settings, memory, data.room)

        conversion = conversion_heads(data, start_from._conversion if start_from else 0.0, head)
        return cls(encoding, scaling, head(click, start_from._click if start_from else None), conversion)

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows in float64 numpy; no torch when serving."""
        numbers = self._scaling.apply(logged(self._encoding, features)).astype(np.float64)
        codes, sizes = self._codes(self._encoding, features)
        p_click = _probability(self._click, numbers, codes, sizes)
        if isinstance(self._conversion, float):
            return Predictions(p_click, np.full(len(p_click), self._conversion))
        return Predictions(p_click, of_stages([_probability(of, numbers, codes, sizes) for of in self._conversion]))

    def encoded(self, features: Columns) -> Encoded[NDArray[Any]]:
        """Numbers as they come, and which weight of each category."""
        return Encoded(self._encoding.numbers(features), self._codes(self._encoding, features)[0])

    def traced(self, to: Graph, given: Encoded[Traced]) -> Said:
        """As `predict`, but for the product with the numbers, which is in float32."""
        scaled = self._scaling.traced(given.numbers, self._encoding.numeric)
        first = 1 + scaled.shape[-1]
        weights = graph.concatenate([of[..., None] for of in self._heads(to)], -1)  # a head a column, looked up at once
        at = given.codes + np.cumsum([first, *self._sizes(self._encoding)[:-1]])
        of_codes, of_numbers = graph.take(weights, at), scaled @ weights[..., 1:first, :].astype(np.float32)
        logits = of_numbers.astype(np.float64) + weights[..., 0, :]
        click, *stages = (
            graph.sigmoid(logits[..., head] + of_codes[..., head].sum(-1)) for head in range(weights.shape[-1])
        )
        if isinstance(self._conversion, float):
            return Said(click, graph.full_like(click, self._conversion))
        none = reduce(mul, (1.0 - hazard for hazard in stages))
        return Said(click, 1.0 - none)

    def _heads(self, to: Graph) -> list[Traced]:
        """The weights of a click, then those of each stage of the wait."""
        conversion = () if isinstance(self._conversion, float) else self._conversion
        return [to.constant(of) for of in (self._click, *conversion)]

    @classmethod
    def _codes(
        cls, encoding: Encoding, features: Columns, room: Room = np.empty
    ) -> tuple[NDArray[np.int32], tuple[int, ...]]:
        """(n, c) which weight of each category a row has, and how many weights each has."""
        return encoding.codes(features, room), cls._sizes(encoding)

    @classmethod
    def _sizes(cls, encoding: Encoding) -> tuple[int, ...]:
        """How many weights each category has."""
        return encoding.sizes

    @classmethod
    def _minimised(
        cls,
        numbers: NDArray[np.float32],
        codes: NDArray[np.int32],
        sizes: tuple[int, ...],
        label: Label,
        start: Floats,
        settings: Any,
        memory: float,
        room: Room,  # noqa: ARG003 - as it comes
    ) -> Floats:
        """The weights of a label's rows, from `start`, which speaks for `memory` times as many."""
        from models.rankers.lbfgs import Design, minimise  # torch: a second to import, needed only here

        return minimise(Design(numbers, codes, sizes), label, start, settings.l2, settings.steps, memory)

    def to_files(self) -> dict[str, bytes]:
        """Two JSON files: the encoding, and the weights in its order."""
        weights: dict[str, Any] = {
            "mean": self._scaling.mean.tolist(),
            "spread": self._scaling.spread.tolist(),
            "click": self._click.tolist(),
            "conversion": self._conversion
            if isinstance(self._conversion, float)
            else [of.tolist() for of in self._conversion],
        }
        return {ENCODING_FILE: self._encoding.to_json(), WEIGHTS_FILE: json.dumps(weights, indent=0).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        tree = json.loads(files[WEIGHTS_FILE])
        conversion = tree["conversion"]
        return cls(
            Encoding.from_json(files[ENCODING_FILE]),
            Scaling(np.array(tree["mean"]), np.array(tree["spread"])),
            np.array(tree["click"]),
            tuple(map(np.array, conversion)) if isinstance(conversion, list) else float(conversion),
        )


def logged(encoding: Encoding, features: Columns) -> Floats:
    """The numeric columns, heavy-tailed ones as log(1 + x), of them negative values read as 0."""
    return _logged(encoding, encoding.numbers(features))


def scaling_of(encoding: Encoding, features: Columns, rows: NDArray[np.int64]) -> Scaling:
    """Of the numbers of some rows."""
    return Scaling.of_parts(lambda: (_logged(encoding, part) for part in encoding.by_parts(features, rows)))


def _logged(encoding: Encoding, numbers: Floats) -> Floats:
    """In place."""
    heavy = [at for at, name in enumerate(encoding.numeric) if name in HEAVY_TAILED]
    numbers[:, heavy] = np.log1p(np.maximum(numbers[:, heavy], 0.0))
    return numbers


def _probability(weights: Floats, numbers: Floats, codes: NDArray[np.int32], sizes: tuple[int, ...]) -> Floats:
    """sigmoid(intercept + numbers · weights + one weight per category), shape (n,).

    Summed column by column: a matrix product may add in another order for one row than for many.
    """
    logit = np.full(len(numbers), weights[0])
    for at in range(numbers.shape[1]):
        logit += numbers[:, at] * weights[1 + at]
    first = 1 + numbers.shape[1]
    for at, size in enumerate(sizes):
        logit += weights[first + codes[:, at]]
        first += size
    p: Floats = 1.0 / (1.0 + np.exp(-logit))
    return p
