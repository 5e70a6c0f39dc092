"""What the labels of a training set can teach, and what to say of conversions when too few are known."""

from collections.abc import Callable
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
    loss: type[Targets] = Targets
    """Whose loss it is; of any but the plain one a row may be there twice, as a 0 and as a 1."""

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
        return self.loss(self.rows, self.value, self.weight, seen)

    @property
    def final(self) -> bool:
        """Whether its loss is the plain log-loss of final labels."""
        return self.seen is None and self.loss is Targets

    @property
    def exposed(self) -> Floats:
        """How many rows each counts for where outcomes are divided by rows: an open one as far as it was to be seen,
        and the outcome of a fake negative not again.
        """
        if self.loss is not Targets:
            return self.weight * (1 - self.value)
        return self.weight if self.seen is None else self.weight * self.seen

    def rate(self) -> float:
        """The weighted share of ones, an open row counting as far as it was to be seen."""
        return float(np.average(self.value, weights=self.weight)) if self.final else self.targets.rate()

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


def conversion_of_clicks(data: TrainingData) -> tuple[Label, ...]:
    """The conversion labels of clicked rows: the closed ones, or what `data.conversion` makes of the open ones too; one
    label, or one a stage of the wait.

    A conversion is paid to a click, so p_conversion = p_click x P(conversion | click), and the second factor is learned
    from clicks alone: a tenth of the rows, and never more conversions than clicks. What is assumed is that clicks which
    were not made would have converted like those that were (Ma et al. 2018 call it sample selection bias).
    """
    taught = data.conversion
    if taught is None:
        return (_closed_conversions(data),)
    stages = (taught,) if isinstance(taught, Targets) else taught
    if not all((data.clicked[of.rows] == 1.0).all() for of in stages):
        raise ValueError("conversions need to be those of clicked rows; found others")
    return tuple(
        Label(of.rows, of.label, of.weight, None if (of.seen == 1.0).all() else of.seen, type(of)) for of in stages
    )


def counted_conversions(data: TrainingData) -> Label:
    """One label for whoever counts: `conversion_of_clicks`, or the closed conversions where it is in stages."""
    labels = conversion_of_clicks(data)
    return labels[0] if len(labels) == 1 else _closed_conversions(data)


def _closed_conversions(data: TrainingData) -> Label:
    return Label.of(np.where(data.clicked == 1.0, data.converted, np.nan), data.weight)


def conversion_labels(data: TrainingData) -> tuple[Label | None, ...]:
    """`conversion_of_clicks`, None for a stage of which either class has fewer than `MIN_PER_CLASS` rows."""
    return tuple(label if min(label.per_class()) >= MIN_PER_CLASS else None for label in conversion_of_clicks(data))


def conversion_label(data: TrainingData) -> Label | None:
    """That of a ranker with one label a click. Raises ValueError where clicks teach in stages, or twice."""
    labels = conversion_of_clicks(data)
    if len(labels) > 1 or labels[0].loss is not Targets:
        raise ValueError("this ranker needs one conversion label a click; found stages of the wait or fake negatives")
    return conversion_labels(data)[0]


def conversions_per_click(data: TrainingData) -> float:
    """Conversions per click among clicks that teach them, in [0, 1], shrunk towards 0 by one pseudo-click.

    0.0 where nothing is known: no conversion was ever seen, so none is promised. It stands in for P(conversion | click)
    in rankers without enough conversions to learn from.
    """
    label = counted_conversions(data)
    return min(1.0, float((label.weight * label.value).sum() / (label.exposed.sum() + 1.0)))


def conversion_heads(
    data: TrainingData, before: tuple[Head, ...] | float, learn: Callable[[Label, Head | None], Head]
) -> tuple[Head, ...] | float:
    """P(conversion | click) as one head, or one a stage of the wait (`models.delays.methods.of_stages`), or a constant.

    `learn` makes a head of a label, beginning at that of the ranker it continues (`before`; 0.0: it knew of none). A
    stage with too few conversions keeps the head it had; where there was none, see `without_conversions`.
    """
    labels = conversion_labels(data)
    had = before if isinstance(before, tuple) and len(before) == len(labels) else (None,) * len(labels)
    heads = [head if label is None else learn(label, head) for label, head in zip(labels, had, strict=True)]
    known = tuple(head for head in heads if head is not None)
    return known if len(known) == len(heads) else without_conversions(data, before)


def without_conversions(data: TrainingData, before: Head | float) -> Head | float:
    """What a ranker says of P(conversion | click) where `data` has too few conversions to learn it from.

    That of the ranker it continues (`before`; 0.0: it knew of none), unchanged: the days of a warm start are younger
    than their conversions, and their silence says nothing. Else `conversions_per_click`.
    """
    return conversions_per_click(data) if isinstance(before, float) and before == 0.0 else before
