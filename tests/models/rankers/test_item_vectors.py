"""What the catalogue gives of an item is numbers to a network: it knows what is new, and nothing else changes."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jobs.train import probe
from models.evaluation.ranking import auc_influence
from models.rankers import exported
from models.rankers.features import CATEGORICAL, NUMERIC, there
from models.rankers.layout import VECTOR, Layout
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import Floats, TrainingData
from models.rankers.served import CLOSE, furthest
from models.rankers.single_task import SingleTaskRanker
from models.settings import MMoESettings, SingleTaskSettings

SMALL: dict[str, Any] = {"expert_width": 16, "tower_width": 8, "embedding_dimensions": 4, "batch_size": 256,
                         "learning_rate": 5e-3}  # fmt: skip
ITEMS, D = 200, 5
OLD = 150
"""Items from this number on are new: nobody was shown them before."""
TASTE = np.array([1.0, -0.8, 0.6, 0.0, 0.0])
LONGER = 7
"""Every eleventh item's vector has so many numbers: another model's. Every seventh item has none."""


def shown(n: int, seed: int, items: tuple[int, int]) -> TrainingData:
    """Impressions of a range of items, whose clicks depend on their vectors and on nothing else that is told."""
    rng = np.random.default_rng(seed)
    of = np.random.default_rng(0).standard_normal((ITEMS, LONGER))
    item = rng.integers(*items, n)
    p = 1 / (1 + np.exp(1.0 - 1.5 * (of[item, :D] @ TASTE)))
    of *= 30.0  # of no scale that is known beforehand
    features: dict[str, Any] = {name: rng.standard_normal(n) for name in NUMERIC}
    features |= {name: np.array(["a", "b"], dtype=object)[rng.integers(0, 2, n)] for name in CATEGORICAL}
    features["item_id"] = np.array([f"i{k}" for k in item], dtype=object)
    features["last_items"] = np.array([None, *features["item_id"][:9]], dtype=object)[rng.integers(0, 10, (n, 3))]
    vectors = of[item].astype(np.float32)
    vectors[item % 11 > 0, D:] = np.nan
    vectors[item % 7 == 0] = np.nan
    clicked = (rng.random(n) < p).astype(float)
    return TrainingData({**features, VECTOR: vectors}, clicked, np.full(n, np.nan), np.ones(n))


def without(data: TrainingData) -> TrainingData:
    return replace(data, features={name: of for name, of in data.features.items() if name != VECTOR})


def fit(data: TrainingData, start_from: MMoERanker | None = None) -> MMoERanker:
    return MMoERanker.fit(data, MMoESettings(**SMALL, experts=2), 3, start_from)


def auc(clicked: Floats, p: Floats) -> float:
    return auc_influence(clicked, p).value


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return shown(6_000, 1, (0, OLD))


@pytest.fixture(scope="module")
def ranker(data: TrainingData) -> MMoERanker:
    return fit(data)


def test_items_nobody_has_seen_are_told_apart_by_their_vectors(data: TrainingData, ranker: MMoERanker) -> None:
    """Without, an item's first thousand impressions go to it by chance."""
    new = shown(4_000, 2, (OLD, ITEMS))
    blind = fit(without(data)).predict(new.features).p_click
    single = SingleTaskRanker.fit(data, SingleTaskSettings(**SMALL), 3).predict(new.features).p_click
    has = ~np.isnan(new.features[VECTOR][:, 0]) & np.isnan(new.features[VECTOR][:, -1])
    of_new = ranker.predict(new.features).p_click
    assert 0.4 < auc(new.clicked[has], blind[has]) < 0.6
    assert auc(new.clicked[has], of_new[has]) > 0.75
    assert auc(new.clicked[has], single[has]) > 0.75
    assert auc(new.clicked[~has], of_new[~has]) < 0.6, "a vector of another length tells nothing"


def test_a_graph_a_file_and_a_single_row_say_the_same(ranker: MMoERanker) -> None:
    """Rows with a vector, with another one's and with none; and where no row has one, as a request may be."""
    some = shown(300, 4, (0, ITEMS)).features
    said = ranker.predict(some).p_click
    np.testing.assert_array_equal(MMoERanker.from_files(ranker.to_files()).predict(some).p_click, said)
    graph = exported(ranker, probe.columns(probe.frozen(some, ranker.inputs)))
    for asked in (some, without(shown(300, 4, (0, ITEMS))).features):
        assert furthest(ranker.predict(asked), graph.predict(asked)) < CLOSE / 10
    for at in range(24):
        alone = {name: column[at : at + 1] for name, column in some.items() if name != VECTOR}
        alone |= there({VECTOR: some[VECTOR][at : at + 1]})  # as wide as it is
        assert abs(ranker.predict(alone).p_click[0] - said[at]) <= 1e-6
        assert abs(graph.predict(alone).p_click[0] - said[at]) <= 1e-6


def test_probe_rows_keep_vectors(data: TrainingData, ranker: MMoERanker) -> None:
    first = {name: column[:200] for name, column in data.features.items()}
    np.testing.assert_array_equal(probe.columns(probe.frozen(first, ranker.inputs))[VECTOR], first[VECTOR])


def test_a_catalogue_without_vectors_changes_no_byte(data: TrainingData) -> None:
    few = without(data.where(np.arange(1_000)))
    nobody = replace(few, features={**few.features, VECTOR: np.full((1_000, 3), np.nan, np.float32)})
    assert fit(nobody).to_files() == fit(few).to_files()
    assert b"vector" not in fit(few).to_files()["layout.json"]


def test_the_length_is_that_of_most_and_what_is_not_finite_is_none(data: TrainingData) -> None:
    layout = Layout.fit(data.features, np.arange(6_000))
    assert layout.vector == D
    given = np.array([[1, 2, 3, 4, 5, np.nan], [1, 2, np.nan, 4, 5, np.nan], [1, 2, 3, 4, np.inf, np.nan],
                      [1, 2, 3, 4, np.nan, np.nan], [1, 2, 3, 4, 5, 6], [np.nan] * 6], np.float32)  # fmt: skip
    some = {**{name: column[:6] for name, column in data.features.items()}, VECTOR: given}
    none = [np.nan] * D
    np.testing.assert_array_equal(layout.vectors(some), [[1, 2, 3, 4, 5], none, none, none, none, none])
    assert layout.otherwise_long(some) == 2
    told = layout.numbers(some)
    assert told.shape == (6, layout.width)
    assert told[:, -1].tolist() == [0, 1, 1, 1, 1, 1]
    assert not told[1:, len(NUMERIC) : len(NUMERIC) + D].any()


def test_a_warm_start_takes_a_vector_of_another_length_for_none_and_says_so_once(
    ranker: MMoERanker, caplog: pytest.LogCaptureFixture
) -> None:
    """The next full training learns of them: until then numbers of another model must not be read as this one's."""
    fresh = without(shown(1_000, 5, (0, OLD)))
    other = np.ones((1_000, D + 1), np.float32)
    with caplog.at_level(logging.WARNING):
        warm = fit(replace(fresh, features={**fresh.features, VECTOR: other}), ranker)
    assert [record.getMessage() for record in caplog.records] == [
        f"network: 1000 rows have an item's vector of another length than {D}: none"
    ]
    assert warm.to_files() == fit(fresh, ranker).to_files()
