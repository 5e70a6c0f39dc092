"""Whether logged decisions support a counterfactual estimate: diagnostics of the weights, and when to refuse."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import LARGEST, Finding, Refusal
from models.evaluation.moments import ClusterSums, Moments
from models.evaluation.sufficient import SufficientStatistics, WeightSums
from models.evaluation.weighting import Log, need_one_length
from models.probabilities import ROUNDING, at_most_one
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TAIL = 3_000
"""Largest weights kept: three times the square root of a million, see `tail_shape`."""
FEWEST_IN_TAIL = 5
OCTAVES = 20
"""Bins of the propensities' histogram, each half of the previous one, down to one in a million."""
NONE_COUNTED: Ints = np.zeros(OCTAVES, dtype=np.int64)


@dataclass(frozen=True)
class Diagnostics:
    """How far the weights target / logged can be trusted.

    `mean_weight` is 1 in expectation if the logged propensities are right and the logging policy could take whatever
    the target would; well below 1 the target prefers actions that were never (or too rarely) logged, well above 1 the
    propensities are wrong. `tail_shape` is the Pareto shape of the largest weights: from 0.5 their variance is infinite
    and no interval of this kind is valid, from 0.7 no sample shows the mean (Vehtari et al. 2024); None if the weights
    have no tail. A weight above `LARGEST` is reported as `LARGEST`: one is enough for a refusal.
    """

    n: int
    mean_weight: float
    mean_weight_stderr: float
    largest_weight: float
    largest_weight_share: float
    effective_n: float
    never_taken_share: float
    """Share of decisions that the target would never take: they do not count."""
    tail_shape: float | None
    smallest_logged: float
    certain_share: float
    """Share of decisions logged with probability 1: if all are, nothing was explored and nothing can be learned."""
    inverse_propensity: float | None
    """Mean of 1 / (logged x candidates): 1 if propensities are right and every candidate had a chance."""
    inverse_propensity_stderr: float | None
    unsupported_mass: float | None
    """Mean target probability of actions that the logging policy could never take."""
    logging_drift: float | None
    """Population stability index of the propensities of the day that differs most from all others."""

    def as_dict(self) -> dict[str, float | None]:
        """A JSON-ready mapping."""
        return asdict(self)


@dataclass(frozen=True)
class WeightStatistics:
    """What `Diagnostics` need from any number of rows: mergeable sums (and the largest weights of all).

    `units` has a row per decision or cluster: decisions, w, and where `candidates` or `unsupported` were given
    1 / (logged x candidates) and unsupported mass.
    """

    units: Moments | ClusterSums
    weights: WeightSums
    largest: Floats
    never: int
    certain: int
    smallest: float
    knows_candidates: bool
    knows_support: bool
    octaves: Mapping[int, Ints]
    """Day to the number of propensities in each bin; empty if no days were given."""

    @classmethod
    def of(
        cls,
        logged: Floats,
        target: Floats,
        clusters: Ints | None = None,
        candidates: Ints | None = None,
        unsupported: Floats | None = None,
        day: Ints | None = None,
    ) -> Self:
        """From arrays (n,): as for `diagnostics`, every propensity known."""
        log = Log.checked(np.zeros(len(logged)), logged, target)
        return cls.of_log(log, clusters, candidates, unsupported, day)

    @classmethod
    def of_log(
        cls,
        log: Log,
        clusters: Ints | None = None,
        candidates: Ints | None = None,
        unsupported: Floats | None = None,
        day: Ints | None = None,
    ) -> Self:
        """From decisions, or pages, whose weights are known; of `log` only they and `logged` are looked at."""
        w, n = log.weight, len(log.weight)
        count = np.ones(n) if candidates is None else np.asarray(candidates, dtype=np.float64)
        mass = np.zeros(n) if unsupported is None else np.asarray(unsupported, dtype=np.float64)
        keys = np.zeros(n, np.int64) if clusters is None else np.asarray(clusters)
        days = np.zeros(n, np.int64) if day is None else np.asarray(day)
        need_one_length({"logged": w, "candidates": count, "unsupported": mass, "clusters": keys, "day": days})
        if not ((count >= 1).all() and ((mass >= 0) & (mass <= 1 + ROUNDING)).all()):
            raise ValueError("diagnostics need candidates of at least 1 and unsupported mass in [0, 1]; found others")
        columns = [np.ones(n), w]
        columns += [] if candidates is None else [_inverse(log.logged * count)]
        columns += [] if unsupported is None else [at_most_one(mass)]
        return cls(
            Moments.of(np.array(columns).T) if clusters is None else ClusterSums.of_columns(keys, columns),
            WeightSums.of(w),
            _largest(w),
            int((w == 0).sum()),
            int((log.logged == 1).sum()),
            float(log.logged.min(initial=1.0)),
            candidates is not None,
            unsupported is not None,
            {} if day is None else {int(d): _octaves(log.logged[days == d]) for d in np.unique(days)},
        )

    def __add__(self, other: Self) -> Self:
        """Of both sets of rows. Raises ValueError when only one of them knows clusters, candidates or support."""
        knows = [(of.knows_candidates, of.knows_support) for of in (self, other)]
        if knows[0] != knows[1] and type(self.units) is type(other.units):
            raise ValueError(f"statistics add when both know candidates and support, or neither; found {knows}")
        if isinstance(self.units, Moments) and isinstance(other.units, Moments):
            units: Moments | ClusterSums = self.units + other.units
        elif isinstance(self.units, ClusterSums) and isinstance(other.units, ClusterSums):
            units = self.units + other.units
        else:
            raise ValueError("statistics add when both have clusters or neither; found one of each")
        return replace(
            self,
            units=units,
            weights=self.weights + other.weights,
            largest=_largest(np.concatenate([self.largest, other.largest])),
            never=self.never + other.never,
            certain=self.certain + other.certain,
            smallest=min(self.smallest, other.smallest),
            octaves={
                day: self.octaves.get(day, NONE_COUNTED) + other.octaves.get(day, NONE_COUNTED)
                for day in (*self.octaves, *(d for d in other.octaves if d not in self.octaves))
            },
        )

    def diagnostics(self) -> Diagnostics:
        """The figures. Raises ValueError without rows."""
        units = self.units.moments() if isinstance(self.units, ClusterSums) else self.units
        n = round(float(units.mean[0] * units.units))
        if not n:
            raise ValueError("diagnostics need logged decisions; found none")
        weight, weight_error = _mean(units, 1)
        inverse, inverse_error = _mean(units, 2) if self.knows_candidates else (None, None)
        return Diagnostics(
            n=n,
            mean_weight=weight,
            mean_weight_stderr=weight_error,
            largest_weight=self.weights.largest,
            largest_weight_share=self.weights.largest_share,
            effective_n=self.weights.effective_n,
            never_taken_share=self.never / n,
            tail_shape=tail_shape(self.largest, n),
            smallest_logged=self.smallest,
            certain_share=self.certain / n,
            inverse_propensity=inverse,
            inverse_propensity_stderr=inverse_error,
            unsupported_mass=_mean(units, 2 + self.knows_candidates)[0] if self.knows_support else None,
            logging_drift=logging_drift(self.octaves),
        )


def diagnostics(
    *,
    logged: Floats,
    target: Floats,
    clusters: Ints | None = None,
    candidates: Ints | None = None,
    unsupported: Floats | None = None,
    day: Ints | None = None,
) -> Diagnostics | Refusal:
    """How far the weights of an estimate with these arguments can be trusted; refused when a propensity is missing.

    All (n,): `logged` in (0, 1] or NaN, `target` in [0, 1], `clusters` integers, `candidates` how many actions the
    logging policy chose from, `unsupported` the target's probability of actions that policy could never take, `day`
    integers. What needs an argument that is not given is None.
    """
    refusal = missing_propensities(logged)
    if refusal:
        return refusal
    return WeightStatistics.of(logged, target, clusters, candidates, unsupported, day).diagnostics()


def missing_propensities(logged: Floats) -> Refusal | None:
    """A refusal where there are no decisions or some have no propensity (NaN)."""
    n, missing = len(logged), int(np.isnan(np.asarray(logged, dtype=np.float64)).sum())
    if not n:
        return Refusal("the estimate needs logged decisions; found none")
    # Leaving those out would be a choice of its own: whoever calls makes it, and says so.
    return Refusal(f"{missing} of {n} decisions have no propensity", n) if missing else None


def guarded(
    statistics: SufficientStatistics,
    found: Diagnostics | Refusal,
    settings: GateSettings,
    signs: Sequence[float] | None = None,
) -> Finding:
    """The estimate, or the first reason by `settings` why these decisions do not support it; `signs` as `influence`."""
    if isinstance(found, Refusal):
        return found
    try:
        influence = statistics.influence(signs)
    except ValueError as unable:
        # Of weights too large to be summed, what they do to the estimate says more.
        plainer = weights_refused(found, settings) if found.largest_weight >= LARGEST else None
        return Refusal(plainer or str(unable), found.n, found.effective_n)
    reason = weights_refused(found, settings)
    if reason:
        return Refusal(reason, found.n, found.effective_n)
    if influence.matter < settings.min_decisions_that_matter:
        return Refusal(
            f"the interval needs at least {settings.min_decisions_that_matter:g} decisions (or users) that matter;"
            f" found {influence.matter:.1f} among {influence.units}",
            influence.rows,
            influence.effective_n,
        )
    return influence.estimate(settings.confidence)


def weights_refused(found: Diagnostics, settings: GateSettings) -> str | None:
    """Why these weights do not support an estimate, if so; the plainest reason first."""
    n = found.n
    if not found.largest_weight:
        return f"the target policy never takes any of the {n} logged decisions"
    if found.effective_n < settings.min_effective_n:
        return (
            f"the estimate needs an effective n of at least {settings.min_effective_n:g};"
            f" found {found.effective_n:.1f} from {n} decisions"
        )
    if found.largest_weight_share > settings.max_weight_share:
        return (
            f"no decision may hold more than {settings.max_weight_share:.1%} of the weight;"
            f" found {found.largest_weight_share:.1%} in one of {n}"
        )
    if found.unsupported_mass is not None and found.unsupported_mass > settings.max_unsupported_mass:
        return (
            f"the logging policy must be able to take what the target does, up to"
            f" {settings.max_unsupported_mass:.1%}; found {found.unsupported_mass:.1%} of its choices without support"
        )
    least = settings.min_propensity
    if least is not None and found.smallest_logged < least * (1 - ROUNDING):
        return (
            f"no decision may be logged with less than gate.min_propensity, {least:g}; found {found.smallest_logged:g}"
        )
    if least is None and found.tail_shape is not None and found.tail_shape > settings.max_tail_shape:
        return (
            f"the largest weights need a Pareto shape of at most {settings.max_tail_shape:g}, or their mean cannot be"
            f" told; found {found.tail_shape:.2f}"
        )
    if found.logging_drift is not None and found.logging_drift > settings.max_logging_drift:
        return (
            f"the days need to be of one logging policy, with a stability index of at most"
            f" {settings.max_logging_drift:g}; found {found.logging_drift:.2f}"
        )
    reach = settings.max_mean_weight_z
    if abs(found.mean_weight - 1.0) > reach * found.mean_weight_stderr + 1e-9:
        return (
            f"the mean weight needs to be within {reach:g} standard errors of 1, or the logged propensities are not the"
            f" logging policy's; found {_figure(found.mean_weight)} +- {_figure(found.mean_weight_stderr)}"
        )
    inverse, error = found.inverse_propensity, found.inverse_propensity_stderr
    # Below 1 some candidates had no chance; where a side wants those, its mean weight says so.
    if inverse is not None and error is not None and inverse - 1.0 > reach * error + 1e-9:
        return (
            f"the mean 1 / (propensity x candidates) can be at most 1, or the logged propensities are too small; found"
            f" {_figure(inverse)} +- {_figure(error)}"
        )
    return None


def _figure(value: float) -> str:
    return f"{value:.4f}" if value < 1e6 else f"{value:.3g}"


def logging_drift(octaves: Mapping[int, Ints]) -> float | None:
    """The largest population stability index of a day's propensities against all other days'; None for fewer than two.

    sum (p - q) ln(p / q) over halvings with half a count added, less the (halvings - 1)(1 / n + 1 / m) that chance
    alone gives. By custom below 0.1 is steady, above 0.25 another policy. `octaves`: day to counts per halving.
    """
    if len(octaves) < 2:
        return None
    total, drifts = sum(octaves.values(), NONE_COUNTED), []
    seen = total > 0
    for counts in octaves.values():
        day, others = counts[seen] + 0.5, (total - counts)[seen] + 0.5
        p, q = day / day.sum(), others / others.sum()
        chance = (seen.sum() - 1) * (1 / day.sum() + 1 / others.sum())
        drifts.append(max(0.0, float(((p - q) * np.log(p / q)).sum() - chance)))
    return max(drifts)


def tail_shape(weights: Floats, n: int) -> float | None:
    """The Pareto shape of the largest min(n / 5, 3 sqrt(n)) of n weights; None where fewer than 5 differ.

    `weights` holds the largest in any order, at least that many or `TAIL`. The fit is Zhang & Stephens' (2009), with
    the weakly informative prior of Vehtari et al. (2024): 10 observations of a shape of 0.5.
    """
    size = min(math.ceil(min(n / 5, 3 * math.sqrt(n))), len(weights) - 1, TAIL - 1)
    if size < FEWEST_IN_TAIL:
        return None
    top = np.sort(weights)[::-1][: size + 1]
    excess = (top[:-1] - top[-1])[::-1]
    excess = excess[excess > 1e-12 * top[0]]
    if len(np.unique(excess)) < FEWEST_IN_TAIL:
        return None
    m = len(excess)
    grid = np.arange(1, 31 + int(math.sqrt(m)))
    quartile = excess[max(int(m / 4 + 0.5) - 1, 0)]
    b = (1 - np.sqrt(len(grid) / (grid - 0.5))) / (3 * quartile) + 1 / excess[-1]
    shapes = np.log1p(-b[:, None] * excess).mean(axis=1)
    rate = np.divide(-b, shapes, out=np.zeros(len(b)), where=shapes != 0)
    told = rate > 0  # of a rate too near 0, rounding leaves nothing
    b, shapes, rate = b[told], shapes[told], rate[told]
    likelihood = m * (np.log(rate) - shapes - 1)
    chance = np.exp(likelihood - likelihood.max())
    shape = float(np.log1p(-float(b @ chance / chance.sum()) * excess).mean())
    return (m * shape + 10 * 0.5) / (m + 10)


def _octaves(logged: Floats) -> Ints:
    """(OCTAVES,) how many propensities lie in (1/2, 1], (1/4, 1/2], ..., the last with all that is smaller."""
    return np.bincount(np.minimum(np.floor(-np.log2(logged)), OCTAVES - 1).astype(np.int64), minlength=OCTAVES)


def _inverse(chance: Floats) -> Floats:
    """(n,) 1 / chance, at most `LARGEST`."""
    with np.errstate(over="ignore", divide="ignore"):
        return np.minimum(1.0 / chance, LARGEST)


def _largest(w: Floats) -> Floats:
    """At most `TAIL` of the largest."""
    return w.copy() if len(w) <= TAIL else np.partition(w, -TAIL)[-TAIL:]


def _mean(units: Moments, column: int) -> tuple[float, float]:
    """sum(column) / sum(rows) and its standard error over units; an error of 0 for one unit."""
    rows = float(units.mean[0])
    value = float(units.mean[column]) / rows
    direction = np.zeros(len(units.mean))
    direction[0], direction[column] = -value / rows, 1.0 / rows
    m = units.units
    return value, math.sqrt(units.along(direction)[0] / (m * (m - 1))) if m > 1 else 0.0
