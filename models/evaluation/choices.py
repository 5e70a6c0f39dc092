"""Logged decisions with all their candidates: the data of every counterfactual figure of two policies."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Side = Literal["champion", "challenger"]
SIDES: tuple[Side, Side] = ("champion", "challenger")
AS_ONE = 1e-9
"""Probabilities this close count as equal: rounding is no difference between policies."""


@dataclass(frozen=True)
class Labels:
    """A categorical attribute of rows: `codes` (n,) index `names`."""

    codes: Ints
    names: tuple[str, ...]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """From values (n,) that sort, compared as they are and named as text."""
        names, codes = np.unique(values, return_inverse=True)
        return cls(codes.reshape(-1), tuple(str(name) for name in names.tolist()))

    def where(self, rows: Ints) -> Self:
        """Only these rows."""
        return replace(self, codes=self.codes[rows])

    def largest(self, fewest: int, most: int) -> list[int]:
        """The codes of at most `most` labels with at least `fewest` rows, the most frequent first."""
        counts = np.bincount(self.codes, minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")[:most]
        return [int(code) for code in order if counts[code] >= max(1, fewest)]


@dataclass(frozen=True)
class Choices:
    """m logged decisions and their n candidates, laid end to end: decision i has `offsets[i]:offsets[i + 1]`.

    Each has at least one candidate, the one that was shown.

    The arrays are as logged; they are checked by the estimators (`models.evaluation.weighting.Log`), not here.
    """

    offsets: Ints
    """(m + 1,) from 0 to n."""
    taken: Bools
    """(n,) whether the candidate was shown; a candidate that is listed twice is taken twice."""
    reward: Floats
    """(m,) of what was shown, finite."""
    logged: Floats
    """(m,) the logging policy's probability of what it showed, in (0, 1]; NaN where it is missing."""
    chosen: Mapping[Side, Floats]
    """Side to (n,) its policy's probability of each candidate; those of a decision sum to one."""
    predicted: Mapping[Side, Floats]
    """Side to (n,) the reward its ranker predicts for each candidate, in [0, 1]; learned from earlier days only."""
    users: Ints
    """(m,) the user, whose decisions depend on one another; each unknown user counts as a separate one."""
    items: Ints
    """(n,) which item each candidate is."""
    days: Ints
    """(m,) the day of each decision, any integers."""
    contexts: Mapping[str, Labels] = field(default_factory=dict)
    """Name to (m,) an attribute of the decision that is known before it is made: surface, user_known, …"""
    kinds: Mapping[str, Labels] = field(default_factory=dict)
    """Name to (n,) an attribute of the candidate: item_category, item_age, …"""

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def row(self) -> Ints:
        """(n,) the decision each candidate belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def shown(self) -> Ints:
        """(m,) the candidate that was shown; the first, if it is listed twice."""
        return self._first(np.flatnonzero(self.taken))

    @cached_property
    def moved(self) -> Floats:
        """(n,) the challenger's probability of each candidate minus the champion's."""
        return self.chosen["challenger"] - self.chosen["champion"]

    def favourite(self, side: Side) -> Bools:
        """(n,) whether it is the candidate of its decision that the side is likeliest to take; the first of ties."""
        chosen = self.chosen[side]
        best = np.flatnonzero(chosen == np.maximum.reduceat(chosen, self.offsets[:-1])[self.row])
        found = np.zeros(len(chosen), bool)
        found[self._first(best)] = True
        return found

    def _first(self, at: Ints) -> Ints:
        """The first of each decision among candidates in ascending order."""
        return at[np.flatnonzero(np.diff(self.row[at], prepend=-1))]

    def of_taken(self, figure: Floats) -> Floats:
        """(m,) the sum of a figure (n,) over the candidates that were taken."""
        at = np.flatnonzero(self.taken)
        return np.bincount(self.row[at], weights=figure[at], minlength=len(self)).astype(np.float64, copy=False)

    def of_all(self, figure: Floats) -> Floats:
        """(m,) the sum of a figure (n,) over all candidates."""
        return np.add.reduceat(figure, self.offsets[:-1]) if len(self) else np.zeros(0)

    def target(self, side: Side) -> Floats:
        """(m,) the side's probability of the candidate that was shown."""
        return self.of_taken(self.chosen[side])

    @property
    def item_days(self) -> Ints:
        """(m,) an integer for the shown item and its day: the unit of a shock to one item on one day."""
        item, (names, day) = self.items[self.shown], np.unique(self.days, return_inverse=True)
        found: Ints = np.unique(item * len(names) + day, return_inverse=True)[1]
        return found

    def where(self, rows: Ints | Bools) -> Self:
        """Only these decisions, in the order given."""
        at = np.arange(len(self))[rows]
        sizes = np.diff(self.offsets)[at]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        of = np.repeat(self.offsets[at] - starts[:-1], sizes) + np.arange(starts[-1])
        return replace(
            self,
            offsets=starts,
            taken=self.taken[of],
            reward=self.reward[at],
            logged=self.logged[at],
            chosen={side: figure[of] for side, figure in self.chosen.items()},
            predicted={side: figure[of] for side, figure in self.predicted.items()},
            users=self.users[at],
            items=self.items[of],
            days=self.days[at],
            contexts={name: labels.where(at) for name, labels in self.contexts.items()},
            kinds={name: labels.where(of) for name, labels in self.kinds.items()},
        )
