"""Diagnostics, the guard's refusals with their reasons, and `snips` as the gate asks for it."""

from typing import Any

import numpy as np
import pytest

from models.evaluation import weighting
from models.evaluation.diagnostics import WeightStatistics, guarded, tail_shape, weights_refused
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.off_policy import Diagnostics, diagnostics, snips, snips_difference
from models.evaluation.sufficient import SufficientStatistics
from models.evaluation.weighting import Log
from models.settings import GateSettings

GATE = GateSettings(min_effective_n=50, max_weight_share=0.2)
CHANCES = np.array([0.5, 0.3, 0.2])
TARGET = np.array([0.2, 0.2, 0.6])
CLICK = np.array([0.1, 0.2, 0.4])


def logs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n decisions of a policy that picks one of three; reward, its probability, and which was picked."""
    rng = np.random.default_rng(seed)
    action = rng.choice(3, n, p=CHANCES)
    return (rng.random(n) < CLICK[action]).astype(float), CHANCES[action], action


def sound(found: object) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


def figures(**arrays: Any) -> Diagnostics:
    found = diagnostics(**arrays)
    assert isinstance(found, Diagnostics)
    return found


def test_the_guard_changes_no_figure() -> None:
    """With settings the same estimate comes out, at the settings' confidence."""
    reward, p, action = logs(500)
    arrays = {"reward": reward, "logged": p, "target": TARGET[action]}
    assert snips(**arrays, settings=GATE) == snips(**arrays)
    wide = sound(snips(**arrays, settings=GATE.model_copy(update={"confidence": 0.99})))
    assert wide == snips(**arrays, confidence=0.99)
    assert wide.low < sound(snips(**arrays)).low


def test_the_difference_is_paired() -> None:
    """What both policies share cancels; the same policy twice differs by exactly nothing."""
    reward, p, action = logs(500)
    near = np.where(action == 2, TARGET[action] * 1.05, TARGET[action])
    a, b = (sound(snips(reward=reward, logged=p, target=t, settings=GATE)) for t in (TARGET[action], near))
    found = sound(snips_difference(reward=reward, logged=p, champion=TARGET[action], challenger=near, settings=GATE))
    assert found.value == pytest.approx(b.value - a.value)
    assert found.stderr < a.stderr / 5
    none = sound(snips_difference(reward=reward, logged=p, champion=near, challenger=near, settings=GATE))
    assert none.low == none.high == 0


def test_a_look_that_spends_a_part_of_the_risk_is_held_to_a_stricter_interval() -> None:
    """The same figure, its difference with the interval that errs in that part; what else is said stays as it was."""
    reward, logged, action = logs(2_000)
    target = TARGET[action]

    def difference(gate: GateSettings) -> Estimate:
        return sound(snips_difference(reward=reward, logged=logged, champion=logged, challenger=target, settings=gate))

    look = GATE.at(0.05 / 14)
    once, fortnight = difference(GATE), difference(look)
    assert fortnight == difference(GATE.model_copy(update={"confidence": 1 - 0.05 / 14}))
    assert snips(reward=reward, logged=logged, target=target, settings=look) == snips(
        reward=reward, logged=logged, target=target, settings=GATE
    )
    assert fortnight.value == once.value
    assert fortnight.low < once.low < once.high < fortnight.high


def test_refusals_say_what_is_missing() -> None:
    """Each way in which logs cannot carry an estimate has its own reason; none becomes a number."""
    reward, p, action = logs(300)
    some = p.copy()
    some[:12] = np.nan

    def reason(gate: GateSettings = GATE, **changes: np.ndarray) -> str:
        arrays = {"reward": reward, "logged": p, "target": TARGET[action], **changes}
        found = snips(**arrays, settings=gate)
        assert isinstance(found, Refusal)
        return found.reason

    assert reason(logged=np.full(300, np.nan)) == "300 of 300 decisions have no propensity"
    assert reason(logged=some) == "12 of 300 decisions have no propensity"
    assert "effective n of at least 1000; found" in reason(GATE.model_copy(update={"min_effective_n": 1000}))
    assert "never takes any of the 300" in reason(target=np.zeros(300))
    assert "no decision may hold more than 0.1%" in reason(GATE.model_copy(update={"max_weight_share": 0.001}))
    assert "clusters; found 1" in reason(clusters=np.zeros(300, int))
    assert "decisions (or users) that matter; found 0.0 among 300" in reason(reward=np.zeros(300))
    one_click = np.where(np.arange(300) == np.flatnonzero(action == 2)[0], 1.0, 0.0)
    assert "that matter; found 1" in reason(reward=one_click)
    empty = np.zeros(0)
    assert "found none" in reason(reward=empty, logged=empty, target=empty)
    for champion, challenger, first in ((np.zeros(300), p, "champion"), (p, np.zeros(300), "challenger")):
        found = snips_difference(
            reward=reward, logged=p, champion=champion, challenger=challenger, settings=GATE
        )  # fmt: skip
        assert isinstance(found, Refusal)
        assert found.reason.startswith(f"{first}: the target policy never takes")
    missing = snips_difference(reward=reward, logged=some, champion=p, challenger=p, settings=GATE)
    assert isinstance(missing, Refusal)


def test_wrong_propensities_are_found_out() -> None:
    """The mean weight is one when the logged propensities are right: the one check that needs no truth."""
    _, p, action = logs(5000)
    right = figures(logged=p, target=TARGET[action])
    wrong = figures(logged=np.full(5000, 0.5), target=TARGET[action])
    assert abs(right.mean_weight - 1) < 3 * right.mean_weight_stderr
    assert abs(wrong.mean_weight - 1) > 10 * wrong.mean_weight_stderr
    assert right.largest_weight == pytest.approx(3)
    assert weights_refused(right, GATE) is None
    assert "mean weight needs to be within 4 standard errors of 1" in str(weights_refused(wrong, GATE))
    only = figures(logged=p, target=np.where(action == 0, 1.0, 0.0))
    assert only.never_taken_share == pytest.approx(0.5, abs=0.03)
    assert isinstance(diagnostics(logged=np.full(3, np.nan), target=np.ones(3)), Refusal)


def test_propensities_are_sane_against_the_number_of_candidates() -> None:
    """1 / (propensity x candidates) averages at most 1; a logger that writes ranks' softmax for its policy is told."""
    _, p, _ = logs(5000)
    three = np.full(5000, 3)
    right = figures(logged=p, target=p, candidates=three)
    assert right.inverse_propensity == pytest.approx(1, abs=0.05)
    assert weights_refused(right, GATE) is None
    wrong = figures(logged=p**2, target=p**2, candidates=three)
    assert wrong.mean_weight == 1
    assert "mean 1 / (propensity x candidates) can be at most 1" in str(weights_refused(wrong, GATE))
    certain = figures(logged=np.ones(10), target=np.ones(10))
    assert (certain.certain_share, certain.smallest_logged) == (1.0, 1.0)


def test_support_the_log_never_had_is_refused() -> None:
    """What the logging policy could not take cannot be learnt from it, however good the weights look."""
    _, p, _ = logs(5000)
    found = figures(logged=p, target=p, unsupported=np.full(5000, 0.02))
    assert found.unsupported_mass == pytest.approx(0.02)
    assert "up to 1.0%; found 2.0% of its choices without support" in str(weights_refused(found, GATE))
    assert weights_refused(figures(logged=p, target=p, unsupported=np.full(5000, 0.002)), GATE) is None


def test_tail_shape_tells_pareto_tails_apart() -> None:
    """The shape of Pareto weights is found within 0.15, light tails are near 0 or below, few values have none."""
    rng = np.random.default_rng(4)
    for shape in (0.3, 0.5, 0.9):
        fits = [tail_shape(rng.pareto(1 / shape, 20_000) + 1, 20_000) for _ in range(10)]
        assert np.mean([f for f in fits if f is not None]) == pytest.approx(shape, abs=0.15)
    light = tail_shape(rng.random(5_000), 5_000)
    assert light is not None
    assert light < 0
    assert tail_shape(rng.choice([0.4, 0.7, 3.0], 5_000), 5_000) is None
    assert tail_shape(np.ones(5_000), 5_000) is None
    assert tail_shape(np.zeros(3), 3) is None


def test_tails_too_heavy_for_any_interval_are_refused() -> None:
    """Infinite variance can hide behind a sound effective n: the largest weights have simply not come yet."""
    rng = np.random.default_rng(0)
    logged = 1e-4 / (rng.pareto(1.2, 4_000) + 1)
    found = figures(logged=logged, target=np.full(4_000, 1e-4))
    gate = GateSettings(min_effective_n=1, max_weight_share=1)
    assert "need a Pareto shape of at most 0.5" in str(weights_refused(found, gate))


@pytest.mark.parametrize("clustered", [False, True])
def test_diagnostics_of_batches_are_those_of_the_whole(clustered: bool) -> None:
    """Merged in any grouping: sums to rounding, counts, extremes and the tail exactly."""
    rng = np.random.default_rng(2)
    _, p, _ = logs(9_000)
    target = np.minimum(1.0, p * rng.pareto(3, 9_000))
    arrays = {
        "logged": p, "target": target, "candidates": np.full(9_000, 3), "unsupported": rng.random(9_000) / 50,
        "clusters": np.arange(9_000) // 4 if clustered else None, "day": np.arange(9_000) // 2_000,
    }  # fmt: skip
    parts = [
        WeightStatistics.of(**{k: None if a is None else a[start : start + 3_100] for k, a in arrays.items()})
        for start in range(0, 9_000, 3_100)
    ]
    merged, whole = (parts[2] + (parts[0] + parts[1])).diagnostics().as_dict(), figures(**arrays).as_dict()
    assert merged == pytest.approx(whole, rel=1e-12)
    assert all(value is not None for value in whole.values())
    other = WeightStatistics.of(p, target, None if clustered else np.arange(9_000))
    with pytest.raises(ValueError, match="both have clusters or neither"):
        parts[0] + other
    with pytest.raises(ValueError, match="both know candidates and support, or neither"):
        parts[0] + WeightStatistics.of(p, target, arrays["clusters"])


def test_diagnostics_need_possible_values() -> None:
    """Half a candidate, or more than all of the target's mass, is a mistake of the caller's."""
    p = np.full(3, 0.5)
    with pytest.raises(ValueError, match="candidates of at least 1"):
        diagnostics(logged=p, target=p, candidates=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"unsupported mass in \[0, 1\]"):
        diagnostics(logged=p, target=p, unsupported=np.full(3, 1.5))
    with pytest.raises(ValueError, match="one length"):
        diagnostics(logged=p, target=p, clusters=np.zeros(2, int))


def test_any_estimator_may_be_guarded() -> None:
    """The guard works on statistics, so it guards streams and every estimator alike."""
    reward, p, action = logs(2_000)
    log = Log.checked(reward, p, TARGET[action], CLICK[action], np.full(2_000, TARGET @ CLICK))
    weights = WeightStatistics.of(p, TARGET[action])
    for estimator in (weighting.ips, weighting.dr, weighting.sndr, weighting.clipped_ips(5.0)):
        found = sound(guarded(SufficientStatistics.of(estimator(log)), weights.diagnostics(), GATE))
        assert found.low <= TARGET @ CLICK <= found.high
    with_refusal = guarded(SufficientStatistics.of(weighting.dm(log)), Refusal("no"), GATE)
    assert with_refusal == Refusal("no")


def test_another_logging_policy_half_way_is_noticed() -> None:
    """Days of one policy drift by chance alone; a day logged by a flatter policy stands out and is refused."""
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(5), 400)
    steady = CHANCES[rng.choice(3, 2_000, p=CHANCES)]
    same = figures(logged=steady, target=steady, day=day)
    assert same.logging_drift is not None
    assert same.logging_drift < 0.03
    changed = np.where(day == 3, 1 / 20, steady)
    found = figures(logged=changed, target=changed, day=day)
    assert "days need to be of one logging policy" in str(weights_refused(found, GATE))
    assert figures(logged=steady, target=steady).logging_drift is None
    assert figures(logged=steady, target=steady, day=np.zeros(2_000, int)).logging_drift is None
