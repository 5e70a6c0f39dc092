"""Gradient-boosted trees: interactions and thresholds that one weight per feature cannot say."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.methods import of_stages
from models.rankers.bins import BINS, binned, feature_types
from models.rankers.encoding import UNKNOWN_CODE, Encoding
from models.rankers.features import TABLE
from models.rankers.labels import Label, click_label, conversion_heads, conversion_of_clicks, counted_conversions
from models.rankers.protocol import Columns, Floats, Predictions, Room, TrainingData, parts, taken
from models.rankers.rounds import HELD_OUT, TRAIN, reported
from models.rankers.threads import threads_for, threads_to_learn
from models.settings import XGBoostSettings

if TYPE_CHECKING:
    import xgboost

log = logging.getLogger(__name__)
ENCODING_FILE, CLICK_FILE, CONVERSION_FILE, CONSTANT_FILE = (
    "encoding.json",
    "click.ubj",
    "conversion.ubj",
    "conversion.json",
)


class XGBoostRanker:
    """Two boosters (click, conversion) over raw numbers and category codes; unknown goes its own way in every split.

    As many trees are kept as are best on `TrainingData.held_out`, of a label that it tells; a leaf needs the more rows
    the more there are (`leaf_weight`). A warm start keeps the given ranker's encoding and trees and adds up to
    `warm_rounds` trees on the new data, none where none is better on the held-out rows, nor for conversions where it
    knows too few; the given ranker is not touched. Trees are not pruned or refreshed yet, so a chain of warm starts
    only grows.
    """

    kind = "xgboost"
    inputs = TABLE
    several_labels = True

    def __init__(
        self, encoding: Encoding, click: "xgboost.Booster", conversion: "tuple[xgboost.Booster, ...] | float"
    ) -> None:
        """`conversion`: given a click, a booster, or one a stage of the wait; or a constant."""
        self._encoding = encoding
        self._click = click
        self._conversion = conversion
        self._threads = 0

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        settings: XGBoostSettings,
        seed: int,
        start_from: Self | None = None,
        elsewhere: "Elsewhere | None" = None,
    ) -> Self:
        """Histogram boosting of the weighted log-loss; see `Ranker.fit`.

        `elsewhere` grows the trees that tell clicks. Those of conversions are grown here in any case: clicks are a
        tenth of the rows, and whoever grows trees elsewhere knows no loss of open labels.
        """
        rows = Rows.of(data, settings, start_from)
        conversion = rows.conversions(data, settings, seed, start_from)
        started, later = start_from and start_from._click, rows.later.click
        clicks = boosted(
            rows.table,
            rows.click,
            rows.encoding,
            settings,
            seed,
            started,
            later,
            curve=True,
            elsewhere=elsewhere,
            room=data.room,
        )
        return cls(rows.encoding, clicks, conversion)

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows."""
        table = table_of(self._encoding, features)
        self._use(threads_for(len(table)))
        p_click = self._p_click(table)
        if isinstance(self._conversion, float):
            return Predictions(p_click, np.full(len(p_click), self._conversion))
        return Predictions(p_click, of_stages([_probability(of, table) for of in self._conversion]))

    def _p_click(self, table: NDArray[np.float32]) -> Floats:
        return _probability(self._click, table)

    def _boosters(self) -> "tuple[xgboost.Booster, ...]":
        return (self._click, *(self._conversion if isinstance(self._conversion, tuple) else ()))

    def _use(self, threads: int) -> None:
        """Only on a change: it configures the booster anew, which must not happen under another thread's request."""
        if threads != self._threads:
            for booster in self._boosters():
                booster.set_param({"nthread": threads})
            self._threads = threads

    def to_files(self) -> dict[str, bytes]:
        """The encoding as JSON and the boosters in xgboost's own UBJSON."""
        files = {ENCODING_FILE: self._encoding.to_json(), CLICK_FILE: bytes(self._click.save_raw("ubj"))}
        if isinstance(self._conversion, float):
            return {**files, CONSTANT_FILE: json.dumps(self._conversion).encode()}
        return files | {_of_stage(k): bytes(of.save_raw("ubj")) for k, of in enumerate(self._conversion)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        constant = files.get(CONSTANT_FILE)
        boosters = tuple(from_bytes(files[_of_stage(k)]) for k in range(len(files)) if _of_stage(k) in files)
        conversion = boosters if constant is None else float(json.loads(constant))
        return cls(Encoding.from_json(files[ENCODING_FILE]), from_bytes(files[CLICK_FILE]), conversion)


@dataclass(frozen=True)
class Later:
    """Held-out rows that tell a label: table, labels and weights; `offset`: the logits that trees are added to."""

    table: NDArray[np.float32]
    label: Label
    offset: Floats | None = None


@dataclass(frozen=True)
class HeldOut:
    """What is held out of either label; None where its rows tell only one class of it, or none."""

    click: Later | None = None
    conversion: Later | None = None

    @classmethod
    def of(cls, encoding: Encoding, data: TrainingData | None) -> Self:
        """By the label's rows."""
        if data is None or not len(data.clicked):
            return cls()
        table = table_of(encoding, data.features, data.room)
        labels = Label.of(data.clicked, data.weight), counted_conversions(data)
        told = (Later(taken(table, of.rows, data.room), of) if min(of.per_class()) else None for of in labels)
        return cls(*told)


@dataclass(frozen=True)
class Rows:
    """What trees are grown from: the table of all rows, which of them tell clicks, and what is held out."""

    encoding: Encoding
    table: NDArray[np.float32]
    click: Label
    later: HeldOut
    room: Room = np.empty

    @classmethod
    def of(cls, data: TrainingData, settings: XGBoostSettings, start_from: "XGBoostRanker | None") -> Self:
        """By the encoding of the ranker that is continued, or a new one."""
        click = click_label(data)
        encoding = (
            start_from._encoding if start_from else Encoding.fit(data.features, click.rows, settings.max_categories)
        )
        table = table_of(encoding, data.features, data.room)
        return cls(encoding, table, click, HeldOut.of(encoding, data.held_out), data.room)

    def conversions(
        self, data: TrainingData, settings: XGBoostSettings, seed: int, start_from: "XGBoostRanker | None"
    ) -> "tuple[xgboost.Booster, ...] | float":
        """P(conversion | click): a booster, one a stage of the wait, or a constant."""
        in_stages = len(conversion_of_clicks(data)) > 1  # what is held out knows conversions, not their stages
        later = None if in_stages else self.later.conversion

        def head(label: Label, before: "xgboost.Booster | None") -> "xgboost.Booster":
            return boosted(self.table, label, self.encoding, settings, seed, before, later, settings.conversion_l2)

        return conversion_heads(data, start_from._conversion if start_from else 0.0, head)


@dataclass(frozen=True)
class Boosting:
    """What trees are to be grown from: (n, k) rows, NaN where unknown, and their label, whose values are final.

    `types`: xgboost's of the k columns; `parameters`: xgboost's own, but for threads; `start`: what is continued;
    `stop_after` so many rounds without a gain on `later`, if that is there.
    """

    table: NDArray[np.float32]
    label: Label
    types: list[str]
    parameters: Mapping[str, Any]
    rounds: int
    start: "xgboost.Booster | None"
    later: Later | None
    stop_after: int


Elsewhere = Callable[[Boosting], "tuple[xgboost.Booster, list[float]]"]
"""Grows them; returns the booster with all its trees and, after each new one, the log-loss of `later`, if any."""


def leaf_weight(label: Label) -> float:
    """The least sum of p (1 - p) over a leaf's rows: the root of that of all rows, so at most so many leaves tell
    themselves apart; never below 1, xgboost's own.

    A leaf's logit is then known to 1 / leaf_weight ** 0.5, whatever the rate: of few or rare clicks only the coarse is
    learned, and with more rows ever finer leaves, each ever better known.
    """
    rate = label.rate()
    return max(1.0, float(np.sqrt(rate * (1.0 - rate) * label.exposed.sum())))


def boosted(
    table: NDArray[np.float32],
    label: Label,
    encoding: Encoding,
    settings: XGBoostSettings,
    seed: int,
    start: "xgboost.Booster | None",
    later: Later | None,
    l2: float = 1.0,
    curve: bool = False,
    offset: Floats | None = None,
    elsewhere: Elsewhere | None = None,
    room: Room = np.empty,
) -> "xgboost.Booster":
    """A booster of the known rows; `start` is continued in a copy. `l2`: xgboost's lambda, 1 is its own default.

    With `later`, which tells when to stop, its last trees are left out again where it does better without. `curve`: its
    losses are said while it learns here, not `elsewhere`. `offset`: (n,) the logits of all rows that its trees are
    added to.
    """
    known = taken(table, label.rows, room)
    least = settings.min_child_weight
    parameters = {
        **growing(settings, seed, warm=start is not None),
        "objective": "binary:logistic",
        "min_child_weight": leaf_weight(label) if least is None else least,
        "lambda": l2,
    }
    rounds = settings.rounds if start is None else settings.warm_rounds
    later, types = later if settings.stop_after else None, feature_types(encoding)
    task = Boosting(known, label, types, parameters, rounds, start, later, settings.stop_after)
    if elsewhere is not None:
        found, history = elsewhere(task)
        told = None if later is None else _unbinned(later, types)
    else:
        matrix = binned(known, encoding, seed, label=label, room=room)
        if offset is not None:
            matrix.set_base_margin(offset[label.rows])
        told = None if later is None else binned(later.table, encoding, seed, matrix, later.label, room)
        if told is not None and later is not None and later.offset is not None:
            told.set_base_margin(later.offset)
        found, history = _grown(task, matrix, told, curve)
    return found if told is None else best(found, history, start, _loss(start, told))


def _unbinned(later: Later, types: list[str]) -> "xgboost.DMatrix":
    import xgboost as xgb

    label = later.label
    return xgb.DMatrix(later.table, label.value, weight=label.weight, feature_types=types, enable_categorical=True)


def _grown(
    task: Boosting, matrix: "xgboost.QuantileDMatrix", told: "xgboost.DMatrix | None", curve: bool
) -> "tuple[xgboost.Booster, list[float]]":
    """As `Elsewhere`, here: from the task's rows in bins, and those of `later`."""
    import xgboost as xgb

    parameters, obj = {**task.parameters, "nthread": threads_to_learn(len(task.table))}, None
    if not task.label.final:
        targets = task.label.targets
        if task.start is None:  # xgboost would begin at the mean label, of which some have not come
            parameters["base_score"] = targets.rate()

        def obj(logit: NDArray[np.float32], _: object) -> tuple[Floats, Floats]:
            return targets.at(logit.astype(np.float64))[1:]

    evals = [(matrix, TRAIN)] if curve else []
    if told is not None:
        evals.append((told, HELD_OUT))  # the last of them tells when to stop
    losses: dict[str, dict[str, list[float]]] = {}
    found = xgb.train(
        parameters,
        matrix,
        num_boost_round=task.rounds,
        xgb_model=task.start,
        obj=obj,
        evals=evals,
        evals_result=losses,
        early_stopping_rounds=None if told is None else task.stop_after,
        verbose_eval=False,
        callbacks=[reported(len(task.table), task.rounds)] if curve else None,
    )
    return found, losses.get(HELD_OUT, {}).get("logloss", [])


def _loss(booster: "xgboost.Booster | None", told: "xgboost.DMatrix") -> float:
    """Of the rows told, in xgboost's own words; none is infinitely wrong."""
    return np.inf if booster is None else float(booster.eval(told).rpartition(":")[2])


def growing(settings: XGBoostSettings, seed: int, warm: bool) -> dict[str, Any]:
    """xgboost's parameters of trees, whatever is minimised; but for its threads."""
    return {
        "tree_method": "hist",
        "max_depth": settings.depth,
        "eta": settings.warm_eta if warm else settings.eta,
        "max_bin": BINS,
        "seed": seed,
        "verbosity": 0,
    }


def best(
    found: "xgboost.Booster", losses: list[float], start: "xgboost.Booster | None", own: float
) -> "xgboost.Booster":
    """`found` up to the tree with the least loss, the first of equals; a copy of `start` where none betters `own`."""
    at = int(np.argmin(losses))
    before = 0
    if start is not None:
        before = start.num_boosted_rounds()
        log.info("xgboost: of %d further trees %d kept, held-out loss %.5f, before %.5f",
                 len(losses), at + 1 if losses[at] < own else 0, min(own, losses[at]), own)  # fmt: skip
        if own <= losses[at]:
            return start.copy()
    else:
        log.info("xgboost: of %d trees %d kept, held-out loss %.5f", len(losses), at + 1, losses[at])
    kept = found[: before + at + 1]
    kept.set_attr(best_iteration=None, best_score=None)
    return kept


def _of_stage(number: int) -> str:
    """The file of a stage's booster; the first, mostly the only one, has no number."""
    return CONVERSION_FILE if not number else CONVERSION_FILE.replace(".", f".{number}.")


def table_of(encoding: Encoding, features: Columns, room: Room = np.empty) -> NDArray[np.float32]:
    """(n, numeric + categorical) float32; NaN where a number or a category is unknown."""
    codes, first = encoding.codes(features, room), len(encoding.numeric)
    table: NDArray[np.float32] = room((len(codes), first + codes.shape[1]), np.float32)
    there = {name: features[name] for name in encoding.numeric if name in features}
    for part in parts(len(codes)):
        table[part, :first] = encoding.numbers({name: column[part] for name, column in there.items()})
        table[part, first:] = np.where(codes[part] == UNKNOWN_CODE, np.float32(np.nan), codes[part])
    return table


def _probability(booster: "xgboost.Booster", table: NDArray[np.float32]) -> Floats:
    if not len(table):
        return np.zeros(0)
    p: Floats = booster.inplace_predict(table).astype(np.float64)
    return p


def from_bytes(content: bytes) -> "xgboost.Booster":
    import xgboost as xgb

    booster = xgb.Booster()
    booster.load_model(bytearray(content))
    return booster
