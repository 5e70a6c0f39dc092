"""What each logged decision contributes to a counterfactual estimate: the estimators, row by row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDING = 1e-9
"""A sum of probabilities may exceed one by this much."""


@dataclass(frozen=True)
class Log:
    """Logged decisions whose values are possible: made by `checked`, never by hand.

    All (n,): `reward` finite; `logged` in (0, 1], the logging policy's probability of the decision it took; `target` in
    [0, 1], the target policy's probability of that very decision; a reward model's `predicted_logged` = q(x, taken) and
    `predicted_target` = sum over actions of target(a | x) q(x, a), zeros where there is none.
    """

    reward: Floats
    logged: Floats
    target: Floats
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
        """The arrays as float64. Raises ValueError for unequal lengths, values that are not finite or out of range."""
        given = {
            "reward": reward,
            "logged": logged,
            "target": target,
            "predicted_logged": predicted_logged,
            "predicted_target": predicted_target,
        }
        arrays = {name: np.asarray(a, dtype=np.float64) for name, a in given.items() if a is not None}
        need_one_length(arrays)
        for name, array in arrays.items():
            _need(name, array, "finite values", np.isfinite(array))
        _need("logged", arrays["logged"], "probabilities in (0, 1]", (arrays["logged"] > 0) & (arrays["logged"] <= 1))
        possible = (arrays["target"] >= 0) & (arrays["target"] <= 1 + ROUNDING)
        _need("target", arrays["target"], "probabilities in [0, 1]", possible)
        none = np.zeros(len(arrays["reward"]))
        return cls(*(arrays.get(name, none) for name in given))

    @property
    def weight(self) -> Floats:
        """How many times as likely the target takes the decision as the logging policy, (n,)."""
        return self.target / self.logged

    @property
    def surprise(self) -> Floats:
        """What the reward model did not foresee, (n,)."""
        return self.reward - self.predicted_logged


@dataclass(frozen=True)
class Terms:
    """An estimate as sum(plain) / n + sum(ratio) / sum(weight); all (n,), `weight` what multiplies the rewards."""

    plain: Floats
    ratio: Floats
    weight: Floats

    def columns(self) -> tuple[Floats, Floats, Floats]:
        """What is to be summed."""
        return self.plain, self.ratio, self.weight


Estimator = Callable[[Log], Terms]
"""From logged decisions to what each contributes. Rows do not see each other, so any split of them will do."""


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
    """What the model foresees; every decision counts alike."""
    return _averaged(log.predicted_target, np.ones(len(log.reward)))


def dr(log: Log) -> Terms:
    """What the model foresees, corrected by its surprises, weighted."""
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
        return _corrected(log, log.weight / (1.0 + log.weight * (log.weight / shrinkage)))

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


def _need(name: str, array: Floats, what: str, good: NDArray[np.bool_]) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(f"{name} needs {what}; found {array[row]:g} in row {row}, {int((~good).sum())} such in all")


def _need_positive(name: str, value: float, zero: bool = False) -> None:
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{name} needs to be {'at least' if zero else 'above'} 0; found {value:g}")
