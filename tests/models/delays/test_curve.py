"""The delay curve in worlds whose delays are known, seen through truncation; and whether drift is told from none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.delays.curve import KEPT_STEPS, MIN_CLOSED, DelayCurve, Drift, Steps, counted, drift
from models.delays.observed import Floats, Observed
from models.evaluation.estimate import Refusal
from tests.models.delays.late_world import DAYS, HORIZON, LateWorld, within

AGES = np.array([0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 6.0])


def pooled(observed: Observed) -> Steps:
    return DelayCurve.fit(observed).pooled


def test_the_curve_is_true_although_young_rows_only_show_short_delays() -> None:
    """The mean of many logs has no bias left; the delays as they were seen are far too short."""
    logs = [LateWorld(seed).observed for seed in range(100)]
    mean = np.mean([pooled(log).within(AGES) for log in logs], axis=0)
    assert mean == pytest.approx(within(AGES), abs=0.005)
    seen = np.mean([[(log.delay[log.come] <= age).mean() for age in AGES] for log in logs], axis=0)
    assert (seen - within(AGES)).max() > 0.02


def test_the_curve_does_not_mind_rates_or_traffic_that_change() -> None:
    """Three times the outcomes of twice the clicks in the last week: it divides outcomes by outcomes."""
    logs = [LateWorld(seed, rise=1.1, crowd=2.0).observed for seed in range(100)]
    assert np.mean([pooled(log).within(AGES) for log in logs], axis=0) == pytest.approx(within(AGES), abs=0.005)


def test_the_standard_error_is_the_spread_between_logs() -> None:
    """Within 12 % at every age, and intervals of two of them hold the truth in about 95 % of logs."""
    logs = [pooled(LateWorld(seed, rows=4_000).observed) for seed in range(300)]
    share, error = (np.array([getattr(log, what)(AGES) for log in logs]) for what in ("within", "stderr"))
    assert error.mean(axis=0) == pytest.approx(share.std(axis=0), rel=0.12)
    held = (np.abs(share - within(AGES)) < 1.96 * error).mean(axis=0)
    assert ((held > 0.9) & (held < 0.99)).all()


def test_without_truncation_it_is_the_plain_share() -> None:
    """Where every row is closed there is nothing to correct, and the error is the binomial one."""
    rng = np.random.default_rng(0)
    delay = rng.random(500) * HORIZON
    curve = pooled(Observed.of(np.full(500, HORIZON + 1.0), delay, HORIZON))
    plain = np.array([(delay <= age).mean() for age in AGES])
    assert curve.within(AGES) == pytest.approx(plain)
    assert curve.stderr(AGES[1:]) == pytest.approx(np.sqrt(plain * (1 - plain) / 500)[1:], rel=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40), st.randoms())
def test_it_is_a_distribution_whatever_the_order(pairs: list[tuple[float, float]], random: object) -> None:
    """Ascending from 0 or more to 1; the order of rows, ties included, is nobody's business."""
    delay, age = (np.array(column) for column in zip(*((min(p), max(p)) for p in pairs), strict=True))
    steps = Steps.fit(delay, age)
    assert steps.share[-1] == 1.0
    assert (np.diff(steps.share) >= 0).all()
    assert steps.share[0] == pytest.approx(0.0)
    order = np.random.default_rng(len(pairs)).permutation(len(pairs))
    again = Steps.fit(delay[order], age[order])
    assert np.array_equal(again.share, steps.share)
    assert np.array_equal(again.log_variance, steps.log_variance)


def by_hand() -> tuple[Floats, Floats]:
    """Delays 1, 2, 3 on rows of ages 2, 3, 3."""
    return np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 3.0])


def test_by_hand() -> None:
    """At 3 one of the two rows as old, at 2 one of the two outcomes within 2, the youngest row's: so 1/2 and 1/4."""
    steps = Steps.fit(*by_hand())
    assert steps.within(np.array([0.5, 1.0, 1.9, 2.0, 3.0])).tolist() == [0.0, 0.25, 0.25, 0.5, 1.0]
    assert steps.log_variance.tolist() == [np.inf, 1.0, 0.5, 0.0]
    assert steps.stderr(np.array([2.5]))[0] == pytest.approx(0.5 * np.sqrt(0.5))
    assert np.isnan(steps.stderr(np.array([0.5]))[0])


def test_stages_counted_by_hand_chain_to_the_curve() -> None:
    """At the jumps of the curve one minus came / at risk is the factor between its steps; it counts as one would."""
    log = LateWorld(3, rows=400).observed
    ends = np.append(AGES, HORIZON)
    came, risk = counted(log, ends)
    for k, (start, end) in enumerate(zip(np.append(-1.0, AGES), ends, strict=True)):
        asked = log.come & (log.elapsed >= end) & (log.delay <= end)
        assert (came[k], risk[k]) == ((asked & (log.delay > start)).sum(), asked.sum())
    every = np.unique(log.delay[log.come])
    came, risk = counted(log, every)
    left = 1 - came / risk
    assert np.append(np.cumprod(left[::-1])[::-1][1:], 1.0) == pytest.approx(pooled(log).share[1:])


def test_groups_have_their_own_curves_and_small_ones_that_of_all() -> None:
    """A group with few closed outcomes would say F = 1 by chance, or nothing at all."""
    log = LateWorld(3, rows=20_000, slow=2.0).observed
    few = np.flatnonzero(log.closed & log.come)[: MIN_CLOSED - 1]
    group = log.group.copy()
    group[few] = 7
    curve = DelayCurve.fit(Observed.of(log.age, log.delay, HORIZON, group))
    assert sorted(curve.groups) == [0, 1]
    day = np.ones(4)
    fast, slow, rare, unheard = curve.seen(day, np.array([0, 1, 7, 99]))
    assert fast > rare > slow
    assert rare == unheard == curve.pooled.within(np.ones(1))[0]
    assert fast == pytest.approx(within(np.ones(1))[0], abs=0.04)
    assert slow == pytest.approx(within(np.ones(1), 2.0)[0], abs=0.04)


def test_closed_rows_have_shown_everything() -> None:
    """Exactly 1, without doubt, however the rows look."""
    curve = DelayCurve.fit(LateWorld(0).observed)
    asked = np.array([HORIZON, HORIZON + 3])
    assert curve.seen(asked, np.zeros(2, np.int64)).tolist() == [1, 1]
    assert curve.stderr(asked, np.zeros(2, np.int64)).tolist() == [0, 0]


def test_what_is_written_down_is_the_curve() -> None:
    """Same curve, same bytes; a part in two hundred lower at most, standard errors and groups included."""
    log = LateWorld(3, rows=20_000, slow=2.0).observed
    named = np.array(["home", "search"])[log.group]
    curve = DelayCurve.fit(Observed.of(log.age, log.delay, HORIZON, named))
    read = DelayCurve.from_json(curve.to_json())
    assert curve.to_json() == DelayCurve.fit(Observed.of(log.age, log.delay, HORIZON, named)).to_json()
    age = np.tile(np.linspace(0, HORIZON + 1, 500), 3)
    group = np.repeat(["home", "search", "elsewhere"], 500)
    lower = curve.seen(age, group) - read.seen(age, group)
    assert lower.min() >= 0
    assert lower.max() <= 1 / KEPT_STEPS + 1e-9
    assert len(read.pooled.at) <= KEPT_STEPS
    late = age > 1
    assert read.stderr(age, group)[late] == pytest.approx(curve.stderr(age, group)[late], abs=0.002)


def test_a_curve_without_closed_outcomes_is_refused() -> None:
    """Three days of a seven days' window cannot say how much comes after the third."""
    log = LateWorld(0).observed
    with pytest.raises(ValueError, match=r"at least 20 outcomes of rows as old as the horizon, 7; found 0"):
        DelayCurve.fit(log.rows(log.age < 3))


def p_values(seeds: range, **law: float) -> Floats:
    found = [drift(log, log.age < DAYS / 4) for log in (LateWorld(seed, **law).observed for seed in seeds)]
    return np.array([one.p_value for one in found if isinstance(one, Drift)])


def test_no_drift_is_found_where_there_is_none() -> None:
    """5 % of logs at 5 %, 10 at 10: also where rates and traffic rise, and where groups differ."""
    for law in ({}, {"rise": 1.1, "crowd": 2.0}, {"slow": 2.0}):
        p = p_values(range(200), **law)
        assert len(p) == 200
        assert 0.015 <= (p < 0.05).mean() <= 0.095
        assert 0.05 <= (p < 0.1).mean() <= 0.16


def test_longer_delays_of_the_last_week_are_found_and_their_direction_told() -> None:
    """Twice as long is found nearly always among 40,000 rows, 1,500 of them recent and converted; half as long too."""
    for stretch, sign in ((2.0, 1), (0.5, -1)):
        logs = [LateWorld(seed, rows=40_000, stretch=stretch).observed for seed in range(12)]
        found = [drift(log, log.age < DAYS / 4) for log in logs]
        assert np.mean([isinstance(one, Drift) and one.p_value < 0.01 for one in found]) >= 0.9
        assert all(isinstance(one, Drift) and one.longer.value * sign > 0 for one in found)


def test_groups_that_mix_otherwise_are_no_drift() -> None:
    """More traffic of the slow group lately: each group is compared with itself."""
    log = LateWorld(1, rows=40_000, slow=6.0, mix=0.9).observed
    found = drift(log, log.age < DAYS / 4)
    mixed = drift(Observed.of(log.age, log.delay, HORIZON), log.age < DAYS / 4)
    assert isinstance(found, Drift)
    assert isinstance(mixed, Drift)
    assert found.p_value > 0.05
    assert mixed.p_value < 0.001


def test_drift_needs_both_sides() -> None:
    """All rows recent, or none: a refusal, no division by nothing."""
    log = LateWorld(0).observed
    for recent in (log.age >= 0, log.age < 0):
        assert isinstance(drift(log, recent), Refusal)


def days_old(seed: int, rows: int, **law: float) -> Observed:
    """Of a log only the rows three to six days old, as a warm start has them; none of them is closed."""
    log = LateWorld(seed, rows=rows, **law).observed
    return log.rows((log.age > 3) & (log.age < 6))


def test_newer_days_renew_a_curve_only_where_they_contradict_it() -> None:
    """Where nothing moved it stays the better known curve; where delays stretched what the newer days can tell, up to
    their age, is theirs, and half the error of the rate is gone.
    """
    parents = [DelayCurve.fit(LateWorld(seed).observed) for seed in range(40)]
    still = [parent.renewed(days_old(1_000 + k, 40_000)) is parent for k, parent in enumerate(parents)]
    assert np.mean(still) > 0.8
    errors = []
    for k, parent in enumerate(parents):
        young = days_old(2_000 + k, 60_000, stretch=2.0)
        renewed = parent.renewed(young)
        assert renewed is not parent
        shares = [of.pooled.within(AGES) for of in (parent, renewed)]
        errors.append([np.log(share / within(AGES, 2.0)) for share in shares])
    carried, renewed_ = np.mean(errors, axis=0)
    assert (carried[2:6] > 0.03).all()
    assert (np.abs(renewed_[2:6]) < 0.5 * carried[2:6]).all()


def test_a_renewed_curve_is_a_curve() -> None:
    """It rises to 1, keeps the end it knows nothing of, knows its error, and survives being written down."""
    parent = DelayCurve.fit(LateWorld(1, slow=2.0).observed)
    young = days_old(2, 60_000, stretch=3.0)
    renewed = parent.renewed(young)
    for one, steps in (("all", renewed.pooled), *renewed.groups.items()):
        before = parent.pooled if one == "all" else parent.groups[one]
        assert (np.diff(steps.share) >= 0).all()
        assert (np.diff(steps.at) > 0).all()
        assert len(steps.share) == len(steps.at) + 1 == len(steps.log_variance)
        late = np.array([6.2, 6.9])
        assert steps.within(late) == pytest.approx(before.within(late))
        assert steps.stderr(np.array([1.0])) > 0
    again = DelayCurve.from_json(renewed.to_json())
    assert again.pooled.within(AGES) == pytest.approx(renewed.pooled.within(AGES), abs=1 / KEPT_STEPS)
    few = young.rows(np.flatnonzero(young.come)[: MIN_CLOSED - 1])
    assert parent.pooled.renewed(few.delay, few.elapsed) is parent.pooled
    assert not parent.pooled.contradicted(few.delay[:0], few.elapsed[:0])
