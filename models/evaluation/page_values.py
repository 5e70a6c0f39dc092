"""The value of both sides' whole pages, place by place from the top, as far down as the weights support it.

The estimator is `models.evaluation.slates.snrips`: for the first place alone it is `snips` of the first choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation import weighting
from models.evaluation.diagnostics import Diagnostics, WeightStatistics, guarded, weights_refused
from models.evaluation.estimate import Finding, Refusal
from models.evaluation.slates import Pages
from models.evaluation.sufficient import SufficientStatistics
from models.evaluation.weighting import Floats
from models.settings import GateSettings

Ints = NDArray[np.int64]
SIDES = ("champion", "challenger", "logging")


@dataclass(frozen=True)
class Depth:
    """Rewards per page on its first `places`: both sides, their paired difference, and the observed reward."""

    places: int
    champion: Finding
    challenger: Finding
    difference: Finding
    logging: Finding


@dataclass(frozen=True)
class PageStatistics:
    """Mergeable sums from which every `Depth` is computed; each cluster has a row of 9 `places` + 1 figures.

    `sums` has a term per side and place, those of the first side first; `weights` has what the guard needs for each.
    """

    places: int
    sums: SufficientStatistics
    weights: Mapping[str, tuple[WeightStatistics, ...]]

    @classmethod
    def of(
        cls,
        *,
        slate: Ints,
        position: Ints,
        reward: Floats,
        logged: Floats,
        champion: Floats,
        challenger: Floats,
        clusters: Ints,
        places: int,
    ) -> Self:
        """From placements (n,) as `models.evaluation.slates` takes them, down to `places` from the top.

        `logged`, `champion` and `challenger`: each policy's probability of the placement given everything above it.
        Raises ValueError as `Pages.checked` does, and for fewer than 1 place.
        """
        if places < 1:
            raise ValueError(f"pages need at least 1 place; found {places}")
        terms, weights = [], {}
        for side, target in zip(SIDES, (champion, challenger, logged), strict=True):
            pages = Pages.checked(slate, position, reward, logged, target)
            users = pages.of_page(clusters)
            logs = list(pages.depths(places))
            terms += [weighting.snips(log) for log in logs]
            weights[side] = tuple(WeightStatistics.of_log(log, users) for log in logs)
        return cls(places, SufficientStatistics.of(*terms, clusters=users), weights)

    def __add__(self, other: Self) -> Self:
        """Of both sets of pages. Raises ValueError for another number of places."""
        if self.places != other.places:
            raise ValueError(f"pages add with one number of places; found {self.places} and {other.places}")
        weights = {
            side: tuple(a + b for a, b in zip(self.weights[side], other.weights[side], strict=True)) for side in SIDES
        }
        return type(self)(self.places, self.sums + other.sums, weights)

    def depths(self, settings: GateSettings) -> list[Depth]:
        """Every depth from the first place on, up to the first whose weights do not support an estimate.

        That one is refused with the reason. Deeper ones are not tried: their weights are products of still more ratios.
        """
        found = []
        for depth in range(1, self.places + 1):
            weights = {side: self.weights[side][depth - 1].diagnostics() for side in SIDES}
            found.append(self._depth(depth, weights, settings))
            if any(weights_refused(of_side, settings) for of_side in weights.values()):
                break
        return found

    def _depth(self, depth: int, weights: Mapping[str, Diagnostics], settings: GateSettings) -> Depth:
        sides = {side: guarded(self.sums, weights[side], settings, self._signs(depth, {side: 1.0})) for side in SIDES}
        refused = [(side, of) for side, of in sides.items() if side != "logging" and isinstance(of, Refusal)]
        if refused:
            (side, refusal), *_ = refused
            difference: Finding = Refusal(f"{side}: {refusal.reason}", refusal.n, refusal.effective_n)
        else:
            signs = self._signs(depth, {"champion": -1.0, "challenger": 1.0})
            difference = self.sums.estimate(settings.value_confidence, signs)
        return Depth(depth, difference=difference, **sides)

    def _signs(self, depth: int, of: Mapping[str, float]) -> list[float]:
        """The sum over the first `depth` places of the sides named."""
        return [of.get(side, 0.0) * (place < depth) for side in SIDES for place in range(self.places)]
