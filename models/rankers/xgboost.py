"""Gradient-boosted trees: interactions and thresholds that one weight per feature cannot say."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.methods import of_stages
from models.rankers.encoding import UNKNOWN_CODE, Encoding
from models.rankers.features import TABLE
from models.rankers.labels import Label, click_label, conversion_heads
from models.rankers.protocol import Columns, Floats, Predictions, TrainingData
from models.rankers.rounds import TRAIN, told
from models.rankers.threads import threads_for, threads_to_learn
from models.settings import XGBoostSettings

if TYPE_CHECKING:
    import xgboost

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

    A warm start keeps the given ranker's encoding and trees and adds `warm_rounds` trees on the new data, none for
    conversions where it knows too few; the given ranker is not touched. Trees are not pruned or refreshed yet, so a
    chain of warm starts only grows.
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
    def fit(cls, data: TrainingData, settings: XGBoostSettings, seed: int, start_from: Self | None = None) -> Self:
        """Histogram boosting of the weighted log-loss; see `Ranker.fit`."""
        click = click_label(data)
        encoding = (
            start_from._encoding if start_from else Encoding.fit(data.features, click.rows, settings.max_categories)
        )
        table = _table(encoding, data.features)

        def head(label: Label, before: "xgboost.Booster | None") -> "xgboost.Booster":
            return _boosted(table, label, encoding, settings, seed, before, settings.conversion_l2)

        conversion = conversion_heads(data, start_from._conversion if start_from else 0.0, head)
        clicks = _boosted(table, click, encoding, settings, seed, start_from and start_from._click)
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


def _boosted(
    table: NDArray[np.float32],
    label: Label,
    encoding: Encoding,
    settings: XGBoostSettings,
    seed: int,
    start: "xgboost.Booster | None",
    l2: float = 1.0,
) -> "xgboost.Booster":
    """A booster of the known rows; `start` is continued in a copy. `l2`: xgboost's lambda, 1 is its own default."""
    import xgboost as xgb

    known = table[label.rows]
    shape = {
        "feature_types": ["float"] * len(encoding.numeric) + ["c"] * len(encoding.vocabularies),
        "enable_categorical": True,
        "max_bin": BINS,
        "nthread": threads_to_learn(len(known)),
    }
    cuts = None
    if len(known) > CUT_ROWS:
        drawn = np.sort(np.random.default_rng(seed).choice(len(known), CUT_ROWS, replace=False))
        cuts = xgb.QuantileDMatrix(known[drawn], **shape)
    matrix = xgb.QuantileDMatrix(known, label=label.value, weight=label.weight, ref=cuts, **shape)
    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": settings.depth,
        "eta": settings.eta if start is None else settings.warm_eta,
        "max_bin": BINS,
        "lambda": l2,
        "seed": seed,
        "nthread": threads_to_learn(len(known)),
        "verbosity": 0,
    }
    rounds = settings.rounds if start is None else settings.warm_rounds
    if label.final:
        return xgb.train(
            parameters,
            matrix,
            num_boost_round=rounds,
            xgb_model=start,
            evals=[(matrix, TRAIN)],
            verbose_eval=False,
            callbacks=[told(len(known), rounds)],
        )
    targets = label.targets
    if start is None:  # xgboost would begin at the mean label, of which some have not come
        parameters["base_score"] = targets.rate()

    def slopes(logit: NDArray[np.float32], _: object) -> tuple[Floats, Floats]:
        return targets.at(logit.astype(np.float64))[1:]

    return xgb.train(parameters, matrix, num_boost_round=rounds, xgb_model=start, obj=slopes)


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
