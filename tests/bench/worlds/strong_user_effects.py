"""Users differ more than what they are shown, and come again and again: their rows are far from independent."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from models.evaluation.estimate import Estimate
from tests.bench.gate_draws import Day, Floats, Law, Log, sigmoid
from tests.bench.gate_evidence import FIGURES, Goal, Judged, World

LAW = Law(base=-5.1, hidden_user_sd=1.5, fewest=8, candidates=8, per_user=50)
BINS = 15
"""Of `models.evaluation.calibration`, by default."""
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


def draw(seed: int, lift: float, decisions: int, *, factor: float) -> Iterator[Log]:
    """The challenger predicts `factor` times what it believes, and chooses as the better calibrated one would."""
    rng = np.random.default_rng(seed)
    day = Day.of(LAW, decisions, rng)
    day = day.with_rankers({"challenger": np.minimum(0.999, factor * day.predicted["challenger"])})
    log = day.log(rng)
    shown = log.choices.shown
    yield replace(log, calibration=true_error(day.requests.appeal[shown], day.predicted["challenger"][shown]))


def true_error(appeal: Floats, predicted: Floats) -> float:
    """The root mean square distance of bins of equal mass, clicks and users by expectation."""
    chances = WEIGHTS / WEIGHTS.sum()
    rate = sum(c * sigmoid(appeal + LAW.hidden_user_sd * x) for c, x in zip(chances, POINTS, strict=True))
    bins = np.array_split(np.argsort(predicted, kind="stable"), BINS)
    return float(np.sqrt(sum(len(at) * (rate[at] - predicted[at]).mean() ** 2 for at in bins) / len(predicted)))


def calibration_covered(found: Judged) -> bool | None:
    """The calibration error's interval holds the true one."""
    error = found.evidence.calibration
    return error.low <= found.log.calibration <= error.high if isinstance(error, Estimate) else None


def calibration_passed(found: Judged) -> bool:
    """The gate takes the challenger's predictions for what happens."""
    return all(rule.outcome == "pass" for rule in found.verdict.rules if rule.name.startswith("calibration"))


COUNTED = {**FIGURES, "calibration_covered": calibration_covered, "calibration_passed": calibration_passed}
PER_USER = (
    f"{LAW.per_user} rows a user, 2 % clicks, users' log-odds differ by a standard deviation of {LAW.hidden_user_sd}"
)
WORLDS = (
    *(
        World(
            name=f"strong_user_effects x{factor:g}",
            says=f"{PER_USER}; the challenger predicts {factor:g} times the clicks.",
            draw=partial(draw, factor=factor),
            goals=(Goal("calibration_covered", at_least=0.93),),
            figures=COUNTED,
        )
        for factor in (1.0, 1.5)
    ),
    *(
        World(
            name=f"strong_user_effects x{factor:g}",
            says=f"{PER_USER}; the challenger predicts {factor:g} times the clicks, and must never pass as calibrated.",
            draw=partial(draw, factor=factor),
            goals=(Goal("calibration_passed", at_most=0.0),),
            logs=60,
            figures=COUNTED,
        )
        for factor in (3.0, 0.001)
    ),
)
