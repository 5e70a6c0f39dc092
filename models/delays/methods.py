"""Seven ways to learn P(outcome within the horizon) from rows whose outcome may still come.

    as_seen            "not yet" is "no": too low, the more so the younger the rows
    waited             closed rows only: right, and a horizon behind
    censoring_weights  closed noes and every yes, weighted by how rare rows are that could have shown it: right
    fake_negatives     for warm starts fed by what arrives; of one look at all rows it makes `as_seen`
    plug_in            every row, "not yet" read by the delay curve: right and up to date while delays stay as they were
    em                 the same with an exponential law a group (Chapelle 2014): right where delays are exponential
    hazards            one model per stage of the wait, multiplied: right, and least hurt by new delays

Each makes `Targets` (`hazards` several) of `Observed`: `taught`, by name, is what training and `make bench` ask.
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
"""How often `em` takes p and the rates of delay in turn at most, and by how much, as a share, they still move then."""
SHORTEST = 1e-12
"""The least sum of delays, in days, that a rate is taken from."""
STAGES = np.array([0.02, 0.15, 0.4, 1.0])
"""Where the stages of the wait end by default, in horizons."""

Predict = Callable[[Any], Floats]
"""Features of n rows to p, (n,), in [0, 1]."""
Learn = Callable[[Targets], Predict]
"""What fits any learner to the training rows that `Targets.rows` names."""


def as_seen(observed: Observed) -> Targets:
    """Every row, as if what has not come never came."""
    return Targets.of(np.arange(len(observed)), observed.come, observed.weight)


def waited(observed: Observed) -> Targets:
    """The closed rows."""
    rows = np.flatnonzero(observed.closed)
    return Targets.of(rows, observed.come[rows], observed.weight[rows])


def censoring_weights(observed: Observed) -> Targets:
    """Closed rows and early outcomes, each over the share of rows old enough to show it (Vock et al. 2016).

    G(u) is the share of rows at least u old, known exactly: an outcome of delay d weighs 1 / G(d), a closed "no"
    1 / G(horizon), an open one nothing. Raises ValueError where no row is closed.
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
    """What arrived in the last `since` days: rows that started as 0, outcomes heard of, of rows however old, as 1.

    It follows a stream, each batch learned once by a warm start. With all that ever arrived, a snapshot, it learns
    outcomes seen per row, which is `as_seen`: nothing is left that could arrive and correct the zeros.
    """
    started = np.flatnonzero(observed.age < since)
    heard = np.flatnonzero(observed.come & (observed.age - np.where(observed.come, observed.delay, 0.0) < since))
    rows = np.concatenate([started, heard])
    return FakeNegatives.of(rows, np.arange(len(rows)) >= len(started), observed.weight[rows])


def plug_in(observed: Observed, curve: DelayCurve) -> Targets:
    """-sum [o log p + (1 - o) log(1 - p F(age))]: every row once, o what has come, F the delay curve of its group.

    Chapelle's likelihood (2014) with a curve that was learned before and without any form; p and F do not depend on
    each other, given the group.
    """
    seen = curve.seen(observed.age, observed.group)
    return Targets.of(np.arange(len(observed)), observed.come, observed.weight, seen)


@dataclass(frozen=True)
class ExponentialDelays:
    """Delays of one exponential law a group (Chapelle 2014, who has a regression for the rate).

    `rate`: group to 1 / the mean delay in days; `otherwise`: of all rows, for groups without outcomes. Rows count, not
    weights. The law has no horizon: p is that of an outcome ever, and some of it comes beyond.
    """

    rate: Mapping[Any, float]
    otherwise: float

    @classmethod
    def fit(cls, observed: Observed, still: Floats | None = None) -> Self:
        """The M-step: outcomes / (their delays + the elapsed time of the rows whose outcome still comes).

        `still` (n,): the chance that it does, of rows whose outcome has not; 0 where none is given, which begins at the
        outcomes' own mean delay. Raises ValueError where no outcome has come.
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
        """By expectation and maximisation with one rate of outcomes a group, until neither moves.

        What an outcome depends on besides its group need not be known: of rows that do not depend on their age, delays
        say the same whatever p each has. Raises ValueError where no outcome has come.
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
        """As `plug_in`, by this law cut off at the horizon: p is that of an outcome within it."""
        seen = self.within(observed.elapsed, observed.group)
        ends = self.within(np.full(len(observed), observed.horizon), observed.group)
        seen = np.where(observed.closed, 1.0, np.minimum(seen / ends, 1.0))
        return Targets.of(np.arange(len(observed)), observed.come, observed.weight, seen)


def em(observed: Observed) -> Targets:
    """`plug_in` by an exponential law of delays that needs no closed row: the days of a warm start tell it too."""
    return ExponentialDelays.alone(observed).targets(observed)


def hazards(observed: Observed, edges: Floats, fresh: float = np.inf) -> list[Targets]:
    """Per stage (edges[k - 1], edges[k]], the first from 0 and the last to the horizon: does it come in this stage?

    Asked of rows that are past the stage's end and whose outcome had not come before it. Whether a row is asked must
    not depend on what it says in that stage: to ask also younger rows whose outcome has come keeps the yes and drops
    the no of the same age, and learns too much. `fresh`: only rows that passed the end less than so many days ago.

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
    """1 - (1 - h_1) ... (1 - h_K): an outcome in some stage, from its chance in each, (n,) each."""
    return np.asarray(1 - np.prod([1 - h for h in hazard], axis=0))


Taught = Targets | tuple[Targets, ...]
"""What one model learns, or one a stage of the wait, whose answers are multiplied (`of_stages`)."""


def taught(method: str, observed: Observed, curve: DelayCurve | None = None) -> Taught:
    """By the name of a method; `curve` is that of `plug_in`, by default the rows' own.

    Raises ValueError where the method needs rows that are not there, see each.
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
"""Of these a click may teach more than once: a learner that has one label a row cannot carry them."""


def learned(of: Taught, learn: Learn) -> Predict:
    """P(outcome within the horizon) by one model, or one a stage."""
    if isinstance(of, Targets):
        return learn(of)
    stages = [learn(targets) for targets in of]
    return lambda rows: of_stages([stage(rows) for stage in stages])
