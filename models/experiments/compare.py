"""Two arms of an experiment in one metric: each arm's figure, their difference, and what may be said of it and when."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, stdtr

from models.evaluation.estimate import LARGEST, Estimate, Refusal, upper_tail
from models.experiments.ratio import Spread, of_level, spread, told_by_others
from models.experiments.sequences import at_any_look, evidence

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEAST_USERS = 100
"""Of an arm, and at least a tenth as many that did anything: below, no interval of means is normal enough to be read
again and again."""
UNBALANCED = 1e-3
"""Arms that differ before the start as often as this by chance are no random halves, or somebody is unlucky."""
FLAT = 1e-12
"""A variance this small against the squares it is the difference of is rounding."""


@dataclass(frozen=True)
class Difference:
    """Treated less control in one metric, per unit of it."""

    control: Estimate
    treated: Estimate
    fixed: Estimate
    """What a single look at a planned end may say, adjusted for what users did before."""
    always: tuple[float, float]
    """What any look may say, all of them at one risk."""
    p_value: float
    """Of no difference, at a planned end."""
    always_p: float
    """At this look; the least over all looks is valid whenever one stops."""
    variance_left: float
    """Of the unadjusted difference's: 0.5 saves half the users; above 1 by a little where nothing is explained."""
    capped: float
    """Share of users whose figure was cut down to the cap, of both arms alike."""
    before_p: float | None
    """That arms so unlike before the start come by chance; None where nothing is known of before."""

    @property
    def sound(self) -> bool:
        """Whether the arms were alike before the start, as chance makes them."""
        return self.before_p is None or self.before_p >= UNBALANCED


def compare(
    numerators: Floats,
    denominators: Floats,
    treated: Bools,
    *,
    interesting: float,
    confidence: float,
    before: Floats | None = None,
    cap: float = 1.0,
) -> Difference | Refusal:
    """sum(numerators) / sum(denominators) of the treated less that of the others, users being the units.

    (n,) one row per user: what is counted, and out of how much (1 each for a mean per user, impressions for a click
    rate); NaN in either leaves the user out, as unknown. `before` (n, k): figures of the same users from before their
    first exposure, NaN where there are none. `interesting` is the relative lift worth finding; `cap` the quantile of
    users with a figure at which figures are cut (winsorised), 1 for none: the estimand is then the capped mean.

    Each arm's ratio is linearised, (y - R x) / mean(x) (delta method, Deng, Knoblich & Lu 2018), and of that what a
    regression on `before` within arms explains is taken away (CUPED, Deng et al. 2013, which for ratios is this
    regression too), so that no figure from after the start can move between arms. A user's error is that from a ratio
    and a regression fitted without the user (`ratio.told_by_others`), quantiles are Welch's with the degrees of freedom
    that users' kurtosis leaves (`ratio.spread`), and `stderr` is what the limits are the usual quantile times of: read
    at any look, it holds what few users hide.
    An arm's own level has the limits of `ratio.of_level`: what two arms have alike of a tail cancels in their
    difference, and in no level. Refused with too few users, where none differ, or where an arm's trials are a few
    users'. Raises ValueError for arrays of unequal length or a cap, lift or confidence out of range.
    """
    y, x, arm = np.asarray(numerators, float), np.asarray(denominators, float), np.asarray(treated, bool)
    if not (len(y) == len(x) == len(arm) and (before is None or len(before) == len(y))):
        raise ValueError(f"a comparison needs arrays of one length; found {len(y)}, {len(x)} and {len(arm)}")
    if not 0 < cap <= 1 or not interesting > 0:
        raise ValueError(f"needs a cap in (0, 1] and an interesting lift above 0; found {cap} and {interesting}")
    if (np.abs(y) > LARGEST).any() or (x < 0).any() or (x > LARGEST).any():
        raise ValueError(f"needs figures of at most {LARGEST:g} and denominators of at least 0; found others")
    upper_tail(confidence)
    known = np.isfinite(y) & np.isfinite(x)
    y, x, arm = y[known], x[known], arm[known]
    if refusal := _too_few(y, x, arm):
        return refusal
    capped, y = _capped(y, cap)
    ratio = [float(y[side].sum() / x[side].sum()) for side in (~arm, arm)]
    rate, size = np.where(arm, ratio[1], ratio[0]), np.where(arm, x[arm].mean(), x[~arm].mean())
    raw = (y - rate * x) / size
    share = x / (size * np.where(arm, arm.sum(), (~arm).sum()))
    left, moved, before_p, drawn = raw, 0.0, None, np.zeros(len(y))
    if before is not None:
        left, moved, before_p, drawn = _adjusted(raw, arm, np.asarray(before, float)[known])
    control, other = (_level(ratio[n], y[side], x[side], raw[side], confidence) for n, side in enumerate((~arm, arm)))
    if isinstance(control, Refusal):
        return control
    if isinstance(other, Refusal):
        return other
    unadjusted, error = (
        spread([told_by_others(of[side], by[side]) for side in (~arm, arm)])
        for of, by in ((raw, share), (left, share + drawn))
    )
    fixed = _difference(ratio[1] - ratio[0] - moved, error, len(y), confidence)
    if fixed.stderr**2 <= FLAT * float(np.mean(y**2) / np.mean(x) ** 2) / len(y):
        return Refusal(f"an interval needs users who differ; found {ratio[0]:g} and {ratio[1]:g} for each", len(y))
    scale = interesting * (abs(ratio[0]) or fixed.stderr)
    return Difference(
        control,
        other,
        fixed,
        at_any_look(fixed, scale, confidence),
        float(2 * stdtr(error.freedom, -abs(fixed.value) / error.stderr)),
        min(1.0, 1 / evidence(fixed.value, fixed.stderr, scale)),
        (error.stderr / unadjusted.stderr) ** 2,
        capped,
        before_p,
    )


def _too_few(y: Floats, x: Floats, arm: Bools) -> Refusal | None:
    """Why nothing can be told, if nothing can."""
    for name, side in (("control", ~arm), ("treated", arm)):
        users, active = int(side.sum()), int((y[side] != 0).sum())
        if users < LEAST_USERS or active < LEAST_USERS // 10:
            least = f"{LEAST_USERS} users, {LEAST_USERS // 10} of them with a figure"
            return Refusal(f"{name}: needs at least {least}; found {users} and {active}", len(y), float(len(y)))
        if not x[side].sum():
            return Refusal(f"{name}: a rate needs trials; found none of {users} users", len(y), float(len(y)))
    return None


def _capped(y: Floats, cap: float) -> tuple[float, Floats]:
    """Share of users cut, and figures cut at the same value in both arms: a cap of each arm's own would hide a tail."""
    if cap == 1:
        return 0.0, y
    limit = float(np.quantile(y[y != 0], cap))
    return float((y > limit).mean()), np.minimum(y, limit)


def _adjusted(raw: Floats, arm: Bools, before: Floats) -> tuple[Floats, float, float | None, Floats]:
    """What `before` leaves of each user's figure, how much of the difference it explains, whether arms were alike, and
    each user's leverage in it.

    Users new since then get the mean, and an indicator. Arms are weighted by what they add to the difference's error.
    """
    new = np.isnan(before)
    known = np.maximum((~new).sum(axis=0), 1)
    filled = np.where(new, np.where(new, 0.0, before).sum(axis=0) / known, before)
    columns = np.column_stack([filled, new.any(axis=1)])
    spread = columns.std(axis=0)
    columns = (columns[:, spread > 0] - columns[:, spread > 0].mean(axis=0)) / spread[spread > 0]
    if not columns.shape[1] or len(raw) < 20 * columns.shape[1]:
        return raw, 0.0, None, np.zeros(len(raw))
    means = [columns[side].mean(axis=0) for side in (~arm, arm)]
    own = columns - np.where(arm[:, None], means[1], means[0])
    weighted = own * np.where(arm, 1 / arm.sum(), 1 / (~arm).sum())[:, None] ** 2
    inverse = np.linalg.pinv(weighted.T @ own, rcond=1e-9, hermitian=True)
    theta, gap = inverse @ (weighted.T @ raw), means[1] - means[0]
    return raw - own @ theta, float(gap @ theta), _alike(own, gap, arm), ((weighted @ inverse) * own).sum(axis=1)


def _alike(own: Floats, gap: Floats, arm: Bools) -> float:
    """p of a gap so large between arms drawn at random: Hotelling's T², in its chi-squared limit."""
    spread = sum((own[side].T @ own[side] / side.sum() ** 2 for side in (arm, ~arm)), np.zeros((len(gap),) * 2))
    rank = int(np.linalg.matrix_rank(spread, hermitian=True))
    far = gap @ np.linalg.pinv(spread, hermitian=True) @ gap
    return float(chdtrc(rank, np.maximum(far, 0.0)))  # a rounding below nought is nought


def _level(value: float, y: Floats, x: Floats, errors: Floats, confidence: float) -> Estimate | Refusal:
    """An arm's own figure."""
    users = len(y)
    low, high = of_level(y, x, confidence)
    if not math.isfinite(high - low):
        return Refusal(f"a rate needs trials of more users than a few; found {x.max() / x.sum():.0%} of one's", users)
    return Estimate(value, float(errors.std(ddof=1) / np.sqrt(users)), low, high, users, float(users))


def _difference(value: float, error: Spread, users: int, confidence: float) -> Estimate:
    reach = error.reach(confidence)
    return Estimate(value, error.told(confidence), value - reach, value + reach, users, float(users))
