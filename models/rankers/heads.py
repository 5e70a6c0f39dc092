"""What a network's further tasks predict: outcomes beside click and conversion, each by a tower and a gate of its own.

A binary outcome is a logistic regression on the tower. A value is a log-linear one by the Poisson quasi-likelihood
(Gourieroux, Monfort & Trognon 1984): right in the mean whatever the distribution, with zeros and a long tail, where a
squared error on log1p is right in a geometric mean and has to be corrected. An outcome through a click is learned of
clicked rows, and what is said of an impression is p(click) times that.

A value may depend most on what nobody chose it for: a long video is watched longer. With `quantiles_by` its quantile
among the rows of one group (videos as long) is learned in its stead, as a share between 0 and 1 by the logistic loss
(Zhan et al. 2022, "Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation", KDD). What is said
is still a value, the group's own at that quantile, all scaled alike for their sum to be what came.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import sigmoid
from models.rankers.features import ATTRIBUTE_PREFIX
from models.rankers.labels import MIN_PER_CLASS
from models.rankers.protocol import Column, Columns, Floats, FurtherOutcome, TrainingData
from models.rankers.words import Words
from models.settings import OutcomeSettings

MOST = 8.0
"""The logarithm of how many times its mean a value can be predicted to be: 3,000."""
RUNGS = 64
"""Of a ladder, at most."""
EVERY_GROUP = ""
"""The ladder of rows whose group is unknown, or has too few."""


@dataclass(frozen=True)
class Ladder:
    """Values that ascend and the share of rows below each, half of those that equal it included."""

    values: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, values: Floats) -> Self:
        """Of known values (n,), n > 0."""
        distinct, counts = np.unique(values, return_counts=True)
        shares = (np.cumsum(counts) - counts / 2) / len(values)
        if len(distinct) > RUNGS:
            at = np.unique(np.searchsorted(shares, np.linspace(shares[0], shares[-1], RUNGS)))
            distinct, shares = distinct[at], shares[at]
        return cls(tuple(distinct.tolist()), tuple(shares.tolist()))

    def quantile(self, value: Floats) -> Floats:
        """(n,) in [0, 1], between the rungs in proportion."""
        return np.interp(value, self.values, self.shares)

    def value(self, quantile: Floats) -> Floats:
        """(n,) where that is; of a quantile beyond the last rung that rung's."""
        return np.interp(quantile, self.shares, self.values)


@dataclass(frozen=True)
class Head:
    """One further task; `scale`: of a value its mean over the rows it was first learned from, in whose units it is
    learned; 1 of a binary outcome. Of quantiles by what the groups' values are multiplied.

    `by`: the column whose values are the groups of `ladders`; "" where the value itself is learned.
    """

    name: str
    kind: Literal["binary", "value"]
    given_click: bool
    scale: float
    by: str = ""
    ladders: Mapping[str, Ladder] = field(default_factory=dict)

    @property
    def a_share(self) -> bool:
        """Whether the logit is that of something between 0 and 1."""
        return self.kind == "binary" or bool(self.by)

    def is_of(self, declared: OutcomeSettings) -> bool:
        """Whether it was learned as the outcome is declared now."""
        told = declared.kind, declared.through is not None, _column(declared)
        return told == (self.kind, self.given_click, self.by)

    def said(self, logit: Floats, p_click: Floats, features: Columns) -> Floats:
        """(n,) the probability, or the value, of an impression."""
        if self.by:
            found = self.scale * self.at(sigmoid(logit), features)
        else:
            found = sigmoid(logit) if self.kind == "binary" else self.scale * np.exp(np.minimum(logit, MOST))
        return found * p_click if self.given_click else found

    def quantile(self, value: Floats, features: Columns) -> Floats:
        """(n,) of values in their groups; NaN of NaN."""
        return self._each(value, features, Ladder.quantile)

    def at(self, quantile: Floats, features: Columns) -> Floats:
        """(n,) the values that are at these quantiles of their groups."""
        return self._each(quantile, features, Ladder.value)

    def _each(self, x: Floats, features: Columns, by: Callable[[Ladder, Floats], Floats]) -> Floats:
        """(n,) what the ladder of each row's group makes of it."""
        found = by(self.ladders[EVERY_GROUP], x)
        if self.by in features:
            group = Words.of(features[self.by])
            for name, ladder in self.ladders.items():
                rows = np.flatnonzero(group.are(name)) if name != EVERY_GROUP else ()
                if len(rows):
                    found[rows] = by(ladder, x[rows])
        return found

    def first_bias(self, label: Floats) -> float:
        """The intercept that says the mean of the known labels."""
        if not self.a_share:
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
        enough, declared, by = with_it >= MIN_PER_CLASS, outcome.declared, _column(outcome.declared)
        if declared.kind == "binary":
            enough = enough and len(known) - with_it >= MIN_PER_CLASS
        if not enough:
            continue
        plain = declared.kind == "value" and not by
        head = Head(name, declared.kind, declared.through is not None, float(known.mean()) if plain else 1.0, by)
        found.append(replace(head, ladders=_ladders(taught, rows, data.features.get(by))) if by else head)
    return tuple(found)


def _column(declared: OutcomeSettings) -> str:
    return f"{ATTRIBUTE_PREFIX}{declared.quantiles_by}" if declared.quantiles_by else ""


def _ladders(taught: Floats, rows: NDArray[np.int64], group: Column | None) -> Mapping[str, Ladder]:
    """One for each group of `MIN_PER_CLASS` known rows, one for all others together and those in none."""
    known = ~np.isnan(taught)
    found = {EVERY_GROUP: Ladder.of(taught[known])}
    if group is None:
        return found
    words = Words.of(group)[rows]
    for name, count in sorted(zip(words.values, words[known].counts().tolist(), strict=True)):
        if count >= MIN_PER_CLASS:
            found[name] = Ladder.of(taught[known & words.are(name)])
    return found


def labels(of: tuple[Head, ...], data: TrainingData, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, heads) what each is taught by `rows`, in its own units; NaN where unknown, or declared otherwise by now."""
    found = np.full((len(rows), len(of)), np.nan, dtype=np.float32)
    for at, head in enumerate(of):
        outcome = data.outcomes.get(head.name)
        if outcome is not None and head.is_of(outcome.declared):
            taught = _taught(outcome, data.clicked)
            found[:, at] = (head.quantile(taught, data.features) if head.by else taught / head.scale)[rows]
    return found


def levelled(of: tuple[Head, ...], data: TrainingData, said: Mapping[str, Floats], p_click: Floats) -> tuple[Head, ...]:
    """Heads of quantiles scaled so that as much is `said` (n,) of known rows as came of them; the others as they are.

    The value at the mean quantile is not the mean value.
    """
    found = []
    for head in of:
        if head.by:
            came = _taught(data.outcomes[head.name], data.clicked)
            mine = said[head.name] / p_click if head.given_click else said[head.name]
            known = ~np.isnan(came)
            promised = float(data.weight[known] @ mine[known])
            if promised > 0:
                head = replace(head, scale=head.scale * float(data.weight[known] @ came[known]) / promised)
        found.append(head)
    return tuple(found)


def _taught(outcome: FurtherOutcome, clicked: Floats) -> Floats:
    """(n,) the label where it teaches the head."""
    return outcome.label if outcome.declared.through is None else np.where(clicked == 1.0, outcome.label, np.nan)


def predictions(of: tuple[Head, ...], logits: Floats, p_click: Floats, features: Columns) -> Mapping[str, Floats]:
    """By name, of (n, heads) logits."""
    return {head.name: head.said(logits[:, at], p_click, features) for at, head in enumerate(of)}


def quantiles(of: tuple[Head, ...], logits: Floats, p_click: Floats) -> Mapping[str, Floats | None]:
    """By name, of those that are values; one through a click is worth its quantile only if there is one."""
    found: dict[str, Floats | None] = {head.name: None for head in of if head.kind == "value"}
    for at, head in enumerate(of):
        if head.by:
            share = sigmoid(logits[:, at])
            found[head.name] = share * p_click if head.given_click else share
    return found


def read(tree: Mapping[str, Any]) -> Head:
    """From what `dataclasses.asdict` made of one."""
    ladders = {name: Ladder(**ladder) for name, ladder in tree.get("ladders", {}).items()}
    return Head(**{**tree, "ladders": ladders})
