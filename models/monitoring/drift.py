"""How far a day's column is from the reference's, with the part that chance alone makes taken off.

The population stability index of two samples of one distribution is not 0: its mean is (cells - 1)(1/n + 1/m) for
independent rows, .09 for two samples of 200 in ten cells, which is why the usual limit of .1 alarms on half of such
days. Here rows count as their users do, the bias is taken off, and a p-value says how often a true index at the limit
would come out as far above it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtrc, ndtr, ndtri

from models.evaluation.estimate import Estimate, Finding, Refusal, upper_tail
from models.monitoring.profile import (
    EVERYWHERE,
    HARDLY,
    MIN_USERS,
    Column,
    Floats,
    Ints,
    Part,
    counts,
    covariance,
    merged,
    numbered,
    stability_index,
)

FAR = 100.0
"""Noncentrality from which on a chi-square is reckoned by a normal."""
USUAL_TIMES = 2
"""A day may be so many times as far from the reference as the furthest of the reference's own days."""


@dataclass(frozen=True)
class Drift:
    """A day's column against the reference.

    `index`: the population stability index of the values that are known, its bias taken off and cut at 0, in nats, with
    its interval; nulls are a figure of their own, since fewer of them are no harm. `p_value`: of no drift at all;
    `p_beyond`: of an index of `bound` at most, which is the one asked for, or `USUAL_TIMES` the `usual` one of the
    reference's own days where that is more. `shannon`: the Jensen-Shannon divergence in bits, in [0, 1], as found.
    `moved`: Wasserstein's distance of numbers in interquartile ranges of the reference, without their outer hundredths;
    None of words. `nulls` and `unseen` are shares of rows less the reference's; `vanished`: frequent words that no row
    has.
    """

    index: Finding
    bound: float
    p_value: float
    p_beyond: float
    shannon: float
    moved: float | None
    nulls: "Share"
    unseen: "Share"
    vanished: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """A share of the day's rows, of the reference's, and the standard error of their difference."""

    found: float
    expected: float
    stderr: float

    @property
    def rise(self) -> float:
        """Found less expected."""
        return self.found - self.expected

    def p_beyond(self, bound: float) -> float:
        """Of a rise of at most `bound`: one-sided, normal."""
        if not self.stderr:
            return float(self.rise <= bound)
        return float(ndtr((bound - self.rise) / self.stderr))


def drift(
    column: Column,
    values: NDArray[Any],
    users: Ints,
    *,
    bound: float,
    confidence: float,
    surface: str = EVERYWHERE,
    cell: Ints | None = None,
) -> Drift | Refusal:
    """A day's values (n,) of `users` (n,) against the reference's on a surface; `cell`: `column.cells(values)`.

    The index is a quadratic form in shares that are normal around their true values: a multiple c of a chi-square
    with v degrees of freedom, c and v from its first two moments (Rao & Scott 1981, second order), not central where
    there is drift. Refused where the reference has no such surface, or the day fewer than `MIN_USERS` users.
    """
    part = column.parts.get(surface)
    if part is None:
        return Refusal(f"the reference has no rows on {surface}", len(values))
    users = numbered(users)
    n, people = len(values), int(users.max(initial=-1)) + 1
    if people < MIN_USERS:
        return Refusal(f"drift needs at least {MIN_USERS} users of a day; found {people}", n)
    cell = column.cells(values) if cell is None else cell
    known = np.flatnonzero(cell < column.size - 1)
    bound = max(bound, USUAL_TIMES * part.usual)
    index, p_value, p_beyond, shannon = _of_known(part, cell[known], numbered(users[known]), bound, confidence)
    return Drift(
        index=index,
        bound=bound,
        p_value=p_value,
        p_beyond=p_beyond,
        shannon=shannon,
        moved=_moved(column, values) if column.kind == "numbers" else None,
        nulls=_share(cell == column.size - 1, part.shares[-1], users, part),
        unseen=_share((cell == column.size - 2) & (column.kind == "words"), 0.0, users, part),
        vanished=_vanished(column, cell, part),
    )


def _of_known(
    part: Part, cell: Ints, users: Ints, bound: float, confidence: float
) -> tuple[Finding, float, float, float]:
    """Index, both p-values and divergence of the rows that are no nulls."""
    n, people, there = len(cell), int(users.max(initial=-1)) + 1, 1 - part.shares[-1]
    if people < MIN_USERS or not there:
        return (
            Refusal(f"drift needs known values of {MIN_USERS} users, and some to compare; found {people}", n),
            1.0,
            1.0,
            0.0,
        )
    shares = np.array(part.shares[:-1]) / there
    number = merged(shares)
    q: Floats = np.bincount(number, weights=shares).astype(np.float64)
    of_user = counts(number[cell], len(q), users)
    p = np.asarray(of_user.sum(axis=0)).reshape(-1) / n
    noise = covariance(of_user, p) + (np.diag(q) - np.outer(q, q)) / (part.effective_n * there)
    index = stability_index(p, q, n)
    form = _Form.of(noise, np.maximum(q, HARDLY))
    low, high = form.interval(index, confidence)
    value = max(0.0, index - form.mean)
    stderr = (high - low) / (2 * float(ndtri(upper_tail(confidence))))
    found = Estimate(value, stderr, min(low, value), max(high, value), n, n * min(1.0, _worth(p, noise, n)))
    return found, form.beyond(index, 0.0), form.beyond(index, bound), _shannon(p, q)


@dataclass(frozen=True)
class _Form:
    """A sum of squares of normal deviations, as `scale` times a chi-square of `freedom` degrees."""

    mean: float
    scale: float
    freedom: float

    @classmethod
    def of(cls, noise: Floats, weight: Floats) -> "_Form":
        """`noise` (k, k) of shares, each squared deviation over its `weight` (k,)."""
        scaled = noise / np.sqrt(np.outer(weight, weight))
        mean, square = float(np.trace(scaled)), float((scaled * scaled).sum())
        return cls(mean, square / mean if mean else 0.0, mean**2 / square if square else 1.0)

    def beyond(self, found: float, true: float) -> float:
        """How often it is at least `found` where the deviations' own sum of squares is `true`."""
        if not self.scale:
            return float(found <= true)
        return tail(found / self.scale, self.freedom, true / self.scale)

    def interval(self, found: float, confidence: float) -> tuple[float, float]:
        """The true sums under which `found` is just not too large, and just not too small."""
        below = upper_tail(confidence)
        return self._true(found, 1 - below), self._true(max(found, self.mean), below)

    def _true(self, found: float, chance: float) -> float:
        if not self.scale or self.beyond(found, 0.0) >= chance:
            return 0.0 if self.scale else found
        high = max(found, self.mean)

        def missed(true: float) -> float:
            return self.beyond(found, true) - chance

        while missed(high) < 0:
            high *= 2
        return float(brentq(missed, 0.0, high, xtol=1e-5))


def tail(x: float, freedom: float, centre: float) -> float:
    """P(a chi-square of `freedom` degrees, `centre` its noncentrality, is at least x).

    Of a large day the centre is in the thousands, for which the exact series overflows: Sankaran's transformation to
    the normal (1963, Biometrika 50, 199-204) is then off by less than 1e-4, far less than the shares' own normality.
    """
    if not centre:
        return float(chdtrc(freedom, x))
    if centre < FAR:
        from scipy.stats import ncx2  # which takes most of a second to load

        return float(ncx2.sf(x, freedom, centre))
    mean = freedom + centre
    h = 1 - 2 * mean * (freedom + 3 * centre) / (3 * (freedom + 2 * centre) ** 2)
    p = (freedom + 2 * centre) / mean**2
    m = (h - 1) * (1 - 3 * h)
    middle = 1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p)
    return float(ndtr((middle - (x / mean) ** h) / (h * np.sqrt(2 * p) * (1 + 0.5 * m * p))))


def _worth(p: Floats, noise: Floats, n: int) -> float:
    """About how many independent rows a row is worth: the variance of shares if it were one, over theirs."""
    found = float(np.trace(noise))
    return float((p * (1 - p)).sum()) / n / found if found else 1.0


def _shannon(p: Floats, q: Floats) -> float:
    middle = (p + q) / 2

    def apart(of: Floats) -> float:
        there = of > 0
        return float((of[there] * np.log2(of[there] / middle[there])).sum())

    return (apart(p) + apart(q)) / 2


def _moved(column: Column, values: NDArray[Any]) -> float | None:
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known) or not column.quantiles:
        return None
    before = np.array(column.quantiles)
    now = np.quantile(known, np.arange(1, 100) / 100)
    middle = before[74] - before[24] or before[-1] - before[0] or 1.0
    return float(np.abs(now - before).mean() / middle)


def _share(there: NDArray[np.bool_], expected: float, users: Ints, part: Part) -> Share:
    found = float(there.mean())
    # A share of none has no spread: it is as uncertain as one row more would make it.
    own = 1 / len(there) ** 2
    if found:
        sums = np.bincount(users, weights=(there - found) / len(there))
        own = max(float(sums @ sums) * len(sums) / max(1, len(sums) - 1), own)
    return Share(found, expected, float(np.sqrt(own + expected * (1 - expected) / part.effective_n)))


def _vanished(column: Column, cell: Ints, part: Part) -> tuple[str, ...]:
    here = np.bincount(cell, minlength=column.size)
    return tuple(name for at, name in enumerate(column.names) if part.shares[at] >= HARDLY and not here[at])
