"""Every ranker by its kind. Importing this loads neither torch nor xgboost: the classes do, when they need them.

A ranker is one file, named here; its settings are a class of `models.settings`, named in `RankerSettings`.
"""

from typing import cast

from models.rankers.logistic import LogisticRanker
from models.rankers.mmoe import MMoERanker
from models.rankers.popularity import PopularityRanker
from models.rankers.protocol import Checkpoints, Ranker, Resumable, TrainingData
from models.rankers.single_task import SingleTaskRanker
from models.rankers.xgboost import XGBoostRanker
from models.settings import RankerSettings

RANKERS: dict[str, type[Ranker]] = {
    ranker.kind: ranker for ranker in (PopularityRanker, LogisticRanker, XGBoostRanker, SingleTaskRanker, MMoERanker)
}
"""Weakest first: a training run fits them in this order, but for `BY_NAME`."""
BY_NAME = frozenset({SingleTaskRanker.kind})
"""Those that a full training leaves out."""
BASELINE = PopularityRanker.kind
"""Fitted every time: the endpoint's fallback, and the champion where none was ever deployed."""
RESUMABLE: dict[str, type[Resumable]] = {ranker.kind: ranker for ranker in (SingleTaskRanker, MMoERanker)}
"""Those that learn in steps and can go on from a checkpoint."""


def fit(
    kind: str,
    data: TrainingData,
    settings: RankerSettings,
    start_from: Ranker | None = None,
    checkpoints: Checkpoints | None = None,
) -> Ranker:
    """A new ranker of a kind by its own settings; see `Ranker.fit`. `checkpoints` is for those of `RESUMABLE`."""
    own = getattr(settings, kind)
    if kind in RESUMABLE:
        before = cast(Resumable | None, start_from)
        return RESUMABLE[kind].fit(data, own, settings.seed, start_from=before, checkpoints=checkpoints)
    return RANKERS[kind].fit(data, own, settings.seed, start_from=start_from)
