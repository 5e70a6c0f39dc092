"""Laws of the counterfactual estimators, and the coverage of their intervals on logs whose truth is known."""

import numpy as np
import pytest

from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.off_policy import diagnostics, snips, snips_difference
from models.settings import GateSettings

LAX = GateSettings(min_effective_n=1, max_weight_share=1)
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


def test_by_hand() -> None:
    """w = 2, 0.5, 1: value (2 x 1 + 0.5 x 0 + 1 x 1) / 3.5; residuals and Kish's n follow."""
    found = sound(
        snips(
            reward=np.array([1.0, 0, 1]),
            logged=np.array([0.25, 0.5, 0.5]),
            target=np.array([0.5, 0.25, 0.5]),
            settings=LAX,
        )
    )
    value = 3 / 3.5
    u = np.array([2 * (1 - value), -0.5 * value, 1 - value]) / 3.5
    assert found.value == pytest.approx(value)
    assert found.stderr == pytest.approx(np.sqrt((u**2).sum() * 3 / 2))
    assert found.high - found.value == pytest.approx(1.959964 * found.stderr, rel=1e-5)
    assert (found.n, found.effective_n) == (3, pytest.approx(3.5**2 / 5.25))


def test_the_logging_policy_itself_is_worth_the_mean_reward() -> None:
    """Target = logging: all weights one, the ordinary mean and its standard error."""
    reward, p, _ = logs(500)
    found = sound(snips(reward=reward, logged=p, target=p, settings=GATE))
    assert found.value == pytest.approx(reward.mean())
    assert found.stderr == pytest.approx(reward.std(ddof=1) / np.sqrt(500))
    assert found.effective_n == pytest.approx(500)


def test_scale_and_shift_of_rewards_pass_through() -> None:
    """Clicks, euros or cents: the estimate is linear in the reward (plain IPS fails the shift)."""
    reward, p, action = logs(500)
    a = sound(snips(reward=reward, logged=p, target=TARGET[action], settings=GATE))
    b = sound(snips(reward=3 * reward + 7, logged=p, target=TARGET[action], settings=GATE))
    assert (b.value, b.stderr) == (pytest.approx(3 * a.value + 7), pytest.approx(3 * a.stderr))


def test_scaling_every_weight_changes_nothing() -> None:
    """Self-normalised: a target known up to a factor has the same value and the same effective n."""
    reward, p, action = logs(500)
    a = sound(snips(reward=reward, logged=p, target=TARGET[action], settings=GATE))
    b = sound(snips(reward=reward, logged=p, target=TARGET[action] / 2, settings=GATE))
    np.testing.assert_allclose(list(a.as_dict().values()), list(b.as_dict().values()))


def test_order_means_nothing() -> None:
    """Partitions are read in any order."""
    reward, p, action = logs(500)
    users, at = np.arange(500) // 3, np.random.default_rng(1).permutation(500)
    a = sound(snips(reward=reward, logged=p, target=TARGET[action], clusters=users, settings=GATE))
    b = sound(snips(reward=reward[at], logged=p[at], target=TARGET[action][at], clusters=users[at], settings=GATE))
    np.testing.assert_allclose(list(a.as_dict().values()), list(b.as_dict().values()))


def test_more_data_give_a_narrower_interval_and_copies_of_a_cluster_do_not() -> None:
    """Logging every decision twice must not make the gate surer."""
    reward, p, action = logs(500)
    once = sound(snips(reward=reward, logged=p, target=TARGET[action], clusters=np.arange(500), settings=GATE))
    twice = [np.tile(a, 2) for a in (reward, p, TARGET[action], np.arange(500))]
    same = sound(snips(reward=twice[0], logged=twice[1], target=twice[2], clusters=twice[3], settings=GATE))
    assert same.stderr == pytest.approx(once.stderr)
    reward, p, action = logs(5000)
    more = sound(snips(reward=reward, logged=p, target=TARGET[action], settings=GATE))
    assert more.stderr < once.stderr / 2.5


def test_intervals_cover_the_truth() -> None:
    """A 95% interval must hold the true value, and the true difference, about 95 times in 100."""
    truth, gain, runs = TARGET @ CLICK, (TARGET - CHANCES) @ CLICK, 400
    held = [0, 0]
    for seed in range(runs):
        reward, p, action = logs(300, seed)
        found = sound(snips(reward=reward, logged=p, target=TARGET[action], settings=GATE))
        difference = sound(
            snips_difference(reward=reward, logged=p, champion=p, challenger=TARGET[action], settings=GATE)
        )
        held[0] += found.low <= truth <= found.high
        held[1] += difference.low <= gain <= difference.high
    assert all(0.92 <= h / runs <= 0.98 for h in held), held


def test_clustered_intervals_cover_the_truth() -> None:
    """Users whose decisions go together: by rows the interval would be far too narrow."""
    truth, held, naive, runs = float((TARGET @ CLICK) * 1.0), 0, 0, 300
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(100), 6)
        action = rng.choice(3, 600, p=CHANCES)
        keen = rng.choice([0.0, 2.0], 100)[users]
        reward = (rng.random(600) < CLICK[action] * keen).astype(float)
        arrays = {"reward": reward, "logged": CHANCES[action], "target": TARGET[action], "settings": GATE}
        found, rows = sound(snips(**arrays, clusters=users)), sound(snips(**arrays))
        held += found.low <= truth <= found.high
        naive += rows.low <= truth <= rows.high
    assert 0.91 <= held / runs <= 0.985
    assert naive < held


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


def test_refusals_say_what_is_missing() -> None:
    """Each way in which logs cannot carry an estimate has its own reason; none becomes a number."""
    reward, p, action = logs(300)
    target = TARGET[action]

    def reason(**changes: object) -> str:
        arrays = {"reward": reward, "logged": p, "target": target, "settings": GATE, **changes}
        found = snips(**arrays)  # type: ignore[arg-type]
        assert isinstance(found, Refusal)
        return found.reason

    assert reason(logged=np.full(300, np.nan)) == "300 of 300 decisions have no propensity"
    some = p.copy()
    some[:12] = np.nan
    assert reason(logged=some) == "12 of 300 decisions have no propensity"
    assert "effective n of at least 1000" in reason(settings=GateSettings(min_effective_n=1000))
    assert "never takes" in reason(target=np.zeros(300))
    assert "of the weight" in reason(settings=GateSettings(min_effective_n=1, max_weight_share=0.001))
    assert "clusters" in reason(clusters=np.zeros(300, int))
    empty = np.zeros(0)
    assert "found none" in reason(reward=empty, logged=empty, target=empty)
    found = snips_difference(reward=reward, logged=some, champion=p, challenger=target, settings=GATE)
    assert isinstance(found, Refusal)
    assert found.reason.startswith("champion: ")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("logged", 0.0, r"\(0, 1\]"), ("logged", -0.1, r"\(0, 1\]"), ("logged", 1.1, r"\(0, 1\]"),
     ("target", -0.1, "target"), ("target", 1.5, "target"), ("target", np.nan, "target"),
     ("reward", np.nan, "rewards"), ("reward", np.inf, "rewards")],
)  # fmt: skip
def test_impossible_values_are_errors(name: str, value: float, message: str) -> None:
    """Division by a logged probability of zero must never be tried."""
    reward, p, action = logs(100)
    arrays = {"reward": reward, "logged": p, "target": TARGET[action].copy()}
    arrays[name] = arrays[name].copy()
    arrays[name][5] = value
    with pytest.raises(ValueError, match=message):
        snips(**arrays, settings=LAX)


def test_diagnostics_tell_right_propensities_from_wrong_ones() -> None:
    """The mean weight is one when the logged propensities are right: the one check that needs no truth."""
    _, p, action = logs(5000)
    right = diagnostics(logged=p, target=TARGET[action])
    wrong = diagnostics(logged=np.full(5000, 0.5), target=TARGET[action])
    assert not isinstance(right, Refusal)
    assert not isinstance(wrong, Refusal)
    assert abs(right.mean_weight - 1) < 3 * right.mean_weight_stderr
    assert abs(wrong.mean_weight - 1) > 10 * wrong.mean_weight_stderr
    assert right.largest_weight == pytest.approx(3)
    only = diagnostics(logged=p, target=np.where(action == 0, 1.0, 0.0))
    assert not isinstance(only, Refusal)
    assert only.never_taken_share == pytest.approx(0.5, abs=0.03)
    assert isinstance(diagnostics(logged=np.full(3, np.nan), target=np.ones(3)), Refusal)
