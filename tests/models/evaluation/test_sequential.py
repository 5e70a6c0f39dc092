"""One risk for all the times that somebody looks: counted, not believed."""

import numpy as np
import pytest

from models.evaluation.sequential import share_verdict


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
    return bool(row[n - 1]) and share_verdict(row[:n], 0.001, 0.01, 0.01 / 9) == "failed"


@pytest.mark.parametrize("limits", [(0.0, 0.1, 0.1), (0.1, 0.1, 0.1), (0.2, 0.1, 0.1), (0.1, 1.0, 0.1), (0.1, 0.2, 0)])
def test_limits_that_are_none_raise(limits: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="needs 0 < tolerated < alarming < 1"):
        share_verdict(np.zeros(3, bool), *limits)
