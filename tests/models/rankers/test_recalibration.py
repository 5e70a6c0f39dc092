"""Probabilities mapped to what came of them: better where they were wrong, untouched where they were right."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.rankers import recalibration
from models.rankers.protocol import Floats
from models.rankers.recalibration import Beta, Isotonic, Outcomes, Recalibration, cross_fitted, fitted, folds, helps

SURFACES = np.array(["home", "search"], dtype=object)


def logit(p: Floats) -> Floats:
    return np.log(p) - np.log1p(-p)


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def drawn(n: int, seed: int, says: Any = lambda truth, on: truth, base: float = -2.0) -> tuple[Outcomes, Floats]:
    """Rows of two surfaces, four a user, and their truth; `says` makes of the truth and the surface what is said."""
    rng = np.random.default_rng(seed)
    truth = sigmoid(rng.normal(base, 1.0, n))
    on = rng.integers(0, 2, n)
    came = (rng.random(n) < truth).astype(float)
    return Outcomes(says(truth, on), came, np.arange(n) // 4, SURFACES[on]), truth


def wrong(truth: Floats, on: Any) -> Floats:
    """Too sharp, and on search twice too many besides."""
    return sigmoid(1.5 * logit(truth) + 1.0 + np.log(2.0) * on)


def excess(rows: Outcomes, truth: Floats, said: Floats) -> float:
    """Expected log-loss above the truth's."""
    p = np.clip(said, 1e-12, 1 - 1e-12)
    return float(np.mean(truth * np.log(truth / p) + (1 - truth) * np.log((1 - truth) / (1 - p))))


@pytest.mark.parametrize(
    ("n", "kind", "close"), [(6_000, "platt", 0.2), (20_000, "beta", 0.08), (75_000, "isotonic", 0.08)]
)
def test_wrong_words_are_set_right_on_rows_that_were_not_fitted_on(n: int, kind: str, close: float) -> None:
    """By surface, since search is wrong in another way; what is left of the excess is little."""
    found = Recalibration.fit(drawn(n, 1, wrong)[0])
    assert found.everywhere is not None
    assert found.everywhere.kind == kind
    fresh, truth = drawn(50_000, 2, wrong)
    after = found(fresh.said, fresh.surface)
    assert excess(fresh, truth, after) < 0.1 * excess(fresh, truth, fresh.said)
    for name in SURFACES:
        here = fresh.surface == name
        assert after[here].sum() / truth[here].sum() == pytest.approx(1.0, abs=close)
    assert found.of_surface


def test_right_words_stay_as_they_are() -> None:
    """Most often, and where a map is kept by chance it hurts by next to nothing."""
    kept = []
    for seed in range(20):
        found = Recalibration.fit(drawn(6_000, seed)[0])
        kept.append(found.changes)
        fresh, truth = drawn(20_000, 100 + seed)
        assert excess(fresh, truth, found(fresh.said, fresh.surface)) < 5e-4
    assert sum(kept) <= 4


def test_few_rows_teach_nothing_however_wrong_the_words() -> None:
    rows, _ = drawn(400, 1, wrong)
    assert rows.rarer < recalibration.MIN_PER_CLASS
    assert not Recalibration.fit(rows).changes


def test_a_surface_of_few_rows_has_the_map_of_all() -> None:
    rows, _ = drawn(8_000, 1, wrong)
    few = rows.where(np.flatnonzero((rows.surface == "home") | (np.arange(8_000) < 300)))
    found = Recalibration.fit(few)
    assert found.everywhere is not None
    assert "search" not in found.of_surface


def test_what_is_judged_was_not_fitted_on() -> None:
    """Outcomes of a fold's users, turned round, change nothing of what they are mapped by."""
    rows, _ = drawn(8_000, 1, wrong)
    for at, by_others in cross_fitted(rows):
        came = rows.came.copy()
        came[at] = 1 - came[at]
        turned = Outcomes(rows.said, came, rows.users, rows.surface)
        again = [found for mine, found in cross_fitted(turned) if np.array_equal(mine, at)]
        assert again == [by_others]
    everybody = np.sort(np.concatenate([at for at, _ in cross_fitted(rows)]))
    assert np.array_equal(everybody, np.arange(8_000))
    assert all(len(set(folds(rows.users, 1)[rows.users == user])) == 1 for user in range(50))


def test_help_is_told_by_users_not_by_rows() -> None:
    """A user's rows are alike: a thousand of one say no more than one does."""
    said, after = np.full(4_000, 0.5), np.full(4_000, 0.4)
    came = np.repeat(np.array([0, 0, 0, 1, 0, 1, 0, 0], dtype=float), 500)
    alike = Outcomes(said, came, np.repeat(np.arange(8), 500), np.full(4_000, "home", dtype=object))
    apart = Outcomes(said, came, np.arange(4_000), alike.surface)
    assert helps(apart, said, after, 0.05)
    assert not helps(alike, said, after, 0.05)


def open_rows(n: int, seed: int, says: Any = lambda truth, on: truth) -> tuple[Outcomes, Floats]:
    """As `drawn`, of which each was to be heard of by now with a chance of its own."""
    rows, truth = drawn(n, seed, says)
    rng = np.random.default_rng([seed, 1])
    seen = rng.uniform(0.2, 1.0, n)
    return replace(rows, came=rows.came * (rng.random(n) < seen), seen=seen), truth


def too_low(truth: Floats, on: Any) -> Floats:
    """Odds of six tenths where odds are 1 to 7, and sharper than is true, as a ranker is on rows it learned from."""
    return sigmoid(1.3 * (logit(truth) + 2.0) - 2.5)


def test_open_rows_tell_the_level_by_what_was_to_be_heard_of() -> None:
    """A shift, however wrong the slope: rows learned from know none. Read as closed they would promise too little."""
    rows, truth = open_rows(8_000, 1, too_low)
    found = Recalibration.fit(rows)
    assert found.everywhere is not None
    assert (found.everywhere.kind, found.kind_on("home")) == ("shift", "shift")
    assert Recalibration.from_json(found.to_json()) == found
    after = found(rows.said, rows.surface)
    assert rows.said.sum() / truth.sum() < 0.8
    assert after.sum() / truth.sum() == pytest.approx(1.0, abs=0.05)
    closed = Recalibration.fit(replace(rows, seen=None))(rows.said, rows.surface)
    assert closed.sum() / truth.sum() < 0.7


def test_a_surface_is_shifted_by_its_own_open_rows() -> None:
    rows, truth = open_rows(16_000, 1, lambda truth, on: sigmoid(logit(truth) - 0.8 * on))
    found = Recalibration.fit(rows)
    assert found.of_surface
    after = found(rows.said, rows.surface)
    for name in SURFACES:
        here = rows.surface == name
        assert after[here].sum() / truth[here].sum() == pytest.approx(1.0, abs=0.07)


def test_right_words_are_not_shifted_by_open_rows() -> None:
    kept = []
    for seed in range(20):
        rows, _ = open_rows(4_000, seed)
        kept.append(Recalibration.fit(rows).changes)
    assert sum(kept) <= 2


@pytest.mark.parametrize("said", [1e-9, 0.02, 0.5, 1 - 1e-9])
def test_the_shift_is_the_likeliest(said: float) -> None:
    """Also from words so absurd that Newton's step overshoots: no step makes the loss larger."""
    rows, _ = open_rows(2_000, 3, lambda truth, on: np.full(len(truth), said))
    assert rows.seen is not None
    found = recalibration.shift(rows, rows.seen)

    def loss(c: float) -> float:
        return float(rows.losses(Beta(1.0, 1.0, c)(rows.said)).sum()) + c**2 / 2

    assert loss(found.c) < min(loss(found.c - 0.02), loss(found.c + 0.02))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["platt", "beta", "isotonic"]), st.floats(-3, 3), st.floats(-2, 2))
def test_every_map_is_monotone_and_gives_probabilities(seed: int, kind: str, slope: float, shift: float) -> None:
    """Also where the words are upside down: an order is never turned, nor are items made alike by it."""
    rows, _ = drawn(3_000, seed, lambda truth, on: sigmoid(slope * logit(truth) + shift))
    if not 0 < rows.came.sum() < len(rows):
        return
    found = {"platt": recalibration.platt, "beta": recalibration.beta, "isotonic": recalibration.isotonic}[kind](rows)
    grid = np.linspace(0, 1, 2_001)
    mapped = found(grid)
    assert ((mapped >= 0) & (mapped <= 1)).all()
    assert (np.diff(mapped) >= 0).all()
    assert (np.diff(fitted(rows)(grid[1:-1])) > 0).mean() > 0.99


def test_words_upside_down_are_not_made_alike() -> None:
    rows, _ = drawn(6_000, 1, lambda truth, on: 1 - truth)
    assert fitted(rows) == Beta(1.0, 1.0, 0.0)


@pytest.mark.parametrize("n", [2_000, 20_000, 75_000])
def test_saving_and_loading_changes_nothing(n: int) -> None:
    rows, _ = drawn(n, 1, wrong)
    found = Recalibration.fit(rows)
    loaded = Recalibration.from_json(found.to_json())
    assert loaded == found
    assert loaded.to_json() == found.to_json()
    assert np.array_equal(loaded(rows.said, rows.surface), found(rows.said, rows.surface))


def test_a_surface_called_everywhere_is_a_surface() -> None:
    found = Recalibration(Beta(1.0, 1.0, 0.5), {"everywhere": Isotonic((0.2, 0.4), (0.1, 0.3))})
    assert Recalibration.from_json(found.to_json()) == found


@pytest.mark.parametrize(("said", "came"), [(0.5, 2.0), (1.5, 1.0), (np.nan, 0.0)])
def test_what_is_no_probability_or_no_outcome_is_refused(said: float, came: float) -> None:
    rows, _ = drawn(100, 1)
    rows.said[3], rows.came[3] = said, came
    with pytest.raises(ValueError, match=r"words in \[0, 1\]"):
        Recalibration.fit(rows)


def test_what_was_to_be_heard_of_is_a_share() -> None:
    rows, _ = open_rows(4_000, 1)
    with pytest.raises(ValueError, match=r"a share in \[0, 1\]"):
        Recalibration.fit(replace(rows, seen=np.full(4_000, 1.5)))
