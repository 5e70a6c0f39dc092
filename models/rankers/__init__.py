"""Every ranker by its kind. Importing this loads neither torch nor xgboost: the classes do, when they need them.

A ranker is one file, named here; its settings are a class of `models.settings`, named in `RankerSettings`.
"""

from collections.abc import Mapping

from models.rankers import calibrated
from models.rankers.crosses import CrossesRanker
from models.rankers.factorization import FactorizationRanker
from models.rankers.logistic import LogisticRanker
from models.rankers.mmoe import MMoERanker
from models.rankers.popularity import PopularityRanker
from models.rankers.protocol import Ranker, Scorer, TrainingData
from models.rankers.xgboost import XGBoostRanker
from models.settings import RankerSettings

_WEAKEST_FIRST: tuple[type[Ranker], ...] = (
    *(PopularityRanker, LogisticRanker, CrossesRanker, FactorizationRanker),
    *(XGBoostRanker, MMoERanker),
)
RANKERS: dict[str, type[Ranker]] = {ranker.kind: ranker for ranker in _WEAKEST_FIRST}
"""A training run fits those of `RankerSettings.kinds`, in this order."""
BASELINE = PopularityRanker.kind
"""Fitted every time: the endpoint's fallback, and the champion where none was ever deployed."""


def fit(kind: str, data: TrainingData, settings: RankerSettings, start_from: Scorer | None = None) -> Ranker:
    """A new ranker of a kind by its own settings; see `Ranker.fit`. Of a calibrated one the ranker within goes on."""
    before = None if start_from is None else calibrated.uncalibrated(start_from)
    return RANKERS[kind].fit(data, getattr(settings, kind), settings.seed, start_from=before)


def load(kind: str, files: Mapping[str, bytes]) -> Scorer:
    """The very ranker that wrote the files, with what maps its words."""
    return calibrated.from_files(RANKERS[kind], files)
