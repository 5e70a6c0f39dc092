"""How alike two answers are, by hand."""

import numpy as np
import pytest
from scipy import stats

from models.evaluation.agreement import agreement, overlap, rank_correlation, shift


def test_by_hand() -> None:
    """Three requests: the same slate; one item in common, at the top of neither; turned round."""
    slates = [("ab", "ab"), ("abc", "dea"), ("abc", "cba")]
    p_click = [(np.full(len(one), 0.2), np.full(len(other), 0.4)) for one, other in slates]
    found = agreement(slates, p_click)
    assert found.same_top.tolist() == [1, 0, 0]
    assert found.overlap == pytest.approx([1, 1 / 3, 1])
    assert found.rank_correlation[[0, 2]].tolist() == [1, -1]
    assert np.isnan(found.rank_correlation[1])
    assert [level.mean() for level in found.levels] == pytest.approx([0.2, 0.4])
    assert found.shift == 1.0
    assert len(found) == 3


def test_of_slates_of_other_lengths_the_longer_counts() -> None:
    assert overlap("ab", "abcd") == overlap("abcd", "ab") == 0.5
    assert overlap("ab", "cd") == 0.0


def test_no_pair_says_nothing() -> None:
    found = agreement([], [])
    assert len(found) == 0
    assert np.isnan(found.shift)


def test_scipy_says_the_same() -> None:
    """Kendall's tau and Kolmogorov-Smirnov's distance, with ties between the samples."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = rng.permutation(20)[:12].tolist(), rng.permutation(20)[:12].tolist()
        common = [item for item in one if item in other]
        expected = stats.kendalltau(range(len(common)), [other.index(item) for item in common]).statistic
        assert rank_correlation(one, other) == pytest.approx(expected)
        a, b = rng.integers(0, 9, 15) / 9, rng.integers(0, 7, 40) / 9
        assert shift(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)
