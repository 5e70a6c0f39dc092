"""The gate's error rates in worlds whose true lift is known: a small version of `tests/bench/bench_gate.py`."""

import numpy as np
import pytest

from tests.bench.gate_worlds import LAWS, Law, challenger_noise, difference, drawn, verdict

WORLDS = 40


def promoted(law: Law, noise: float, decisions: int) -> float:
    return float(np.mean([verdict(drawn(law, noise, decisions, seed)).verdict == "promote" for seed in range(WORLDS)]))


def test_an_equal_challenger_is_almost_never_promoted_and_a_better_one_almost_always() -> None:
    """The two errors that matter; the bench counts them with many more worlds."""
    law = LAWS[0]
    assert promoted(law, law.champion_noise, 4_000) <= 0.125, "no difference at all"
    assert promoted(law, 1.25 * law.champion_noise, 4_000) == 0, "several per cent worse"
    assert promoted(law, 0.4 * law.champion_noise, 12_000) >= 0.8, "about 10 % better"


@pytest.mark.parametrize("law", [LAWS[0], LAWS[5]])
def test_a_world_has_the_lift_it_was_searched_for(law: Law) -> None:
    """The table's first column must be true: noise found for +2 %, values expected on fresh requests."""
    noise = challenger_noise(law, 0.02)
    champion, challenger, _ = np.mean([drawn(law, noise, 20_000, seed).value for seed in range(4)], axis=0)
    assert challenger / champion - 1 == pytest.approx(0.02, abs=0.005)


def test_the_worlds_estimates_are_unbiased() -> None:
    """Otherwise an error rate would say something about the simulation and not about the gate."""
    errors = []
    for seed in range(WORLDS):
        log = drawn(LAWS[0], 0.5, 4_000, seed)
        found = difference(log)
        errors.append((found.value - (log.value[1] - log.value[0])) / found.stderr)  # type: ignore[union-attr]
    assert abs(np.mean(errors)) < 3 / np.sqrt(WORLDS)
    assert 0.75 < np.std(errors) < 1.3
