"""Offline against online: errors hide a correlation, and what is told with them taken out is right."""

import numpy as np
import pytest

from models.evaluation.estimate import Estimate, Refusal
from models.experiments.trust import Trust, trust
from tests.bench.uneven_candidates import WORLDS, candidates, missed


def test_errors_hide_what_hangs_together_and_are_taken_out() -> None:
    rng = np.random.default_rng(0)
    found = [trust(*candidates(rng, 60, 0.8, error=0.8), 0.95) for _ in range(200)]
    told = [one for one in found if isinstance(one, Trust) and isinstance(one.true, Estimate)]
    assert len(told) == 200
    assert np.mean([one.seen.value for one in told]) == pytest.approx(0.8 / 1.64, abs=0.04)
    assert np.mean([one.true.value for one in told]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([one.offline_reliability for one in told]) == pytest.approx(1 / 1.64, abs=0.05)


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_the_interval_of_what_is_seen_holds_it_as_often_as_promised(error: float) -> None:
    rng, rho = np.random.default_rng(1), 0.8 / (1 + error**2)
    found = [trust(*candidates(rng, 15, 0.8, error=error), 0.9) for _ in range(500)]
    held = np.mean([one.seen.low <= rho <= one.seen.high for one in found if isinstance(one, Trust)])
    assert 0.87 < held < 0.97


def test_a_few_candidates_far_from_all_others_do_not_make_it_certain() -> None:
    rng, (n, true, tail, unlike) = np.random.default_rng(3), WORLDS["15, a few far away"]
    found = [trust(*candidates(rng, n, true, tail, unlike), 0.95) for _ in range(500)]
    now, fisher = np.mean([missed(one, true) for one in found if isinstance(one, Trust)], axis=0)
    assert now <= 0.05 + 2 * (0.05 * 0.95 / 500) ** 0.5 < fisher


def test_a_correlation_that_one_candidate_makes_is_none() -> None:
    """All others are alike offline: without that one nothing is known."""
    x, y, errors = np.append(np.ones(9), 5.0), np.append(np.arange(9.0), 40.0), np.full(10, 0.1)
    one = trust(x, errors, y, errors, 0.95)
    assert isinstance(one, Trust)
    assert one.seen.value > 0.9
    assert one.seen.low < 0


def test_few_or_equal_candidates_are_refused_and_noise_alone_has_no_truth() -> None:
    rng = np.random.default_rng(2)
    assert isinstance(trust(*candidates(rng, 4, 0.8), 0.95), Refusal)
    assert isinstance(trust(np.ones(9), np.ones(9), np.arange(9.0), np.ones(9), 0.95), Refusal)
    noise = trust(rng.normal(size=9), np.full(9, 5.0), rng.normal(size=9), np.full(9, 5.0), 0.95)
    assert isinstance(noise, Trust)
    assert isinstance(noise.true, Refusal)
    with pytest.raises(ValueError, match="one length"):
        trust(np.ones(3), np.ones(2), np.ones(3), np.ones(3), 0.95)
