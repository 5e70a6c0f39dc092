"""Slices: which are looked at, how sure all of them are together, and a paradox that must not pass unseen."""

import tracemalloc

import numpy as np
import pytest

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.slices import Slice, reversals, slices


def estimate(value: float, reach: float = 1.0, n: int = 10) -> Estimate:
    return Estimate(value, reach / 2, value - reach, value + reach, n, float(n))


def test_the_largest_values_with_enough_rows_are_looked_at() -> None:
    """Rare values say nothing; None and NaN are a slice of their own, not lost rows."""
    device = np.array(["ios"] * 5 + ["web"] * 3 + [None] * 4 + ["tv"], dtype=object)
    age = np.array([1.0] * 6 + [np.nan] * 7)
    found = slices(
        {"device": device, "age": age}, lambda rows, _: estimate(0, n=len(rows)), confidence=0.95, min_rows=3
    )
    assert [(s.attribute, s.value, s.n) for s in found] == [
        ("device", "ios", 5), ("device", "unknown", 4), ("device", "web", 3), ("age", "unknown", 7), ("age", "1.0", 6),
    ]  # fmt: skip
    assert sum(s.share for s in found if s.attribute == "age") == pytest.approx(1)


def test_no_slice_of_equal_models_differs_more_often_than_stated() -> None:
    """Twenty slices at 95 % each would find a difference in two of three evidence packs."""
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        gain = rng.normal(size=2_000)

        def difference(rows: np.ndarray, confidence: float, gain: np.ndarray = gain) -> Finding:
            from scipy.stats import norm

            reach = norm.ppf(0.5 + confidence / 2) / np.sqrt(len(rows))
            return estimate(float(gain[rows].mean()), float(reach))

        found = slices({"segment": rng.integers(0, 20, 2_000)}, difference, confidence=0.95, min_rows=20, most=20)
        assert len(found) == 20
        alarms += any(s.difference.low > 0 or s.difference.high < 0 for s in found)  # type: ignore[union-attr]
    assert alarms / 300 <= 0.08


def part(value: str, difference: Finding, share: float = 0.4) -> Slice:
    return Slice("device", value, 10, share, difference)


@pytest.mark.parametrize("sign", [1, -1])
def test_better_overall_but_worse_in_every_large_slice_is_flagged(sign: int) -> None:
    """And the reverse; small slices and refused ones have no say."""
    parts = [
        part("ios", estimate(-0.1 * sign)),
        part("web", estimate(-0.2 * sign)),
        part("tv", estimate(0.3 * sign), share=0.01),
        part("car", Refusal("too few")),
    ]
    (found,) = reversals(estimate(0.05 * sign), parts)
    assert found.slices == {"ios": -0.1 * sign, "web": -0.2 * sign}


@pytest.mark.parametrize(
    ("overall", "values"),
    [(estimate(0.1), [-0.1, 0.1]), (estimate(0.1), [-0.1]), (estimate(0.0), [-0.1, -0.2]), (Refusal("no"), [-0.1, -1])],
)
def test_what_is_no_paradox_is_not_flagged(overall: Finding, values: list[float]) -> None:
    """Slices that disagree among themselves are ordinary; one slice is the whole; a refused whole has no sign."""
    assert reversals(overall, [part(str(n), estimate(v)) for n, v in enumerate(values)]) == []


def test_a_real_paradox_in_auc_is_found() -> None:
    """The challenger separates the two surfaces' levels but orders worse within each: AUC rises, both slices fall."""
    from models.evaluation.ranking import auc_influence

    rng = np.random.default_rng(0)
    surface = rng.random(8_000) < 0.5
    taste = rng.random(8_000) * 0.2
    y = (rng.random(8_000) < np.where(surface, 0.5, 0.05) + taste).astype(float)
    champion, challenger = taste, np.where(surface, 1.0, 0.0) + 0.001 * rng.random(8_000)

    def difference(rows: np.ndarray, _: float) -> Finding:
        return estimate(
            auc_influence(y[rows], challenger[rows]).value - auc_influence(y[rows], champion[rows]).value, n=len(rows)
        )

    found = slices({"surface": surface}, difference, confidence=0.95)
    assert [r.attribute for r in reversals(difference(np.arange(8_000), 0.95), found)] == ["surface"]


def test_long_texts_are_held_once_and_values_are_told_apart_by_their_text() -> None:
    """A row's value is a byte, whatever a search query may be long; ties in size go by text."""
    texts = [f"{n} " + "x" * 20_000 for n in range(4)]
    query = np.array([texts[n % 4] for n in range(4_000)] + [1, 1.0, True, "1"] * 50, dtype=object)
    tracemalloc.start()
    found = slices({"query": query}, lambda rows, _: estimate(0, n=len(rows)), confidence=0.9, min_rows=50, most=6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(s.value[:4], s.n) for s in found] == [
        ("0 xx", 1_000), ("1 xx", 1_000), ("2 xx", 1_000), ("3 xx", 1_000), ("1", 100), ("1.0", 50),
    ]  # fmt: skip
    assert peak < 1_000_000, "as text of one width it is 336 MB"


def test_impossible_slices_are_errors() -> None:
    """A confidence of 95 instead of 0.95 would widen nothing."""
    with pytest.raises(ValueError, match="found 95"):
        slices({}, lambda rows, _: Refusal(""), confidence=95)
    with pytest.raises(ValueError, match="one length"):
        slices({"a": np.ones(2), "b": np.ones(3)}, lambda rows, _: Refusal(""), confidence=0.95)
