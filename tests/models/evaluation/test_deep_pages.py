"""Pages of a hundred places: products that no float holds, of ratios that every float does."""

import numpy as np
import pytest

from models.evaluation.estimate import LARGEST, Estimate
from models.evaluation.page_values import PageStatistics
from models.evaluation.slates import Pages, cascade_dr, rips, snrips
from models.settings import GateSettings

PAGES = 1_200
LENIENT = GateSettings(min_effective_n=1, max_weight_share=1, max_tail_shape=1e9, max_mean_weight_z=1e9)


def pages(places: int, p: float) -> dict[str, np.ndarray]:
    """Pages of a target that is close to the logging policy; `p` a probability of a typical placement."""
    rng, n = np.random.default_rng(0), PAGES * places
    around = rng.uniform(0.9, 1.1, n)
    return {
        "slate": np.repeat(np.arange(PAGES), places), "position": np.tile(np.arange(1, places + 1), PAGES),
        "reward": (rng.random(n) < 0.1).astype(float), "logged": p * around,
        "target": p * around * rng.uniform(0.98, 1.02, n),
    }  # fmt: skip


@pytest.mark.parametrize(("places", "p"), [(20, 1e-3), (20, 1e-17), (50, 1e-6), (120, 1e-3), (120, 1e-300)])
def test_the_size_of_propensities_changes_nothing(places: int, p: float) -> None:
    """Weights are ratios: a catalogue of a million items has the estimate, and the error, of one of two."""
    deep, plain = pages(places, p), pages(places, 0.5)
    model = dict.fromkeys(("predicted_logged", "predicted_target"), np.full(PAGES * places, 0.1))
    for estimator in (rips, snrips):
        assert estimator(**deep).as_dict() == pytest.approx(estimator(**plain).as_dict(), rel=1e-9)
    assert cascade_dr(**deep, **model).as_dict() == pytest.approx(cascade_dr(**plain, **model).as_dict(), rel=1e-9)


@pytest.mark.parametrize("p", [1e-3, 1e-17])
def test_both_sides_of_a_backtest_are_told_at_every_depth(p: float) -> None:
    """Twenty places of a page, each side against the logs: as many findings as places, none refused."""
    found = pages(20, p)
    logged, target = found.pop("logged"), found.pop("target")
    users = found["slate"] % 400
    statistics = PageStatistics.of(
        **found, logged=logged, champion=logged, challenger=target, clusters=users, places=20
    )
    depths = statistics.depths(GateSettings())
    assert [depth.places for depth in depths] == list(range(1, 21))
    for depth in depths:
        assert isinstance(depth.difference, Estimate)
        assert abs(depth.difference.value) < 0.1 * depth.places * 0.1


def test_a_page_may_pass_through_any_weight_on_its_way_down() -> None:
    """1e-80 after four places and 1 after eight; cut on the way it would be 0, or the largest there is."""
    steps = np.array([1e-20] * 4 + [1e20] * 4)
    for ratio in (steps, 1 / steps):
        logged = np.minimum(1.0, 1e-200 / ratio**0.5) * 1e-40
        found = Pages.checked(np.zeros(8, int), np.arange(8), np.zeros(8), logged, logged * ratio)
        down = found.down_to()
        assert down[-1] == pytest.approx(1.0)
        assert down[3] in (0.0, LARGEST)


def test_a_weight_that_had_to_be_cut_is_not_summed() -> None:
    """Also where only the middle of a page had it: what was multiplied with it is not what the target earned."""
    ratio = np.tile([1.0, 1e40, 1e-40], 10)
    place = {"slate": np.repeat(np.arange(10), 3), "position": np.tile([1, 2, 3], 10), "reward": np.ones(30)}
    log = {"logged": np.full(30, 1e-50), "target": 1e-50 * ratio}
    with pytest.raises(ValueError, match=r"needs weights target / logged below 1e\+30; found one of at least that"):
        rips(**place, **log)
    found = rips(**{name: a[np.tile([True, False, False], 10)] for name, a in {**place, **log}.items()})
    assert found.value == pytest.approx(1.0)
    every = {"champion": log["logged"], "challenger": log["target"], "logged": log["logged"]}
    depths = PageStatistics.of(**place, **every, clusters=np.arange(30) // 3, places=3).depths(LENIENT)
    assert "refused" in depths[1].difference.as_dict()
