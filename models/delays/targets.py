"""What a learner minimises: a loss in each row's logit, with its slope and curvature.

These three are all that L-BFGS, boosting (a custom objective) and torch (`models.delays.autograd`) need.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.delays.observed import Floats, Indices

FURTHEST = 1e-6
"""A base rate is kept this far from 0 and 1, where its logit would be infinite."""


@dataclass(frozen=True)
class Targets:
    """-sum weight [label log p + (1 - label) log(1 - p seen)] over m rows, p = sigmoid(logit).

    `rows`: positions in the data; `label` 0.0 or 1.0; `weight` >= 0; `seen` in [0, 1]: the expected share of a row's
    outcomes that is visible by now. If it is 1, this is the log-loss; if it is 0, a "not yet" says nothing.

    In the logit a "not yet" pulls towards the soft label p (1 - seen) / (1 - p seen), the chance that it still comes.
    """

    rows: Indices
    label: Floats
    weight: Floats
    seen: Floats

    @classmethod
    def of(cls, rows: Indices, label: NDArray[np.bool_], weight: Floats, seen: Floats | None = None) -> Self:
        """With `seen` 1 unless given; rows of weight 0 are left out.

        Raises ValueError for a share outside [0, 1].
        """
        seen = np.ones(len(rows)) if seen is None else seen
        if not ((seen >= 0) & (seen <= 1)).all():
            raise ValueError("what was to be seen needs to be a share in [0, 1]; found others")
        kept = weight > 0
        return cls(rows[kept], label[kept].astype(np.float64), weight[kept], seen[kept])

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: Indices) -> Self:
        """Some of the m rows, for example a minibatch."""
        return type(self)(*(getattr(self, field.name)[which] for field in fields(self)))

    def rate(self) -> float:
        """The constant p that is right on average, from which a learner starts; in (0, 1)."""
        exposed = float((self.weight * self.seen).sum())
        rate = float((self.weight * self.label).sum()) / exposed if exposed else 0.5
        return min(max(rate, FURTHEST), 1 - FURTHEST)

    def at(self, logit: Floats) -> tuple[Floats, Floats, Floats]:
        """Each row's loss, slope, and an upper bound of its curvature, (m,) each, times the weight."""
        e = np.exp(-np.abs(logit))
        p = np.where(logit >= 0, 1.0, e) / (1 + e)
        loss = np.maximum(logit, 0.0) + np.log1p(e) - self.label * logit
        slope = p - self.label
        hidden = np.flatnonzero((self.label == 0) & (self.seen < 1))
        still = logit[hidden] + np.log1p(-self.seen[hidden])
        loss[hidden] -= softplus(still)
        slope[hidden] -= sigmoid(still)
        return self.weight * loss, self.weight * slope, self.weight * p * (1 - p)


class FakeNegatives(Targets):
    """The loss of a stream in which every row arrives once as 0 and, when its outcome comes, once more as 1.

    Weights of 1 + p for ones and (1 - p)(1 + p) for zeros, p taken as a constant, undo the false zeros (Ktena et al.
    2019, "fake negative weighted"). Integrated over the logit these slopes are the losses -log p - p and
    p + p²/2, so it can be minimised like any other; it is convex only below p = 0.57.
    """

    def rate(self) -> float:
        """Ones per zero: each row is among the zeros."""
        zeros = float((self.weight * (1 - self.label)).sum())
        rate = float((self.weight * self.label).sum()) / zeros if zeros else 0.5
        return min(max(rate, FURTHEST), 1 - FURTHEST)

    def at(self, logit: Floats) -> tuple[Floats, Floats, Floats]:
        """As of `Targets`; the curvature is that with the weights held constant."""
        p = sigmoid(logit)
        one = self.label == 1
        loss = np.where(one, softplus(-logit) - p, p + p**2 / 2)
        weight = np.where(one, 1 + p, 1 - p**2)
        return self.weight * loss, self.weight * weight * (p - self.label), self.weight * weight * p * (1 - p)


def sigmoid(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit)), 0 at minus infinity, without overflow."""
    e = np.exp(-np.abs(logit))
    return np.asarray(np.where(logit >= 0, 1.0, e) / (1 + e))


def softplus(logit: Floats) -> Floats:
    """log(1 + exp(logit)), 0 at minus infinity, without overflow."""
    return np.asarray(np.maximum(logit, 0.0) + np.log1p(np.exp(-np.abs(logit))))
