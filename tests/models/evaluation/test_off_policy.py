"""The public estimators: by hand, bad input, parity with Open Bandit Pipeline's figures, truth where it is known."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.evaluation import off_policy
from models.evaluation.estimate import Estimate

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "data" / "open_bandit" / "reference"
CLIP = SHRINKAGE = THRESHOLD = 10.0
WEIGHTED = ("reward", "logged", "target")
MODELLED = (*WEIGHTED, "predicted_logged", "predicted_target")
Arrays = dict[str, np.ndarray]
ESTIMATORS: dict[str, tuple[Callable[..., Estimate], tuple[str, ...]]] = {
    "ips": (off_policy.ips, WEIGHTED),
    "clipped_ips": (partial(off_policy.clipped_ips, clip=CLIP), WEIGHTED),
    "snips": (off_policy.snips, WEIGHTED),
    "dm": (off_policy.dm, (*WEIGHTED, "predicted_target")),
    "dr": (off_policy.dr, MODELLED),
    "sndr": (off_policy.sndr, MODELLED),
    "switch_dr": (partial(off_policy.switch_dr, threshold=THRESHOLD), MODELLED),
    "dros": (partial(off_policy.dros, shrinkage=SHRINKAGE), MODELLED),
}
IN_REFERENCE = {
    "ips": "ipw", "snips": "snipw", "dm": "dm", "dr": "dr", "sndr": "sndr", "switch_dr": "switch-dr_lambda10",
    "dros": "dr-os_lambda10", "clipped_ips": "ipw_clip10",
}  # fmt: skip


def run(name: str, arrays: Arrays, **more: Any) -> Estimate:
    estimator, needed = ESTIMATORS[name]
    return estimator(**{key: arrays[key] for key in needed}, **more)


def small() -> Arrays:
    """Three decisions with weights 2, 0.5 and 1."""
    return {
        "reward": np.array([1.0, 0, 1]),
        "logged": np.array([0.25, 0.5, 0.5]),
        "target": np.array([0.5, 0.25, 0.5]),
        "predicted_logged": np.array([0.5, 0.25, 0.75]),
        "predicted_target": np.array([0.6, 0.3, 0.9]),
    }


@pytest.mark.parametrize(
    ("name", "value", "contributions"),
    [
        ("ips", 1.0, [2, 0, 1]),
        ("clipped_ips", 1.0, [2, 0, 1]),
        ("dm", 0.6, [0.6, 0.3, 0.9]),
        # w (r - q) = 1, -0.125, 0.25
        ("dr", 0.975, [1.6, 0.175, 1.15]),
        ("switch_dr", 0.975, [1.6, 0.175, 1.15]),
        # weights 10 w / (w² + 10) = 20/14, 5/10.25, 10/11
        ("dros", None, [0.6 + 20 / 14 * 0.5, 0.3 - 5 / 10.25 * 0.25, 0.9 + 10 / 11 * 0.25]),
    ],
)
def test_by_hand(name: str, value: float | None, contributions: list[float]) -> None:
    """Means of contributions, and their standard errors."""
    found = run(name, small())
    assert found.value == pytest.approx(np.mean(contributions))
    if value is not None:
        assert found.value == pytest.approx(value)
    assert found.stderr == pytest.approx(np.std(contributions, ddof=1) / np.sqrt(3))
    assert found.low < found.value < found.high
    assert found.n == 3


def test_self_normalised_by_hand() -> None:
    """(2 x 1 + 0.5 x 0 + 1 x 1) / 3.5; residuals and Kish's n follow; the model's mean plus 1.125 / 3.5."""
    found = run("snips", small())
    u = np.array([2 * (1 - 3 / 3.5), -0.5 * 3 / 3.5, 1 - 3 / 3.5]) / 3.5
    assert found.value == pytest.approx(3 / 3.5)
    assert found.stderr == pytest.approx(np.sqrt((u**2).sum() * 3 / 2))
    assert found.effective_n == pytest.approx(3.5**2 / 5.25)
    assert run("sndr", small()).value == pytest.approx(0.6 + 1.125 / 3.5)
    assert run("dm", small()).effective_n == 3


def test_interval_of_many_like_rows_is_the_textbook_one() -> None:
    """With ten thousand normal rewards neither skewness nor degrees of freedom are left: +- 1.96 standard errors."""
    reward = np.random.default_rng(0).normal(size=10_000)
    found = off_policy.ips(reward=reward, logged=np.full(10_000, 0.5), target=np.full(10_000, 0.5))
    assert found.stderr == pytest.approx(reward.std(ddof=1) / 100)
    assert found.high - found.value == pytest.approx(1.96 * found.stderr, rel=0.02)
    assert found.value - found.low == pytest.approx(1.96 * found.stderr, rel=0.02)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_one_decision_has_no_interval(name: str) -> None:
    """Nothing can be said of the error of one decision, or of one user: an error, never a standard error of 0."""
    one = {key: array[:1] for key, array in small().items()}
    with pytest.raises(ValueError, match=r"^an interval needs at least 2 independent rows or clusters; found 1$"):
        run(name, one)
    with pytest.raises(ValueError, match=r"^an interval needs at least 2 independent rows or clusters; found 1$"):
        run(name, small(), clusters=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"^an interval needs at least 2 independent rows or clusters; found 0$"):
        run(name, {key: array[:0] for key, array in small().items()})


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_constant_contributions_have_no_error(name: str) -> None:
    """The stated rule: all alike means a standard error of exactly 0 and an interval of one point."""
    n = 50
    arrays = {
        "reward": np.full(n, 0.1), "logged": np.full(n, 0.3), "target": np.full(n, 0.3),
        "predicted_logged": np.full(n, 0.2), "predicted_target": np.full(n, 0.2),
    }  # fmt: skip
    found = run(name, arrays)
    assert (found.stderr, found.low, found.high) == (0.0, found.value, found.value)
    shrunk = 0.2 + 10 / 11 * (0.1 - 0.2)  # a weight of 1 becomes 10 / 11
    assert found.value == pytest.approx({"dm": 0.2, "dros": shrunk}.get(name, 0.1))


@pytest.mark.parametrize("name", ["ips", "clipped_ips", "snips"])
def test_a_target_never_logged_is_no_zero(name: str) -> None:
    """All weights zero: a value of 0 +- 0 would be certainty out of nothing."""
    arrays = {**small(), "target": np.zeros(3)}
    with pytest.raises(ValueError, match=r"^the target policy never takes any of the 3 logged decisions$"):
        run(name, arrays)


BAD = [
    ("reward", np.nan, "reward needs finite numbers up to 1e+30 in size; found nan in row 1, 1 such in all"),
    ("reward", np.inf, "reward needs finite numbers up to 1e+30 in size; found inf in row 1, 1 such in all"),
    ("reward", -1e31, "reward needs finite numbers up to 1e+30 in size; found -1e+31 in row 1, 1 such in all"),
    ("logged", np.nan, "logged needs probabilities in (0, 1]; found nan in row 1, 1 such in all"),
    ("logged", 0.0, "logged needs probabilities in (0, 1]; found 0 in row 1, 1 such in all"),
    ("logged", -0.5, "logged needs probabilities in (0, 1]; found -0.5 in row 1, 1 such in all"),
    ("logged", 1.5, "logged needs probabilities in (0, 1]; found 1.5 in row 1, 1 such in all"),
    ("target", -0.5, "target needs probabilities in [0, 1]; found -0.5 in row 1, 1 such in all"),
    ("target", 1.5, "target needs probabilities in [0, 1]; found 1.5 in row 1, 1 such in all"),
    ("target", np.nan, "target needs probabilities in [0, 1]; found nan in row 1, 1 such in all"),
    (
        "predicted_logged",
        np.nan,
        "predicted_logged needs finite numbers up to 1e+30 in size; found nan in row 1, 1 such in all",
    ),
    (
        "predicted_target",
        -np.inf,
        "predicted_target needs finite numbers up to 1e+30 in size; found -inf in row 1, 1 such in all",
    ),
]


@pytest.mark.parametrize(
    ("name", "array", "value", "message"),
    [(name, *bad) for name, (_, needed) in ESTIMATORS.items() for bad in BAD if bad[0] in needed],
)
def test_impossible_values_are_errors(name: str, array: str, value: float, message: str) -> None:
    """Division by a logged probability of zero must never be tried; the message says needed and found."""
    arrays = small()
    arrays[array][1] = value
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        run(name, arrays)
    assert str(raised.value) == message


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_unequal_lengths_are_errors(name: str) -> None:
    """Rows of different decisions must never be multiplied."""
    arrays = {**small(), "logged": np.array([0.5, 0.5])}
    with pytest.raises(ValueError, match=r"^an off-policy estimate needs arrays of one length; found reward \(3,\)"):
        run(name, arrays)
    with pytest.raises(ValueError, match=r"needs arrays of one length; found reward \(3,\), clusters \(2,\)$"):
        run(name, small(), clusters=np.array([1, 2]))
    with pytest.raises(ValueError, match="one length"):
        run(name, {key: array[None] for key, array in small().items()})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(off_policy.clipped_ips, clip=0.0), "clip needs to be above 0; found 0"),
        (partial(off_policy.clipped_ips, clip=np.nan), "clip needs to be above 0; found nan"),
        (partial(off_policy.ips, confidence=1.0), "confidence needs to be in (0, 1); found 1"),
        (partial(off_policy.snips, confidence=0.0), "confidence needs to be in (0, 1); found 0"),
    ],
)
def test_impossible_options_are_errors(call: Callable[..., Estimate], message: str) -> None:
    """A clip of nothing and a confidence of one are mistakes, not settings."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        call(**{key: small()[key] for key in WEIGHTED})
    assert str(raised.value) == message


@pytest.mark.parametrize(("name", "option"), [("switch_dr", "threshold"), ("dros", "shrinkage")])
def test_negative_thresholds_are_errors(name: str, option: str) -> None:
    """0 is the direct method; below there is nothing."""
    with pytest.raises(ValueError, match=rf"^{option} needs to be at least 0; found -1$"):
        getattr(off_policy, name)(**small(), **{option: -1.0})


def open_bandit(behaviour: str, evaluation: str, campaign: str) -> Arrays:
    """The reference's inputs as our arrays: the target ignores context, so its table is looked up, never spread."""
    with np.load(REFERENCE / f"inputs_{behaviour}_to_{evaluation}_{campaign}.npz") as z:
        action, position, table, predicted = z["action"], z["position"], z["action_dist_single_round"], z["q_hat"]
        rows = np.arange(len(action))
        return {
            "reward": z["reward"].astype(float),
            "logged": z["pscore"],
            "target": table[action, position],
            "predicted_logged": predicted[rows, action, position],
            "predicted_target": np.einsum("na,an->n", predicted[rows, :, position], table[:, position]),
        }


needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs ../shared/data/open_bandit/reference")


@needs_reference
@pytest.mark.parametrize("log", [("random", "bts", "men"), ("random", "bts", "all"), ("bts", "random", "men")])
def test_parity_with_open_bandit_pipeline(log: tuple[str, str, str]) -> None:
    """Every estimate on real logs equals the reference implementation's to 1e-9."""
    arrays = open_bandit(*log)
    results = json.loads((REFERENCE / "obp_reference.json").read_text())["results"]
    keys = ("behavior_policy", "evaluation_policy", "campaign")
    (expected,) = [r for r in results if tuple(r[key] for key in keys) == log]
    for name, theirs in IN_REFERENCE.items():
        assert run(name, arrays).value == pytest.approx(expected["estimates"][theirs], abs=1e-9), name
    assert run("ips", arrays).effective_n == pytest.approx(expected["importance_weight"]["ess"], rel=1e-9)


@needs_reference
def test_parity_and_truth_on_digits() -> None:
    """Digits turned bandit: the reference's figures to 1e-9, and the known truth inside every unbiased interval."""
    with np.load(REFERENCE / "inputs_digits.npz") as z:
        rows = np.arange(len(z["action"]))
        arrays = {
            "reward": z["reward"],
            "logged": z["pscore"],
            "target": z["action_dist"][rows, z["action"]],
            "predicted_logged": z["q_hat"][rows, z["action"]],
            "predicted_target": (z["q_hat"] * z["action_dist"]).sum(axis=1),
        }
    expected = json.loads((REFERENCE / "digits_reference.json").read_text())
    for name, theirs in IN_REFERENCE.items():
        if theirs in expected["estimates"]:
            assert run(name, arrays).value == pytest.approx(expected["estimates"][theirs], abs=1e-9), name
    assert run("ips", arrays).effective_n == pytest.approx(expected["ess"], rel=1e-9)
    for name in ("ips", "snips", "dr", "sndr"):
        found = run(name, arrays)
        assert found.low <= expected["truth"] <= found.high, name
