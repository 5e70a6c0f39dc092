"""The single-task network: what MMoE is without shared experts, to tell what sharing them is worth."""

from typing import Self

from models.rankers.protocol import Checkpoints, TrainingData
from models.rankers.vectors import Experts, VectorRanker
from models.settings import SingleTaskSettings


class SingleTaskRanker(VectorRanker):
    """One hidden layer and one tower for each task, which share nothing but the vectors."""

    kind = "single_task"

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        settings: SingleTaskSettings,
        seed: int,
        start_from: Self | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """See `VectorRanker`."""
        return cls._learned(data, settings, Experts(1, shared=False), seed, start_from, checkpoints)
