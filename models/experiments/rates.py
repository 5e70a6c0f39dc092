"""Two arms of an experiment: a rate in each, and their difference, with intervals that respect users."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import LARGEST, Estimate, Finding, Refusal, upper_tail
from models.experiments.ratio import spread, told_by_others

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
    A user's error is what the other users' rate says it is (`ratio.told_by_others`), and quantiles are Student's, with
    the degrees of freedom that kurtosis leaves the arms' users, or all users where some are in both (`ratio.spread`).
    `stderr` is what the limits are the usual quantile times of. Assumes that users were assigned at random and that no
    user's outcome depends on another's arm. It looks once: reading it every day and stopping at the first success is
    not covered.

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
        name: arm if isinstance(arm, Refusal) else _estimate(arm.rate, [arm.told()[arm.seen]], arm.rows, confidence)
        for name, arm in zip(ARMS, (control, treated), strict=True)
    }
    reasons = [f"{name}: {arm.reason}" for name, arm in found.items() if isinstance(arm, Refusal)]
    if reasons or isinstance(control, Refusal) or isinstance(treated, Refusal):
        found["difference"] = Refusal("; ".join(reasons), len(successes))
    else:
        found["difference"] = _difference(control, treated, confidence)
    return found


@dataclass(frozen=True)
class _Arm:
    """One arm: sums of its users, and which of all users they are."""

    successes: Floats
    trials: Floats
    seen: NDArray[np.bool_]
    rows: int

    @property
    def rate(self) -> float:
        return float(self.successes.sum() / self.trials.sum())

    @property
    def errors(self) -> Floats:
        """Each user's share in the rate's error."""
        return (self.successes - self.rate * self.trials) / float(self.trials.sum())

    def told(self) -> Floats:
        """Of all users, what others' rate says of their share; 0 for users outside the arm."""
        found = np.zeros(len(self.seen))
        found[self.seen] = told_by_others(self.errors, self.trials / self.trials.sum())
        return found


def _arm(successes: Floats, trials: Floats, person: Ints, rows: NDArray[np.bool_]) -> _Arm | Refusal:
    n, total = int(rows.sum()), float(trials[rows].sum())
    if not total:
        return Refusal(f"a rate needs trials; found none in {n} rows", n)
    users = int(person.max()) + 1
    seen = np.bincount(person[rows], minlength=users) > 0
    if seen.sum() < 2:
        return Refusal(f"an interval needs at least 2 users; found {seen.sum()}", n)
    mine, yes, out_of = person[rows], successes[rows], trials[rows]
    sums = [np.bincount(mine, weights=of, minlength=users)[seen].astype(float) for of in (yes, out_of)]
    arm = _Arm(sums[0], sums[1], seen, n)
    if float((arm.errors**2).sum()) <= 1e-30:
        return Refusal(f"an interval needs users who differ; found a rate of {arm.rate:g} for each of {seen.sum()}", n)
    return arm


def _difference(control: _Arm, treated: _Arm, confidence: float) -> Estimate:
    """Arms are samples of their own, unless somebody is in both."""
    old, new = control.told(), treated.told()
    apart = not (control.seen & treated.seen).any()
    errors = [old[control.seen], new[treated.seen]] if apart else [(new - old)[control.seen | treated.seen]]
    found = _estimate(treated.rate - control.rate, errors, control.rows + treated.rows, confidence)
    return replace(found, effective_n=float(control.seen.sum() + treated.seen.sum()))


def _estimate(value: float, errors: list[Floats], rows: int, confidence: float) -> Estimate:
    found = spread([len(of) * of for of in errors])
    reach, users = found.reach(confidence), float(sum(len(of) for of in errors))
    return Estimate(value, found.told(confidence), value - reach, value + reach, rows, users)
