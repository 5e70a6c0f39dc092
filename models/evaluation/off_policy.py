"""What another policy would have earned on logged decisions, from how likely each policy was to take them."""

from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Diagnostics:
    """How far the weights target / logged can be trusted.

    `mean_weight` is 1 in expectation when the logged propensities are right and the logging policy could take whatever
    the target would; well below 1 means the target wants what was never logged, well above 1 that propensities are
    wrong. Target mass on candidates that were never taken cannot be seen here at all.
    """

    n: int
    mean_weight: float
    mean_weight_stderr: float
    largest_weight: float
    largest_weight_share: float
    effective_n: float
    never_taken_share: float
    """Share of decisions that the target would never take: they count for nothing."""

    def as_dict(self) -> dict[str, float]:
        """A JSON-ready mapping."""
        return asdict(self)


def snips(
    *, reward: Floats, logged: Floats, target: Floats, clusters: Ints | None = None, settings: GateSettings
) -> Finding:
    """The target policy's mean reward: sum(w r) / sum(w), w = target / logged (Swaminathan & Joachims 2015, eq. 8).

    `reward`: (n,) finite. `logged`: (n,) the logging policy's probability of the decision it took, in (0, 1], NaN where
    none was logged. `target`: (n,) the target's probability of that very decision, in [0, 1]. `clusters`: (n,)
    integers, usually users; by default decisions are independent. Consistent, with a bias of order 1/n; assumes that
    `logged` is right, that decisions do not depend on one another's outcome, and that whatever the target does was
    possible when logging. The interval is the delta method's, residuals summed per cluster.

    Refused, with the reason, when a propensity is missing, the effective n (Kish) is below `min_effective_n` or one
    decision holds more than `max_weight_share` of the weight. Raises ValueError for values outside these ranges.
    """
    reward, logged, target = _checked(reward, logged, target)
    refusal = _cannot_estimate(logged, target, settings)
    if refusal:
        return refusal
    value, influence, effective_n = _self_normalised(reward, target / logged)
    return _estimate(value, influence, effective_n, clusters, settings)


def snips_difference(
    *,
    reward: Floats,
    logged: Floats,
    champion: Floats,
    challenger: Floats,
    clusters: Ints | None = None,
    settings: GateSettings,
) -> Finding:
    """The challenger's `snips` minus the champion's on the same decisions, with the interval of the difference.

    Arguments as for `snips`; what both policies share cancels, so the interval is narrower than two apart. Refused when
    either side is; `effective_n` is the smaller of the two.
    """
    sides = []
    for name, target in (("champion", champion), ("challenger", challenger)):
        r, p, q = _checked(reward, logged, target)
        refusal = _cannot_estimate(p, q, settings)
        if refusal:
            return Refusal(f"{name}: {refusal.reason}", refusal.n, refusal.effective_n)
        sides.append(_self_normalised(r, q / p))
    (before, before_influence, before_n), (after, after_influence, after_n) = sides
    return _estimate(after - before, after_influence - before_influence, min(before_n, after_n), clusters, settings)


def diagnostics(*, logged: Floats, target: Floats) -> Diagnostics | Refusal:
    """How far the weights of `snips` with these arguments can be trusted; refused when a propensity is missing."""
    _, logged, target = _checked(np.zeros(len(logged)), logged, target)
    refusal = _missing(logged)
    if refusal:
        return refusal
    w = target / logged
    n, total = len(w), float(w.sum())
    return Diagnostics(
        n=n,
        mean_weight=total / n,
        mean_weight_stderr=float(w.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0,
        largest_weight=float(w.max()),
        largest_weight_share=float(w.max() / total) if total else 0.0,
        effective_n=_kish(w),
        never_taken_share=float((w == 0).mean()),
    )


def _self_normalised(reward: Floats, w: Floats) -> tuple[float, Floats, float]:
    """The estimate, each decision's share in its error, and the effective n."""
    total = w.sum()
    value = float((w * reward).sum() / total)
    return value, w * (reward - value) / total, _kish(w)


def _estimate(
    value: float, influence: Floats, effective_n: float, clusters: Ints | None, settings: GateSettings
) -> Finding:
    """Value +- z x stderr, the influences summed within clusters first (sandwich variance)."""
    n = len(influence)
    sums: Floats = influence
    if clusters is not None:
        if len(clusters) != n:
            raise ValueError(f"clusters need one entry per decision; found {len(clusters)} for {n}")
        _, at = np.unique(np.asarray(clusters), return_inverse=True)
        sums = np.bincount(at, weights=influence).astype(np.float64)
    m = len(sums)
    if m < 2:
        return Refusal(f"an interval needs at least 2 clusters; found {m}", n, effective_n)
    stderr = float(np.sqrt((sums**2).sum() * m / (m - 1)))
    reach = NormalDist().inv_cdf(0.5 + settings.confidence / 2) * stderr
    return Estimate(value, stderr, value - reach, value + reach, n, effective_n)


def _cannot_estimate(logged: Floats, target: Floats, settings: GateSettings) -> Refusal | None:
    """Why these weights cannot carry an estimate, if so."""
    refusal = _missing(logged)
    if refusal:
        return refusal
    w = target / logged
    n, total, effective_n = len(w), float(w.sum()), _kish(w)
    if total == 0:
        return Refusal(f"the target policy never takes any of the {n} logged decisions", n)
    if effective_n < settings.min_effective_n:
        return Refusal(
            f"the estimate needs an effective n of at least {settings.min_effective_n:g}; found {effective_n:.1f}"
            f" from {n} decisions",
            n,
            effective_n,
        )
    share = float(w.max()) / total
    if share > settings.max_weight_share:
        return Refusal(
            f"no decision may hold more than {settings.max_weight_share:.1%} of the weight; found {share:.1%}"
            f" in one of {n}",
            n,
            effective_n,
        )
    return None


def _missing(logged: Floats) -> Refusal | None:
    n, missing = len(logged), int(np.isnan(logged).sum())
    if not n:
        return Refusal("the estimate needs logged decisions; found none")
    # Leaving those out would be a choice of its own: whoever calls makes it, and says so.
    return Refusal(f"{missing} of {n} decisions have no propensity", n) if missing else None


def _kish(w: Floats) -> float:
    """(sum w)² / sum w²: how many equally weighted decisions would be as good (Kish 1965); 0 without weight."""
    squares = float((w**2).sum())
    return float(w.sum()) ** 2 / squares if squares else 0.0


def _checked(reward: Floats, logged: Floats, target: Floats) -> tuple[Floats, Floats, Floats]:
    reward, logged, target = (np.asarray(a, dtype=np.float64) for a in (reward, logged, target))
    if not reward.shape == logged.shape == target.shape or reward.ndim != 1:
        raise ValueError(
            "an off-policy estimate needs reward, logged and target of one length;"
            f" found {reward.shape}, {logged.shape}, {target.shape}"
        )
    if not np.isfinite(reward).all():
        raise ValueError(f"rewards need to be finite; found {int((~np.isfinite(reward)).sum())} that are not")
    known = ~np.isnan(logged)
    if ((logged[known] <= 0) | (logged[known] > 1)).any():
        raise ValueError(
            f"logged propensities need to be in (0, 1]; found {logged[known].min()} to {logged[known].max()}"
        )
    if not ((target >= 0) & (target <= 1 + 1e-9)).all():
        raise ValueError(f"target probabilities need to be in [0, 1]; found {target.min()} to {target.max()}")
    return reward, logged, target
