"""The gate's error rates in worlds whose truth is known: a small version of `tests/bench/bench_gate.py`.

And the worlds themselves: a table of errors says something about the gate only if what it calls true is true.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.choices import SIDES
from models.evaluation.estimate import Estimate
from models.evaluation.value import value_of
from tests.bench.bench_gate import goals, rows_of, worlds
from tests.bench.gate_draws import Day, Law, tilted
from tests.bench.gate_evidence import GATE, Goal, Judged, World, verdict
from tests.bench.worlds import equal, laws, strong_user_effects, unexplored

LOGS = 40
SMALL = Law(fewest=5, candidates=5)
WORLDS = {world.name: world for world in worlds()}


def day_of(seed: int, decisions: int, law: Law = SMALL) -> Day:
    return Day.of(law, decisions, np.random.default_rng(seed))


def promoted(noise: float, decisions: int, logs: int = LOGS) -> float:
    law = replace(SMALL, challenger_noise=noise)
    drawn = (day_of(seed, decisions, law).log(np.random.default_rng(seed)) for seed in range(logs))
    return float(np.mean([verdict(log).verdict == "promote" for log in drawn]))


def test_an_equal_challenger_is_almost_never_promoted_and_a_better_one_almost_always() -> None:
    """The two errors that matter; the bench counts them with many more logs."""
    assert promoted(SMALL.champion_noise, 4_000) <= 0.125, "no difference at all"
    assert promoted(1.4 * SMALL.champion_noise, 4_000, 20) == 0, "several per cent worse"
    assert promoted(0.2, 12_000, 20) >= 0.8, "about 10 % better"


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_draws_whole_decisions_whose_truth_adds_up(name: str) -> None:
    """A propensity that is not the one drawn by, or a worth that is not the choices', would be blamed on the gate."""
    world = WORLDS[name]
    if name.startswith("law"):  # another lift is searched for, see below
        world = replace(world, lifts=(0.0,))
    for lift in world.lifts:
        for log in world.draw(0, lift, 1_500):
            choices = log.choices
            assert (choices.row[choices.shown] == np.arange(len(choices))).all()
            for side in SIDES:
                assert choices.of_all(choices.chosen[side]) == pytest.approx(np.ones(len(choices)))
                assert ((choices.predicted[side] >= 0) & (choices.predicted[side] <= 1)).all()
            assert ((choices.logged > 0) & (choices.logged <= 1)).all()
            assert log.lift == pytest.approx(lift, abs=0.01) or name == "first_deployment"


def test_what_is_shown_follows_the_logging_policy() -> None:
    """And nothing is shown that has no chance, wherever rounding puts the sums."""
    day = day_of(0, 20_000)
    logging = day.logging.copy()
    logging[day.requests.offsets[:-1]] = 0.0
    logging = day.requests.rescaled(logging)
    shown = replace(day, logging=logging).drawn(np.random.default_rng(1))
    assert (logging[shown] > 0).all()
    place = shown - day.requests.offsets[:-1]
    expected = logging.reshape(-1, SMALL.candidates).mean(axis=0)
    assert np.bincount(place, minlength=SMALL.candidates) / 20_000 == pytest.approx(expected, abs=0.012)


def test_a_tilt_makes_exactly_the_lift_and_moves_nothing_where_both_choose_alike() -> None:
    """It is how most worlds are given their lift, log by log."""
    day = day_of(0, 2_000)
    alike = np.arange(10_000) < 5_000
    upper = np.where(alike, day.chosen["champion"], day.chosen["challenger"])
    p = tilted(day.requests.p, day.chosen["champion"], upper, -0.02)
    assert p[alike] == pytest.approx(day.requests.p[alike])
    assert (upper @ p) / (day.chosen["champion"] @ p) - 1 == pytest.approx(-0.02, abs=1e-5)
    with pytest.raises(ValueError, match="no tilt found"):
        tilted(day.requests.p, upper, upper, 0.5)


@pytest.mark.parametrize("name", ["plain", "epsilon-greedy"])
def test_a_law_has_the_lift_that_was_searched_for(name: str) -> None:
    """The table's first column must be true: noise found for +2 %, values expected on fresh requests."""
    lifts = [log.lift for seed in range(4) for log in laws.draw(seed, 0.02, 20_000, name=name)]
    assert np.mean(lifts) == pytest.approx(0.02, abs=0.005)


def test_the_worlds_estimates_are_unbiased() -> None:
    """Otherwise an error rate would say something about the simulation and not about the gate."""
    errors = []
    for seed in range(LOGS):
        log = day_of(seed, 4_000, replace(SMALL, challenger_noise=0.4)).log(np.random.default_rng(seed))
        found = value_of(log.choices, GATE).of("difference")
        assert isinstance(found, Estimate)
        errors.append((found.value - log.gain) / found.stderr)
    assert abs(np.mean(errors)) < 3 / np.sqrt(LOGS)
    assert 0.7 < np.std(errors) < 1.35


def test_what_was_left_out_counts_in_the_truth_but_not_in_the_replay() -> None:
    """The gate sees 40 % of the traffic, users see all of it."""
    (log,) = unexplored.draw(0, -0.0037, 20_000)
    assert log.unreplayed is not None
    assert log.unreplayed_worth is not None
    assert len(log.choices) + log.left_out == 20_000
    assert np.isnan(log.unreplayed.logged).all()
    worse = log.unreplayed_worth["challenger"] / log.unreplayed_worth["champion"] - 1
    assert worse < log.lift < 0


def test_equal_models_differ_by_rounding_and_by_nothing_else() -> None:
    (log,) = equal.draw(0, 0.0, 2_000)
    before, after = (log.choices.chosen[side] for side in SIDES)
    assert (before != after).any()
    assert after == pytest.approx(before, rel=1e-14)


def test_the_true_calibration_error_is_what_a_log_of_ever_new_users_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told by expectation over users; without rows of one user in common, the product's interval holds it."""
    monkeypatch.setattr(strong_user_effects, "LAW", replace(strong_user_effects.LAW, per_user=1))
    (log,) = strong_user_effects.draw(0, 0.0, 50_000, factor=1.5)
    found = Judged.of(log, GATE).evidence.calibration
    assert isinstance(found, Estimate)
    assert found.low <= log.calibration <= found.high  # type: ignore[operator]
    assert found.high - found.low < 0.2 * found.value


def test_a_goal_is_missed_by_what_it_forbids() -> None:
    """A table whose goals cannot be missed proves nothing."""
    world = World(
        name="always", says="", draw=lambda *_: [day_of(0, 1_000).log(np.random.default_rng(0))],
        goals=(Goal("happened", at_most=0.0), Goal("promoted", at_least=0.5, lifts=(0.01,))),
        figures={"promoted": lambda _: False, "happened": lambda _: True, "unknown": lambda _: None},
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        (row,) = rows_of(pool, world, 3, 1_000)
    assert (row["promoted"], row["happened"], row["unknown"]) == (0.0, 1.0, None)
    assert row["goals"] == "MISSED happened at most 0.0%"
    power = world.goals[1]
    assert power.asks(0.01)
    assert not power.met(0.4)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_goals_are_judged_by_the_rows(share: float) -> None:
    """Where everything that is counted always happens, what must not is missed; where nothing does, what must."""
    figures = [(world, lift, dict.fromkeys(world.figures, share)) for world in WORLDS.values() for lift in world.lifts]
    says = [{"table": world.name, "says": world.says} for world in WORLDS.values()]
    rows = [{"table": world.name, "lift": lift, "trials": 200, **found} for world, lift, found in figures]
    judged = goals([*says, *rows])
    met = {row["goal"]: row["met"] for row in judged}
    for world in WORLDS.values():
        for goal in world.goals:
            assert met[f"{world.name}: {goal}"] == (goal.at_least is not None if share else goal.at_most is not None)
    assert met["laws together at +0%: promoted not surely above 2.5%"] == (share == 0)
    assert met["+1 % promoted in 85% of logs in 4 of 6 laws"] == (share == 1)
