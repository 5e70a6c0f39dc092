"""What the labels of a training set can teach, and what to say of conversions when too few are known."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.rankers.protocol import Floats, TrainingData

MIN_PER_CLASS = 20
"""A conversion head is learned only from at least this many clicks that converted and as many that did not."""
Head = TypeVar("Head")
"""Whatever a ranker learns P(conversion | click) as."""


@dataclass(frozen=True)
class Label:
    """The rows of a training set whose label is known: positions in it, labels (0.0 or 1.0) and weights."""

    rows: NDArray[np.int64]
    value: Floats
    weight: Floats

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
    """The known conversion labels of clicked rows.

    A conversion is paid to a click, so p_conversion = p_click x P(conversion | click), and the second factor is learned
    from clicks alone: a tenth of the rows, and never more conversions than clicks. What is assumed is that clicks which
    were not made would have converted like those that were (Ma et al. 2018 call it sample selection bias).
    """
    return Label.of(np.where(data.clicked == 1.0, data.converted, np.nan), data.weight)


def conversion_label(data: TrainingData) -> Label | None:
    """`conversion_of_clicks`, or None where either class has fewer than `MIN_PER_CLASS` rows."""
    label = conversion_of_clicks(data)
    return label if min(label.per_class()) >= MIN_PER_CLASS else None


def conversions_per_click(data: TrainingData) -> float:
    """Conversions per click among clicks whose conversion is known, in [0, 1], shrunk towards 0 by one pseudo-click.

    0.0 where nothing is known: no conversion was ever seen, so none is promised. It stands in for P(conversion | click)
    in rankers without enough conversions to learn from.
    """
    label = conversion_of_clicks(data)
    return float((label.weight * label.value).sum() / (label.weight.sum() + 1.0))


def without_conversions(data: TrainingData, before: Head | float) -> Head | float:
    """What a ranker says of P(conversion | click) where `data` has too few conversions to learn it from.

    That of the ranker it continues (`before`; 0.0: it knew of none), unchanged: the days of a warm start are younger
    than their conversions, and their silence says nothing. Else `conversions_per_click`.
    """
    return conversions_per_click(data) if isinstance(before, float) and before == 0.0 else before
