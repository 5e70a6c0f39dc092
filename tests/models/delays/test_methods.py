"""Every method in worlds whose truth is known, each also where it must fail: what cannot fail shows nothing.

The learner is a logistic regression with the right form, so what is left is what the method did to it.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.delays.curve import DelayCurve
from models.delays.methods import (
    STAGES,
    ExponentialDelays,
    Learn,
    Predict,
    as_seen,
    censoring_weights,
    em,
    fake_negatives,
    hazards,
    learned,
    of_stages,
    plug_in,
    taught,
    waited,
)
from models.delays.observed import Floats, Observed
from models.delays.targets import FakeNegatives, Targets, sigmoid
from tests.models.delays.late_world import DAYS, HORIZON, LateWorld, newton

LOGS = 20


def bias(method: Callable[[Observed, Floats, Learn], Predict], logs: int = LOGS, **law: float) -> float:
    """Mean p over mean truth, less 1, over logs together."""
    worlds = [LateWorld(seed, **law) for seed in range(logs)]
    said = [method(world.observed, world.x, newton(world.x))(world.x).mean() for world in worlds]
    return float(np.mean(said) / np.mean([world.p.mean() for world in worlds]) - 1)


def by(name: str) -> Callable[[Observed, Floats, Learn], Predict]:
    """A method as training asks it."""
    return lambda observed, _, learn: learned(taught(name, observed), learn)


@pytest.mark.parametrize("name", ["waited", "censoring_weights", "hazards", "plug_in"])
def test_right_where_nothing_moves(name: str) -> None:
    """Within 1 % over 20 logs of 8,000 rows, groups that wait differently included."""
    assert bias(by(name)) == pytest.approx(0, abs=0.01)
    assert bias(by(name), slow=2.0) == pytest.approx(0, abs=0.01)


def test_reading_not_yet_as_no_teaches_too_little() -> None:
    """Or the tolerance above would show nothing."""
    assert bias(by("as_seen")) < -0.04
    assert bias(by("as_seen"), slow=2.0) < -0.05


def known_only(observed: Observed, features: Floats, learn: Learn) -> Predict:
    """What is known: every yes, and the closed noes. The trap of `decisions/012`."""
    rows = np.flatnonzero(observed.come | observed.closed)
    return learn(Targets.of(rows, observed.come[rows], observed.weight[rows]))


def test_leaving_out_what_is_not_closed_but_keeping_what_has_come_teaches_too_much() -> None:
    """The other naive reading."""
    assert bias(known_only) > 0.1


def test_plug_in_follows_a_rate_that_moved_when_it_learns_from_the_newest() -> None:
    """+0.8 logits in the last week: waiting knows nothing of it, p x F on that week alone is right within 2 %."""
    found: dict[str, list[float]] = {"waited": [], "plug_in": [], "as_seen": []}
    for seed in range(LOGS):
        world = LateWorld(seed, rows=20_000, rise=0.8, slow=2.0)
        observed, week = world.observed, np.flatnonzero(world.observed.age < DAYS / 4)
        truth = world.p[week].mean()
        found["waited"].append(newton(world.x)(waited(observed))(world.x[week]).mean() / truth)
        newest, learn = observed.rows(week), newton(world.x[week])
        found["plug_in"].append(learn(plug_in(newest, DelayCurve.fit(observed)))(world.x[week]).mean() / truth)
        found["as_seen"].append(learn(as_seen(newest))(world.x[week]).mean() / truth)
    mean = {name: np.mean(ratios) - 1 for name, ratios in found.items()}
    assert mean["plug_in"] == pytest.approx(0, abs=0.02)
    assert mean["waited"] < -0.3
    assert mean["as_seen"] < -0.15


def test_a_curve_per_group_is_needed_where_groups_wait_differently() -> None:
    """Group by group on the newest week: the pooled curve is right on average and wrong of either."""
    ratios: dict[str, list[Floats]] = {"own": [], "pooled": []}
    for seed in range(LOGS):
        world = LateWorld(seed, rows=12_000, slow=4.0)
        observed, week = world.observed, np.flatnonzero(world.observed.age < DAYS / 4)
        newest = observed.rows(week)
        curve = DelayCurve.fit(observed)
        for name, of in (("own", curve), ("pooled", replace(curve, groups={}))):
            ratios[name].append(
                np.array(
                    [
                        newton(world.x[week][rows])(plug_in(newest.rows(rows), of))(world.x[week][rows]).mean()
                        / world.p[week][rows].mean()
                        for rows in (np.flatnonzero(newest.group == group) for group in (0, 1))
                    ]
                )
            )
    own, pooled = (np.mean(ratios[name], axis=0) - 1 for name in ("own", "pooled"))
    assert own == pytest.approx(np.zeros(2), abs=0.025)
    assert pooled[0] > 0.08
    assert pooled[1] < -0.08


def test_longer_delays_are_what_breaks_plug_in() -> None:
    """Too few are promised while the last week's delays are longer than the curve's; `drift` is there to say so."""

    def newest(observed: Observed, features: Floats, learn: Learn) -> Predict:
        targets = plug_in(observed, DelayCurve.fit(observed))
        return learn(targets.take(np.flatnonzero(observed.age < DAYS / 4)))

    assert bias(newest) == pytest.approx(0, abs=0.02)
    assert bias(newest, stretch=2.0) < -0.06


def exponential_world(seed: int) -> tuple[Observed, Floats, float]:
    """Delays of mean 2 in group 0 and 4 in group 1, with no horizon but one far off."""
    rng = np.random.default_rng([seed, 3])
    n = 20_000
    age, group, x = rng.uniform(0, DAYS, n), rng.integers(0, 2, n), rng.standard_normal(n)
    p = sigmoid(-1.5 + 0.8 * x)
    wait = rng.exponential(2.0 + 2.0 * group)
    delay = np.where((rng.random(n) < p) & (wait <= np.minimum(age, DAYS)), wait, np.nan)
    return Observed.of(age, delay, DAYS, group), x, float(p.mean())


def test_em_is_right_where_delays_are_exponential_and_finds_their_rates() -> None:
    """Nobody tells it the rates; what was seen alone says they are half as long again too short."""
    ratios, rates, first = [], [], []
    for seed in range(8):
        observed, x, truth = exponential_world(seed)
        ratios.append(newton(x)(em(observed))(x).mean() / truth)
        seen, found = ExponentialDelays.fit(observed), ExponentialDelays.alone(observed)
        first.append([seen.rate[0], seen.rate[1]])
        rates.append([found.rate[0], found.rate[1]])
    assert np.mean(ratios) == pytest.approx(1, abs=0.015)
    assert np.mean(rates, axis=0) == pytest.approx(np.array([0.5, 0.25]), rel=0.03)
    assert (np.mean(first, axis=0) > np.array([0.52, 0.27])).all()


def test_em_needs_no_closed_row() -> None:
    """The days of a warm start: four of them, where the mean wait is three; what was heard is half of what comes."""
    ratios, heard = [], []
    for seed in range(16):
        observed, _, truth = exponential_world(seed)
        young = observed.rows(observed.age < 4)
        assert not young.closed.any()
        ratios.append(em(young).rate() / truth)
        heard.append(young.come.mean() / truth)
    assert np.mean(ratios) == pytest.approx(1, abs=0.12)
    assert np.mean(heard) < 0.6


def test_em_is_wrong_where_delays_are_not() -> None:
    """Of the newest rows, which rest on the curve's beginning: the true delays are more often very short."""

    def day_old(method: str) -> float:
        ratios = []
        for seed in range(8):
            world = LateWorld(seed, rows=40_000)
            observed, rows = world.observed, np.flatnonzero(world.observed.age < 2)
            targets = taught(method, observed)
            assert isinstance(targets, Targets)
            ratios.append(targets.take(rows).rate() / world.p[rows].mean())
        return float(np.mean(ratios) - 1)

    assert day_old("plug_in") == pytest.approx(0, abs=0.03)
    assert day_old("em") > 0.06


def test_fake_negatives_of_a_snapshot_are_as_seen() -> None:
    """The documented warning: of one look at all rows nothing is left to arrive; it learns outcomes seen per row."""
    assert bias(by("fake_negatives")) == pytest.approx(bias(by("as_seen")), abs=0.004)
    flat = Observed.of(np.full(1000, 3.0), np.where(np.arange(1000) < 120, 1.0, np.nan), HORIZON)
    learn = newton(np.zeros(1000) + np.arange(1000) % 2)
    for make in (fake_negatives, as_seen):
        assert learn(make(flat))(np.arange(2.0)).mean() == pytest.approx(0.12, abs=1e-6)


def test_fake_negatives_of_what_arrives_in_a_day_are_right() -> None:
    """New rows as zeros, and whatever outcomes the day brought, of rows however old: what a warm start is fed with."""

    def arrived(observed: Observed, features: Floats, learn: Learn) -> Predict:
        return learn(fake_negatives(observed, since=4.0))

    def last_days(observed: Observed, features: Floats, learn: Learn) -> Predict:
        return learn(as_seen(observed).take(np.flatnonzero(observed.age < 4.0)))

    assert bias(arrived, rows=20_000) == pytest.approx(0, abs=0.02)
    assert bias(last_days, rows=20_000) < -0.2


def wrong_stages(observed: Observed, features: Floats, learn: Learn) -> Predict:
    """`hazards` with the mask found in public code: whoever's outcome has come is asked at any age."""
    edges, delay = STAGES * HORIZON, np.where(observed.come, observed.delay, np.inf)
    stages = []
    for begin, end in zip(np.append(-np.inf, edges[:-1]), edges, strict=True):
        rows = np.flatnonzero(((observed.age >= end) | observed.come) & (delay > begin))
        stages.append(learn(Targets.of(rows, delay[rows] <= end, observed.weight[rows])))
    return lambda rows: of_stages([stage(rows) for stage in stages])


def test_a_mask_that_depends_on_the_outcome_is_caught() -> None:
    """The planted mistake is above the tolerance that the right mask keeps."""
    assert bias(wrong_stages) > 0.02


@given(st.integers(0, 2**32 - 1))
def test_who_is_asked_about_a_stage_does_not_depend_on_what_it_says(seed: int) -> None:
    """Take away, or bring, any outcome of the stage itself: the same rows are asked, and only their labels move."""
    rng = np.random.default_rng(seed)
    n, edges = 50, np.array([1.0, 3.0, HORIZON])
    age = rng.uniform(0, 10, n)
    delay = np.where(rng.random(n) < 0.5, rng.uniform(0, 1, n) * np.minimum(age, HORIZON), np.nan)
    asked = hazards(Observed.of(age, delay, HORIZON), edges)
    for begin, end, before in zip([0.0, 1.0, 3.0], edges, asked, strict=True):
        inside = (delay > begin) & (delay <= end)
        without = hazards(Observed.of(age, np.where(inside, np.nan, delay), HORIZON), edges)
        after = without[list(edges).index(end)]
        assert np.array_equal(after.rows, before.rows)
        assert not after.label.any()
        assert (age[before.rows] >= end).all()


def test_stages_must_end_at_the_horizon() -> None:
    """A stage too few would leave out the late outcomes."""
    observed = LateWorld(0).observed
    for edges in ([1.0, 2.0], [2.0, 1.0, HORIZON], [0.0, HORIZON], []):
        with pytest.raises(ValueError, match="ascending ends, the last the horizon 7"):
            hazards(observed, np.array(edges))


def test_fresh_stages_ask_the_newest_rows_that_can_answer() -> None:
    """So each stage follows its own drift as closely as it can."""
    observed = LateWorld(0).observed
    for end, targets in zip(STAGES * HORIZON, hazards(observed, STAGES * HORIZON, fresh=5.0), strict=True):
        assert observed.age[targets.rows].max() < end + 5
        assert observed.age[targets.rows].min() >= end


def test_censoring_weights_by_hand() -> None:
    """Ages 1, 3, 8, 9 of a horizon 7: all are at least 1 old, 3 of 4 at least 2, half closed."""
    delay = np.array([1.0, np.nan, 2.0, np.nan])
    targets = censoring_weights(Observed.of(np.array([1.0, 3.0, 8.0, 9.0]), delay, HORIZON))
    assert targets.rows.tolist() == [0, 2, 3]
    assert targets.weight == pytest.approx([1.0, 4 / 3, 2.0])
    with pytest.raises(ValueError, match="rows as old as the horizon, 7; found none"):
        censoring_weights(Observed.of(np.array([1.0, 3.0]), np.array([1.0, np.nan]), HORIZON))


def test_a_weight_stands_for_rows() -> None:
    """Sampled negatives: a row of weight two teaches what two rows teach, whatever the method."""
    world = LateWorld(2)
    observed, twice = world.observed, np.arange(len(world.x)) % 3 == 0
    rows = np.concatenate([np.arange(len(twice)), np.flatnonzero(twice)])
    weighted = replace(observed, weight=1.0 + twice)
    curve = DelayCurve.fit(observed)
    for make in (as_seen, waited, censoring_weights, fake_negatives, lambda seen: plug_in(seen, curve)):
        one = newton(world.x)(make(weighted))(world.x)
        other = newton(world.x[rows])(make(observed.rows(rows)))(world.x)
        assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize(
    ("age", "delay", "message"),
    [
        ([1.0], [2.0], r"from 0 to the row's age and the horizon, 7; found 1 longer"),
        ([9.0], [8.0], r"found 1 longer"),
        ([1.0], [-0.5], r"1 below 0"),
        ([-1.0], [np.nan], "ages need to be finite and at least 0"),
        ([np.nan], [np.nan], "ages need to be finite"),
        ([1.0, 2.0], [np.nan], "arrays of one length"),
    ],
)
def test_what_cannot_have_been_seen_is_refused(age: list[float], delay: list[float], message: str) -> None:
    """A delay beyond the cut is a look ahead, and one beyond the horizon no outcome."""
    with pytest.raises(ValueError, match=message):
        Observed.of(np.array(age), np.array(delay), HORIZON)


logits = st.floats(-6, 6)


@given(st.lists(st.tuples(logits, st.booleans(), st.floats(0.1, 3), st.floats(0, 1)), min_size=1, max_size=20))
@pytest.mark.parametrize("kind", [Targets, FakeNegatives])
def test_slopes_are_those_of_the_losses(kind: type[Targets], rows: list[tuple[float, bool, float, float]]) -> None:
    """Against central differences. The curvature is never below the loss's own, so that no step overshoots."""
    z, label, weight, seen = (np.array(column) for column in zip(*rows, strict=True))
    targets = kind.of(np.arange(len(z)), label, weight, seen)
    step = 1e-5
    (above, _, _), (below, _, _) = targets.at(z + step), targets.at(z - step)
    _, slope, curvature = targets.at(z)
    assert slope == pytest.approx((above - below) / (2 * step), abs=1e-7)
    assert (curvature > 0).all()
    if kind is Targets:
        bend = (targets.at(z + step)[1] - targets.at(z - step)[1]) / (2 * step)
        assert (bend <= curvature + 1e-7).all()


def test_the_loss_is_the_likelihood() -> None:
    """-log p for what has come, -log(1 - p F) for what has not; the log-loss where all was to be seen."""
    z = np.array([-3.0, -1.0, 0.5, 2.0] * 2)
    label, seen = np.repeat([False, True], 4), np.tile([1.0, 0.7, 0.2, 0.0], 2)
    loss, _, _ = Targets.of(np.arange(8), label, np.ones(8), seen).at(z)
    p = sigmoid(z)
    assert loss == pytest.approx(np.where(label, -np.log(p), -np.log(1 - p * seen)), abs=1e-12)


def test_far_out_logits_stay_finite() -> None:
    """A booster's first rounds, or a wild feature, must not give NaN."""
    z = np.array([-800.0, 800.0, 0.0, -800.0, 800.0])
    for kind in (Targets, FakeNegatives):
        targets = kind.of(np.arange(5), np.array([1, 0, 0, 0, 1], bool), np.ones(5), np.array([0.5, 0.5, 0, 1, 1.0]))
        assert all(np.isfinite(part).all() for part in targets.at(z))


def test_it_begins_at_the_mean_rate() -> None:
    """Outcomes over what was exposed; a learner without features ends where it began but for the curve's bend."""
    world = LateWorld(1, rows=100_000)
    curve = DelayCurve.fit(world.observed)
    assert plug_in(world.observed, curve).rate() == pytest.approx(world.p.mean(), rel=0.03)
    assert fake_negatives(world.observed).rate() == pytest.approx(world.observed.come.mean(), rel=1e-9)
    nothing = Targets.of(np.arange(0), np.zeros(0, bool), np.zeros(0))
    assert 0 < nothing.rate() < 1
    with pytest.raises(ValueError, match=r"a share in \[0, 1\]"):
        Targets.of(np.arange(1), np.zeros(1, bool), np.ones(1), np.array([1.5]))
