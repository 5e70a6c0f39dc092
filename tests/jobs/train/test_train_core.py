"""Who becomes the challenger, and what a training run does with folds that cannot carry a choice."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.errors import Refused
from jobs.train import core
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.rankers.protocol import Predictions
from models.settings import GateSettings
from tests.jobs.small_lake import DAY, World, examples

SETTINGS = GateSettings(bootstrap_replicates=50)


def loss(value: float) -> Estimate:
    return Estimate(value, 0.01, value - 0.02, value + 0.02, 100, 100.0)


UNKNOWN = Refusal("no clicks", 10)


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ({"logistic": loss(0.4), "popularity": loss(0.5), "xgboost": loss(0.3)}, "xgboost"),  # not the first
        ({"logistic": loss(0.4), "popularity": loss(0.2), "xgboost": loss(0.3)}, "popularity"),
        ({"xgboost": loss(0.3), "popularity": loss(0.4), "logistic": loss(0.3)}, "logistic"),  # a tie, by name
        ({"logistic": UNKNOWN, "popularity": loss(0.9), "xgboost": loss(0.8)}, "xgboost"),  # refused never wins
        ({"xgboost": UNKNOWN, "logistic": UNKNOWN, "popularity": UNKNOWN}, "popularity"),
    ],
)
def test_the_smallest_known_loss_wins_wherever_it_stands(losses: dict[str, Finding], chosen: str) -> None:
    """An argmin over a generator once always took the first model."""
    assert core.choose(losses)[0] == chosen


def test_a_choice_without_evidence_says_so() -> None:
    assert "no clicks" in core.choose({"popularity": UNKNOWN})[1]


class Constant:
    """A ranker that always says the same."""

    kind = "constant"

    def __init__(self, p: float) -> None:
        self.p = p

    def predict(self, features: Any) -> Predictions:
        n = len(features["item_id"])
        return Predictions(np.full(n, self.p), np.zeros(n))


def folds_of(clicked_validate: list[bool | None]) -> core.Folds:
    train = examples(World(), DAY, "train", 60)
    validate = examples(World(), DAY, "validate", len(clicked_validate) // 3)
    clicked = pa.array(clicked_validate, pa.bool_())
    validate = validate.set_column(validate.column_names.index("clicked"), "clicked", clicked)
    return core.folds(pa.concat_tables([train, validate.cast(train.schema)]))


def test_a_ranker_that_says_nan_never_becomes_challenger() -> None:
    folds = folds_of([True, False, None] * 10)
    nan, good = (core.on_validation(Constant(p), folds, SETTINGS) for p in (math.nan, 0.5))  # type: ignore[arg-type]
    assert isinstance(nan["log_loss"], Refusal)
    assert core.choose({"a": nan["log_loss"], "b": good["log_loss"]})[0] == "b"


def test_unknown_clicks_do_not_count_as_no() -> None:
    """Log-loss of p=0.5 is ln 2 whatever the known labels are: rows without a label must not enter."""
    figures = core.on_validation(Constant(0.5), folds_of([True, False, None] * 10), SETTINGS)  # type: ignore[arg-type]
    assert figures["log_loss"].n == 20
    assert isinstance(figures["log_loss"], Estimate)
    assert figures["log_loss"].value == pytest.approx(math.log(2))


@pytest.mark.parametrize("clicks", [[False] * 30, [None] * 30, [True] * 30])
def test_a_fold_without_both_outcomes_chooses_nothing(clicks: list[bool | None]) -> None:
    """The smallest log-loss on a fold without clicks belongs to whoever says never."""
    figures = core.on_validation(Constant(0.5), folds_of(clicks), SETTINGS)  # type: ignore[arg-type]
    assert isinstance(figures["log_loss"], Refusal)


def test_a_train_fold_without_clicks_is_refused() -> None:
    rows = examples(World(), DAY, "train", 20)
    silent = rows.set_column(rows.column_names.index("clicked"), "clicked", pa.array([False] * len(rows)))
    with pytest.raises(Refused, match=r"60 with a known label, 0 clicked"):
        core.folds(silent)


@pytest.mark.parametrize(
    ("mode", "champion", "expected"),
    [
        ("full", None, {"popularity", "logistic", "xgboost"}),
        ("warm", "logistic", {"popularity", "logistic"}),
        ("warm", "xgboost", {"popularity", "xgboost"}),
        ("warm", None, {"popularity", "xgboost"}),
        ("warm", "popularity", {"popularity", "xgboost"}),
    ],
)
def test_a_warm_start_fits_the_champions_kind(mode: Any, champion: str | None, expected: set[str]) -> None:
    assert set(core.kinds(mode, champion)) == expected


def test_the_fingerprint_follows_content_only() -> None:
    """The bundle's sha rests on it: chunks, file boundaries and unused bytes must not move it, any value must."""
    rows = examples(World(), DAY, "train", 30)
    chunked = pa.concat_tables([rows.slice(0, 7), rows.slice(7)])
    keys = ["daypart", "item.tier", "user.segment"]
    first, same = (core.fingerprint(core.training_data(table, keys)) for table in (rows, chunked))
    assert first == same
    for name, value in (("surface", "search"), ("item_price", 1.5), ("clicked", None)):
        values = rows[name].to_pylist()
        values[5] = value
        field = rows.schema.field(name).with_nullable(True)
        changed = rows.set_column(rows.column_names.index(name), field, pa.array(values, field.type))
        assert core.fingerprint(core.training_data(changed, keys)) != first, name


def test_few_clicks_make_no_index() -> None:
    users, items = (np.array([f"{p}{n % 9}" for n in range(300)], dtype=object) for p in "ui")
    assert core.item_index((users[:199], items[:199]), 0) is None
    assert core.item_index((users, items), 0) is not None
