"""What the labels of a training set can teach, and what to say of conversions when too few are known."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import Targets
from models.rankers.protocol import Floats, TrainingData

MIN_PER_CLASS = 20
"""A conversion head is learned only from at least this many clicks that converted and as many that did not."""
Head = TypeVar("Head")
"""Whatever a ranker learns P(conversion | click) as."""


@dataclass(frozen=True)
class Label:
    """The rows of a training set that teach a label: positions in it, labels (0.0 or 1.0) and weights.

    `seen`: how much of each row's label was to be seen by the cut, in [0, 1], where a 0 may still become a 1; None
    where every label is final. The loss is then that of `models.delays.targets.Targets`.
    """

    rows: NDArray[np.int64]
    value: Floats
    weight: Floats
    seen: Floats | None = None

    @classmethod
    def of(cls, label: Floats, weight: Floats) -> "Label":
        """Raises ValueError for a label other than 0, 1 or NaN, and for a weight that is negative or not finite."""
        label, weight = np.asarray(label, dtype=np.float64), np.asarray(weight, dtype=np.float64)
        known = ~np.isnan(label)
        if not np.isin(label[known], (0.0, 1.0)).all():
            raise ValueError("a label needs to be 0, 1 or NaN (unknown); found other values")
        if not (np.isfinite(weight) & (weight >= 0)).all():
            raise ValueError("training weights need to be finite and at least 0; found others")
        rows = np.flatnonzero(known & (weight > 0))
        return cls(rows, label[rows], weight[rows])

    @property
    def targets(self) -> Targets:
        """What a learner minimises."""
        seen = np.ones(len(self.rows)) if self.seen is None else self.seen
        return Targets(self.rows, self.value, self.weight, seen)

    @property
    def exposed(self) -> Floats:
        """How many rows each counts for where outcomes are divided by rows: an open one as far as it was to be seen."""
        return self.weight if self.seen is None else self.weight * self.seen

    def rate(self) -> float:
        """The weighted share of ones, an open row counting as far as it was to be seen."""
        return float(np.average(self.value, weights=self.weight)) if self.seen is None else self.targets.rate()

    def per_class(self) -> tuple[int, int]:
        """How many rows are 0 and how many are 1."""
        positive = int(self.value.sum())
        return len(self.value) - positive, positive


def click_label(data: TrainingData) -> Label:
    """The known click labels; raises ValueError unless both classes are among them."""
    label = Label.of(data.clicked, data.weight)
    negative, positive = label.per_class()
    if not negative or not positive:
        raise ValueError(
            f"a ranker needs clicked and unclicked rows with weight; found {positive} clicked, {negative} unclicked"
            f" of {len(data.clicked)}"
        )
    return label


def conversion_of_clicks(data: TrainingData) -> Label:
    """The conversion labels of clicked rows: the closed ones, or what `data.conversion` makes of the open ones too.

    A conversion is paid to a click, so p_conversion = p_click x P(conversion | click), and the second factor is learned
    from clicks alone: a tenth of the rows, and never more conversions than clicks. What is assumed is that clicks which
    were not made would have converted like those that were (Ma et al. 2018 call it sample selection bias).
    """
    if data.conversion is None:
        return Label.of(np.where(data.clicked == 1.0, data.converted, np.nan), data.weight)
    found = data.conversion
    if not (data.clicked[found.rows] == 1.0).all():
        raise ValueError("conversions need to be those of clicked rows; found others")
    final = bool((found.seen == 1.0).all())
    return Label(found.rows, found.label, found.weight, None if final else found.seen)


def conversion_label(data: TrainingData) -> Label | None:
    """`conversion_of_clicks`, or None where either class has fewer than `MIN_PER_CLASS` rows."""
    label = conversion_of_clicks(data)
    return label if min(label.per_class()) >= MIN_PER_CLASS else None


def conversions_per_click(data: TrainingData) -> float:
    """Conversions per click among clicks that teach them, in [0, 1], shrunk towards 0 by one pseudo-click.

    0.0 where nothing is known: no conversion was ever seen, so none is promised. It stands in for P(conversion | click)
    in rankers without enough conversions to learn from.
    """
    label = conversion_of_clicks(data)
    return min(1.0, float((label.weight * label.value).sum() / (label.exposed.sum() + 1.0)))


def without_conversions(data: TrainingData, before: Head | float) -> Head | float:
    """What a ranker says of P(conversion | click) where `data` has too few conversions to learn it from.

    That of the ranker it continues (`before`; 0.0: it knew of none), unchanged: the days of a warm start are younger
    than their conversions, and their silence says nothing. Else `conversions_per_click`.
    """
    return conversions_per_click(data) if isinstance(before, float) and before == 0.0 else before
