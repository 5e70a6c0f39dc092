"""Off-policy estimators: what another policy would have earned on logged decisions, from both policies' probabilities.

Every function takes equal-length arrays by keyword, one entry per logged decision:

`reward`: (n,) finite. `logged`: (n,) the logging policy's probability of the decision it took, in (0, 1]. `target`:
(n,) the target policy's probability of that very decision, in [0, 1]. `predicted_logged`: (n,) a reward model's
q(x, decision taken). `predicted_target`: (n,) sum over actions of target(a | x) q(x, a). `clusters`: (n,) integers,
usually users, whose decisions may depend on one another; by default decisions are independent. `confidence`: of the
interval, in (0, 1).

The result is an `Estimate` of the target policy's mean reward per decision. Its interval is the analytic one of
`models.evaluation.sufficient.Influence`; its `effective_n` is Kish's for the weights that multiplied rewards. These
raise ValueError: a single decision (or cluster), whose error is unknown; unequal lengths; values that are not finite or
out of range; a target that never takes what was logged (unless there is a reward model). Contributions that are all
equal have a standard error of 0; the guard refuses these.

All assume that `logged` is right, that decisions do not affect one another's outcome, and that the logging policy could
take whatever the target takes. With w = target / logged, they differ in how they trade bias for variance.
"""

from typing import overload

import numpy as np
from numpy.typing import NDArray

from models.evaluation import weighting
from models.evaluation.diagnostics import Diagnostics, diagnostics, guarded, missing_propensities
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.sufficient import CONFIDENCE, SufficientStatistics
from models.evaluation.weighting import Estimator, Floats, Log
from models.settings import GateSettings

Ints = NDArray[np.int64]
__all__ = [
    "Diagnostics", "clipped_ips", "diagnostics", "dm", "dr", "dros", "ips", "smallest_error_clip", "sndr", "snips",
    "snips_difference", "switch_dr",
]  # fmt: skip
CLIPS = 24
"""Clips tried between 1, the mean weight, and the largest weight, evenly spaced in the logarithm."""


def ips(
    *, reward: Floats, logged: Floats, target: Floats, clusters: Ints | None = None, confidence: float = CONFIDENCE
) -> Estimate:
    """mean(w r): unbiased, at the price of weights of any size (Horvitz & Thompson 1952)."""
    return _estimate(weighting.ips, Log.checked(reward, logged, target), clusters, confidence)


def clipped_ips(
    *,
    reward: Floats,
    logged: Floats,
    target: Floats,
    clip: float | None = None,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """mean(min(w, clip) r): biased towards zero, with bounded weights (Ionides 2008; Bottou et al. 2013).

    `clip` > 0; without one the log chooses, see `smallest_error_clip`. The interval is that of the clipped mean: for
    rewards >= 0 its lower limit is one of the unclipped value too, its upper limit is not.
    """
    log = Log.checked(reward, logged, target)
    chosen = smallest_error_clip(log) if clip is None else clip
    return _estimate(weighting.clipped_ips(chosen), log, clusters, confidence)


def smallest_error_clip(log: Log) -> float:
    """The tried clip with the smallest estimated bias² + variance, ties to the larger.

    The bias is what clipping removes, mean((w - clip)+ |r|) on the same log, as Wang, Agarwal & Dudík (2017) choose
    their switch. It tries `CLIPS` values from 1 to the largest weight; the last clips nothing. For a stream the clip
    must be given: it has to be known before the first row.
    """
    w, r = log.weight, log.reward
    if not len(w):
        raise ValueError("a clip needs logged decisions to be chosen by; found none")
    largest = float(w.max(initial=1.0))
    errors = {}
    for clip in np.geomspace(1.0, max(largest, 1.0), CLIPS)[::-1]:
        kept = np.minimum(w, clip)
        errors[float(clip)] = float(((w - kept) * np.abs(r)).mean()) ** 2 + float((kept * r).var()) / len(w)
    return min(errors, key=errors.__getitem__)


@overload
def snips(
    *, reward: Floats, logged: Floats, target: Floats, clusters: Ints | None = None, confidence: float = CONFIDENCE
) -> Estimate: ...
@overload
def snips(
    *, reward: Floats, logged: Floats, target: Floats, clusters: Ints | None = None, settings: GateSettings
) -> Finding: ...
def snips(
    *,
    reward: Floats,
    logged: Floats,
    target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
    settings: GateSettings | None = None,
) -> Finding:
    """sum(w r) / sum(w): a bias of order 1/n, shifts with the reward (Swaminathan & Joachims 2015, eq. 8).

    With `settings` the guard is applied, with their confidence: refused if a propensity is missing (NaN) or the weights
    do not support an estimate, see `models.evaluation.diagnostics.guarded`.
    """
    if settings is None:
        return _estimate(weighting.snips, Log.checked(reward, logged, target), clusters, confidence)
    refusal = missing_propensities(logged)
    if refusal:
        return refusal
    log = Log.checked(reward, logged, target)
    statistics = SufficientStatistics.of(weighting.snips(log), clusters=clusters)
    return guarded(statistics, diagnostics(logged=logged, target=target, clusters=clusters), settings)


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

    Arguments as for `snips`; errors that both share cancel, so the interval, at `settings.value_confidence`, is
    narrower than that of two separate estimates. Refused if either side is; `effective_n` is the smaller of the two.
    """
    refusal = missing_propensities(logged)
    if refusal:
        return refusal
    terms = []
    for name, target in (("champion", champion), ("challenger", challenger)):
        found = snips(reward=reward, logged=logged, target=target, clusters=clusters, settings=settings)
        if isinstance(found, Refusal):
            return Refusal(f"{name}: {found.reason}", found.n, found.effective_n)
        terms.append(weighting.snips(Log.checked(reward, logged, target)))
    return SufficientStatistics.of(*terms, clusters=clusters).estimate(settings.value_confidence)


def dm(
    *,
    reward: Floats,
    logged: Floats,
    target: Floats,
    predicted_target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """mean(predicted_target): as biased as the model; the interval covers the sampled contexts, not model errors."""
    return _estimate(weighting.dm, Log.checked(reward, logged, target, None, predicted_target), clusters, confidence)


def dr(
    *,
    reward: Floats,
    logged: Floats,
    target: Floats,
    predicted_logged: Floats,
    predicted_target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """mean(predicted_target + w (r - predicted_logged)): unbiased whatever the model (Dudík et al. 2014).

    The model must not have seen the decision's own reward: cross-fit it (`models.evaluation.reward_models`).
    """
    log = Log.checked(reward, logged, target, predicted_logged, predicted_target)
    return _estimate(weighting.dr, log, clusters, confidence)


def sndr(
    *,
    reward: Floats,
    logged: Floats,
    target: Floats,
    predicted_logged: Floats,
    predicted_target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """`dr` with its correction divided by sum(w) instead of n (weighted doubly robust; Thomas & Brunskill 2016)."""
    log = Log.checked(reward, logged, target, predicted_logged, predicted_target)
    return _estimate(weighting.sndr, log, clusters, confidence)


def switch_dr(
    *,
    reward: Floats,
    logged: Floats,
    target: Floats,
    predicted_logged: Floats,
    predicted_target: Floats,
    threshold: float,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """`dr` where w <= threshold, the model alone elsewhere (Wang, Agarwal & Dudík 2017). `threshold` >= 0.

    0 is `dm`, infinity is `dr`; between them biased by the model's error where w is large.
    """
    log = Log.checked(reward, logged, target, predicted_logged, predicted_target)
    return _estimate(weighting.switch_dr(threshold), log, clusters, confidence)


def dros(
    *,
    reward: Floats,
    logged: Floats,
    target: Floats,
    predicted_logged: Floats,
    predicted_target: Floats,
    shrinkage: float,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """`dr` with optimistic shrinkage: weights shrinkage w / (w² + shrinkage) (Su et al. 2020).

    `shrinkage` >= 0: 0 is `dm`, infinity is `dr`. Weights are at most sqrt(shrinkage) / 2.
    """
    log = Log.checked(reward, logged, target, predicted_logged, predicted_target)
    return _estimate(weighting.dros(shrinkage), log, clusters, confidence)


def _estimate(estimator: Estimator, log: Log, clusters: Ints | None, confidence: float) -> Estimate:
    return SufficientStatistics.of(estimator(log), clusters=clusters).estimate(confidence)
