"""Gradient-boosted trees: interactions and thresholds that one weight per feature cannot say."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from models.rankers.encoding import UNKNOWN_CODE, Encoding
from models.rankers.labels import click_label, conversion_label, conversions_per_click
from models.rankers.protocol import Columns, Floats, Predictions, TrainingData
from models.settings import RankerSettings

if TYPE_CHECKING:
    import xgboost

THREADS = 2
"""Fixed: the sums behind a split depend on how rows are dealt to threads."""
FEW_ROWS = 5_000
"""Up to this many rows are scored by one thread: a request is answered sooner than threads could share it."""
ENCODING_FILE, CLICK_FILE, CONVERSION_FILE, CONSTANT_FILE = (
    "encoding.json",
    "click.ubj",
    "conversion.ubj",
    "conversion.json",
)


class XGBoostRanker:
    """Two boosters (click, conversion) over raw numbers and category codes; unknown goes its own way in every split.

    A warm start keeps the given ranker's encoding and trees and adds `xgboost_warm_rounds` trees on the new data; the
    given ranker is not touched. Trees are not pruned or refreshed yet, so a chain of warm starts only grows.
    """

    kind = "xgboost"

    def __init__(self, encoding: Encoding, click: "xgboost.Booster", conversion: "xgboost.Booster | float") -> None:
        """`conversion`: a booster, or a constant conversion per click."""
        self._encoding = encoding
        self._click = click
        self._conversion = conversion

    @classmethod
    def fit(cls, data: TrainingData, settings: RankerSettings, start_from: Self | None = None) -> Self:
        """Histogram boosting of the weighted log-loss; see `Ranker.fit`."""
        import xgboost as xgb

        click, conversion = click_label(data), conversion_label(data)
        encoding = start_from._encoding if start_from else Encoding.fit(data.features, settings.max_categories)
        # Rows that no label knows must not even move the histogram's cuts.
        rows = np.union1d(click.rows, conversion.rows) if conversion else click.rows
        matrix = xgb.QuantileDMatrix(
            _table(encoding, data.features)[rows],
            feature_types=_types(encoding),
            enable_categorical=True,
            nthread=THREADS,
        )

        def boost(known: NDArray[np.int64], value: Floats, weight: Floats, start: Any) -> "xgboost.Booster":
            at = np.searchsorted(rows, known)
            labels, weights = np.zeros(len(rows)), np.zeros(len(rows))
            labels[at], weights[at] = value, weight
            matrix.set_info(label=labels, weight=weights)
            rounds = settings.xgboost_warm_rounds if start is not None else settings.xgboost_rounds
            return xgb.train(_parameters(settings), matrix, num_boost_round=rounds, xgb_model=start)

        before = start_from._conversion if start_from else None
        learned_before = None if isinstance(before, float) else before
        after: Any = conversions_per_click(data) if learned_before is None else learned_before
        if conversion is not None:
            after = boost(conversion.rows, conversion.value, conversion.weight, learned_before)
        booster = boost(click.rows, click.value, click.weight, start_from._click if start_from else None)
        return cls(encoding, booster, after)

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows."""
        table = _table(self._encoding, features)
        p_click = _probability(self._click, table)
        if isinstance(self._conversion, float):
            return Predictions(p_click, p_click * self._conversion)
        return Predictions(p_click, _probability(self._conversion, table))

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


def _parameters(settings: RankerSettings) -> dict[str, Any]:
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": settings.xgboost_depth,
        "eta": settings.xgboost_eta,
        "seed": settings.seed,
        "nthread": THREADS,
        "verbosity": 0,
    }


def _table(encoding: Encoding, features: Columns) -> NDArray[np.float32]:
    """(n, numeric + categorical) float32; NaN where a number or a category is unknown."""
    codes = encoding.codes(features).astype(np.float32)
    codes[codes == UNKNOWN_CODE] = np.nan
    return np.hstack([encoding.numbers(features).astype(np.float32), codes])


def _types(encoding: Encoding) -> list[str]:
    return ["float"] * len(encoding.numeric) + ["c"] * len(encoding.vocabularies)


def _probability(booster: "xgboost.Booster", table: NDArray[np.float32]) -> Floats:
    if not len(table):
        return np.zeros(0)
    booster.set_param({"nthread": 1 if len(table) <= FEW_ROWS else THREADS})
    p: Floats = booster.inplace_predict(table).astype(np.float64)
    return p


def _booster(content: bytes) -> "xgboost.Booster":
    import xgboost as xgb

    booster = xgb.Booster()
    booster.load_model(bytearray(content))
    return booster
