"""A ranker for each surface: what it learns on one is none of the other's, and to all else it is a ranker like any."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.rankers import EVERY_KIND, RANKERS, exported, fit, load
from models.rankers.by_surface import FEWEST_CLICKS, BySurfaceRanker
from models.rankers.calibrated import Calibrated, calibrated, uncalibrated
from models.rankers.protocol import FurtherOutcome, TrainingData
from models.rankers.recalibration import Recalibration
from models.rankers.served import Served
from models.settings import BY_SURFACE, OutcomeSettings, RankerSettings
from tests.models.rankers.test_ranker_contract import SETTINGS, checkerboard, same

KINDS = ["logistic_by_surface", "xgboost_by_surface", "mmoe_by_surface"]


def surfaces(n: int = 3000, seed: int = 0) -> TrainingData:
    """On search odd items are good, on similar even ones, on a third of each kind nobody can tell; few on notify."""
    odd, even = checkerboard(n, seed), checkerboard(n, seed, odd_is_good=False)
    surface = np.random.default_rng(seed).choice(["search", "similar", "notify"], n, p=[0.5, 0.48, 0.02])
    search = surface != "similar"
    features = {**odd.features, "surface": surface.astype(object)}
    # Nothing but the item tells, and that otherwise on either surface.
    features |= {name: np.array([None] * n, object) for name in ("item_category", "attributes.hour")}
    features["item_click_rate"] = np.array([int(item[1:]) % 2 for item in odd.features["item_id"]], float)
    clicked = np.where(search, odd.clicked, even.clicked)
    return replace(odd, features=features, clicked=clicked, converted=np.where(search, odd.converted, even.converted))


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return replace(surfaces(), held_out=surfaces(600, seed=5))


@pytest.fixture(scope="module", params=KINDS)
def ranker(request: pytest.FixtureRequest, data: TrainingData) -> BySurfaceRanker:
    made = fit(request.param, data, SETTINGS)
    assert isinstance(made, BySurfaceRanker)
    return made


def test_each_surface_has_learned_its_own(ranker: BySurfaceRanker) -> None:
    """And the one with too few clicks, one that nobody saw and an unknown one are answered by the ranker of all."""
    assert list(ranker.own) == ["search", "similar"]
    fresh = surfaces(600, seed=9)
    odd = fresh.features["item_click_rate"] == 1
    for surface, good in (("search", odd), ("similar", ~odd)):
        said = ranker.predict({**fresh.features, "surface": np.full(600, surface, object)}).p_click
        assert np.mean(said[good]) > 2 * np.mean(said[~good])
        np.testing.assert_array_equal(said, ranker.own[surface].predict(
            {**fresh.features, "surface": np.full(600, surface, object)}).p_click)  # fmt: skip
    for surface in ("notify", "unheard-of", None):
        asked = {**fresh.features, "surface": np.full(600, surface, object)}
        np.testing.assert_array_equal(ranker.predict(asked).p_click, ranker.others.predict(asked).p_click)


def test_of_its_surfaces_rows_alone(ranker: BySurfaceRanker, data: TrainingData) -> None:
    """Another surface's labels change not a byte of it."""
    search = data.features["surface"] == "search"
    other = replace(data, clicked=np.where(search, data.clicked, 1 - data.clicked))
    found = fit(ranker.kind, other, SETTINGS)
    assert isinstance(found, BySurfaceRanker)
    assert found.own["search"].to_files() == ranker.own["search"].to_files()
    assert found.own["similar"].to_files() != ranker.own["similar"].to_files()


def test_a_row_scores_the_same_alone_in_its_request_and_in_a_batch(ranker: BySurfaceRanker) -> None:
    fresh = surfaces(200, seed=9).features
    batch = ranker.predict(fresh)
    for at in range(0, 60, 7):
        alone = ranker.predict({name: of[at : at + 1] for name, of in fresh.items()})
        assert alone.p_click[0] == pytest.approx(batch.p_click[at], abs=1e-6)
        repeated = {name: of[np.full(3, at)] for name, of in fresh.items()}
        repeated["surface"] = np.broadcast_to(fresh["surface"][at : at + 1], (3,))
        np.testing.assert_allclose(ranker.predict(repeated).p_conversion, batch.p_conversion[at], atol=1e-6)
    assert ranker.predict({name: of[:0] for name, of in fresh.items()}).p_click.shape == (0,)


def test_saved_graphed_and_calibrated_it_says_the_same(ranker: BySurfaceRanker, data: TrainingData) -> None:
    """By graphs where its kind has them; loaded as a bundle loads it, and what training goes on from is within."""
    again = load(ranker.kind, ranker.to_files())
    assert again.to_files() == ranker.to_files()
    assert same(ranker, again, data)
    rows = {name: of[:200] for name, of in data.features.items()}
    served = exported(ranker, rows)
    graphs = isinstance(served.own["search"], Served)  # type: ignore[attr-defined]
    assert graphs == (ranker.kind != "xgboost_by_surface")
    click = Recalibration.from_json(Recalibration().to_json())
    assert calibrated(ranker, click, click) is ranker
    whole = exported(Calibrated(ranker, click, click), rows)
    loaded = load(ranker.kind, whole.to_files())
    np.testing.assert_allclose(loaded.predict(rows).p_click, ranker.predict(rows).p_click, atol=1e-5)
    assert isinstance(uncalibrated(loaded), BySurfaceRanker)


def test_a_warm_start_goes_on_with_each_and_leaves_what_has_no_rows(
    ranker: BySurfaceRanker, data: TrainingData
) -> None:
    """From a bundle as it serves; a surface without a click of the day keeps its ranker."""
    fresh = surfaces(2000, seed=3)
    search = np.flatnonzero(fresh.features["surface"] == "search")
    served = exported(ranker, {name: of[:50] for name, of in data.features.items()})
    # A day that has some rows of another surface, none of them clicked.
    similar = np.flatnonzero((fresh.features["surface"] == "similar") & (fresh.clicked == 0))[:50]
    day = fresh.where(np.sort(np.concatenate([search, similar])))
    found = fit(ranker.kind, day, SETTINGS, start_from=served)
    assert isinstance(found, BySurfaceRanker)
    assert found.own["search"].to_files() != ranker.own["search"].to_files()
    before = ranker.own["similar"].predict(data.features).p_click
    np.testing.assert_allclose(found.own["similar"].predict(data.features).p_click, before, atol=1e-5)


def test_same_data_same_bytes(ranker: BySurfaceRanker, data: TrainingData) -> None:
    assert fit(ranker.kind, data, SETTINGS).to_files() == ranker.to_files()


def test_further_outcomes_are_told_by_the_ranker_of_all(data: TrainingData) -> None:
    """So that they are there on every surface alike: a batch of several says of a row what its request alone says."""
    like = FurtherOutcome(OutcomeSettings(), np.where(data.clicked == 1, data.features["item_click_rate"], 0.0))
    later = surfaces(300, seed=5)
    told = replace(
        data, outcomes={"like": like}, held_out=replace(later, outcomes={"like": replace(like, label=later.clicked)})
    )
    made: Any = fit("mmoe_by_surface", told, SETTINGS)
    rows = {name: of[:100] for name, of in data.features.items()}
    np.testing.assert_allclose(
        made.predict(rows).outcomes["like"], made.others.predict(rows).outcomes["like"], atol=1e-6
    )
    assert load(made.kind, made.to_files()).predict(rows).outcomes.keys() == {"like"}


def test_one_surface_alone_is_the_ranker_of_all(data: TrainingData) -> None:
    """Nothing is learned twice where there is nothing to tell apart."""
    one = replace(data, features={**data.features, "surface": np.full(len(data.clicked), "home", object)})
    made: Any = fit("logistic_by_surface", one, SETTINGS)
    assert not made.own
    assert made.others.to_files() == fit("logistic", one, SETTINGS).to_files()
    assert data.clicked[data.features["surface"] == "notify"].sum() < FEWEST_CLICKS


@pytest.mark.parametrize(
    ("surfaces", "trained"),
    [
        ("consolidated", ("popularity", "logistic")),
        ("bespoke", ("logistic_by_surface",)),
        ("auto", ("popularity", "logistic", "logistic_by_surface")),
    ],
)
def test_the_setting_decides_what_is_trained(surfaces: Any, trained: tuple[str, ...]) -> None:
    settings = RankerSettings(kinds=("popularity", "logistic"), surfaces=surfaces)
    assert settings.trained == trained
    assert set(trained) <= set(EVERY_KIND)
    assert settings.of("logistic_by_surface") == settings.of("logistic")


def test_every_kind_but_popularity_may_be_one_for_each() -> None:
    """Popularity stays the one fallback; behind all others, so that of two as good the simpler is chosen."""
    assert list(EVERY_KIND) == [*RANKERS, *(kind + BY_SURFACE for kind in RANKERS if kind != "popularity")]
