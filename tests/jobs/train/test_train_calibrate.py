"""What maps each ranker's words, and what is told of it, by rows it was not mapped by."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jobs.evidence.scored import Scored
from jobs.train import calibrate
from jobs.train.delays import Newest
from models.rankers import BASELINE
from models.rankers.calibrated import Calibrated, maps_of
from models.rankers.features import TABLE
from models.rankers.protocol import Floats, Predictions
from models.settings import GateSettings

SETTINGS = GateSettings(bootstrap_replicates=50)
N = 12_000
PARTS = ("as_shown", "as_first", "p_conversion", "attributes")


class Named:
    """A ranker that is only passed around."""

    inputs = TABLE

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def predict(self, features: Any) -> Predictions:
        return Predictions(features["said"], features["given"])

    def to_files(self) -> dict[str, bytes]:
        return {"name": self.kind.encode()}


def rows(says: Any, seed: int = 0, given: float = 0.2) -> tuple[Scored, Floats]:
    """Rows whose rankers say what `says` makes of the truth; conversions convert a fifth of clicks, half are open."""
    rng = np.random.default_rng(seed)
    truth = 1 / (1 + np.exp(-rng.normal(-1.5, 1.0, N)))
    clicked = (rng.random(N) < truth).astype(float)
    converted = np.where(rng.random(N) < 0.5, clicked * (rng.random(N) < 0.2), np.nan)
    said = {BASELINE: np.full(N, 0.5), "xgboost": says(truth)}
    surface = np.array(["home", "se|arch"], dtype=object)[rng.integers(0, 2, N)]
    found = Scored(
        clicked=clicked,
        users=np.arange(N) // 3,
        requests=np.arange(N) // 3,
        as_shown=said,
        as_first={name: np.minimum(of * 1.1, 1.0) for name, of in said.items()},
        p_conversion={name: of * given for name, of in said.items()},
        attributes={"surface": surface},
    )
    return found, converted


def first(found: Scored, n: int) -> Scored:
    """Some of the rows."""
    return replace(
        found,
        **{name: getattr(found, name)[:n] for name in ("clicked", "users", "requests")},
        **{name: {k: of[:n] for k, of in getattr(found, name).items()} for name in PARTS},
    )


def made(
    found: Scored, converted: Floats, continued: Any = None, newest: Newest | None = None
) -> calibrate.Calibration:
    rankers: Any = {kind: Named(kind) for kind in found.as_shown}
    return calibrate.calibrate(rankers, found, converted, SETTINGS, continued, newest)


def young(rate: float, says: float, seed: int = 0) -> Newest:
    """Clicks of which `rate` convert and `says` is said to; half as many are heard of by now, and were to be."""
    rng = np.random.default_rng(seed)
    surface = np.array(["home", "se|arch"], dtype=object)[rng.integers(0, 2, N)]
    features = {"said": np.full(N, 0.5), "given": np.full(N, says), "surface": surface}
    seen = rng.uniform(0.2, 0.8, N)
    return Newest(features, (rng.random(N) < rate * seen).astype(float), seen, np.arange(N) // 2)


def test_a_ranker_that_promises_too_much_is_set_right_and_the_figures_say_so() -> None:
    plain, converted = rows(lambda truth: np.minimum(2 * truth, 0.99), given=0.4)
    found = made(plain, converted)
    ranker = found.rankers["xgboost"]
    assert isinstance(ranker, Calibrated)
    told = found.told["xgboost"]
    for outcome, before in (("click", 1.8), ("conversion_given_click", 2.0)):
        every = told[outcome][calibrate.ALL]
        assert every["map"] != "none"
        assert every["ratio"][0] == pytest.approx(before, rel=0.15)
        assert every["ratio"][1] == pytest.approx(1.0, abs=0.03)
        assert every["ece"][1] < every["ece"][0] / 4
    assert set(told["click"]) == {calibrate.ALL, "home", "se|arch"}
    assert told["conversion_given_click"][calibrate.ALL]["rows"] < plain.clicked.sum() * 0.6, "open ones tell nothing"
    figures = calibrate.metrics(told)
    assert figures["calibration.click.ratio"] == told["click"][calibrate.ALL]["ratio"][1]
    assert "predicted / clicks 1." in calibrate.sentence(told)


def test_who_is_right_stays_the_very_ranker() -> None:
    plain, converted = rows(lambda truth: truth)
    found = made(plain, converted)
    assert found.rankers["xgboost"].kind == "xgboost"
    assert not isinstance(found.rankers["xgboost"], Calibrated)
    np.testing.assert_allclose(found.rows.as_shown["xgboost"], plain.as_shown["xgboost"], atol=0.05)


def test_a_warm_start_keeps_its_parents_map_until_rows_show_a_better_one() -> None:
    """Few rows show nothing; that the ranker says the truth by now, many do. What it is judged by is mapped alike."""
    parent = made(*rows(np.sqrt)).rankers["xgboost"]
    whole, converted = rows(np.sqrt, seed=1)
    few = first(whole, 180)
    kept = made(few, converted[:180], {"xgboost": parent})
    assert kept.rankers["xgboost"].to_files() == parent.to_files()
    mapped = maps_of(parent)[0](few.as_shown["xgboost"], few.attributes["surface"])
    np.testing.assert_array_equal(kept.rows.as_shown["xgboost"], mapped)
    right = made(*rows(lambda truth: truth, seed=2), {"xgboost": parent})
    assert maps_of(right.rankers["xgboost"])[0] != maps_of(parent)[0]
    assert right.told["xgboost"]["click"][calibrate.ALL]["ratio"][1] == pytest.approx(1.0, abs=0.03)


def test_conversions_that_are_not_in_yet_tell_the_level_of_the_last_days() -> None:
    """Of the validation clicks nothing is closed. What is told is of what was to be heard of by now."""
    plain, unknown = first(rows(lambda truth: truth)[0], 90), np.full(90, np.nan)
    newest = young(rate=0.3, says=0.2)
    found = made(plain, unknown, newest=newest)
    _, shift = maps_of(found.rankers["xgboost"])
    assert shift.kind_on("home") == "shift"
    assert found.rankers["xgboost"].predict(newest.features).p_conversion_given_click.mean() == pytest.approx(
        0.3, abs=0.015
    )
    told = found.told["xgboost"]["conversion_given_click"][calibrate.ALL]
    assert told["map"] == "shift"
    assert told["came"] == newest.came.sum()
    assert told["ratio"] == [pytest.approx(2 / 3, rel=0.05), pytest.approx(1.0, abs=0.03)]
    assert told["ece"][1] < told["ece"][0] / 4
    assert "shift; predicted / conversions 0.6" in calibrate.sentence(found.told["xgboost"], "conversion_given_click")
    assert made(plain, unknown).told["xgboost"].keys() == {"click"}, "without them it is left as it is"
    right = made(plain, unknown, newest=young(rate=0.2, says=0.2, seed=1))
    assert not maps_of(right.rankers["xgboost"])[1].changes


def test_closed_conversions_go_before_open_ones() -> None:
    """They are of rows that nobody learned from, and carry more than a shift."""
    plain, converted = rows(lambda truth: truth, given=0.4)
    newest = young(rate=0.3, says=0.2)
    told = made(plain, converted, newest=newest).told["xgboost"]["conversion_given_click"][calibrate.ALL]
    assert told["map"] == "platt"
    assert told["came"] == np.nansum(converted)


def test_a_shift_stays_until_the_last_days_show_a_better_one() -> None:
    """What is continued, by its shift, is right: the ranker within says as before, and nothing moves."""
    plain, unknown = first(rows(lambda truth: truth)[0], 90), np.full(90, np.nan)
    parent = made(plain, unknown, newest=young(rate=0.3, says=0.2)).rankers["xgboost"]
    for newest in (young(rate=0.3, says=0.2, seed=1), None):
        kept = made(plain, unknown, {"xgboost": parent}, newest)
        assert maps_of(kept.rankers["xgboost"])[1] == maps_of(parent)[1]
    back = made(plain, unknown, {"xgboost": parent}, young(rate=0.2, says=0.2, seed=2))
    assert maps_of(back.rankers["xgboost"])[1] != maps_of(parent)[1]


def test_the_baseline_is_no_ranker_of_surfaces() -> None:
    """It answers at the endpoint knowing nothing but items, so it is judged as what it answers, wrong or not."""
    plain, converted = rows(lambda truth: np.sqrt(truth))
    found = made(plain, converted)
    assert not isinstance(found.rankers[BASELINE], Calibrated)
    assert np.array_equal(found.rows.as_shown[BASELINE], plain.as_shown[BASELINE])
    told, others = found.told[BASELINE], found.told["xgboost"]
    assert calibrate.metrics(told).keys() == calibrate.metrics(others).keys(), "one table, no gaps"
    for of in told.values():
        assert all(part["map"] == "none" for part in of.values())
        assert all(part[name][0] == part[name][1] for part in of.values() for name in ("ece", "ratio"))
    assert told["click"]["all"]["ratio"][0] == pytest.approx(0.5 * len(plain.clicked) / plain.clicked.sum(), rel=1e-3)


def test_nothing_is_judged_on_rows_it_was_mapped_by() -> None:
    """Turn one user's clicks: the words it is judged by are those they were, though the map that serves is another."""
    plain, converted = rows(lambda truth: np.sqrt(truth))
    mine = plain.users == 7
    turned = replace(plain, clicked=np.where(mine, 1 - plain.clicked, plain.clicked))
    before, after = made(plain, converted), made(turned, converted)
    assert np.array_equal(before.rows.as_shown["xgboost"][mine], after.rows.as_shown["xgboost"][mine])
    assert not np.array_equal(before.rows.as_shown["xgboost"], after.rows.as_shown["xgboost"])
    asked = {"surface": plain.attributes["surface"], "said": plain.as_shown["xgboost"], "given": np.zeros(N)}
    serving = [of.rankers["xgboost"].predict(asked).p_click for of in (before, after)]
    assert not np.array_equal(*serving)


def test_a_ranker_that_says_nan_is_left_to_the_choice() -> None:
    plain, converted = rows(lambda truth: np.where(truth < 0.5, truth, np.nan))
    found = made(plain, converted)
    assert not isinstance(found.rankers["xgboost"], Calibrated)
    assert np.isnan(found.rows.as_shown["xgboost"]).any(), "choice refuses it with a reason"
