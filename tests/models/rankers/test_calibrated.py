"""A ranker whose words are mapped keeps every promise of a ranker."""

import numpy as np
import pytest

from models.rankers import RANKERS, fit, load
from models.rankers.calibrated import CLICK_FILE, CONVERSION_FILE, Calibrated, calibrated, uncalibrated
from models.rankers.protocol import Scorer, TrainingData
from models.rankers.recalibration import Beta, Isotonic, Recalibration
from models.rankers.vectors import VectorRanker
from tests.models.rankers.test_ranker_contract import SETTINGS, checkerboard, rows, same

CLICK = Recalibration(Beta(0.8, 1.3, -0.4), {"a": Isotonic((0.1, 0.4), (0.3, 0.6))})
CONVERSION = Recalibration(Beta(2.0, 2.0, 3.0))


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return checkerboard()


@pytest.fixture(scope="module", params=["popularity", "logistic", "xgboost", "mmoe"])
def made(request: pytest.FixtureRequest, data: TrainingData) -> Scorer:
    return calibrated(fit(request.param, data, SETTINGS), CLICK, CONVERSION)


def test_it_is_of_its_rankers_kind_and_asks_for_the_surface_too(made: Scorer, data: TrainingData) -> None:
    assert made.kind in RANKERS
    assert "surface" in made.inputs.named
    less = {name: column for name, column in data.features.items() if name != "surface"}
    with pytest.raises(ValueError, match="surface"):
        made.predict(less)


def test_saving_and_loading_changes_nothing(made: Scorer, data: TrainingData) -> None:
    files = made.to_files()
    assert {CLICK_FILE, CONVERSION_FILE} < set(files)
    loaded = load(made.kind, files)
    assert isinstance(loaded, Calibrated)
    assert loaded.to_files() == files
    assert same(loaded, made, data)


def test_a_conversion_stays_a_part_of_its_click(made: Scorer, data: TrainingData) -> None:
    """Each factor is mapped, never the product: to the last bit the smaller is the smaller."""
    found, plain = made.predict(data.features), uncalibrated(made).predict(data.features)
    assert (found.p_conversion <= found.p_click).all()
    assert not np.array_equal(found.p_click, plain.p_click)
    assert not np.array_equal(found.p_conversion_given_click, plain.p_conversion_given_click)


def test_on_one_surface_the_order_of_items_stays(made: Scorer, data: TrainingData) -> None:
    found, plain = made.predict(data.features).p_click, uncalibrated(made).predict(data.features).p_click
    for surface in ("a", "b", None):
        here = data.features["surface"] == surface
        order = np.argsort(plain[here], kind="stable")
        assert (np.diff(found[here][order]) >= 0).all()


def test_a_row_scores_the_same_alone_as_in_a_batch(made: Scorer, data: TrainingData) -> None:
    batch = made.predict(data.features).p_conversion
    for at in range(0, 50, 7):
        alone = made.predict(rows(data, slice(at, at + 1)).features).p_conversion[0]
        assert alone == pytest.approx(batch[at], abs=1e-6 * isinstance(uncalibrated(made), VectorRanker))
    assert made.predict(rows(data, slice(0, 0)).features).p_click.shape == (0,)


def test_a_warm_start_continues_the_ranker_within(made: Scorer, data: TrainingData) -> None:
    """A map on a map would drift: words are mapped anew, from what the ranker itself says."""
    fresh = checkerboard(seed=2)
    again = fit(made.kind, fresh, SETTINGS, made)
    assert again.to_files() == fit(made.kind, fresh, SETTINGS, uncalibrated(made)).to_files()


def test_where_nothing_is_mapped_it_is_the_ranker_itself(data: TrainingData) -> None:
    plain = fit("logistic", data, SETTINGS)
    assert calibrated(plain, Recalibration(), Recalibration()) is plain
    assert load("logistic", plain.to_files()).to_files() == plain.to_files()
    only = calibrated(plain, CLICK, Recalibration())
    assert CONVERSION_FILE not in only.to_files()
