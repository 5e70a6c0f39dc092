"""Every ranker by its kind. Importing this loads neither torch nor xgboost: the classes do, when they need them.

A ranker is one file, named here; its settings are a class of `models.settings`, named in `RankerSettings`.
"""

from models.rankers.logistic import LogisticRanker
from models.rankers.mmoe import MMoERanker
from models.rankers.popularity import PopularityRanker
from models.rankers.protocol import Checkpoints, Ranker, Resumable, TrainingData
from models.rankers.xgboost import XGBoostRanker
from models.settings import RankerSettings

RANKERS: dict[str, type[Ranker]] = {
    ranker.kind: ranker for ranker in (PopularityRanker, LogisticRanker, XGBoostRanker, MMoERanker)
}
"""Weakest first: a training run fits them in this order."""
BASELINE = PopularityRanker.kind
"""Fitted every time: the endpoint's fallback, and the champion where none was ever deployed."""


RESUMABLE: dict[str, type[Resumable]] = {ranker.kind: ranker for ranker in (MMoERanker,)}
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
        return RESUMABLE[kind].fit(data, own, settings.seed, start_from=start_from, checkpoints=checkpoints)
    return RANKERS[kind].fit(data, own, settings.seed, start_from=start_from)
