"""Seven ways to learn P(outcome within the horizon) from rows whose outcome may still come.

    as_seen            "not yet" is "no": too low, more so for younger rows
    waited             closed rows only: unbiased, but a horizon behind
    censoring_weights  closed noes and every yes, over the share of rows old enough to have shown it: unbiased
    fake_negatives     for warm starts fed by arriving events; on a single snapshot it equals `as_seen`
    plug_in            every row, "not yet" weighed with the delay curve: unbiased and current while delays are stable
    em                 the same with one exponential law per group (Chapelle 2014): unbiased if delays are exponential
    hazards            one model per stage of the wait, multiplied: unbiased, and least affected by new delays

Each turns `Observed` into `Targets` (`hazards` into several). Training and `make bench` call `taught`, by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.curve import DelayCurve
from models.delays.observed import Floats, Mask, Observed
from models.delays.targets import FakeNegatives, Targets

ROUNDS, SETTLED = 300, 1e-5
"""Maximum number of `em`'s iterations, and the relative change at which it has converged."""
SHORTEST = 1e-12
"""Minimum sum of delays, in days, that a rate is computed from."""
STAGES = np.array([0.02, 0.15, 0.4, 1.0])
"""Default ends of the stages of the wait, as shares of the horizon."""

Predict = Callable[[Any], Floats]
"""Features of n rows to p, (n,), in [0, 1]."""
Learn = Callable[[Targets], Predict]
"""What fits any learner to the training rows that `Targets.rows` names."""


def as_seen(observed: Observed) -> Targets:
    """Every row, as if outcomes that have not come never came."""
    return Targets.of(np.arange(len(observed)), observed.come, observed.weight)


def waited(observed: Observed) -> Targets:
    """The closed rows."""
    rows = np.flatnonzero(observed.closed)
    return Targets.of(rows, observed.come[rows], observed.weight[rows])


def censoring_weights(observed: Observed) -> Targets:
    """Closed rows and early outcomes, each over the share of rows old enough to show it (Vock et al. 2016).

    G(u) is the share of rows at least u old, known exactly: an outcome of delay d weighs 1 / G(d), a closed "no"
    1 / G(horizon), an open one 0. Raises ValueError if no row is closed.
    """
    total = observed.weight.sum()
    order = np.argsort(observed.age)
    older = np.append(np.cumsum(observed.weight[order][::-1])[::-1], 0.0) / max(total, 1e-300)

    def old_enough(time: Floats) -> Floats:
        return np.asarray(older[np.searchsorted(observed.age[order], time, side="left")])

    at_horizon = float(old_enough(np.array([observed.horizon]))[0])
    if at_horizon <= 0:
        raise ValueError(f"censoring weights need rows as old as the horizon, {observed.horizon:g}; found none")
    weight = np.where(observed.closed, 1 / at_horizon, 0.0)
    weight[observed.come] = 1 / old_enough(observed.delay[observed.come])
    return Targets.of(np.arange(len(observed)), observed.come, observed.weight * weight)


def fake_negatives(observed: Observed, since: float = np.inf) -> FakeNegatives:
    """What arrived in the last `since` days: rows that started, as 0, and outcomes of rows of any age, as 1.

    It follows a stream whose batches are each learned once, by a warm start. On a snapshot, everything that ever
    arrived, it learns outcomes seen per row, as `as_seen` does: nothing can arrive any more that corrects the zeros.
    """
    started = np.flatnonzero(observed.age < since)
    heard = np.flatnonzero(observed.come & (observed.age - np.where(observed.come, observed.delay, 0.0) < since))
    rows = np.concatenate([started, heard])
    return FakeNegatives.of(rows, np.arange(len(rows)) >= len(started), observed.weight[rows])


def plug_in(observed: Observed, curve: DelayCurve) -> Targets:
    """-sum [o log p + (1 - o) log(1 - p F(age))]: every row once, o what has come, F the delay curve of its group.

    Chapelle's likelihood (2014) with a nonparametric curve that was learned before. Given the group, p and F are
    assumed independent.
    """
    seen = curve.seen(observed.age, observed.group)
    return Targets.of(np.arange(len(observed)), observed.come, observed.weight, seen)


@dataclass(frozen=True)
class ExponentialDelays:
    """Delays with one exponential law per group (Chapelle 2014, who has a regression for the rate).

    `rate`: group to 1 / the mean delay in days; `otherwise`: that of all rows, for groups without outcomes. Rows count,
    not weights. The law has no horizon: p is for an outcome at any time, also beyond the horizon.
    """

    rate: Mapping[Any, float]
    otherwise: float

    @classmethod
    def fit(cls, observed: Observed, still: Floats | None = None) -> Self:
        """The M-step: outcomes / (their delays + the elapsed time of the rows whose outcome still comes).

        `still` (n,): for rows without an outcome, the chance that it still comes; by default 0, which starts from the
        mean delay of the outcomes. Raises ValueError if no outcome has come.
        """
        if not observed.come.any():
            raise ValueError("delays need outcomes to be learned from; found none")
        waiting = np.zeros(len(observed)) if still is None else still * observed.elapsed
        time = np.where(observed.come, observed.delay, waiting)

        def rate(mine: Mask) -> float:
            return float(observed.come[mine].sum() / max(time[mine].sum(), SHORTEST))

        groups = np.unique(observed.group[observed.come]).tolist()
        return cls({one: rate(observed.group == one) for one in groups}, rate(np.ones(len(observed), bool)))

    def within(self, time: Floats, group: NDArray[Any]) -> Floats:
        """1 - exp(-rate x time), (n,)."""
        rate = np.full(len(time), self.otherwise)
        for one, mine in self.rate.items():
            rate[group == one] = mine
        return -np.expm1(-rate * time)

    @classmethod
    def alone(cls, observed: Observed) -> Self:
        """By expectation-maximisation with one rate of outcomes per group, until convergence.

        It needs no other features: as long as p does not depend on the row's age, the delays are the same whatever p a
        row has. Raises ValueError if no outcome has come.
        """
        found, p = cls.fit(observed), np.zeros(len(observed))
        groups = [observed.group == one for one in np.unique(observed.group).tolist()]
        for mine in groups:
            p[mine] = observed.come[mine].mean()
        for _ in range(ROUNDS):
            hidden = p * (1 - found.within(observed.elapsed, observed.group))
            still = np.where(observed.come, 1.0, hidden / (1 - p + hidden))
            moved = p.copy()
            for mine in groups:
                p[mine] = still[mine].mean()
            found = cls.fit(observed, still)
            if np.abs(p - moved).max() < SETTLED * p.max():
                break
        return found

    def targets(self, observed: Observed) -> Targets:
        """As `plug_in`, with this law truncated at the horizon: p is for an outcome within it."""
        seen = self.within(observed.elapsed, observed.group)
        ends = self.within(np.full(len(observed), observed.horizon), observed.group)
        seen = np.where(observed.closed, 1.0, np.minimum(seen / ends, 1.0))
        return Targets.of(np.arange(len(observed)), observed.come, observed.weight, seen)


def em(observed: Observed) -> Targets:
    """`plug_in` with an exponential law of delays that needs no closed row, so the days of a warm start suffice."""
    return ExponentialDelays.alone(observed).targets(observed)


def hazards(observed: Observed, edges: Floats, fresh: float = np.inf) -> list[Targets]:
    """Per stage (edges[k - 1], edges[k]], the first from 0 and the last to the horizon: does the outcome come in it?

    It uses rows that are past the stage's end and had no outcome before the stage. Whether a row is used must not
    depend on its outcome in the stage: including younger rows with an outcome would keep each yes and drop the noes of
    the same age, and learn too high a rate. `fresh`: only rows that passed the end less than so many days ago.

    Raises ValueError for edges that do not ascend to the horizon.
    """
    if not (len(edges) and (np.diff(edges) > 0).all() and edges[0] > 0 and edges[-1] == observed.horizon):
        raise ValueError(f"stages need ascending ends, the last the horizon {observed.horizon:g}; found {edges}")
    delay = np.where(observed.come, observed.delay, np.inf)
    found = []
    for begin, end in zip(np.append(-np.inf, edges[:-1]), edges, strict=True):
        asked = np.flatnonzero((observed.age >= end) & (observed.age < end + fresh) & (delay > begin))
        found.append(Targets.of(asked, delay[asked] <= end, observed.weight[asked]))
    return found


def of_stages(hazard: list[Floats]) -> Floats:
    """1 - (1 - h_1) ... (1 - h_K): the chance of an outcome in any stage, from the chance in each, (n,) each."""
    return np.asarray(1 - np.prod([1 - h for h in hazard], axis=0))


Taught = Targets | tuple[Targets, ...]
"""What one model learns, or one model per stage of the wait, combined by `of_stages`."""


def taught(method: str, observed: Observed, curve: DelayCurve | None = None) -> Taught:
    """The targets of a method, by its name; `curve` is for `plug_in`, by default learned from these rows.

    Raises ValueError if the method lacks the rows it needs, see each.
    """
    if method == "plug_in":
        return plug_in(observed, curve or DelayCurve.fit(observed))
    if method == "hazards":
        return tuple(hazards(observed, STAGES * observed.horizon))
    return _ONCE[method](observed)


_ONCE: Mapping[str, Callable[[Observed], Targets]] = {
    "as_seen": as_seen,
    "fake_negatives": fake_negatives,
    "waited": waited,
    "censoring_weights": censoring_weights,
    "em": em,
}
METHODS = (*_ONCE, "hazards", "plug_in")
"""By name, the simplest first."""
SEVERAL = frozenset({"fake_negatives", "hazards"})
"""Methods that may use a click more than once: a learner with one label per row cannot use them."""


def learned(of: Taught, learn: Learn) -> Predict:
    """P(outcome within the horizon) from one model, or from one model per stage."""
    if isinstance(of, Targets):
        return learn(of)
    stages = [learn(targets) for targets in of]
    return lambda rows: of_stages([stage(rows) for stage in stages])
