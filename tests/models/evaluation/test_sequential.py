"""One risk for all the times that somebody looks: counted, not believed."""

import numpy as np
import pytest

from models.evaluation.sequential import rises, share_verdict, two_arms


def test_the_bounds_are_where_the_logarithms_say() -> None:
    """By hand: log 10 a bad answer, log(0.99 / 0.999) = -0.00905 a good one, bounds at +-log 100 = 4.605."""
    bad, good = np.array([True]), np.zeros(600, bool)
    limits = (0.001, 0.01, 0.01)
    assert share_verdict(good[:508], *limits) == "inconclusive"
    assert share_verdict(good[:509], *limits) == "passed"
    assert share_verdict(np.concatenate([bad, bad]), *limits) == "failed", "two of two"
    assert share_verdict(np.concatenate([bad, good[:10], bad]), *limits) == "inconclusive", "4.515"
    assert share_verdict(np.concatenate([bad, bad, good]), *limits) == "failed", "an alarm is not taken back"
    assert share_verdict(np.concatenate([good[:509], bad]), *limits) == "inconclusive", "but a pass is"
    assert share_verdict(good[:0], *limits) == "inconclusive", "silence never passes"


def test_a_tolerated_share_fails_and_an_alarming_one_passes_no_oftener_than_the_risk() -> None:
    """At either limit and beyond it, looked at after each of up to 3,000 answers: 2,000 logs each, five sigma."""
    rng, n, risk = np.random.default_rng(5), 2000, 0.05
    most = n * risk + 5 * (n * risk) ** 0.5
    for share, wrong in ((0.01, "failed"), (0.005, "failed"), (0.05, "passed"), (0.1, "passed")):
        draws = rng.random((n, 3000)) < share
        ends = rng.integers(1, 3000, n)
        found = [share_verdict(row[:end], 0.01, 0.05, risk) for row, end in zip(draws, ends, strict=True)]
        assert found.count(wrong) <= most, (share, found.count(wrong))


def test_ten_times_the_tolerated_errors_are_found_within_500_answers() -> None:
    """0.1 % grown to 1 %, at the part of the risk that each of a release's nine tests has: the median of 500 logs."""
    rng, found = np.random.default_rng(6), []
    for row in rng.random((500, 4000)) < 0.01:
        found.append(next(n for n in range(1, 4000) if _failed(row, n)))
    assert np.median(found) <= 500


def _failed(row: np.ndarray, n: int) -> bool:
    # Only a bad answer can cross the bound, so only there is looked.
    return bool(row[n - 1]) and share_verdict(row[:n], 0.001, 0.01, 0.9 * 0.01 / 9) == "failed"


@pytest.mark.parametrize("limits", [(0.0, 0.1, 0.1), (0.1, 0.1, 0.1), (0.2, 0.1, 0.1), (0.1, 1.0, 0.1), (0.1, 0.2, 0)])
def test_limits_that_are_none_raise(limits: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="needs 0 < tolerated < alarming < 1"):
        share_verdict(np.zeros(3, bool), *limits)


def test_a_mean_of_nothing_is_shown_no_oftener_than_the_risk_and_one_above_it_is() -> None:
    """Rare and frequent, of arms of one to nineteen, looked at after each of 2,000 answers: 100 logs each, 5 sigma."""
    rng, risk, n = np.random.default_rng(7), 0.05, 100
    most = n * risk + 5 * (n * risk) ** 0.5
    for share in (0.01, 0.3):
        for arm in (0.05, 0.5):
            wrong = right = 0
            for _ in range(n):
                treated = rng.random(2000) < arm
                bad = rng.random(2000) < share
                ours, theirs = two_arms(treated, bad.astype(float))
                wrong += rises(ours - theirs, 1.0, risk)
                sick = np.where(treated, rng.random(2000) < min(1.0, 20 * share), bad)
                ours, theirs = two_arms(treated, sick.astype(float))
                right += rises(ours - theirs, 1.0, risk)
            assert wrong <= most, (share, arm, wrong)
            assert right >= 0.9 * n, (share, arm, right)


def test_once_shown_it_stays_shown_and_nothing_shows_nothing() -> None:
    up = np.ones(200)
    assert rises(up, 1.0, 0.01)
    assert rises(np.concatenate([up, -np.ones(20_000)]), 1.0, 0.01)
    assert not rises(np.concatenate([-np.ones(20_000), up]), 1.0, 0.01)
    assert not rises(up[:0], 1.0, 0.01)
    assert not rises(np.zeros(500), 1.0, 0.5)


@pytest.mark.parametrize(("values", "least", "risk"), [([-2.0], 1.0, 0.1), ([0.0], 0.0, 0.1), ([0.0], 1.0, 1.0)])
def test_values_below_what_may_be_lost_raise(values: list[float], least: float, risk: float) -> None:
    with pytest.raises(ValueError, match="needs values of at least -least"):
        rises(np.array(values), least, risk)


def test_blocks_end_where_both_arms_have_appeared() -> None:
    """By hand: o o t | t o | o t, and t alone is left for later. A longer log begins with the same blocks."""
    treated = np.array([c == "t" for c in "ootttoott"])
    values = np.array([1, 0, 1, 0, 1, 1, 0, 1, 1], float)
    ours, theirs = two_arms(treated, values)
    assert ours.tolist() == [1, 0.5, 1]
    assert theirs.tolist() == [0.5, 1, 0]
    for n in range(len(values)):
        part = two_arms(treated[:n], values[:n])[0]
        assert part.tolist() == ours[: len(part)].tolist()
