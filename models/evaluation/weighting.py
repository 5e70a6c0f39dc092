"""The contribution of each logged decision to a counterfactual estimate: the estimators, row by row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import LARGEST, exactly
from models.probabilities import ROUNDING, at_most_one

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """The allowed values of a log's column; a missing one is NaN."""

    needs: str
    good: Callable[[Floats], Bools]


NUMBER = Rule(f"finite numbers up to {LARGEST:g} in size", lambda x: np.abs(x) <= LARGEST)
RULES: Mapping[str, Rule] = {
    "reward": NUMBER,
    "logged": Rule("probabilities in (0, 1]", lambda p: (p > 0) & (p <= 1 + ROUNDING)),
    "target": Rule("probabilities in [0, 1]", lambda p: (p >= 0) & (p <= 1 + ROUNDING)),
    "predicted_logged": NUMBER,
    "predicted_target": NUMBER,
}


@dataclass(frozen=True)
class Log:
    """Logged decisions with checked values, as `checked` returns them.

    All (n,): `reward` up to `LARGEST` in size; `logged` in (0, 1], the logging policy's probability of the decision it
    took; `weight`, target / logged, as limited by `bounded`; a reward model's `predicted_logged` = q(x, taken) and
    `predicted_target` = sum over actions of target(a | x) q(x, a), zeros if there is none.
    """

    reward: Floats
    logged: Floats
    weight: Floats
    predicted_logged: Floats
    predicted_target: Floats

    @classmethod
    def checked(
        cls,
        reward: Floats,
        logged: Floats,
        target: Floats,
        predicted_logged: Floats | None = None,
        predicted_target: Floats | None = None,
    ) -> Self:
        """The arrays as float64, `target` the target policy's probability of the decision taken, in [0, 1].

        A probability above 1 by `models.probabilities.ROUNDING` is read as 1. Raises ValueError for unequal lengths
        and for values that break `RULES`.
        """
        given = (reward, logged, target, predicted_logged, predicted_target)
        found = {name: np.asarray(a, dtype=np.float64) for name, a in zip(RULES, given, strict=True) if a is not None}
        need_one_length(found)
        for name, array in found.items():
            _need(name, array, RULES[name])
        chance, wanted, none = (
            at_most_one(found["logged"]),
            at_most_one(found["target"]),
            np.zeros(len(found["reward"])),
        )
        with np.errstate(over="ignore"):
            weight = bounded(wanted / chance)
        model = (found.get(name, none) for name in ("predicted_logged", "predicted_target"))
        return cls(found["reward"], chance, weight, *model)

    @property
    def surprise(self) -> Floats:
        """The residuals of the reward model, (n,)."""
        return self.reward - self.predicted_logged


def bounded(weight: Floats) -> Floats:
    """Weights (n,) at most `LARGEST` in size, and 0 where below 1 / `LARGEST`.

    A weight that had to be cut is never part of an estimate: `models.evaluation.sufficient` refuses to sum it.
    """
    return np.where(np.abs(weight) < 1.0 / LARGEST, 0.0, np.clip(weight, -LARGEST, LARGEST))


@dataclass(frozen=True)
class Terms:
    """An estimate as sum(plain) / n + sum(ratio) / sum(weight); all (n,), `weight` multiplies the rewards."""

    plain: Floats
    ratio: Floats
    weight: Floats

    def columns(self) -> tuple[Floats, Floats, Floats]:
        """The columns to sum."""
        return self.plain, self.ratio, self.weight


Estimator = Callable[[Log], Terms]
"""From logged decisions to the contribution of each. Rows are independent, so they may be split in any way."""


def ips(log: Log) -> Terms:
    """w r."""
    return _averaged(log.weight * log.reward, log.weight)


def clipped_ips(clip: float) -> Estimator:
    """min(w, clip) r."""
    _need_positive("clip", clip)

    def terms(log: Log) -> Terms:
        weight = np.minimum(log.weight, clip)
        return _averaged(weight * log.reward, weight)

    return terms


def snips(log: Log) -> Terms:
    """w r over w."""
    return Terms(np.zeros(len(log.reward)), log.weight * log.reward, log.weight)


def dm(log: Log) -> Terms:
    """The model's prediction; every decision counts alike."""
    return _averaged(log.predicted_target, np.ones(len(log.reward)))


def dr(log: Log) -> Terms:
    """The model's prediction, plus its weighted residual."""
    return _corrected(log, log.weight)


def sndr(log: Log) -> Terms:
    """As `dr`, the correction self-normalised."""
    return Terms(log.predicted_target, log.weight * log.surprise, log.weight)


def switch_dr(threshold: float) -> Estimator:
    """As `dr` where w <= threshold; the model alone elsewhere."""
    _need_positive("threshold", threshold, zero=True)
    return lambda log: _corrected(log, np.where(log.weight <= threshold, log.weight, 0.0))


def dros(shrinkage: float) -> Estimator:
    """As `dr` with weights shrinkage w / (w² + shrinkage)."""
    _need_positive("shrinkage", shrinkage, zero=True)

    def terms(log: Log) -> Terms:
        if shrinkage == 0:
            return _corrected(log, np.zeros(len(log.reward)))
        return _corrected(log, bounded(log.weight / (1.0 + log.weight * (log.weight / shrinkage))))

    return terms


def _averaged(plain: Floats, weight: Floats) -> Terms:
    return Terms(plain, np.zeros(len(plain)), weight)


def _corrected(log: Log, weight: Floats) -> Terms:
    return _averaged(log.predicted_target + weight * log.surprise, weight)


def need_one_length(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError unless every array is (n,) for one n."""
    shapes = {a.shape for a in arrays.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        found = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ValueError(f"an off-policy estimate needs arrays of one length; found {found}")


def _need(name: str, array: Floats, rule: Rule) -> None:
    good = rule.good(array)
    if not good.all():
        row = int(np.argmin(good))
        count = int((~good).sum())
        raise ValueError(f"{name} needs {rule.needs}; found {exactly(array[row])} in row {row}, {count} such in all")


def _need_positive(name: str, value: float, zero: bool = False) -> None:
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{name} needs to be {'at least' if zero else 'above'} 0; found {value:g}")
    if 0 < value < 1 / LARGEST:
        raise ValueError(f"{name} needs to be at least {1 / LARGEST:g}; found {value:g}")
