"""Gradient-boosted trees: interactions and thresholds that one weight per feature cannot say."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from models.rankers.encoding import UNKNOWN_CODE, Encoding
from models.rankers.features import TABLE
from models.rankers.labels import Label, click_label, conversion_label, conversion_of_clicks, without_conversions
from models.rankers.protocol import Columns, Floats, Predictions, TrainingData
from models.rankers.threads import threads_for
from models.settings import XGBoostSettings

if TYPE_CHECKING:
    import xgboost

log = logging.getLogger(__name__)
BINS = 128
"""Half of xgboost's own: a third less time, the same log-loss to the fourth digit on a million rows."""
CUT_ROWS = 100_000
"""Where the bins lie is read off about this many evenly spaced rows: the pass over all of them costs seconds."""
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

    def __init__(self, encoding: Encoding, click: "xgboost.Booster", conversion: "xgboost.Booster | float") -> None:
        """`conversion`: given a click, a booster or a constant."""
        self._encoding = encoding
        self._click = click
        self._conversion = conversion
        self._threads = 0

    @classmethod
    def fit(cls, data: TrainingData, settings: XGBoostSettings, seed: int, start_from: Self | None = None) -> Self:
        """Histogram boosting of the weighted log-loss; see `Ranker.fit`."""
        click, conversion = click_label(data), conversion_label(data)
        encoding = (
            start_from._encoding if start_from else Encoding.fit(data.features, click.rows, settings.max_categories)
        )
        table, held_out = _table(encoding, data.features), _held_out(encoding, data.held_out)
        before: xgboost.Booster | float = start_from._conversion if start_from else 0.0
        if conversion is None:
            after = without_conversions(data, before)
        else:
            learned = None if isinstance(before, float) else before
            later = held_out.conversion if held_out else None
            after = _boosted(table, conversion, encoding, settings, seed, learned, later, settings.conversion_l2)
        started, later = start_from and start_from._click, held_out.click if held_out else None
        return cls(encoding, _boosted(table, click, encoding, settings, seed, started, later), after)

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows."""
        table = _table(self._encoding, features)
        self._use(threads_for(len(table)))
        p_click = _probability(self._click, table)
        if isinstance(self._conversion, float):
            return Predictions(p_click, np.full(len(p_click), self._conversion))
        return Predictions(p_click, _probability(self._conversion, table))

    def _use(self, threads: int) -> None:
        """Only on a change: it configures the booster anew, which must not happen under another thread's request."""
        if threads != self._threads:
            for booster in (self._click, self._conversion):
                if not isinstance(booster, float):
                    booster.set_param({"nthread": threads})
            self._threads = threads

    def to_files(self) -> dict[str, bytes]:
        """The encoding as JSON and the boosters in xgboost's own UBJSON."""
        files = {ENCODING_FILE: self._encoding.to_json(), CLICK_FILE: bytes(self._click.save_raw("ubj"))}
        if isinstance(self._conversion, float):
            return {**files, CONSTANT_FILE: json.dumps(self._conversion).encode()}
        return {**files, CONVERSION_FILE: bytes(self._conversion.save_raw("ubj"))}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        constant = files.get(CONSTANT_FILE)
        conversion = float(json.loads(constant)) if constant is not None else _booster(files[CONVERSION_FILE])
        return cls(Encoding.from_json(files[ENCODING_FILE]), _booster(files[CLICK_FILE]), conversion)


@dataclass(frozen=True)
class _Later:
    """Held-out rows that tell a label: their table, labels and weights."""

    table: NDArray[np.float32]
    label: Label


@dataclass(frozen=True)
class _HeldOut:
    """What is held out of either label; None where its rows tell only one class of it, or none."""

    click: _Later | None
    conversion: _Later | None


def _held_out(encoding: Encoding, data: TrainingData | None) -> _HeldOut | None:
    if data is None or not len(data.clicked):
        return None
    table = _table(encoding, data.features)
    labels = Label.of(data.clicked, data.weight), conversion_of_clicks(data)
    told = [_Later(table[label.rows], label) if min(label.per_class()) else None for label in labels]
    return _HeldOut(*told)


def leaf_weight(label: Label) -> float:
    """The least sum of p (1 - p) over a leaf's rows: the root of that of all rows, so at most so many leaves tell
    themselves apart; never below 1, xgboost's own.

    A leaf's logit is then known to 1 / leaf_weight ** 0.5, whatever the rate: of few or rare clicks only the coarse is
    learned, and with more rows ever finer leaves, each ever better known.
    """
    rate = label.rate()
    return max(1.0, float(np.sqrt(rate * (1.0 - rate) * label.exposed.sum())))


def _boosted(
    table: NDArray[np.float32],
    label: Label,
    encoding: Encoding,
    settings: XGBoostSettings,
    seed: int,
    start: "xgboost.Booster | None",
    later: _Later | None,
    l2: float = 1.0,
) -> "xgboost.Booster":
    """A booster of the known rows; `start` is continued in a copy. `l2`: xgboost's lambda, 1 is its own default.

    With `later`, which tells when to stop, its last trees are left out again where it does better without.
    """
    import xgboost as xgb

    known = table[label.rows]
    shape = {
        "feature_types": ["float"] * len(encoding.numeric) + ["c"] * len(encoding.vocabularies),
        "enable_categorical": True,
        "max_bin": BINS,
        "nthread": threads_for(len(known)),
    }
    step = max(1, len(known) // CUT_ROWS)
    cuts = xgb.QuantileDMatrix(known[::step], **shape) if step > 1 else None
    matrix = xgb.QuantileDMatrix(known, label=label.value, weight=label.weight, ref=cuts, **shape)
    least = settings.min_child_weight
    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": settings.depth,
        "eta": settings.eta,
        "min_child_weight": leaf_weight(label) if least is None else least,
        "max_bin": BINS,
        "lambda": l2,
        "seed": seed,
        "nthread": threads_for(len(known)),
        "verbosity": 0,
    }
    rounds = settings.rounds if start is None else settings.warm_rounds
    obj = None
    if label.seen is not None:
        targets = label.targets
        if start is None:  # xgboost would begin at the mean label, of which some have not come
            parameters["base_score"] = targets.rate()

        def obj(logit: NDArray[np.float32], _: object) -> tuple[Floats, Floats]:
            return targets.at(logit.astype(np.float64))[1:]

    if later is None or not settings.stop_after:
        return xgb.train(parameters, matrix, num_boost_round=rounds, xgb_model=start, obj=obj)
    told = xgb.QuantileDMatrix(later.table, label=later.label.value, weight=later.label.weight, ref=matrix, **shape)
    losses: dict[str, dict[str, list[float]]] = {}
    found = xgb.train(
        parameters,
        matrix,
        num_boost_round=rounds,
        xgb_model=start,
        obj=obj,
        evals=[(told, "held_out")],
        evals_result=losses,
        early_stopping_rounds=settings.stop_after,
        verbose_eval=False,
    )
    return _best(found, losses["held_out"]["logloss"], start, told)


def _best(
    found: "xgboost.Booster", losses: list[float], start: "xgboost.Booster | None", told: "xgboost.QuantileDMatrix"
) -> "xgboost.Booster":
    """`found` up to the tree with the least loss, the first of equals; a copy of `start` where none betters its own."""
    best = int(np.argmin(losses))
    before = 0
    if start is not None:
        before = start.num_boosted_rounds()
        own = float(start.eval(told).rpartition(":")[2])
        log.info("xgboost: of %d further trees %d kept, held-out log-loss %.5f, before %.5f",
                 len(losses), best + 1 if losses[best] < own else 0, min(own, losses[best]), own)  # fmt: skip
        if own <= losses[best]:
            return start.copy()
    else:
        log.info("xgboost: of %d trees %d kept, held-out log-loss %.5f", len(losses), best + 1, losses[best])
    kept = found[: before + best + 1]
    kept.set_attr(best_iteration=None, best_score=None)
    return kept


def _table(encoding: Encoding, features: Columns) -> NDArray[np.float32]:
    """(n, numeric + categorical) float32; NaN where a number or a category is unknown."""
    codes = encoding.codes(features).astype(np.float32)
    codes[codes == UNKNOWN_CODE] = np.nan
    return np.hstack([encoding.numbers(features).astype(np.float32), codes])


def _probability(booster: "xgboost.Booster", table: NDArray[np.float32]) -> Floats:
    if not len(table):
        return np.zeros(0)
    p: Floats = booster.inplace_predict(table).astype(np.float64)
    return p


def _booster(content: bytes) -> "xgboost.Booster":
    import xgboost as xgb

    booster = xgb.Booster()
    booster.load_model(bytearray(content))
    return booster
