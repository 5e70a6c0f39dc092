"""Gradient-boosted trees: interactions and thresholds that one weight per feature cannot say."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.methods import of_stages
from models.rankers.encoding import UNKNOWN_CODE, Encoding
from models.rankers.features import TABLE
from models.rankers.labels import Label, click_label, conversion_heads, conversion_of_clicks, counted_conversions
from models.rankers.protocol import Columns, Floats, Predictions, TrainingData
from models.rankers.rounds import HELD_OUT, TRAIN, reported
from models.rankers.threads import threads_for, threads_to_learn
from models.settings import XGBoostSettings

if TYPE_CHECKING:
    import xgboost

log = logging.getLogger(__name__)
BINS = 128
"""Half of xgboost's own: a third less time, the same log-loss to the fourth digit on a million rows."""
CUT_ROWS = 100_000
"""Where the bins lie is read off so many rows, drawn: the pass over all of them costs seconds. Evenly spaced ones would
be of one position each, where pages are as long as their step divides, and no tree could then ask for the position."""
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
        click = click_label(data)
        encoding = (
            start_from._encoding if start_from else Encoding.fit(data.features, click.rows, settings.max_categories)
        )
        table, held_out = _table(encoding, data.features), _held_out(encoding, data.held_out)
        in_stages = len(conversion_of_clicks(data)) > 1  # what is held out knows conversions, not their stages

        def head(label: Label, before: "xgboost.Booster | None") -> "xgboost.Booster":
            later = None if in_stages else held_out.conversion
            return _boosted(table, label, encoding, settings, seed, before, later, settings.conversion_l2)

        conversion = conversion_heads(data, start_from._conversion if start_from else 0.0, head)
        started = start_from and start_from._click
        clicks = _boosted(
            table, click, encoding, settings, seed, started, held_out.click, curve=True, elsewhere=elsewhere
        )
        return cls(encoding, clicks, conversion)

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows."""
        table = _table(self._encoding, features)
        self._use(threads_for(len(table)))
        p_click = _probability(self._click, table)
        if isinstance(self._conversion, float):
            return Predictions(p_click, np.full(len(p_click), self._conversion))
        return Predictions(p_click, of_stages([_probability(of, table) for of in self._conversion]))

    def _use(self, threads: int) -> None:
        """Only on a change: it configures the booster anew, which must not happen under another thread's request."""
        if threads != self._threads:
            for booster in (self._click, *(self._conversion if isinstance(self._conversion, tuple) else ())):
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
        boosters = tuple(_booster(files[_of_stage(k)]) for k in range(len(files)) if _of_stage(k) in files)
        conversion = boosters if constant is None else float(json.loads(constant))
        return cls(Encoding.from_json(files[ENCODING_FILE]), _booster(files[CLICK_FILE]), conversion)


@dataclass(frozen=True)
class Later:
    """Held-out rows that tell a label: their table, labels and weights."""

    table: NDArray[np.float32]
    label: Label


@dataclass(frozen=True)
class _HeldOut:
    """What is held out of either label; None where its rows tell only one class of it, or none."""

    click: Later | None
    conversion: Later | None


def _held_out(encoding: Encoding, data: TrainingData | None) -> _HeldOut:
    if data is None or not len(data.clicked):
        return _HeldOut(None, None)
    table = _table(encoding, data.features)
    labels = Label.of(data.clicked, data.weight), counted_conversions(data)
    told = [Later(table[label.rows], label) if min(label.per_class()) else None for label in labels]
    return _HeldOut(*told)


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


def _boosted(
    table: NDArray[np.float32],
    label: Label,
    encoding: Encoding,
    settings: XGBoostSettings,
    seed: int,
    start: "xgboost.Booster | None",
    later: Later | None,
    l2: float = 1.0,
    curve: bool = False,
    elsewhere: Elsewhere | None = None,
) -> "xgboost.Booster":
    """A booster of the known rows; `start` is continued in a copy. `l2`: xgboost's lambda, 1 is its own default.

    With `later`, which tells when to stop, its last trees are left out again where it does better without. `curve`: its
    losses are said while it learns here, not `elsewhere`.
    """
    import xgboost as xgb

    known = table[label.rows]
    least = settings.min_child_weight
    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": settings.depth,
        "eta": settings.eta if start is None else settings.warm_eta,
        "min_child_weight": leaf_weight(label) if least is None else least,
        "max_bin": BINS,
        "lambda": l2,
        "seed": seed,
        "verbosity": 0,
    }
    rounds = settings.rounds if start is None else settings.warm_rounds
    later = later if settings.stop_after else None
    types = ["float"] * len(encoding.numeric) + ["c"] * len(encoding.vocabularies)
    if elsewhere is not None:
        found, history = elsewhere(Boosting(known, label, types, parameters, rounds, start, later, settings.stop_after))
        if later is None:
            return found
        told = xgb.DMatrix(
            later.table, later.label.value, weight=later.label.weight, feature_types=types, enable_categorical=True
        )
        return _best(found, history, start, told)
    parameters["nthread"] = threads_to_learn(len(known))
    shape = {
        "feature_types": types,
        "enable_categorical": True,
        "max_bin": BINS,
        "nthread": threads_to_learn(len(known)),
    }
    cuts = None
    if len(known) > CUT_ROWS:
        drawn = np.sort(np.random.default_rng(seed).choice(len(known), CUT_ROWS, replace=False))
        cuts = xgb.QuantileDMatrix(known[drawn], **shape)
    matrix = xgb.QuantileDMatrix(known, label=label.value, weight=label.weight, ref=cuts, **shape)
    obj = None
    if not label.final:
        targets = label.targets
        if start is None:  # xgboost would begin at the mean label, of which some have not come
            parameters["base_score"] = targets.rate()

        def obj(logit: NDArray[np.float32], _: object) -> tuple[Floats, Floats]:
            return targets.at(logit.astype(np.float64))[1:]

    evals = [(matrix, TRAIN)] if curve else []
    if later is not None:
        told = xgb.QuantileDMatrix(later.table, label=later.label.value, weight=later.label.weight, ref=matrix, **shape)
        evals.append((told, HELD_OUT))  # the last of them tells when to stop
    losses: dict[str, dict[str, list[float]]] = {}
    found = xgb.train(
        parameters,
        matrix,
        num_boost_round=rounds,
        xgb_model=start,
        obj=obj,
        evals=evals,
        evals_result=losses,
        early_stopping_rounds=None if later is None else settings.stop_after,
        verbose_eval=False,
        callbacks=[reported(len(known), rounds)] if curve else None,
    )
    return found if later is None else _best(found, losses[HELD_OUT]["logloss"], start, told)


def _best(
    found: "xgboost.Booster", losses: list[float], start: "xgboost.Booster | None", told: "xgboost.DMatrix"
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


def _of_stage(number: int) -> str:
    """The file of a stage's booster; the first, mostly the only one, has no number."""
    return CONVERSION_FILE if not number else CONVERSION_FILE.replace(".", f".{number}.")


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
