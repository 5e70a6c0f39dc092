"""The delay curve: F(t) = P(heard of within t | heard of within the horizon), and whether it drifts.

A young row can only show short delays, so the delays seen so far are too short: they are right-truncated by age. Read
backwards in time they are left-truncated survival times, which a product-limit estimate treats exactly: of the outcomes
that came within t on rows at least as old as t, what share came at t itself (the *reverse hazard*). One minus these,
multiplied from the horizon down, is F (Lynden-Bell 1971; Kalbfleisch & Lawless 1989; actuaries' chain ladder). It uses
neither the rate of outcomes nor the number of rows, so changes of these do not matter. It assumes that rows of every
age have the same delays; `drift` tests that.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.observed import Floats, Indices, Mask, Observed
from models.evaluation.estimate import Estimate, Refusal, upper_tail

MIN_CLOSED = 20
"""Minimum number of outcomes of closed rows for a curve: only these show the longest delays."""


DRIFT_RISK, DRIFT_CONFIDENCE = 0.01, 0.95
"""How often unchanged delays are reported as drifting; the confidence of the interval of the drift's size."""
KEPT_STEPS = 200
"""A stored curve has at most so many steps, and is lower than the original by at most 1 / KEPT_STEPS."""


@dataclass(frozen=True)
class Steps:
    """A curve that jumps at the k delays `at`, ascending: `share` (k + 1,) before the first and from each one on.

    `log_variance` (k + 1,): of log F, by Greenwood's formula read backwards; infinite where F is 0. `outcomes`: the
    number it was learned from.
    """

    at: Floats
    share: Floats
    log_variance: Floats
    outcomes: int

    @classmethod
    def fit(cls, delay: Floats, age: Floats) -> Self:
        """From the outcomes that came: the delay of each and the age of its row, (m,) with delay <= age."""
        at, count = np.unique(delay, return_counts=True)
        risk = _at_risk(at, delay, age)
        left = risk - count
        keep = left / risk
        with np.errstate(divide="ignore"):
            terms = np.where(left > 0, count / (risk * np.maximum(left, 1)), np.inf)
        share = np.append(np.cumprod(keep[::-1])[::-1], 1.0)
        return cls(at, share, np.append(np.cumsum(terms[::-1])[::-1], 0.0), len(delay))

    def contradicted(self, delay: Floats, age: Floats) -> bool:
        """Whether new outcomes (m,) have other delays than the curve says, tested at `DRIFT_RISK`.

        By the curve log F(age) - log F(delay) is exponential with mean one: the one-sample log-rank test of its reverse
        hazards. The curve's own error is not counted, so it is contradicted a little too often.
        """
        if not len(delay):
            return False
        least = 0.5 / KEPT_STEPS
        waited = np.log(np.maximum(self.within(age), least) / np.maximum(self.within(delay), least))
        off = abs(np.log(max(float(waited.mean()), least))) * sqrt(len(delay))
        return erfc(off / sqrt(2)) < DRIFT_RISK

    def renewed(self, delay: Floats, age: Floats) -> Self:
        """The curve with its part for delays up to some T learned again from newer outcomes (m,), delay <= age.

        T is the greatest age that `MIN_CLOSED` of them have reached. Up to T they show F(t) / F(T); they show nothing
        about F(T), which is kept. With fewer than `MIN_CLOSED` outcomes the curve is unchanged.
        """
        if len(delay) < MIN_CLOSED:
            return self
        until = float(np.sort(age)[-MIN_CLOSED])
        mine = delay <= until
        own = self.fit(delay[mine], np.minimum(age[mine], until))
        here = int(np.searchsorted(self.at, until, side="right"))
        return type(self)(
            np.concatenate([own.at, self.at[here:]]),
            np.concatenate([own.share * self.share[here], self.share[here + 1 :]]),
            np.concatenate([own.log_variance + self.log_variance[here], self.log_variance[here + 1 :]]),
            self.outcomes + own.outcomes,
        )

    def thinned(self) -> Self:
        """The same with at most `KEPT_STEPS` steps, each where the curve has risen by another 1 / `KEPT_STEPS`."""
        kept = np.unique(np.searchsorted(self.share[1:], np.linspace(0, 1, KEPT_STEPS)))
        above = np.append(0, kept + 1)
        return type(self)(self.at[kept], self.share[above], self.log_variance[above], self.outcomes)

    def within(self, time: Floats) -> Floats:
        """F at each time, (n,), in [0, 1]."""
        return self.share[np.searchsorted(self.at, time, side="right")]

    def variance(self, effect: Floats, time: Floats) -> float:
        """The variance of the sum of effect x log F at n times; an error at one time affects all earlier times.

        Infinite where a time with an effect has F = 0.
        """
        here = np.searchsorted(self.at, time, side="right")
        moved = np.cumsum(np.bincount(here, weights=effect, minlength=len(self.share)))[:-1]
        with np.errstate(invalid="ignore"):
            of_step = self.log_variance[:-1] - self.log_variance[1:]
        felt = moved != 0
        return float((of_step[felt] * moved[felt] ** 2).sum())

    def stderr(self, time: Floats) -> Floats:
        """The standard error of F at each time, (n,); NaN where F is 0 and its error is unknown."""
        here = np.searchsorted(self.at, time, side="right")
        known = np.isfinite(self.log_variance[here])
        return np.where(known, self.share[here] * np.sqrt(np.where(known, self.log_variance[here], 0.0)), np.nan)


@dataclass(frozen=True)
class DelayCurve:
    """One curve per group with enough closed outcomes, and the curve of all rows for every other group."""

    horizon: float
    pooled: Steps
    groups: Mapping[Any, Steps]

    @classmethod
    def fit(cls, observed: Observed) -> Self:
        """Raises ValueError for fewer than `MIN_CLOSED` outcomes of closed rows: F would have no scale."""
        closed = int((observed.come & observed.closed).sum())
        if closed < MIN_CLOSED:
            raise ValueError(
                f"a delay curve needs at least {MIN_CLOSED} outcomes of rows as old as the horizon, "
                f"{observed.horizon:g}; found {closed}"
            )
        come = observed.rows(observed.come)
        group, count = np.unique(come.group[come.closed], return_counts=True)
        found = {}
        for one in group[count >= MIN_CLOSED].tolist():
            mine = come.group == one
            found[one] = Steps.fit(come.delay[mine], come.elapsed[mine])
        return cls(observed.horizon, Steps.fit(come.delay, come.elapsed), found)

    def renewed(self, observed: Observed) -> Self:
        """The curves updated with new rows, in each group whose new rows contradict its curve; otherwise itself.

        For rows too young for a curve of their own, such as a warm start's: see `Steps.renewed`.
        """
        come = observed.rows(observed.come)

        def newer(steps: Steps, mine: Mask) -> Steps:
            delay, age = come.delay[mine], come.elapsed[mine]
            return steps.renewed(delay, age) if steps.contradicted(delay, age) else steps

        pooled = newer(self.pooled, np.ones(len(come), bool))
        groups = {one: newer(steps, come.group == one) for one, steps in self.groups.items()}
        same = pooled is self.pooled and all(groups[one] is steps for one, steps in self.groups.items())
        return self if same else type(self)(self.horizon, pooled, groups)

    def seen(self, age: Floats, group: NDArray[Any]) -> Floats:
        """F at each row's age, (n,), in [0, 1]; 1 from the horizon on."""
        return self._of(age, group, "within")

    def stderr(self, age: Floats, group: NDArray[Any]) -> Floats:
        """The standard error of `seen`, (n,); 0 from the horizon on, NaN where F is 0 and its error is unknown."""
        return self._of(age, group, "stderr")

    def variance(self, effect: Floats, age: Floats, group: NDArray[Any]) -> float:
        """An upper bound for the variance of the sum of effect x log F over n rows: groups are independent, and the
        curve of all rows may err together with them.
        """
        own, pooled = 0.0, age < self.horizon
        for one, steps in self.groups.items():
            mine = (group == one) & (age < self.horizon)
            pooled &= ~mine
            own += steps.variance(effect[mine], age[mine])
        return float((np.sqrt(own) + np.sqrt(self.pooled.variance(effect[pooled], age[pooled]))) ** 2)

    def _of(self, age: Floats, group: NDArray[Any], what: str) -> Floats:
        found = np.asarray(getattr(self.pooled, what)(age), np.float64)
        for one, steps in self.groups.items():
            mine = group == one
            found[mine] = getattr(steps, what)(age[mine])
        found[age >= self.horizon] = 1.0 if what == "within" else 0.0
        return found

    def to_json(self) -> bytes:
        """`thinned` curves, for groups that are strings; same curve, same bytes."""

        def written(steps: Steps) -> dict[str, Any]:
            thin = steps.thinned()
            variance = [value if np.isfinite(value) else None for value in thin.log_variance.tolist()]
            return {"at": thin.at.tolist(), "share": thin.share.tolist(), "log_variance": variance,
                    "outcomes": thin.outcomes}  # fmt: skip

        groups = {str(one): written(steps) for one, steps in self.groups.items()}
        tree = {"horizon": self.horizon, "pooled": written(self.pooled), "groups": groups}
        return json.dumps(tree, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """What `to_json` wrote."""

        def read(tree: Mapping[str, Any]) -> Steps:
            variance = [np.inf if value is None else value for value in tree["log_variance"]]
            return Steps(np.array(tree["at"]), np.array(tree["share"]), np.array(variance), tree["outcomes"])

        tree = json.loads(content)
        groups = {one: read(steps) for one, steps in tree["groups"].items()}
        return cls(tree["horizon"], read(tree["pooled"]), groups)


@dataclass(frozen=True)
class Drift:
    """How the delays of recent rows differ from the others': `longer` is the log ratio of their reverse hazards.

    Above 0, recent outcomes take longer: F is then too large for young rows, and dividing by it predicts too few
    outcomes. `p_value`: two-sided, in [0, 1].
    """

    longer: Estimate
    p_value: float


def drift(observed: Observed, recent: Mask, confidence: float = DRIFT_CONFIDENCE) -> Drift | Refusal:
    """Tests whether outcomes of `recent` rows (n,) have the same delays as those of the others, group by group.

    The log-rank test of reverse hazards: of the outcomes with delay <= t <= age, the recent ones that came at t against
    their share of all, at each t. So young rows are compared only over what they can have shown. The ratio is Peto's
    one-step estimate (O - E) / V. `recent` must not depend on outcomes: take it from the age. Rows count, not weights.
    """
    came, expected, variance = 0, 0.0, 0.0
    for one in np.unique(observed.group[observed.come]).tolist():
        mine = observed.come & (observed.group == one)
        delay, age, new = observed.delay[mine], observed.elapsed[mine], recent[mine]
        at, where = np.unique(delay, return_inverse=True)
        both = np.bincount(where)
        risk, risk_new = (_at_risk(at, delay[of], age[of]) for of in (slice(None), new))
        share = risk_new / risk
        came += int(new.sum())
        expected += float((both * share).sum())
        several = risk > 1
        ties = (risk - both)[several] / (risk - 1)[several]
        variance += float((both[several] * share[several] * (1 - share[several]) * ties).sum())
    n = int(observed.come.sum())
    if variance <= 0:
        return Refusal("delays of recent rows need others of the same ages to be compared with; found none", n)
    value, error = (came - expected) / variance, 1 / sqrt(variance)
    half = NormalDist().inv_cdf(upper_tail(confidence)) * error
    longer = Estimate(value, error, value - half, value + half, n, float(variance))
    return Drift(longer, erfc(abs(value / error) / sqrt(2)))


def counted(observed: Observed, ends: Floats) -> tuple[Indices, Indices]:
    """For each stage (ends[k - 1], ends[k]], the first from 0: outcomes in it, and outcomes at risk; (k,) each.

    Both count rows at least as old as the stage's end whose outcome came by then. Their ratio is the stage's reverse
    hazard (a development factor of the chain ladder). `ends` ascend and are at most the horizon.
    """
    come = observed.rows(observed.come)
    risk = _at_risk(ends, come.delay, come.elapsed)
    before = np.append(0.0, ends[:-1])
    old = [int(((come.delay <= start) & (come.elapsed >= end)).sum()) for start, end in zip(before, ends, strict=True)]
    old[:1] = [0]  # what came at once came in the first stage
    return np.asarray(risk - np.array(old, np.int64)), risk


def _at_risk(at: Floats, delay: Floats, age: Floats) -> Indices:
    """How many outcomes have delay <= t <= age, at each t."""
    return np.asarray(
        np.searchsorted(np.sort(delay), at, side="right") - np.searchsorted(np.sort(age), at, side="left"), np.int64
    )
