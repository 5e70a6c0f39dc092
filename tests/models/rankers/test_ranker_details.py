"""What each ranker promises beyond the contract."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rankers import RANKERS, fit
from models.rankers.crosses import BUCKETS, CROSSES, crossed
from models.rankers.encoding import Encoding, codes_of
from models.rankers.features import CATEGORICAL, IDS, NUMERIC
from models.rankers.labels import Label
from models.rankers.lbfgs import Design, minimise
from models.rankers.popularity import PopularityRanker
from models.rankers.protocol import Predictions, TrainingData
from models.settings import PopularitySettings, RankerSettings, XGBoostSettings

SEED = 7
HASHED = [15619, 15619, 29784, 29784, 29784, 29784, 29784, 29784]
"""Buckets of a in every column."""


def items_only(items: list[str], clicked: list[float]) -> TrainingData:
    return TrainingData(
        {"item_id": np.array(items, dtype=object)}, np.array(clicked), np.zeros(len(items)), np.ones(len(items))
    )


def test_importing_the_rankers_loads_no_heavy_library() -> None:
    """The command line and the DAGs' jobs import this package at the top."""
    code = (
        "import sys, models.rankers, models.retrieval; print({'torch', 'xgboost', 'faiss', 'scipy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_every_ranker_has_settings_of_its_own_and_no_settings_are_of_no_ranker() -> None:
    """Two lists that must name the same: a ranker without its group would fail only when it is fitted."""
    assert set(RankerSettings.model_fields) == {"seed", "kinds", "surfaces", *RANKERS}
    given = RankerSettings(xgboost=XGBoostSettings(depth=3))
    assert given.of("popularity") == {"seed": 7, "popularity.prior_impressions": 50.0, "popularity.prior_clicks": 50.0}
    assert given.of("xgboost")["xgboost.depth"] == 3


def test_popularity_by_hand() -> None:
    """(clicks + prior x mean) / (impressions + prior); the mean for an item never seen."""
    data = items_only(["a", "a", "a", "b"], [1, 1, 0, 0])
    ranker = PopularityRanker.fit(data, PopularitySettings(prior_impressions=2), SEED)
    p = ranker.predict({"item_id": np.array(["a", "b", "new", None], dtype=object)}).p_click
    np.testing.assert_allclose(p, [3 / 5, 1 / 3, 0.5, 0.5])


def test_popularity_warm_start_updates_the_old_rate_and_keeps_items_it_does_not_see() -> None:
    """Overlapping warm-start windows must not count a day twice."""
    settings = PopularitySettings(prior_impressions=2)
    before = PopularityRanker.fit(items_only(["a", "a", "a", "b"], [1, 1, 0, 0]), settings, SEED)
    after = PopularityRanker.fit(items_only(["b", "b"], [1, 0]), settings, SEED, before)
    p = after.predict({"item_id": np.array(["a", "b"], dtype=object)}).p_click
    np.testing.assert_allclose(p, [3 / 5, (1 + 2 / 3) / 4])


def test_popularity_knows_conversions_by_its_clicks() -> None:
    """(conversions + prior x mean) / (clicks + prior) of the clicks whose conversion is known, whatever the rest says;
    a warm start adds its few to what was known before.
    """
    settings = PopularitySettings(prior_clicks=2)
    data = items_only(["a", "a", "a", "a", "b", "b"], [1, 1, 1, 0, 1, 0])
    data = replace(data, converted=np.array([1, 0, np.nan, 0, 0, 0]))
    before = PopularityRanker.fit(data, settings, SEED)
    asked = {"item_id": np.array(["a", "b", "new"], dtype=object)}
    np.testing.assert_allclose(before.predict(asked).p_conversion_given_click, [(1 + 2 / 3) / 4, 2 / 3 / 3, 1 / 3])
    days = replace(items_only(["b", "b", "c"], [1, 0, 1]), converted=np.array([1, np.nan, np.nan]))
    after = PopularityRanker.fit(days, settings, SEED, before).predict(asked)
    np.testing.assert_allclose(after.p_conversion_given_click, [5 / 12, (1 + 2 * 2 / 9) / 3, (1 + 2 / 3) / 3])


@pytest.mark.parametrize("given", [[0.5, 1.01], [-0.01, 0.5], [0.5]])
def test_a_conversion_given_a_click_is_a_probability(given: list[float]) -> None:
    """So that the product with p(click) can never exceed it, whoever writes the next ranker."""
    with pytest.raises(ValueError, match=r"one probability per row, in \[0, 1\]"):
        Predictions(np.array([0.1, 0.2]), np.array(given))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_the_product_never_exceeds_p_click(rows: list[tuple[float, float]]) -> None:
    """To the last bit: whoever compares the two compares floats."""
    found = Predictions(*(np.array(column) for column in zip(*rows, strict=True)))
    assert (found.p_conversion <= found.p_click).all()


@pytest.mark.parametrize("kind", ["logistic", "crosses", "factorization", "xgboost"])
def test_an_absent_attribute_is_unknown(kind: str) -> None:
    """An absent key of the attributes map means unknown: the day a logger stops sending one, scores go on."""
    rng = np.random.default_rng(0)
    features = {name: rng.standard_normal(500) for name in NUMERIC}
    features |= {name: np.full(500, None, dtype=object) for name in (*CATEGORICAL, *IDS, "attributes.x")}
    features["attributes.x"] = np.where(rng.random(500) < 0.5, "on", "off").astype(object)
    clicked = ((features["attributes.x"] == "on") ^ (rng.random(500) < 0.1)).astype(float)
    ranker = fit(kind, TrainingData(features, clicked, np.full(500, np.nan), np.ones(500)), RankerSettings())
    without = {name: column for name, column in features.items() if name != "attributes.x"}
    unknown = {**features, "attributes.x": np.full(500, None, dtype=object)}
    assert np.array_equal(ranker.predict(without).p_click, ranker.predict(unknown).p_click)


def test_the_most_frequent_categories_are_kept_ties_to_the_smaller() -> None:
    """A high-cardinality attribute must not become thousands of weights, nor differ between runs."""
    features = {name: np.zeros(7) for name in NUMERIC} | {name: np.full(7, None, dtype=object) for name in CATEGORICAL}
    features["device"] = np.array(["z", "z", "b", "a", "c", None, float("nan")], dtype=object)
    encoding = Encoding.fit(features, np.arange(7), 2)
    assert encoding.vocabularies["device"] == ("z", "a")
    at = list(encoding.vocabularies).index("device")
    assert encoding.codes(features)[:, at].tolist() == [2, 2, 1, 3, 1, 0, 0]
    assert Encoding.from_json(encoding.to_json()) == encoding


def test_a_category_that_is_a_number_is_refused() -> None:
    """1 and "1" would be two categories: the caller has to decide."""
    with pytest.raises(ValueError, match="string or None"):
        codes_of(np.array(["a", 1], dtype=object), {}, otherwise=0, unknown=0)


def test_a_few_values_are_looked_up_without_a_walk_over_all_codes() -> None:
    """A fallback scores 20 candidates of a million items: what it costs must not depend on the million."""

    class Codes(dict[str, int]):
        def keys(self) -> Any:
            raise AssertionError("every code is looked at")

        __iter__ = items = values = copy = keys

    column = np.array(["b", None, "new", float("nan"), "a", "b"], dtype=object)
    found = codes_of(column, Codes(a=5, b=6), otherwise=1, unknown=0)
    assert found.tolist() == [6, 0, 1, 0, 5, 6]


def test_packed_gradient_equals_the_dense_one() -> None:
    """Packing categories into joint codes is a shortcut: loss and gradient must be those of plain one-hot columns."""
    import torch

    rng = np.random.default_rng(0)
    n, sizes = 200, (3, 300, 4, 300, 2)
    numbers = rng.standard_normal((n, 3)).astype(np.float32)
    codes = np.column_stack([rng.integers(0, size, n) for size in sizes]).astype(np.int32)
    label = Label(np.arange(n), (rng.random(n) < 0.3).astype(float), rng.random(n))
    design = Design(numbers, codes, sizes)
    assert len(design.packs()) > 1
    weights = rng.standard_normal(design.weights)
    dense = np.hstack([np.ones((n, 1)), numbers, *(np.eye(s)[codes[:, j]] for j, s in enumerate(sizes))])
    p = 1 / (1 + np.exp(-dense @ weights))
    share = label.weight / label.weight.sum()
    loss, gradient = design.loss(label)(torch.from_numpy(weights))
    assert loss == pytest.approx(-(share * np.where(label.value > 0, np.log(p), np.log1p(-p))).sum(), rel=1e-5)
    np.testing.assert_allclose(gradient.numpy(), dense.T @ (share * (p - label.value)), atol=1e-6)
    bent = np.square(dense).T @ (share * p * (1 - p))
    np.testing.assert_allclose(design.curvature(label, weights), bent, atol=1e-6)


def test_who_speaks_for_the_rows_of_before_goes_where_all_rows_would() -> None:
    """Nine days, then a tenth one alone: as all ten say where the nine are remembered; else as the tenth day says.

    The intercept apart, which is free to follow the newest level.
    """
    rng = np.random.default_rng(0)
    n, days, start = 20_000, 10, np.zeros(6)
    numbers = rng.standard_normal((n, 2)).astype(np.float32)
    codes = rng.choice(3, (n, 1), p=[0.6, 0.3, 0.1]).astype(np.int32)
    logit = -1 + numbers @ [1.0, -0.5] + np.array([0, 0.7, -0.7])[codes[:, 0]]
    clicked = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)

    def learned(rows: slice, start: np.ndarray, memory: float) -> np.ndarray:
        label = Label.of(clicked[rows], np.ones(len(clicked[rows])))
        return minimise(Design(numbers[rows], codes[rows], (3,)), label, start, 1e-4, 60, memory)

    tenth = slice(n - n // days, None)
    before, whole = learned(slice(0, n - n // days), start, 0.0), learned(slice(None), start, 0.0)
    away = {memory: np.abs(learned(tenth, before, memory) - whole)[1:].max() for memory in (0.0, days - 1, 1e6)}
    assert away[days - 1] < away[1e6] / 2 < away[0.0] / 10
    assert away[1e6] == pytest.approx(np.abs(before - whole)[1:].max(), rel=0.01)


def test_crosses_tell_what_no_weight_of_a_column_can() -> None:
    """On one surface an item is clicked, on the other it is not: each by itself says a half of everything."""
    rng = np.random.default_rng(0)
    n = 4_000
    features = {name: np.zeros(n) for name in NUMERIC}
    features |= {name: np.full(n, None, dtype=object) for name in (*CATEGORICAL, *IDS)}
    item, surface = rng.integers(0, 2, n), rng.integers(0, 2, n)
    features["item_id"] = np.array(["i", "j"], dtype=object)[item]
    features["surface"] = np.array(["home", "search"], dtype=object)[surface]
    likely = item == surface
    clicked = (rng.random(n) < np.where(likely, 0.8, 0.2)).astype(float)
    data = TrainingData(features, clicked, np.full(n, np.nan), np.ones(n))
    for kind, apart in (("logistic", 0.0), ("crosses", 0.6)):
        p = fit(kind, data, RankerSettings()).predict(features).p_click
        assert p[likely].mean() - p[~likely].mean() == pytest.approx(apart, abs=0.1)


def test_a_bucket_of_a_cross_is_the_same_on_every_machine_and_follows_both_parts() -> None:
    columns = {name: np.array(["a", "a", "b", None], dtype=object) for name in {n for c in CROSSES for n in c}}
    found = np.empty((4, len(CROSSES)), np.int32)
    crossed(columns, found)
    assert ((found >= 0) & (found < BUCKETS)).all()
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).all()
    assert (found[0] != found[3]).all()
    assert found[0].tolist() == HASHED
