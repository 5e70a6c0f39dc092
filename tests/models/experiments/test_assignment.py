"""Arms: uniform, sticky, independent over layers, redrawn after an experiment, and never one arm for nobody's id."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import chi2, chi2_contingency, chisquare

from models.experiments.assignment import Experiment, Switchback, conflicts, exposures, unit_hash, unit_of
from models.experiments.settings import ExperimentSettings

START = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
USERS = [f"u{n}" for n in range(6000)]


def experiment(name: str, layer: str = "one", low: float = 0.0, high: float = 1.0, **more: object) -> Experiment:
    return Experiment(name, layer, (low, high), {"control": 1.0, "treated": 1.0}, START, 28, **more)  # type: ignore[arg-type]


def test_a_hash_is_what_it_was() -> None:
    """Pinned: who is in which arm, and which variant answers whom, must not change under a running experiment."""
    assert unit_hash("tidegate:config-1:u1") == pytest.approx(0.7588822, abs=1e-7)
    assert experiment("a").arm_of("u1") == experiment("a").arm_of("u1")


def test_arms_are_drawn_by_weight() -> None:
    weighted = Experiment("w", "one", (0.2, 0.7), {"control": 3.0, "b": 1.0, "off": 0.0}, START, 28)
    found = Counter(weighted.arm_of(user) for user in USERS)
    assert set(found) == {None, "control", "b"}
    assert chisquare([found[None], found["control"], found["b"]], [3000, 2250, 750]).pvalue > 1e-3


def test_ten_experiments_in_ten_layers_know_nothing_of_each_other() -> None:
    """Of all 45 pairs: each arm holds the other's arms alike, and half of each arm is treated by the other."""
    arms = {n: np.array([experiment(f"e{n}", f"layer{n}").arm_of(user) for user in USERS]) for n in range(10)}
    p_values = []
    for one, other in combinations(arms.values(), 2):
        table = [[np.sum((one == a) & (other == b)) for b in ("control", "treated")] for a in ("control", "treated")]
        p_values.append(chi2_contingency(table, correction=False).pvalue)
    assert min(p_values) > 1e-4
    assert chi2.sf(-2 * np.log(p_values).sum(), 2 * len(p_values)) > 1e-3


def test_an_effect_of_one_layer_does_not_leak_into_another() -> None:
    one, other = experiment("e1", "l1"), experiment("e2", "l2")
    treated, beside = (np.array([e.arm_of(user) == "treated" for user in USERS]) for e in (one, other))
    value = 5.0 * treated + np.random.default_rng(0).normal(size=len(USERS))
    gap = value[beside].mean() - value[~beside].mean()
    assert abs(gap) < 4 * value.std() * (4 / len(USERS)) ** 0.5
    assert value[treated].mean() - value[~treated].mean() == pytest.approx(5, abs=0.2)


def test_experiments_of_one_layer_share_nobody() -> None:
    halves = [experiment("a", high=0.5), experiment("b", low=0.5)]
    for user in USERS[:2000]:
        assert sum(one.arm_of(user) is not None for one in halves) == 1


def test_a_share_that_is_used_again_draws_its_arms_anew() -> None:
    """Those that the last one treated are spread over the next one's arms: nothing carries over."""
    last, following = experiment("a", high=0.5), experiment("b", high=0.5)
    both = Counter((last.arm_of(user), following.arm_of(user)) for user in USERS)
    del both[None, None]
    table = np.array([[both[a, b] for b in ("control", "treated")] for a in ("control", "treated")])
    assert table.sum() > 2800
    assert chi2_contingency(table, correction=False).pvalue > 1e-3


@pytest.mark.parametrize("nobody", [None, "", "  ", "null", "NULL", "None", "undefined", "0", "0" * 32, "anonymous"])
def test_no_id_is_no_user(nobody: str | None) -> None:
    """Each request draws for itself, is marked, and both arms get their half."""
    found = Counter()
    for n in range(1000):
        [seen] = exposures([experiment("a")], unit_of(nobody, f"r{n}"), "home", NOON)
        assert seen.unit == "request"
        found[seen.arm] += 1
    assert 400 < found["treated"] < 600


def test_an_id_that_many_share_is_no_user_either() -> None:
    assert unit_of("till-7", "r1", frozenset({"till-7"})).kind == "request"
    assert unit_of("till-8", "r1", frozenset({"till-7"})).kind == "user"


@given(st.text(max_size=30), st.text(min_size=1, max_size=10))
def test_a_user_keeps_an_arm_whatever_else_is_asked(user: str, surface: str) -> None:
    one = experiment("a")
    units = [unit_of(user, f"r{n}") for n in range(2)]
    if units[0].kind == "user":
        seen = [exposures([one], unit, surface, NOON + timedelta(days=n)) for n, unit in enumerate(units)]
        assert seen[0] == seen[1]


def test_who_asks_elsewhere_or_later_is_not_part_of_it() -> None:
    one = experiment("a", surface="home")
    assert exposures([one], unit_of("u", "r"), "home", NOON + timedelta(days=27))
    assert not exposures([one], unit_of("u", "r"), "search", NOON)
    assert not exposures([one], unit_of("u", "r"), "home", NOON + timedelta(days=28))
    assert not exposures([one], unit_of("u", "r"), "home", NOON - timedelta(days=1))


def test_all_of_a_block_of_time_meet_one_arm() -> None:
    plan = Experiment("s", "one", (0.0, 0.5), {"off": 1.0, "on": 1.0}, START, 28, switchback=Switchback("s", 1800.0))
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    for block in range(40):
        at = [begin + timedelta(minutes=30 * block + minute) for minute in (0, 12, 29.9)]
        seen = [exposures([plan], unit_of(f"u{n}", f"r{n}"), "home", of) for n in range(12) for of in at]
        [arm] = {one.arm for of in seen for one in of}
        assert arm == ("on" if plan.switchback and plan.switchback.treated(block) else "off")
        assert {one.unit for of in seen for one in of} == {"block"}
        assert 0 < sum(not of for of in seen) < len(seen)  # whoever is outside the share of the layer
    with pytest.raises(ValueError, match="divides users, not time"):
        experiment("a").block_arm(begin)


def test_shares_that_meet_are_named() -> None:
    a, b, later = experiment("a", high=0.5), experiment("b", low=0.4), experiment("c", "two")
    assert conflicts([a, later]) == []
    assert conflicts([a, b]) == ["a and b share 40-50 % of layer one from 2026-03-01 to 2026-03-28"]
    assert conflicts([a, a])[0] == "two experiments are named a"
    after = Experiment("d", "one", (0.0, 1.0), a.arms, a.end + timedelta(days=1), 7)
    assert conflicts([a, after]) == []
    assert conflicts([experiment("x", surface="home"), experiment("y", surface="search")]) == []
    assert conflicts([experiment("x", surface="home"), experiment("y")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": {"only": {}}}, "at least two arms, control first; found only"),
        ({"percent": [60, 40]}, "0 <= from < to <= 100"),
        ({"days": 7}, "days must be more than retention_days, 7"),
        ({"name": "Not A Name"}, "pattern"),
        ({"goal": "joy"}, "engagement"),
        ({"interleave": "team_draft"}, "needs the variant of every arm"),
        ({"interleave": "optimised", "arms": {n: {"variant": n} for n in "abc"}}, "optimised needs two arms; found 3"),
        ({"arms": {"control": {"weight": 0}, "b": {}}}, "greater than 0"),
        ({"switchback": {}}, "two arms of one weight"),
        ({"switchback": {"block_minutes": 10}, "arms": {"a": {}, "b": {}}}, "shorter than its block of 10 minutes"),
        ({"switchback": {"block_minutes": 1440}, "arms": {"a": {}, "b": {}}}, "30 pairs of blocks or more; found 14"),
    ],
)
def test_settings_that_make_no_experiment_are_refused(change: dict[str, object], message: str) -> None:
    good = {"name": "a", "arms": {"control": {}, "b": {"weight": 2}}, "start": "2026-03-01"}
    assert ExperimentSettings.model_validate(good).design.arms == {"control": 1.0, "b": 2.0}
    with pytest.raises(ValidationError, match=message):
        ExperimentSettings.model_validate(good | change)
