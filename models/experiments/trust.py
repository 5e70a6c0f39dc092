"""Whether an offline estimate is worth trusting: over candidates, how it hangs together with what came of them online.

Both are estimates. Their errors hide some of how the truths hang together (attenuation, Spearman 1904), so the
correlation is told twice: as seen, and with the errors taken out.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Estimate, Refusal, upper_tail

Floats = NDArray[np.float64]
ALIKE = 1e-12
"""A variance this small against all candidates' is rounding."""
LEAST = 5
"""Candidates: with fewer an interval of a correlation says nothing."""


@dataclass(frozen=True)
class Trust:
    """Offline against online over n candidates."""

    seen: Estimate
    """Pearson's correlation of the estimates; Fisher's interval, whose error is the jackknife's where that is larger:
    of a few candidates that decide it, or figures with a long tail, there is more than Fisher's 1 / sqrt(n - 3)."""
    true: Estimate | Refusal
    """Of what they estimate: `seen` over the root of both reliabilities, which are taken as they were found; so are
    its limits, none beyond 1."""
    offline_reliability: float
    online_reliability: float
    """What share of the variance over candidates is not error, in [0, 1]."""
    same_sign: float
    """Candidates of which both say better, or both say worse."""


def trust(
    offline: Floats, offline_stderr: Floats, online: Floats, online_stderr: Floats, confidence: float
) -> Trust | Refusal:
    """Four arrays (n,), a candidate each, errors independent of each other; refused for fewer than `LEAST` candidates,
    or where all of one side are alike. Raises ValueError for arrays of unequal length or figures that are not finite.
    """
    columns = [np.asarray(of, float) for of in (offline, offline_stderr, online, online_stderr)]
    if len({len(of) for of in columns}) != 1 or not all(np.isfinite(of).all() for of in columns):
        raise ValueError(f"needs finite arrays of one length; found lengths {[len(of) for of in columns]}")
    x, x_error, y, y_error = columns
    n, upper = len(x), upper_tail(confidence)
    if n < LEAST or not x.std() or not y.std():
        return Refusal(f"a correlation needs {LEAST} candidates or more that differ; found {n}", n, float(n))
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    z, error = float(_fishers(r)), max(1 / np.sqrt(n - 3), _jackknife(x, y))
    reach = NormalDist().inv_cdf(upper) * error
    low, high = min(r, float(np.tanh(z - reach))), max(r, float(np.tanh(z + reach)))
    seen = Estimate(r, float((1 - r**2) * error), low, high, n, float(n))
    reliable = [float(max(0.0, 1 - np.mean(e**2) / v.var(ddof=1))) for v, e in ((x, x_error), (y, y_error))]
    same = float((np.sign(x) == np.sign(y)).mean())
    root = float(np.sqrt(reliable[0] * reliable[1]))
    if root < 0.1:
        noise = Refusal("differences between candidates are hardly more than error", n)
        return Trust(seen, noise, reliable[0], reliable[1], same)
    value, low, high = (float(np.clip(of / root, -1, 1)) for of in (r, low, high))
    return Trust(seen, Estimate(value, seen.stderr / root, low, high, n, float(n)), reliable[0], reliable[1], same)


def _fishers(r: Floats | float) -> Floats:
    found: Floats = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    return found


def _jackknife(x: Floats, y: Floats) -> float:
    """Standard error of Fisher's z (Efron 1982, chapter 3); a correlation is 0 of candidates left that are alike."""
    n, a, b = len(x), x - x.mean(), y - y.mean()
    left = [float(of @ by) - n / (n - 1) * of * by for of, by in ((a, b), (a, a), (b, b))]
    told = (left[1] > ALIKE * float(a @ a)) & (left[2] > ALIKE * float(b @ b))
    z = _fishers(np.divide(left[0], np.sqrt(np.where(told, left[1] * left[2], 1.0)), where=told, out=np.zeros(n)))
    return float(np.sqrt((n - 1) * z.var()))
