"""Whatever it is given, a metric or an estimator returns finite figures, a refusal, or names what cannot be."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.evaluation import off_policy, slates, weighting
from models.evaluation.calibration import calibration_error, calibration_ratio, ece, reliability
from models.evaluation.comparison import METRICS, compare
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.intervals import PoissonBootstrap
from models.evaluation.lists import FIGURES, list_metric
from models.evaluation.page_values import PageStatistics
from models.evaluation.popularity import concentration, concentration_rise, exposure_gap
from models.evaluation.ranking import auc, auc_pr, log_loss, normalised_entropy
from models.evaluation.slices import reversals, slices
from models.evaluation.weighting import Log
from models.experiments.rates import difference_of_rates
from models.settings import GateSettings

SIZES = (5e-324, 1e-310, 1e-300, 1e-155, 1e-80, 1e-50, 1e-31, 1e-30, 1e-17, 1e-9, 0.3, 0.7)
LARGE = (2.0, 7.5, 1e9, 1e15, 1e29, 1e30)
TOO_MUCH = (1e31, 1e77, 1e155, 1.7e308, math.inf, math.nan)
ANY_NUMBER = (0.0, -0.0, 1.0, -1.0, *SIZES, *LARGE, *(-x for x in LARGE), -1e-300, *TOO_MUCH, -math.inf)
ABOVE_ONE = (1.0 + 2.0**-52, 1.0 + 2.0**-23, 1.0 + 1e-6)
POOLS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "number": ((0.0, 1.0, 0.5, -2.0, *SIZES, *LARGE), ANY_NUMBER),
    "count": ((0.0, 1.0, 3.0, 20.0, *SIZES, *LARGE), ANY_NUMBER),
    "propensity": ((0.5, 1.0, 0.25, *SIZES), (*ANY_NUMBER, *ABOVE_ONE)),
    "probability": ((0.0, 0.5, 1.0, 0.25, *SIZES), (*ANY_NUMBER, *ABOVE_ONE)),
    "label": ((0.0, 1.0), (0.0, 1.0, 0.5, math.nan, 2.0)),
}
KEYS = (0, 1, 1, 2, 3, 5, 2**62, -(2**63))
CONFIDENCES = (0.9, 0.95, 0.999999, 1 - 2.0**-53, 1e-9, 0.0, 1.0, 95.0, -0.5, math.nan, math.inf, 5e-324)
LENIENT = GateSettings(
    min_effective_n=1, max_weight_share=1, max_tail_shape=1e300, max_mean_weight_z=1e300, min_decisions_that_matter=1,
    max_unsupported_mass=1, bootstrap_replicates=50,
)  # fmt: skip
Draw = st.DrawFn


def column(draw: Draw, pool: str, n: int) -> np.ndarray:
    """Possible values of every size; now and then one that is not, or one too many."""
    good, any_ = POOLS[pool]
    found = np.array([draw(st.sampled_from(good)) for _ in range(n)], dtype=np.float64)
    if n and not draw(st.integers(0, 7)):
        found[draw(st.integers(0, n - 1))] = draw(st.sampled_from(any_))
    return np.append(found, found[:1]) if not draw(st.integers(0, 79)) else found


def keys(draw: Draw, n: int) -> np.ndarray:
    return np.array([draw(st.sampled_from(KEYS)) for _ in range(n)], dtype=np.int64)


def rows(draw: Draw) -> int:
    return draw(st.sampled_from([0, 1, 2, 3, 6, 6, 12, 12, 25]))


def decisions(draw: Draw, n: int, *more: str) -> dict[str, Any]:
    pools = {"reward": "number", "logged": "propensity", "target": "probability", **dict.fromkeys(more, "number")}
    found: dict[str, Any] = {name: column(draw, pool, n) for name, pool in pools.items()}
    if draw(st.booleans()):
        found["target"] = found["logged"].copy() * draw(st.sampled_from([1.0, 0.5, 1e-200]))
    if draw(st.booleans()):
        found["clusters"] = keys(draw, n)
    return found


MODEL = ("predicted_logged", "predicted_target")


def confident(draw: Draw) -> dict[str, float]:
    return {"confidence": draw(st.sampled_from(CONFIDENCES))} if draw(st.booleans()) else {}


def of_decisions(function: Callable[..., Any], *more: str, option: str | None = None) -> Callable[[Draw], Any]:
    def case(draw: Draw) -> Any:
        given_ = decisions(draw, rows(draw), *more) | confident(draw)
        if option:
            given_[option] = draw(st.sampled_from(ANY_NUMBER))
        return function(**given_)

    return case


def guarded(draw: Draw) -> Any:
    given_ = decisions(draw, rows(draw))
    gate = draw(st.sampled_from([LENIENT, GateSettings()]))
    if draw(st.booleans()):
        return off_policy.snips(**given_, settings=gate)
    return off_policy.snips_difference(
        **{name: a for name, a in given_.items() if name != "target"}, champion=given_["logged"],
        challenger=given_["target"], settings=gate,
    )  # fmt: skip


def trusted(draw: Draw) -> Any:
    n = rows(draw)
    given_: dict[str, Any] = {"logged": column(draw, "propensity", n), "target": column(draw, "probability", n)}
    extra = {"candidates": "count", "unsupported": "probability"}
    given_ |= {name: column(draw, pool, n) for name, pool in extra.items() if draw(st.booleans())}
    given_ |= {name: keys(draw, n) for name in ("clusters", "day") if draw(st.booleans())}
    return off_policy.diagnostics(**given_)


def pages(draw: Draw, n: int) -> dict[str, np.ndarray]:
    slate = np.sort(keys(draw, n)) if draw(st.booleans()) else np.zeros(n, np.int64)
    return {"slate": slate, "position": np.arange(1, n + 1) if draw(st.integers(0, 9)) else keys(draw, n)}


def of_pages(function: Callable[..., Any], *more: str) -> Callable[[Draw], Any]:
    def case(draw: Draw) -> Any:
        n = rows(draw)
        return function(**pages(draw, n), **decisions(draw, n, *more), **confident(draw))

    return case


def permutations_(draw: Draw) -> Any:
    n = rows(draw)
    given_ = pages(draw, n) | {"reward": column(draw, "number", n), "target": column(draw, "probability", n)}
    given_["target_anywhere"] = column(draw, "probability", n)
    return slates.pseudo_inverse_of_permutations(
        **given_, candidates=np.full(n, draw(st.sampled_from([2, 3, 40, 2**53])))
    )


def whole_pages(draw: Draw) -> Any:
    n = rows(draw)
    found = decisions(draw, n)
    return PageStatistics.of(
        **pages(draw, n), reward=found["reward"], logged=found["logged"], champion=found["logged"],
        challenger=found["target"], clusters=found.get("clusters", np.arange(n)), places=draw(st.integers(0, 9)),
    ).depths(draw(st.sampled_from([LENIENT, GateSettings()])))  # fmt: skip


def log(draw: Draw, n: int) -> Log:
    found = decisions(draw, n, *MODEL)
    return Log.checked(*(found[name] for name in weighting.RULES))


def resampled(draw: Draw) -> Any:
    n = rows(draw)
    terms = [draw(st.sampled_from([weighting.ips, weighting.snips, weighting.sndr]))(log(draw, n)) for _ in range(1)]
    terms = terms * draw(st.integers(1, 2))
    return PoissonBootstrap.of(*terms, users=keys(draw, n), replicates=20, seed=1).estimate(**confident(draw))


def of_rows(function: Callable[..., Any], **more: Any) -> Callable[[Draw], Any]:
    def case(draw: Draw) -> Any:
        n = rows(draw)
        pool = draw(st.sampled_from(["probability", "probability", "number"]))
        clusters = {"clusters": keys(draw, n)} if draw(st.booleans()) else {}
        return function(column(draw, "label", n), column(draw, pool, n), settings=LENIENT, **clusters, **more)

    return case


def of_lists(draw: Draw) -> Any:
    n = rows(draw)
    metric, k = draw(st.sampled_from(tuple(FIGURES))), draw(st.sampled_from([0, 1, 3, 10, 2**40]))
    return list_metric(metric, column(draw, "label", n), column(draw, "number", n), keys(draw, n), k, settings=LENIENT)  # type: ignore[arg-type]


def compared(draw: Draw) -> Any:
    n = rows(draw)
    sides = (column(draw, "probability", n) for _ in range(2))
    metrics = draw(st.lists(st.sampled_from(METRICS), min_size=1, max_size=3))
    return compare(column(draw, "label", n), *sides, keys(draw, n), keys(draw, n), LENIENT, metrics=metrics)


def reliable(draw: Draw) -> Any:
    n, kind = rows(draw), draw(st.sampled_from(["mass", "width", "heap"]))
    bins = draw(st.sampled_from([0, 1, 10]))
    given_ = column(draw, "label", n), column(draw, "probability", n)
    return reliability(*given_, kind=kind, bins=bins, **confident(draw))


def concentrated(draw: Draw) -> Any:
    n = rows(draw)
    items, catalogue = keys(draw, n), draw(st.sampled_from([0, 1, 9, 10**6]))
    sides = [column(draw, "count", n) for _ in range(draw(st.integers(1, 2)))]
    function: Any = concentration if len(sides) == 1 else concentration_rise
    clusters = keys(draw, n) if draw(st.booleans()) else None
    return function(items, *sides, catalogue, settings=LENIENT, seed=0, clusters=clusters)


def gapped(draw: Draw) -> Any:
    n = rows(draw)
    wanted = keys(draw, n) > 1 if draw(st.booleans()) else None
    return exposure_gap(column(draw, "probability", n), keys(draw, n) > 0, settings=LENIENT, seed=0, wanted=wanted)


def experimented(draw: Draw) -> Any:
    n = rows(draw)
    return difference_of_rates(
        successes=column(draw, "number", n), trials=column(draw, "count", n), variant=keys(draw, n) > 1,
        users=keys(draw, n), **({"confidence": 0.95} | confident(draw)),
    )  # fmt: skip


def sliced(draw: Draw) -> Any:
    n = rows(draw)
    labels, scores = column(draw, "label", n), column(draw, "probability", n)
    values = np.array([draw(st.sampled_from([None, "a", "b", 1.5, math.nan, "unknown"])) for _ in range(n)], object)

    def difference(chosen: np.ndarray, confidence: float) -> Any:
        return auc(labels[chosen], scores[chosen], settings=LENIENT.model_copy(update={"confidence": confidence}))

    found = slices({"x": values}, difference, min_rows=1, **({"confidence": 0.95} | confident(draw)))
    reversals(auc(labels, scores, settings=LENIENT), found)
    return [part.difference for part in found]


CASES: Mapping[str, Callable[[Draw], Any]] = {
    "ips": of_decisions(off_policy.ips),
    "clipped_ips": of_decisions(off_policy.clipped_ips, option="clip"),
    "clipped_ips, clip by the log": of_decisions(off_policy.clipped_ips),
    "snips": of_decisions(off_policy.snips),
    "dm": of_decisions(off_policy.dm, "predicted_target"),
    "dr": of_decisions(off_policy.dr, *MODEL),
    "sndr": of_decisions(off_policy.sndr, *MODEL),
    "switch_dr": of_decisions(off_policy.switch_dr, *MODEL, option="threshold"),
    "dros": of_decisions(off_policy.dros, *MODEL, option="shrinkage"),
    "snips, guarded": guarded,
    "diagnostics": trusted,
    "iips": of_pages(slates.iips),
    "rips": of_pages(slates.rips),
    "snrips": of_pages(slates.snrips),
    "cascade_dr": of_pages(slates.cascade_dr, *MODEL),
    "pseudo_inverse": of_pages(slates.pseudo_inverse),
    "pseudo_inverse_of_permutations": permutations_,
    "PageStatistics": whole_pages,
    "PoissonBootstrap": resampled,
    "auc": of_rows(auc),
    "auc_pr": of_rows(auc_pr),
    "log_loss": of_rows(log_loss),
    "normalised_entropy": of_rows(normalised_entropy),
    "list_metric": of_lists,
    "compare": compared,
    "calibration_error": of_rows(calibration_error),
    "calibration_ratio": of_rows(calibration_ratio),
    "calibration_error, one bin": of_rows(partial(calibration_error, bins=1, kind="width")),
    "ece": of_rows(ece),
    "reliability": reliable,
    "concentration": concentrated,
    "exposure_gap": gapped,
    "difference_of_rates": experimented,
    "slices": sliced,
}


def figures(found: Any) -> list[float]:
    """Every number in what was returned."""
    if is_dataclass(found) and not isinstance(found, type):
        return figures(asdict(found))
    if isinstance(found, Mapping):
        return [x for value in found.values() for x in figures(value)]
    if isinstance(found, list | tuple):
        return [x for value in found for x in figures(value)]
    return [float(found)] if isinstance(found, int | float) else []


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_finite_or_refused_or_an_input_is_named(name: str, data: st.DataObject) -> None:
    """An infinite figure in JSON is a file nobody can read; a warning is a figure nobody should."""
    case = st.composite(lambda draw: _outcome(CASES[name], draw))()
    found = data.draw(case)
    if isinstance(found, ValueError):
        said = str(found)
        assert "need" in said or said.startswith("the target policy never takes any"), said
        assert not said.startswith(("an estimate needs finite figures", "an estimate needs low")), said
        return
    assert all(math.isfinite(x) for x in figures(found)), found


def _outcome(case: Callable[[Draw], Any], draw: Draw) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return case(draw)
        except ValueError as error:
            return error


def test_the_cases_reach_figures_too() -> None:
    """A law about what is returned says nothing of a function that always raises."""
    n = 40
    rng = np.random.default_rng(0)
    arrays = {"reward": rng.random(n), "logged": np.full(n, 0.5), "target": rng.random(n)}
    assert isinstance(off_policy.snips(**arrays, settings=LENIENT), Estimate)
    assert isinstance(off_policy.snips(**arrays, settings=GateSettings()), Refusal)
