"""MMoE: one network for every outcome, whose experts all tasks share."""

import logging
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.rankers import network
from models.rankers.network import EXPERT_AXIS, Arrays
from models.rankers.protocol import Checkpoints, Columns, Floats, TrainingData
from models.rankers.vectors import Experts, VectorRanker
from models.settings import MMoESettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruning:
    """What dropping experts cost: their largest share of any task's gate, which stay, log-loss (nats) by task."""

    usage: tuple[float, ...]
    kept: tuple[int, ...]
    log_loss_before: dict[str, float]
    log_loss_after: dict[str, float]


class MMoERanker(VectorRanker):
    """Experts that all tasks share, a gate and a tower for each (see `models.rankers.network`)."""

    kind = "mmoe"

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        settings: MMoESettings,
        seed: int,
        start_from: Self | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """See `VectorRanker`; without the experts that `prune_below` drops."""
        ranker = cls._learned(data, settings, Experts(settings.experts, shared=True), seed, start_from, checkpoints)
        if settings.prune_below:
            ranker, cost = ranker.pruned(settings.prune_below, data.held_out or data)
            log.info("mmoe: of %d experts %d kept: %s", len(cost.usage), len(cost.kept), cost)
        return ranker

    def gate_usage(self, features: Columns) -> Floats:
        """(tasks, experts): the mean share that each task's gate gives to each expert; a task's sum to 1.

        Raises ValueError for no rows.
        """
        n = len(features[self._layout.numeric[0]])
        if not n:
            raise ValueError("gate usage needs rows; found none")
        shares = [network.gates(np, self._weights, x) for x in self._blocks(features)]
        by_row = [np.moveaxis(part, -1, 1).reshape(-1, *part.shape[1:3]) for part in shares]
        mean: Floats = np.concatenate(by_row)[:n].mean(axis=0, dtype=np.float64)
        return mean

    def pruned(self, below: float, data: TrainingData) -> tuple[Self, Pruning]:
        """Without the experts that no task gives a share of `below`, and what that costs on `data`.

        A task's most used expert stays. Nothing is learned afterwards: the gates' shares go to the experts left.
        """
        usage = self.gate_usage(data.features)
        kept = np.flatnonzero((usage >= below).any(axis=0) | np.isin(np.arange(usage.shape[1]), usage.argmax(axis=1)))

        def fewer(arrays: Arrays) -> Arrays:
            axes = {name: EXPERT_AXIS.get(name) or EXPERT_AXIS.get(name.rpartition(".")[0]) for name in arrays}
            axes |= {name: 0 for name in arrays if name.startswith("experts.bias")}
            return {
                name: value if axes[name] is None or not value.ndim else np.take(value, kept, axis=axes[name])
                for name, value in arrays.items()
            }

        found = type(self)(
            self._layout, fewer(self._weights), fewer(self._memory), self._table, self._conversion, self._heads
        )
        cost = Pruning(
            tuple(usage.max(axis=0).tolist()), tuple(kept.tolist()), self.log_losses(data), found.log_losses(data)
        )
        return found, cost
