"""The reference and what is measured against it: hand-computed cells, laws, and error rates by simulation."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from scipy.stats import ncx2

from jobs.sources.world.live import live_users
from models.evaluation.estimate import Estimate, Refusal
from models.experiments.assignment import Experiment, unit_hash
from models.monitoring.drift import FAR, Drift, drift, tail
from models.monitoring.profile import EVERYWHERE, MIN_USERS, Column, Profile, drawn

HERE = "home"


def words(*names: str | None) -> np.ndarray:
    return np.array([*names], dtype=object)


def profile(values: np.ndarray, users: np.ndarray | None = None, weight: np.ndarray | None = None) -> Profile:
    each = np.arange(len(values)) if users is None else users
    return Profile.of({"x": values}, each, np.full(len(values), HERE, object), weight)


def against(reference: Profile, values: np.ndarray, users: np.ndarray | None = None, bound: float = 0.1) -> Drift:
    each = np.arange(len(values)) if users is None else users
    found = drift(reference.columns["x"], values, each, bound=bound, confidence=0.95)
    assert isinstance(found, Drift)
    return found


def index(found: Drift) -> Estimate:
    assert isinstance(found.index, Estimate)
    return found.index


def test_cells_of_numbers_are_the_references_tenths_and_its_nulls() -> None:
    column = profile(np.array([*range(1, 101), np.nan], float)).columns["x"]
    assert column.edges == tuple(range(10, 100, 10))
    assert column.cells(np.array([-5.0, 9.9, 10.0, 99.0, 1e9, np.nan, np.inf])).tolist() == [0, 0, 1, 9, 9, 10, 10]
    assert column.parts[EVERYWHERE].shares[-1] == pytest.approx(1 / 101)


def test_a_value_that_most_rows_have_is_a_cell_of_its_own() -> None:
    """Also where hardly any has another: a flag that one row in twenty has is not lost in the flag that is not set."""
    column = profile(np.array([0.0] * 70 + [*range(1, 31)], float)).columns["x"]
    assert column.edges == (1.0, 10.0, 20.0)
    assert column.parts[EVERYWHERE].shares[0] == pytest.approx(0.7)
    assert profile(np.array([0.0] * 95 + [1.0] * 5)).columns["x"].parts[HERE].shares == (0.95, 0.05, 0.0)


def test_cells_of_words_are_the_frequent_the_rare_the_unseen_and_nulls() -> None:
    many = words(*(f"w{n:02d}" for n in range(25) for _ in range(25 - n)), None)
    column = profile(many).columns["x"]
    assert column.names[:2] == ("w00", "w01")
    assert len(column.names) == 20
    assert column.cells(words("w00", "w24", "never", None)).tolist() == [0, 20, 21, 22]


def test_a_sampled_row_counts_as_many_as_it_stands_for() -> None:
    values = np.repeat([0.0, 1.0], [900, 100])
    kept = np.r_[0:90, 900:1000]
    weight = np.where(values[kept] == 0, 10.0, 1.0)
    whole, sampled = profile(values), profile(values[kept], weight=weight)
    assert sampled.columns["x"].edges == whole.columns["x"].edges
    assert sampled.columns["x"].parts[HERE].shares == pytest.approx(whole.columns["x"].parts[HERE].shares)
    assert 190 < sampled.columns["x"].parts[HERE].effective_n < whole.columns["x"].parts[HERE].effective_n
    assert whole.columns["x"].parts[HERE].effective_n == pytest.approx(999)


def test_the_same_profile_is_the_same_bytes_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    made = profile(rng.normal(size=500)) | Profile.of(
        {"y": words(*rng.choice(["a", "b"], 500))}, np.arange(500), np.full(500, None, object)
    )
    again = Profile.from_json(made.to_json())
    assert again.to_json() == made.to_json()
    assert again.columns["x"] == replace(made.columns["x"])
    assert list(again.columns["y"].parts) == [EVERYWHERE]


def test_numbers_where_words_are_needed_are_an_error() -> None:
    with pytest.raises(ValueError, match="the reference has words here; found float64"):
        drift(profile(words("a", "b")).columns["x"], np.zeros(99), np.arange(99), bound=0.1, confidence=0.95)
    with pytest.raises(ValueError, match="needs rows; found none"):
        profile(np.zeros(0))


def test_the_index_of_a_large_shift_is_the_textbooks() -> None:
    """Shares .5/.5 against .8/.2: (.3) ln(1.6) + (-.3) ln(.4)."""
    reference = profile(words(*["a", "b"] * 50_000))
    found = against(reference, words(*["a"] * 8_000, *["b"] * 2_000))
    assert index(found).value == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4), abs=2e-4)
    assert index(found).low < index(found).value < index(found).high
    assert found.p_beyond < 1e-6
    assert found.moved is None


def test_an_outlier_hides_no_shift() -> None:
    """With cells over both samples one value of 1e6 makes the index of a whole standard deviation .019."""
    rng = np.random.default_rng(0)
    found = against(profile(rng.normal(size=10_000)), np.append(rng.normal(1, 1, 10_000), 1e6))
    assert index(found).value > 0.8
    assert found.moved == pytest.approx(1 / 1.349, abs=0.05)


def test_nulls_unseen_and_vanished_words_are_told_apart() -> None:
    reference = profile(words(*["a"] * 500, *["b"] * 480, *[None] * 20))
    found = against(reference, words(*["a"] * 800, *["new"] * 100, *[None] * 100))
    assert found.unseen.found == found.nulls.found == pytest.approx(0.1)
    assert found.nulls.expected == pytest.approx(0.02)
    assert found.vanished == ("b",)
    assert found.unseen.p_beyond(0.02) < 1e-6 < 0.5 < found.nulls.p_beyond(0.2)


def test_a_feature_that_is_null_everywhere_is_told_by_its_nulls() -> None:
    found = against(profile(np.random.default_rng(0).normal(size=1000)), np.full(500, np.nan))
    assert isinstance(found.index, Refusal)
    assert found.nulls.rise == 1.0
    assert found.nulls.p_beyond(0.02) < 1e-9
    assert (found.p_beyond, found.moved) == (1.0, None)


def test_fewer_nulls_than_in_training_are_no_drift() -> None:
    """The first days of a lake have no features yet; what is known is as it was."""
    rng = np.random.default_rng(0)
    found = against(profile(np.where(rng.random(5_000) < 0.3, np.nan, rng.normal(size=5_000))), rng.normal(size=1_000))
    assert isinstance(found.index, Estimate)
    assert index(found).value < 0.02
    assert found.nulls.rise == pytest.approx(-0.3, abs=0.02)


def test_too_few_users_and_an_unknown_surface_are_refused() -> None:
    column = profile(np.arange(100.0)).columns["x"]
    few = drift(column, np.zeros(500), np.arange(500) % (MIN_USERS - 1), bound=0.1, confidence=0.95)
    assert isinstance(few, Refusal)
    assert f"at least {MIN_USERS} users of a day; found {MIN_USERS - 1}" in few.reason
    nowhere = drift(column, np.zeros(500), np.arange(500), bound=0.1, confidence=0.95, surface="search")
    assert isinstance(nowhere, Refusal)
    assert "no rows on search" in nowhere.reason


@pytest.mark.parametrize("days", [200])
def test_without_drift_small_days_stay_quiet_and_the_bias_is_gone(days: int) -> None:
    """Rows of one user alike, 150 users of 2 rows: the plain index is above .1 on many such days."""
    rng = np.random.default_rng(1)

    def rows(users: int) -> tuple[np.ndarray, np.ndarray]:
        of = np.repeat(np.arange(users), 2)
        return 0.8 * rng.normal(size=users)[of] + 0.6 * rng.normal(size=len(of)), of

    reference = profile(*rows(5_000))
    found = [against(reference, *rows(150)) for _ in range(days)]
    assert np.mean([one.p_value < 0.05 for one in found]) < 0.09
    assert np.mean([one.p_beyond < 0.01 for one in found]) == 0
    assert np.median([index(one).value for one in found]) < 0.02
    assert np.mean([index(one).low == 0 for one in found]) > 0.9


def test_at_the_bound_the_alarm_rate_is_the_level() -> None:
    """A shift whose true index, of the very cells, is the bound: beyond it for sure in about 5 % of days."""
    rng = np.random.default_rng(2)
    reference = profile(rng.normal(size=20_000))
    truth = index(against(reference, rng.normal(0.3, 1, 400_000))).value
    found = [against(reference, rng.normal(0.3, 1, 1_000), bound=truth) for _ in range(300)]
    assert 0.02 < np.mean([one.p_beyond < 0.05 for one in found]) < 0.10
    assert np.mean([index(one).low <= truth <= index(one).high for one in found]) > 0.90


@pytest.mark.parametrize("freedom", [1.3, 9.0, 22.0])
@pytest.mark.parametrize("far", [-4.0, -1.0, 0.0, 2.0, 4.5])
def test_where_the_exact_tail_overflows_the_normal_one_is_as_good(freedom: float, far: float) -> None:
    x = freedom + FAR + far * np.sqrt(2 * (freedom + 2 * FAR))
    exact = float(ncx2.sf(x, freedom, FAR))
    assert tail(x, freedom, FAR) == pytest.approx(exact, rel=0.05, abs=1e-9)
    assert tail(1e6, freedom, 9e5) == pytest.approx(0.0, abs=1e-12)
    assert tail(8e5, freedom, 9e5) == pytest.approx(1.0)


def test_a_large_day_is_told_within_its_bound() -> None:
    """400,000 rows against as many: whatever overflows at that size does not stop the report."""
    rng = np.random.default_rng(0)
    found = against(profile(rng.normal(size=400_000)), rng.normal(size=400_000))
    assert found.p_beyond == pytest.approx(1.0)
    assert index(found).high < 0.001


def test_no_day_is_like_a_month_of_days_that_differ() -> None:
    """What is counted at a midnight is one number for all of a day: against all days that was a drift every day."""
    rng, days, rows = np.random.default_rng(5), 28, 400
    users = np.arange(days * rows) % 300
    level = rng.standard_normal(days + 1)
    of_day = np.repeat(np.arange(days), rows)
    seen = level[of_day] + 0.1 * rng.standard_normal(days * rows)
    home = np.full(days * rows, "home", object)
    plain = Profile.of({"x": seen}, users, home).columns["x"]
    told = Profile.of({"x": seen}, users, home, days=of_day).columns["x"]
    today, people = level[-1] + 0.1 * rng.standard_normal(rows), np.arange(rows) % 300

    def found(column: Column, values: np.ndarray) -> Drift:
        one = drift(column, values, people, bound=0.1, confidence=0.95)
        assert isinstance(one, Drift)
        return one

    assert found(plain, today).p_beyond < 1e-6
    assert found(told, today).p_beyond > 0.05
    assert found(told, today).bound == pytest.approx(2 * told.parts[EVERYWHERE].usual)
    alike = Profile.of({"x": rng.standard_normal(days * rows)}, users, home, days=of_day).columns["x"]
    assert alike.parts[EVERYWHERE].usual < 0.15, "days that do not differ leave the bound about where it was"
    assert found(alike, rng.standard_normal(rows) + 1.0).p_beyond < 1e-6


def test_who_is_in_a_sample_says_nothing_of_what_a_user_was_drawn_for() -> None:
    """A sample of the very users that the endpoint answers, or of one arm, would be a reference of them alone."""
    users, share = [f"u{n}" for n in range(20_000)], 0.3
    sample = drawn(users, share)
    assert sample.mean() == pytest.approx(share, abs=0.015)
    assert drawn(reversed(users), share).tolist() == sample[::-1].tolist(), "by the id alone"
    test = Experiment("test", "layer", (0.0, 0.5), {"control": 1.0, "treated": 1.0}, date(2026, 1, 1), 7)
    arms = np.array([test.arm_of(user) or "" for user in users])
    others = {
        "the endpoint's in the simulated world": live_users(users, share),
        "a canary's": np.array([unit_hash(f"shift:e:salt:{user}") < share for user in users]),
        **{f"arm {name}": arms == name for name in ("", "control", "treated")},
    }
    for name, chosen in others.items():
        # Six standard errors about what independence says.
        noise = 6 * (share * (1 - share) / chosen.sum()) ** 0.5
        assert sample[chosen].mean() == pytest.approx(share, abs=noise), name
