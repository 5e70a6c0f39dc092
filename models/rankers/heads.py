"""What a network's further tasks predict: outcomes beside click and conversion, each by a tower and a gate of its own.

A binary outcome is a logistic regression on the tower. A value is a log-linear one by the Poisson quasi-likelihood
(Gourieroux, Monfort & Trognon 1984): right in the mean whatever the distribution, with zeros and a long tail, where a
squared error on log1p is right in a geometric mean and has to be corrected. An outcome through a click is learned of
clicked rows, and what is said of an impression is p(click) times that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import sigmoid
from models.rankers import graph
from models.rankers.graph import Traced
from models.rankers.labels import MIN_PER_CLASS
from models.rankers.protocol import Floats, FurtherOutcome, TrainingData

MOST = 8.0
"""The logarithm of how many times its mean a value can be predicted to be: 3,000."""


@dataclass(frozen=True)
class Head:
    """One further task; `scale`: of a value its mean over the rows it was first learned from, in whose units it is
    learned; 1 of a binary outcome.
    """

    name: str
    kind: Literal["binary", "value"]
    given_click: bool
    scale: float

    def said(self, logit: Floats, p_click: Floats) -> Floats:
        """(n,) the probability, or the mean value, of an impression."""
        found = sigmoid(logit) if self.kind == "binary" else self.scale * np.exp(np.minimum(logit, MOST))
        return found * p_click if self.given_click else found

    def traced(self, logit: Traced, p_click: Traced) -> Traced:
        """As `said`."""
        found = graph.sigmoid(logit) if self.kind == "binary" else graph.exp(logit.clip(max=MOST)) * self.scale
        return found * p_click if self.given_click else found

    def first_bias(self, label: Floats) -> float:
        """The intercept that says the mean of the known labels."""
        if self.kind == "value":
            return 0.0
        rate = float(np.nanmean(label))
        return float(np.log(rate / (1 - rate)))


def heads(data: TrainingData, rows: NDArray[np.int64]) -> tuple[Head, ...]:
    """One for each further outcome of which enough is known: `MIN_PER_CLASS` rows with it, and of a binary one as many
    without; the others wait for the next full training.
    """
    found = []
    for name, outcome in sorted(data.outcomes.items()):
        taught = _taught(outcome, data.clicked)[rows]
        known = taught[~np.isnan(taught)]
        with_it = int((known > 0).sum())
        enough = with_it >= MIN_PER_CLASS
        if outcome.declared.kind == "binary":
            enough, scale = enough and len(known) - with_it >= MIN_PER_CLASS, 1.0
        else:
            scale = float(known.mean()) if enough else 1.0
        if enough:
            declared = outcome.declared
            found.append(Head(name, declared.kind, declared.through is not None, scale))
    return tuple(found)


def labels(of: tuple[Head, ...], data: TrainingData, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, heads) what each is taught by `rows`, in its own units; NaN where unknown, or declared otherwise by now."""
    found = np.full((len(rows), len(of)), np.nan, dtype=np.float32)
    for at, head in enumerate(of):
        outcome = data.outcomes.get(head.name)
        if outcome is not None and (outcome.declared.kind, outcome.declared.through is not None) == (
            head.kind,
            head.given_click,
        ):
            found[:, at] = _taught(outcome, data.clicked)[rows] / head.scale
    return found


def _taught(outcome: FurtherOutcome, clicked: Floats) -> Floats:
    """(n,) the label where it teaches the head."""
    return outcome.label if outcome.declared.through is None else np.where(clicked == 1.0, outcome.label, np.nan)


def predictions(of: tuple[Head, ...], logits: Floats, p_click: Floats) -> Mapping[str, Floats]:
    """By name, of (n, heads) logits."""
    return {head.name: head.said(logits[:, at], p_click) for at, head in enumerate(of)}
