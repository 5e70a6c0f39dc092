"""Sample ratios: right p-values, safe at every look, and the planted fault found by its name."""

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from models.experiments.causes import diagnose
from models.experiments.srm import LEVEL, Ratio, log_evidence, over_looks, single_look
from tests.bench.mismatch_worlds import DAYS, FAULTS, WEIGHTS, Planted, only, sound


def test_a_single_look_is_pearsons() -> None:
    counts = np.array([4900, 5100, 10_300])
    assert single_look(counts, np.array([1.0, 1.0, 2.0])) == pytest.approx(
        chisquare(counts, counts.sum() * np.array([0.25, 0.25, 0.5])).pvalue
    )


def test_an_arm_of_no_weight_has_no_freedom_and_no_units() -> None:
    weights = np.array([1.0, 1.0, 0.0])
    assert single_look(np.array([480, 520, 0]), weights) == single_look(np.array([480, 520]), weights[:2])
    assert single_look(np.array([480, 520, 1]), weights) == 0
    assert log_evidence(np.array([480, 520, 1]), weights) == np.inf


def test_bad_counts_are_refused_and_none_say_nothing() -> None:
    assert single_look(np.zeros(2, int), WEIGHTS) == 1
    assert over_looks([], WEIGHTS) == Ratio(1.0, 1.0)
    for counts, weights in (([1], [1.0]), ([1, 2], [1.0, 0.0]), ([-1, 2], [1.0, 1.0])):
        with pytest.raises(ValueError, match="needs counts"):
            single_look(np.array(counts), np.array(weights))


def test_evidence_against_what_is_true_has_mean_one() -> None:
    """Exactly: over every count that 60 units may give."""
    found = [np.exp(log_evidence(np.array([60 - n, n]), np.array([7.0, 3.0]))) for n in range(61)]
    assert float(np.array(found) @ binom.pmf(range(61), 60, 0.3)) == pytest.approx(1, abs=1e-9)


def test_a_look_after_every_batch_errs_as_seldom_as_promised() -> None:
    """15 looks of 150 sound experiments: the chi-squared test at 5 % errs in a fifth of them."""
    rng = np.random.default_rng(1)
    treated = np.cumsum(rng.binomial(50, 0.5, (150, 15)), axis=1)
    looked = np.stack([50 * np.arange(1, 16) - treated, treated], axis=-1)
    once = np.mean([any(single_look(n, WEIGHTS) < 0.05 for n in run) for run in looked])
    always = np.mean([over_looks(list(run), WEIGHTS).always_p < 0.05 for run in looked])
    assert once > 0.1
    assert always <= 0.05


def test_a_mismatch_of_a_percent_is_found_on_the_way() -> None:
    counts = [np.array([n // 2 - n // 100, n // 2 + n // 100]) for n in range(2500, 100_001, 2500)]
    found = [over_looks(counts[:n], WEIGHTS).mismatch for n in range(1, 41)]
    assert not found[0]
    assert found[16]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found_by_name(fault: Planted) -> None:
    rng = np.random.default_rng(3)
    first, *_ = diagnose(fault.plant(rng, sound(rng, 25_000)), WEIGHTS)
    assert first.name == fault.name
    assert first.stage in ("assignment", "execution", "log processing", "analysis")
    assert str(first).startswith(fault.name)


def test_a_sound_experiment_has_no_cause() -> None:
    assert not any(diagnose(sound(np.random.default_rng(seed), 5000), WEIGHTS) for seed in range(10))
    assert LEVEL < 0.01


def test_losses_that_are_alike_in_both_arms_are_no_mismatch() -> None:
    """Whoever left of both arms alike changes no ratio, however many they are."""
    rng = np.random.default_rng(5)
    units = sound(rng, 5000)
    assert not diagnose(only(units, (units.day < DAYS // 2) & ~units.slow), WEIGHTS)
