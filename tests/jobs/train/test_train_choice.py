"""Who becomes the challenger: judged as the backtest will judge it, wherever it stands; the simplest of equals."""

import itertools
import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.evidence.scored import Scored, scored
from jobs.moment.identity import IDENTITY
from jobs.train import choice
from models.evaluation.estimate import Estimate, Refusal
from models.rankers.features import TABLE
from models.rankers.protocol import Floats, Predictions
from models.settings import GateSettings, Margins
from tests.jobs.small_lake import TEST_DAY, World, examples

SETTINGS = GateSettings(bootstrap_replicates=50)
PLACES = 4


def validation(requests: int, says: dict[str, Any], seed: int = 0, shown: dict[str, Any] | None = None) -> Scored:
    """Rows of a world whose items have an appeal that each ranker knows as it says: appeal (n,) and a stream of noise
    become p_click (n,); `shown` likewise, where a position changes what a ranker says.
    """
    rng = np.random.default_rng(seed)
    appeal = rng.normal(-1.5, 1.0, requests * PLACES)
    clicked = (rng.random(len(appeal)) < sigmoid(appeal)).astype(float)
    request = np.repeat(np.arange(requests), PLACES)
    first = {name: says[name](appeal, np.random.default_rng(7)) for name in says}
    return Scored(
        clicked=clicked,
        users=request,
        requests=request,
        as_shown=first if shown is None else {name: shown[name](appeal, np.random.default_rng(7)) for name in shown},
        as_first=first,
        p_conversion={},
        attributes={},
    )


def sigmoid(logit: Floats) -> Floats:
    return 1 / (1 + np.exp(-logit))


def knows(part: float, noise: float = 0.0) -> Any:
    """A ranker that sees so much of the appeal, and as calibrated as that lets it be."""
    return lambda appeal, rng: sigmoid(-1.5 + part * (appeal + 1.5) + noise * rng.normal(size=len(appeal)))


def unknown(appeal: Floats, rng: Any) -> Floats:
    return np.full(len(appeal), math.nan)


def chosen(rows: Scored, settings: GateSettings = SETTINGS, rate: float | None = None) -> str:
    return choice.choose(rows, choice.figures(rows, settings), settings, base(rows) if rate is None else rate)[0]


def base(rows: Scored) -> float:
    """What the train rows' rate would be, had they been drawn as these."""
    return float(rows.clicked.mean())


FAR_OFF = 0.001
"""A train rate that every ranker betters."""


@pytest.mark.parametrize("order", itertools.permutations(["popularity", "logistic", "xgboost"]))
def test_the_best_is_chosen_wherever_it_stands(order: tuple[str, ...]) -> None:
    """An argmin over a generator once always took the first model."""
    says = {"popularity": knows(0.1, 0.3), "logistic": knows(1.0), "xgboost": knows(0.5, 0.3)}
    assert chosen(validation(2_000, {name: says[name] for name in order})) == "logistic"


def test_of_equals_the_simplest_is_taken() -> None:
    """The very same scores: nothing speaks for the more complicated one."""
    says = {"popularity": knows(0.1, 0.3), "logistic": knows(0.8), "xgboost": knows(0.8)}
    assert chosen(validation(500, says)) == "logistic"


@pytest.mark.parametrize(("requests", "expected"), [(60, "popularity"), (20_000, "xgboost")])
def test_a_lead_within_noise_is_none_until_there_is_enough_data(requests: int, expected: str) -> None:
    """The better one has the better figures both times; on few requests that is what luck looks like."""
    rows = validation(requests, {"popularity": knows(0.9, 0.4), "xgboost": knows(1.0, 0.3)}, seed=3)
    found = choice.figures(rows, SETTINGS)
    for metric, sign in (("ndcg_at_10", 1), ("log_loss", -1)):
        before, after = (found[kind][metric] for kind in ("popularity", "xgboost"))
        assert isinstance(before, Estimate)
        assert isinstance(after, Estimate)
        assert sign * (after.value - before.value) > 0
    assert choice.choose(rows, found, SETTINGS, base(rows))[0] == expected


def test_who_ranks_alike_is_told_apart_by_probabilities() -> None:
    """The order of a request does not see that one ranker says half of everything."""

    def half(appeal: Floats, rng: Any) -> Floats:
        return sigmoid(appeal) / 2

    says = {"logistic": half, "xgboost": knows(1.0)}
    rows = validation(2_000, says)
    kind, why = choice.choose(rows, choice.figures(rows, SETTINGS), SETTINGS, FAR_OFF)
    assert kind == "xgboost"
    assert re.search(
        r"best ndcg_at_10 logistic 0\.\d+, equalled by xgboost within .*; best log_loss xgboost 0\.\d+$", why
    )


def test_the_best_order_is_no_use_with_probabilities_the_gate_would_hold() -> None:
    """The next best can be promoted; where the gate does not ask for log-loss, nothing stands in the way."""

    def certain(appeal: Floats, rng: Any) -> Floats:
        return sigmoid(4 * appeal)

    rows = validation(2_000, {"popularity": knows(0.1, 0.3), "logistic": knows(0.6, 0.2), "xgboost": certain})
    assert chosen(rows, rate=FAR_OFF) == "logistic"
    assert chosen(rows, GateSettings(must_not_fall=Margins(log_loss=None)), FAR_OFF) == "xgboost"


def test_none_is_offered_that_knows_less_than_the_train_rate() -> None:
    """However well it orders: trees of a sparse log can be worse than saying the same of everybody. The next best is
    offered; of a log where nobody has learned anything the baseline stands, and why.
    """

    def sharp(appeal: Floats, rng: Any) -> Floats:
        return sigmoid(6 * appeal)

    no_margin = GateSettings(must_not_fall=Margins(log_loss=None))
    rows = validation(2_000, {"popularity": knows(0.1, 0.3), "logistic": knows(0.6, 0.2), "xgboost": sharp})
    kind, why = choice.choose(rows, choice.figures(rows, no_margin), no_margin, base(rows))
    assert kind == "logistic"
    assert re.search(r"log_loss of xgboost, 1\.\d+, is above the train rate's", why)
    rows = validation(2_000, {"popularity": knows(0.0, 0.5), "xgboost": sharp})
    kind, why = choice.choose(rows, choice.figures(rows, no_margin), no_margin, base(rows))
    assert kind == "popularity"
    assert why.startswith("none is better than the train rate, 0.2")
    assert "popularity" in why


@pytest.mark.parametrize("broken", ["popularity", "logistic", "xgboost"])
def test_a_ranker_that_says_nan_never_wins_nor_spoils_the_others(broken: str) -> None:
    says = {"popularity": knows(0.2), "logistic": knows(0.9), "xgboost": knows(0.9)}
    expected = "xgboost" if broken == "logistic" else "logistic"
    assert chosen(validation(1_000, says | {broken: unknown})) == expected


@pytest.mark.parametrize("clicks", [[False] * 30, [None] * 30, [True] * 30, []])
def test_a_fold_without_both_outcomes_chooses_nothing(clicks: list[bool | None]) -> None:
    """The smallest log-loss on a fold without clicks belongs to whoever says never; the baseline stands, and why."""
    rankers = {"logistic": Says(lambda f: np.full(len(f["position"]), 0.01))}
    rows = scored(relabelled(clicks), rankers, IDENTITY.empty_table())
    found = choice.figures(rows, SETTINGS)
    assert isinstance(found["logistic"]["log_loss"], Refusal)
    kind, why = choice.choose(rows, found, SETTINGS, 0.1)
    assert kind == "popularity"
    assert "clicked and unclicked rows" in why


def test_unknown_clicks_do_not_count_as_no() -> None:
    """Log-loss of p=0.5 is ln 2 whatever the known labels are: rows without a label must not enter."""
    rankers = {"xgboost": Says(lambda f: np.full(len(f["position"]), 0.5))}
    rows = scored(relabelled([True, False, None] * 10), rankers, IDENTITY.empty_table())
    loss = choice.figures(rows, SETTINGS)["xgboost"]["log_loss"]
    assert isinstance(loss, Estimate)
    assert (loss.n, loss.value) == (20, pytest.approx(math.log(2)))


class Says:
    """A ranker of one sentence."""

    kind = "says"
    inputs = TABLE

    def __init__(self, p_click: Any) -> None:
        self.p_click = p_click

    def predict(self, features: Any) -> Predictions:
        p = self.p_click(features)
        return Predictions(p, np.zeros(len(p)))


def relabelled(clicks: list[bool | None]) -> pa.Table:
    rows = examples(World(), TEST_DAY, "validate", 2_000)[: len(clicks)]
    field = rows.schema.field("clicked")
    return rows.set_column(rows.schema.get_field_index("clicked"), field, pa.array(clicks, pa.bool_()))


BY_POSITION = np.array([0.4, 0.12, 0.03])


def test_a_ranker_that_leans_on_the_position_is_not_the_challenger() -> None:
    """At the positions shown it has by far the better log-loss and AUC, since people look at the top. Asked which item
    to put there it knows nothing. The other sees only what users like, and ranks every list better.
    """
    plain = examples(World(), TEST_DAY, "validate", 2_000)
    position = plain["position"].to_numpy()
    liked = plain["user_item_interest"].to_numpy() > 2
    rng = np.random.default_rng(0)
    rows = relabelled((rng.random(len(plain)) < BY_POSITION[position - 1] * np.where(liked, 1.5, 0.8)).tolist())
    rate = float(np.mean(rows["clicked"].to_numpy(zero_copy_only=False)))
    leans = Says(lambda f: BY_POSITION[f["position"].astype(int) - 1])
    likes = Says(lambda f: rate * np.where(f["user_item_interest"] > 2, 1.5, 0.8))
    found = scored(
        rows,
        {"popularity": Says(lambda f: np.full(len(f["position"]), rate)), "logistic": leans, "xgboost": likes},
        IDENTITY.empty_table(),
    )
    figures = choice.figures(found, SETTINGS)
    assert figures["logistic"]["log_loss"].high < figures["xgboost"]["log_loss"].low
    assert chosen(found) == "xgboost"
    assert figures["logistic"]["auc"].value == 0.5, "as if every item were shown first"
