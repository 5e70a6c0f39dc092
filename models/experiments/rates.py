"""Two arms of an experiment: a rate in each, and their difference, with intervals that respect users."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from models.evaluation.estimate import LARGEST, Estimate, Finding, Refusal, upper_tail

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ARMS = ("control", "variant")


def difference_of_rates(
    *, successes: Floats, trials: Floats, variant: NDArray[np.bool_], users: Ints, confidence: float
) -> dict[str, Finding]:
    """sum(successes) / sum(trials) of the rows outside and inside `variant`, and variant minus control.

    All (n,): `successes` finite, `trials` >= 0 (1 per request, or impressions per request), `users` integers. Each
    rate's error is linearised (delta method) and summed per user before it is squared, so many requests of one user
    count as what they are, and a user seen in both arms is paired with itself (Deng, Knoblich & Lu 2018, section 3).
    Quantiles are Student's with Welch-Satterthwaite degrees of freedom. Assumes that users were assigned at random and
    that no user's outcome depends on another's arm. It looks once: reading it every day and stopping at the first
    success is not covered.

    An arm is refused without trials, with fewer than two users, or where every user did alike (no successes at all):
    then no interval can be told; the difference is refused when either arm is. `effective_n` counts users. Raises
    ValueError for arrays of unequal length or values outside these ranges.
    """
    successes, trials, users = np.asarray(successes, float), np.asarray(trials, float), np.asarray(users)
    variant = np.asarray(variant, dtype=bool)
    lengths = {len(successes), len(trials), len(variant), len(users)}
    if len(lengths) > 1:
        raise ValueError(f"an experiment needs arrays of one length; found {sorted(lengths)}")
    countable = (trials == 0) | ((trials >= 1 / LARGEST) & (trials <= LARGEST))
    if not ((np.abs(successes) <= LARGEST).all() and countable.all()):
        raise ValueError(
            f"an experiment needs finite successes and trials of at least 0, sizes from {1 / LARGEST:g} to {LARGEST:g};"
            " found others"
        )
    upper_tail(confidence)
    _, person = np.unique(users, return_inverse=True)
    control, treated = (_arm(successes, trials, person, rows) for rows in (~variant, variant))
    found: dict[str, Finding] = {
        name: arm if isinstance(arm, Refusal) else _estimate(arm.rate, arm.error, [arm], confidence)
        for name, arm in zip(ARMS, (control, treated), strict=True)
    }
    if isinstance(control, Refusal) or isinstance(treated, Refusal):
        reasons = [f"{name}: {arm.reason}" for name, arm in found.items() if isinstance(arm, Refusal)]
        found["difference"] = Refusal("; ".join(reasons), len(successes))
    else:
        error = treated.error - control.error
        found["difference"] = _estimate(treated.rate - control.rate, error, [control, treated], confidence)
    return found


@dataclass(frozen=True)
class _Arm:
    """One arm: its rate, each user's share in the rate's error (0 for users outside the arm), users and rows."""

    rate: float
    error: Floats
    users: int
    rows: int


def _arm(successes: Floats, trials: Floats, person: Ints, rows: NDArray[np.bool_]) -> _Arm | Refusal:
    n, total = int(rows.sum()), float(trials[rows].sum())
    if not total:
        return Refusal(f"a rate needs trials; found none in {n} rows", n)
    count = len(np.unique(person[rows]))
    if count < 2:
        return Refusal(f"an interval needs at least 2 users; found {count}", n)
    rate = float(successes[rows].sum() / total)
    residual = np.where(rows, successes - rate * trials, 0.0) / total
    error = np.bincount(person, weights=residual, minlength=int(person.max()) + 1) * np.sqrt(count / (count - 1))
    if float((error**2).sum()) <= 1e-30:
        return Refusal(f"an interval needs users who differ; found a rate of {rate:g} for each of {count}", n)
    return _Arm(rate, error, count, n)


def _estimate(value: float, error: Floats, arms: list[_Arm], confidence: float) -> Estimate:
    stderr = float(np.sqrt((error**2).sum()))
    variances = [float((arm.error**2).sum()) for arm in arms]
    freedom = sum(variances) ** 2 / sum(v**2 / (arm.users - 1) for v, arm in zip(variances, arms, strict=True))
    reach = float(stdtrit(freedom, upper_tail(confidence))) * stderr
    n = sum(arm.rows for arm in arms)
    return Estimate(value, stderr, value - reach, value + reach, n, float(sum(arm.users for arm in arms)))
