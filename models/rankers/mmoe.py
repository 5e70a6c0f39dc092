"""MMoE: one network for every outcome, whose experts all tasks share."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np

from models.rankers import network
from models.rankers.network import EXPERT_AXIS, Arrays
from models.rankers.protocol import Checkpoints, Columns, Floats, TrainingData
from models.rankers.vectors import Experts, VectorRanker
from models.settings import MMoESettings

log = logging.getLogger(__name__)
PRUNING_FILE = "pruning.json"


@dataclass(frozen=True)
class Pruning:
    """What dropping experts cost: their largest share of any task's gate, which stay, log-loss (nats) by task."""

    usage: tuple[float, ...]
    kept: tuple[int, ...]
    log_loss_before: dict[str, float]
    log_loss_after: dict[str, float]

    @property
    def figures(self) -> dict[str, float]:
        """How many experts stayed, and by how much each task's log-loss rose (nats)."""
        rose = {f"{task}_log_loss": self.log_loss_after[task] - before for task, before in self.log_loss_before.items()}
        return {"experts": float(len(self.kept)), **rose}


class MMoERanker(VectorRanker):
    """Experts that all tasks share, a gate and a tower for each (see `models.rankers.network`)."""

    kind = "mmoe"
    pruning: Pruning | None = None
    """Of the fit it comes of, where that was to prune; told again by its files."""

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
            ranker.pruning = cost
        return ranker

    def to_files(self) -> dict[str, bytes]:
        """Those of every network, and what pruning cost."""
        cost = {PRUNING_FILE: json.dumps(asdict(self.pruning)).encode()} if self.pruning else {}
        return {**super().to_files(), **cost}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        ranker = super().from_files(files)
        if PRUNING_FILE in files:
            told = json.loads(files[PRUNING_FILE])
            ranker.pruning = Pruning(**told | {name: tuple(told[name]) for name in ("usage", "kept")})
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
