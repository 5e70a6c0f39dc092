"""Maps from what a ranker says to what comes of it: Platt, beta or isotonic by size, none where none is shown to help.

A map is monotone, so within a surface the order of items stays. It is kept only where rows that it was not fitted on
are better told with it, for sure: users are dealt to `FOLDS` folds, and every row is mapped by what the other folds'
rows teach. `cross_fitted` deals them once more around all of that, the decision included: what it gives may be judged
on these very rows.

Where outcomes may still come, rows tell by how much of them was to be heard of by now (`Outcomes.seen`): what is said,
times that, is the chance of having heard. Such rows may be ones the ranker learned from, so that they carry a shift of
the logit and no slope: a ranker is sharper on what it learned from, but its level there is no better.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation.hashing import hashed
from models.rankers import graph
from models.rankers.graph import Traced
from models.rankers.protocol import Floats

BETA_FROM, ISOTONIC_FROM = 1_000, 10_000
"""Rows of the rarer class that a map of three numbers, and one of any shape, is fitted to; fewer make one of two."""
MIN_PER_CLASS = 100
"""Fewer of either class teach nothing: the level alone would be known to a tenth."""
FOLDS = 5
RISK = 0.05
"""How often a map is kept by chance where none is better; the surfaces share as much once more."""
BINS = 100
"""Of equal mass, whose rates an isotonic map is fitted to."""
SMALLEST = 1e-9
"""Logarithms are taken of nothing closer to 0 or 1."""
CELLS = 2_000
"""Of rows whose logits differ by less than that part of their range."""
STEPS, SETTLED, LARGEST = 50, 1e-7, 700.0
FURTHEST = 50.0
"""No shift is: it would take the least that is said for the most."""


@dataclass(frozen=True)
class Beta:
    """logit q = a ln p - b ln(1 - p) + c with a, b >= 0 (Kull, Silva Filho & Flach 2017); Platt's (1999) has a = b.

    A shift has a = b = 1: the odds times exp(c), the same for all.
    """

    a: float
    b: float
    c: float

    def __call__(self, p: Floats) -> Floats:
        """(n,) of (n,), both in [0, 1]."""
        p = np.clip(p, SMALLEST, 1 - SMALLEST)
        logit = self.a * np.log(p) - self.b * np.log1p(-p) + self.c
        found: Floats = 1.0 / (1.0 + np.exp(-np.clip(logit, -LARGEST, LARGEST)))
        return found

    def traced(self, p: Traced) -> Traced:
        """As a call."""
        p = p.clip(SMALLEST, 1 - SMALLEST)
        return graph.sigmoid(graph.log(p) * self.a - graph.log(1.0 - p) * self.b + self.c)

    @property
    def kind(self) -> str:
        """shift, platt or beta."""
        if self.a == self.b:
            return "shift" if self.a == 1 else "platt"
        return "beta"

    @property
    def numbers(self) -> dict[str, Any]:
        """What makes it."""
        return {"a": self.a, "b": self.b, "c": self.c}


@dataclass(frozen=True)
class Isotonic:
    """Straight between the middles of its steps (Zadrozny & Elkan 2002), from (0, 0) to (1, 1): nowhere flat, so that
    no two items become alike.
    """

    said: tuple[float, ...]
    comes: tuple[float, ...]

    def __call__(self, p: Floats) -> Floats:
        """(n,) of (n,), both in [0, 1]."""
        return np.interp(p, [0.0, *self.said, 1.0], [0.0, *self.comes, 1.0])

    def traced(self, p: Traced) -> Traced:
        """As a call: what each stretch that p has come through adds."""
        said, comes = np.array([0.0, *self.said, 1.0]), np.array([0.0, *self.comes, 1.0])
        wide = np.flatnonzero(np.diff(said) > 0)
        first, last = said[wide], said[wide + 1]
        slope = (comes[wide + 1] - comes[wide]) / (last - first)
        through: Traced = ((p[..., None].clip(first, last) - first) * slope).sum(-1)
        return through + float(comes[wide[0]])

    @property
    def kind(self) -> str:
        """Its name."""
        return "isotonic"

    @property
    def numbers(self) -> dict[str, Any]:
        """What makes it."""
        return {"said": self.said, "comes": self.comes}


Map = Beta | Isotonic


@dataclass(frozen=True)
class Outcomes:
    """n rows: what was said (in [0, 1]), whether it came (0.0 or 1.0), by whom (integers) and on which surface.

    `seen` (n,), in [0, 1]: P(heard of by now | comes); None: every row is closed, and none was learned from.
    """

    said: Floats
    came: Floats
    users: NDArray[np.int64]
    surface: NDArray[Any]
    seen: Floats | None = None

    def __len__(self) -> int:
        return len(self.said)

    def where(self, at: NDArray[Any]) -> "Outcomes":
        """Some rows."""
        seen = None if self.seen is None else self.seen[at]
        return Outcomes(self.said[at], self.came[at], self.users[at], self.surface[at], seen)

    @property
    def rarer(self) -> int:
        """Rows of the rarer class."""
        came = int(self.came.sum())
        return min(came, len(self) - came)

    def by_now(self, said: Floats) -> Floats:
        """(n,) the chance that it was heard of by now, by these words."""
        return said if self.seen is None else said * self.seen

    def losses(self, said: Floats) -> Floats:
        """(n,) the log-loss of these rows by other words, in nats."""
        p = np.clip(self.by_now(said), SMALLEST, 1 - SMALLEST)
        found: Floats = -np.where(self.came > 0, np.log(p), np.log1p(-p))
        return found


@dataclass(frozen=True)
class Recalibration:
    """A map for all surfaces (None: as it is said), and surfaces' own in place of it."""

    everywhere: Map | None = None
    of_surface: Mapping[str, Map] = field(default_factory=dict)

    def __call__(self, said: Floats, surface: NDArray[Any]) -> Floats:
        """(n,) of rows on these surfaces; one that is not named, or unknown, has the map of all."""
        found = said.copy() if self.everywhere is None else self.everywhere(said)
        for name, own in self.of_surface.items():
            here = surface == name
            found[here] = own(said[here])
        return found

    def traced(self, said: Traced, surface: Traced, codes: Mapping[str, int]) -> Traced:
        """As a call; `codes`: the number of each surface that is named."""
        found = said if self.everywhere is None else self.everywhere.traced(said)
        for name, own in self.of_surface.items():
            found = graph.where(surface.equals(codes[name]), own.traced(said), found)
        return found

    @property
    def changes(self) -> bool:
        """Whether it maps anything."""
        return self.everywhere is not None or bool(self.of_surface)

    def kind_on(self, surface: str) -> str:
        """shift, platt, beta, isotonic or none."""
        own = self.of_surface.get(surface, self.everywhere)
        return "none" if own is None else own.kind

    def to_json(self) -> bytes:
        """Readable bytes for `from_json`."""
        maps = {"everywhere": self.everywhere} | {f"surface {name}": own for name, own in self.of_surface.items()}
        tree = {name: {"kind": own.kind, **own.numbers} for name, own in maps.items() if own is not None}
        return json.dumps(tree, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The very recalibration `to_json` wrote."""
        maps = {name: _map(tree) for name, tree in json.loads(content).items()}
        everywhere = maps.pop("everywhere", None)
        return cls(everywhere, {name.removeprefix("surface "): own for name, own in maps.items()})

    @classmethod
    def fit(cls, rows: Outcomes, before: Self | None = None) -> Self:
        """A map of all rows, then one of each surface in its place, each where it helps for sure.

        `before` is what stays where none does: that of a ranker which is continued, whose scale a policy is used to.
        Raises ValueError for outcomes other than 0 and 1, or words outside [0, 1].
        """
        if not np.isin(rows.came, (0.0, 1.0)).all() or not ((rows.said >= 0) & (rows.said <= 1)).all():
            raise ValueError("a recalibration needs outcomes of 0 or 1 and words in [0, 1]; found others")
        if rows.seen is not None and not ((rows.seen >= 0) & (rows.seen <= 1)).all():
            raise ValueError("what was to be seen needs to be a share in [0, 1]; found others")
        before = before or cls()
        if rows.rarer < MIN_PER_CLASS:
            return before
        fold = folds(rows.users, 0)
        now = crossed(rows, fold)
        mapped = before(rows.said, rows.surface)
        kept = helps(rows, mapped, now, RISK)
        everywhere = fitted(rows) if kept else before.everywhere
        now = now if kept else mapped
        names = np.unique(rows.surface.astype(str)).tolist()
        own = {} if kept else dict(before.of_surface)
        for name in names if len(names) > 1 else []:
            here = np.flatnonzero(rows.surface == name)
            part = rows.where(here)
            if part.rarer >= MIN_PER_CLASS and helps(part, now[here], crossed(part, fold[here]), RISK / len(names)):
                own[name] = fitted(part)
        return cls(everywhere, own)


def cross_fitted(rows: Outcomes, before: Recalibration | None = None) -> list[tuple[NDArray[np.int64], Recalibration]]:
    """Each fold's rows, and the recalibration that all other folds' rows teach, decisions included."""
    fold = folds(rows.users, 1)
    return [
        (np.flatnonzero(fold == at), Recalibration.fit(rows.where(np.flatnonzero(fold != at)), before))
        for at in range(FOLDS)
    ]


def folds(users: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(n,) in [0, FOLDS): a user's rows are of one fold."""
    return (hashed(users, seed) % np.uint64(FOLDS)).astype(np.int64)


def crossed(rows: Outcomes, fold: NDArray[np.int64]) -> Floats:
    """(n,) what each row is mapped to by the rows of other folds."""
    found = rows.said.copy()
    for at in range(FOLDS):
        here, others = np.flatnonzero(fold == at), rows.where(np.flatnonzero(fold != at))
        if others.rarer:
            found[here] = fitted(others)(rows.said[here])
    return found


def helps(rows: Outcomes, before: Floats, after: Floats, risk: float) -> bool:
    """Whether `after` tells the rows better than `before`, users as they come: by chance with at most `risk`."""
    gain = rows.losses(before) - rows.losses(after)
    by_user = np.bincount(np.unique(rows.users, return_inverse=True)[1], gain)
    error = float(np.sqrt(((by_user - by_user.mean()) ** 2).sum()))
    return float(gain.sum()) > NormalDist().inv_cdf(1 - risk) * error


def fitted(rows: Outcomes) -> Map:
    """The map that the rows carry: Platt's, a beta or an isotonic one by the rows of the rarer class; of open rows a
    shift.
    """
    if rows.seen is not None:
        return shift(rows, rows.seen)
    if rows.rarer >= ISOTONIC_FROM:
        return isotonic(rows)
    found = beta(rows) if rows.rarer >= BETA_FROM else platt(rows)
    return found if found.a or found.b else Beta(1.0, 1.0, 0.0)  # a flat one would make all items alike


def shift(rows: Outcomes, seen: Floats) -> Beta:
    """logit q = logit p + c, by the likelihood of what was heard of by now (`models.delays.methods.plug_in`).

    What one row tells speaks for c = 0.
    """
    from scipy.optimize import brentq

    p = np.clip(rows.said, SMALLEST, 1 - SMALLEST)
    odds, come = p / (1 - p), rows.came > 0
    heard, silent, share = odds[come], odds[~come], seen[~come]

    def slope(c: float) -> float:
        now = np.exp(c) * silent
        still = float((share * now / (1 + now) / (1 + now * (1 - share))).sum())
        return c + still - float((1 / (1 + np.exp(c) * heard)).sum())

    c = float(brentq(slope, -FURTHEST, FURTHEST, xtol=SETTLED))
    return Beta(1.0, 1.0, c)


def platt(rows: Outcomes) -> Beta:
    """logit q = a logit p + c, by maximum likelihood, a not below 0."""
    cells = _Cells.of(rows)
    a, c = cells.slopes([cells.log_p - cells.log_not])
    return Beta(a, a, c)


def beta(rows: Outcomes) -> Beta:
    """By maximum likelihood; where a or b would fall below 0 it is 0."""
    cells = _Cells.of(rows)
    return Beta(*cells.slopes([cells.log_p, -cells.log_not]))


def isotonic(rows: Outcomes) -> Isotonic:
    """Least squares on bins of equal mass, each with a row more that was told rightly: none says never or always."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(rows.said, kind="stable")
    _, starts = np.unique(rows.said[order], return_index=True)
    first = np.unique(
        starts[np.searchsorted(starts, np.arange(0, len(order), max(1, len(order) // BINS)), "right") - 1]
    )
    size = np.diff([*first, len(order)])
    said, came = (np.add.reduceat(of[order], first) for of in (rows.said, rows.came))
    level = isotonic_regression((came + said / size) / (size + 1), weights=size + 1.0).x
    block = np.flatnonzero(np.diff(level, prepend=-1.0) > 0)
    mean = np.add.reduceat(said, block) / np.add.reduceat(size, block)
    return Isotonic(tuple(mean.tolist()), tuple(np.clip(level[block], 0.0, 1.0).tolist()))


@dataclass(frozen=True)
class _Cells:
    """Rows with nearly the same words as one: their means of ln p and ln(1 - p), how many, how many came."""

    log_p: Floats
    log_not: Floats
    rows: Floats
    came: Floats

    @classmethod
    def of(cls, rows: Outcomes) -> Self:
        """At most `CELLS`, of one width in the logit."""
        p = np.clip(rows.said, SMALLEST, 1 - SMALLEST)
        log_p, log_not = np.log(p), np.log1p(-p)
        logit = log_p - log_not
        low, width = logit.min(), max(float(np.ptp(logit)), SETTLED) / CELLS
        at = np.minimum(((logit - low) / width).astype(np.int64), CELLS - 1)
        sums: list[Floats] = [
            np.bincount(at, of, CELLS).astype(np.float64) for of in (log_p, log_not, np.ones(len(rows)), rows.came)
        ]
        log_p, log_not, n, came = (of[sums[2] > 0] for of in sums)
        return cls(log_p / n, log_not / n, n, came)

    def slopes(self, columns: list[Floats]) -> list[float]:
        """The slopes, none below 0, and the intercept of a logistic regression on the columns.

        What one row tells speaks for slopes of 1 and an intercept of 0, so that there is always an answer.
        """
        design = np.column_stack([*columns, np.ones(len(self.rows))])
        free = np.ones(design.shape[1], dtype=bool)
        while True:
            found = self._newton(design, free)
            below = np.append(found[:-1] < 0, False)
            if not below.any():
                return [float(value) for value in found]
            free &= ~below

    def _newton(self, design: Floats, free: NDArray[np.bool_]) -> Floats:
        """(k,) coefficients, 0 where not free; steps are halved until the loss does not rise."""
        start = np.append(np.ones(design.shape[1] - 1), 0.0)
        found = np.where(free, start, 0.0)

        def loss(at: Floats) -> float:
            logit = design @ at
            return float(self.rows @ np.logaddexp(0.0, logit) - self.came @ logit + ((at - start) ** 2).sum() / 2)

        now = loss(found)
        for _ in range(STEPS):
            p = 1.0 / (1.0 + np.exp(-np.clip(design @ found, -LARGEST, LARGEST)))
            slope = design.T @ (self.rows * p - self.came) + (found - start)
            curve = (design * (self.rows * p * (1 - p))[:, None]).T @ design + np.eye(len(found))
            step = np.zeros(len(found))
            step[free] = np.linalg.solve(curve[np.ix_(free, free)], slope[free])
            while (then := loss(found - step)) > now and np.abs(step).max() > SETTLED:
                step /= 2
            if np.abs(step).max() <= SETTLED:
                break
            found, now = found - step, then
        return found


def _map(tree: Mapping[str, Any]) -> Map:
    if tree["kind"] == "isotonic":
        return Isotonic(tuple(tree["said"]), tuple(tree["comes"]))
    return Beta(tree["a"], tree["b"], tree["c"])
