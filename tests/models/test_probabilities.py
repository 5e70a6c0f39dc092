"""A certain choice after rounding is certain everywhere; anything beyond rounding is a mistake everywhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.evaluation.calibration import calibration_error, ece, ece_by_chance, reliability
from models.evaluation.diagnostics import diagnostics
from models.evaluation.off_policy import ips, snips
from models.evaluation.popularity import exposure_gap
from models.evaluation.ranking import log_loss
from models.evaluation.slates import iips, pseudo_inverse_of_permutations, rips
from models.policies.choice import first_choice, placed_choice, slate
from models.probabilities import ROUNDING, at_most_one
from models.settings import GateSettings, PolicySettings

GATE = GateSettings(min_effective_n=1, max_weight_share=1, bootstrap_replicates=50)
N = 24
RNG = np.random.default_rng(0)
REWARD = (RNG.random(N) < 0.4).astype(float)
OTHERS = RNG.uniform(0.2, 0.8, N)
KINDS = ("greedy", "epsilon_greedy", "plackett_luce", "thompson")


def spoilt(one: float) -> np.ndarray:
    """Probabilities, every third of which is `one`."""
    return np.where(np.arange(N) % 3 == 0, one, OTHERS)


def pages(one: float) -> dict[str, Any]:
    place = {"slate": np.arange(N) // 3, "position": np.arange(N) % 3 + 1, "reward": REWARD}
    return {**place, "logged": spoilt(one), "target": spoilt(one)}


def chosen(kind: Any) -> Callable[[float], Any]:
    return lambda one: first_choice(spoilt(one), np.array([0, 10, N]), PolicySettings(kind=kind))


READERS: dict[str, Callable[[float], Any]] = {
    "ips, logged": lambda one: ips(reward=REWARD, logged=spoilt(one), target=OTHERS),
    "ips, target": lambda one: ips(reward=REWARD, logged=OTHERS, target=spoilt(one)),
    "snips, guarded": lambda one: snips(reward=REWARD, logged=spoilt(one), target=spoilt(one), settings=GATE),
    "diagnostics": lambda one: diagnostics(
        logged=spoilt(one), target=spoilt(one), unsupported=spoilt(one), candidates=np.full(N, 4)
    ),
    "iips": lambda one: iips(**pages(one)),
    "rips": lambda one: rips(**pages(one)),
    "pseudo_inverse_of_permutations": lambda one: pseudo_inverse_of_permutations(
        **{name: a for name, a in pages(one).items() if name != "logged"}, candidates=np.full(N, 9),
        target_anywhere=spoilt(one),
    ),
    "log_loss": lambda one: log_loss(REWARD, spoilt(one), settings=GATE),
    "calibration_error": lambda one: calibration_error(REWARD, spoilt(one), settings=GATE),
    "ece": lambda one: ece(REWARD, spoilt(one), kind="width", settings=GATE),
    "ece_by_chance": lambda one: ece_by_chance(spoilt(one), kind="width"),
    "reliability": lambda one: reliability(REWARD, spoilt(one), kind="width"),
    "exposure_gap": lambda one: exposure_gap(spoilt(one), np.arange(N) % 2 == 0, settings=GATE, seed=0),
    **{f"first_choice, {kind}": chosen(kind) for kind in KINDS},
    "placed_choice": lambda one: placed_choice(
        spoilt(one), np.array([0, N]), np.where(np.arange(N) < 3, np.arange(N) + 1, 0), PolicySettings()
    ),
    "slate": lambda one: slate(spoilt(one), 4, PolicySettings(), np.random.default_rng(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_whoever_reads_a_probability_reads_one_and_a_rounding_as_one(name: str) -> None:
    """Up to four units in the last place of a 32-bit float; the figures are those of 1 to the last bit."""
    read = READERS[name]
    expected = read(1.0)
    for above in (2.0**-52, 2e-10, 2.0**-23, ROUNDING):
        np.testing.assert_equal(read(1.0 + above), expected)
    with pytest.raises(ValueError, match=r"\[0, 1\]|\(0, 1\]|in \[0, 1\]"):
        read(1.0 + 2 * ROUNDING)


def test_the_refused_value_is_not_called_one() -> None:
    """`needs probabilities in (0, 1]; found 1` sends people to look for a bug that is not there."""
    with pytest.raises(ValueError, match=r"found 1\.0000009536743164 in row 0, 8 such in all"):
        ips(reward=REWARD, logged=spoilt(1 + 2 * ROUNDING), target=OTHERS)


def test_everything_else_stays_as_it_is() -> None:
    """What is no rounding is for the reader to judge."""
    values = np.array([np.nan, np.inf, -np.inf, -1e-17, 0.0, 0.5, 1.0, 1.5])
    np.testing.assert_array_equal(at_most_one(values), values)
    np.testing.assert_array_equal(at_most_one(np.float32([1.0000001, 0.5])), [1.0, 0.5])


@pytest.mark.parametrize("kind", KINDS)
def test_no_policy_says_more_than_one(kind: Any) -> None:
    """What a policy says is logged, and divides rewards later: one candidate, equal ones, certain ones."""
    for epsilon in np.linspace(0, 1, 57):
        settings = PolicySettings(kind=kind, epsilon=float(epsilon))
        for scores in (np.array([0.3]), np.array([1.0, 0.0]), np.full(7, 0.1), RNG.random(9)):
            found = first_choice(scores, np.array([0, len(scores)]), settings)
            assert found.max() <= 1.0
            assert found.sum() == pytest.approx(1.0)
