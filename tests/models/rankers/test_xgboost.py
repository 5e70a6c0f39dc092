"""Trees that know when to stop: on rows they did not learn from, and by how many rows a leaf needs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.train.room import Files
from models.rankers.labels import Label
from models.rankers.lambdamart import LambdaMARTRanker
from models.rankers.protocol import Floats, TrainingData
from models.rankers.xgboost import CLICK_FILE, CONVERSION_FILE, XGBoostRanker, leaf_weight
from models.settings import XGBoostSettings
from tests.models.rankers.test_ranker_contract import checkerboard

QUICK = XGBoostSettings(rounds=80, depth=4)
SEED = 7


def noise(n: int, seed: int, rate: float) -> TrainingData:
    """Clicks that nothing tells of."""
    data = checkerboard(n, seed)
    clicked = (np.random.default_rng(seed).random(n) < rate).astype(float)
    return replace(data, clicked=clicked, converted=np.full(n, np.nan))


def loss(ranker: XGBoostRanker, data: TrainingData) -> float:
    return _loss(ranker.predict(data.features).p_click, data.clicked)


def _loss(p: Floats, y: Floats) -> float:
    return float(-np.mean(np.where(y > 0, np.log(p), np.log1p(-p))))


def trees(ranker: XGBoostRanker, file: str = CLICK_FILE) -> int:
    import xgboost as xgb

    booster = xgb.Booster()
    booster.load_model(bytearray(ranker.to_files()[file]))
    return booster.num_boosted_rounds()


@pytest.mark.parametrize(("n", "rate"), [(8_000, 0.01), (2_000, 0.1)])
def test_of_a_sparse_log_that_tells_nothing_next_to_nothing_is_learned(n: int, rate: float) -> None:
    """Without either, sixty trees were far worse than the base rate on a log of a few dozen clicks."""
    train, later, fresh = noise(n, 1, rate), noise(n // 4, 2, rate), noise(20_000, 3, rate)
    base = _loss(np.full(20_000, train.clicked.mean()), fresh.clicked)
    before = XGBoostRanker.fit(train, XGBoostSettings(stop_after=0, min_child_weight=1.0), SEED)
    after = XGBoostRanker.fit(replace(train, held_out=later), XGBoostSettings(), SEED)
    assert loss(before, fresh) > base + 0.01
    assert loss(after, fresh) < base + 0.002
    assert trees(after) < 10


def test_trees_stop_where_held_out_rows_say_so_and_learn_nothing_from_them() -> None:
    """Their labels turned round, only the number of trees may change."""
    data, later = checkerboard(4_000, 1), checkerboard(2_000, 2)
    whole = XGBoostRanker.fit(data, QUICK, SEED)
    stopped = XGBoostRanker.fit(replace(data, held_out=later), QUICK, SEED)
    assert 3 < trees(stopped) < trees(whole) == 80
    fresh = checkerboard(10_000, 3)
    assert loss(stopped, fresh) < loss(whole, fresh)
    turned = replace(later, clicked=1 - later.clicked)
    assert trees(XGBoostRanker.fit(replace(data, held_out=turned), QUICK, SEED)) == 1


def test_a_warm_start_that_is_no_better_on_held_out_rows_adds_nothing() -> None:
    """Three strange days: what serves is as good as it was, to the byte of its trees."""
    full = XGBoostRanker.fit(replace(checkerboard(6_000, 1), held_out=checkerboard(2_000, 2)), QUICK, SEED)
    strange = replace(checkerboard(2_000, 3, odd_is_good=False), held_out=checkerboard(2_000, 4))
    strange = replace(strange, clicked=1 - strange.clicked, converted=np.full(2_000, np.nan))
    warm = XGBoostRanker.fit(strange, QUICK, SEED, full)
    assert warm.to_files() == full.to_files()
    fresh = checkerboard(5_000, 5).features
    assert np.array_equal(warm.predict(fresh).p_click, full.predict(fresh).p_click)


def test_a_warm_start_keeps_the_trees_that_help() -> None:
    full = XGBoostRanker.fit(checkerboard(2_000, 1), XGBoostSettings(rounds=5), SEED)
    data = replace(checkerboard(4_000, 2), held_out=checkerboard(2_000, 3))
    warm = XGBoostRanker.fit(data, XGBoostSettings(warm_rounds=40, warm_eta=0.15), SEED, full)
    assert 5 < trees(warm) < 45
    fresh = checkerboard(10_000, 4)
    assert loss(warm, fresh) < loss(full, fresh) - 0.01


def test_conversions_stop_by_those_that_are_closed() -> None:
    """Where held-out conversions are open nothing can tell when to stop, and all rounds are taken."""
    bought = checkerboard(8_000, 1)
    bought = replace(bought, converted=bought.clicked * (np.random.default_rng(1).random(8_000) < 0.3))
    later = checkerboard(3_000, 2)
    closed = replace(later, converted=later.clicked * (np.random.default_rng(2).random(3_000) < 0.3))
    still_open = replace(later, converted=np.full(3_000, np.nan))
    found = [
        trees(XGBoostRanker.fit(replace(bought, held_out=held_out), QUICK, SEED), CONVERSION_FILE)
        for held_out in (closed, still_open)
    ]
    assert found[0] < found[1] == 80


@pytest.mark.parametrize("held_out", ["none", "no rows", "one class"])
def test_without_held_out_rows_that_tell_all_rounds_are_taken(held_out: str) -> None:
    data = checkerboard(1_000, 1)
    later: dict[str, Any] = {"none": None, "no rows": checkerboard(0), "one class": noise(300, 1, 0.0)}
    assert trees(XGBoostRanker.fit(replace(data, held_out=later[held_out]), QUICK, SEED)) == 80


def test_a_leaf_needs_the_root_of_what_all_rows_tell() -> None:
    def label(n: int, ones: int, weight: float = 1.0) -> Label:
        return Label.of((np.arange(n) < ones).astype(float), np.full(n, weight))

    assert leaf_weight(label(10_000, 5_000)) == pytest.approx(50.0)
    assert leaf_weight(label(10_000, 100)) == pytest.approx((0.01 * 0.99 * 10_000) ** 0.5)
    assert leaf_weight(label(100, 50, weight=100.0)) == pytest.approx(50.0), "a weight counts as so many rows"
    assert leaf_weight(label(100, 1)) == 1.0, "xgboost's own"


@pytest.mark.parametrize("kind", [XGBoostRanker, LambdaMARTRanker])
def test_pages_on_disk_grow_the_very_trees_of_memory(
    kind: type[XGBoostRanker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From scratch, stopped by held-out rows, and continued; byte for byte, and nothing is left lying about."""
    monkeypatch.setattr("models.rankers.bins.CUT_ROWS", 500)  # as of all that is long enough for pages
    settings = QUICK.model_copy(update={"rounds": 12, "warm_rounds": 5, "stop_after": 3})

    def in_lists(n: int, seed: int) -> TrainingData:
        return replace(checkerboard(n, seed), groups=np.arange(n) // 4, room=Files(tmp_path))

    data, newer = replace(in_lists(4_000, 1), held_out=in_lists(1_000, 2)), in_lists(2_000, 3)

    def files() -> list[dict[str, bytes]]:
        full = kind.fit(data, settings, SEED)
        return [of.to_files() for of in (full, kind.fit(newer, settings, SEED, start_from=full))]

    expected = files()
    monkeypatch.setattr("models.rankers.bins.ROWS_IN_MEMORY", 600)
    monkeypatch.setattr("models.rankers.bins.PAGE_ROWS", 700)
    seen, pages = [], Files.pages
    monkeypatch.setattr(Files, "pages", lambda room: seen.append(room) or pages(room))
    assert files() == expected
    assert len(seen) >= 3
    assert not list(tmp_path.iterdir())
