"""Every ranker by its kind. Importing this loads neither torch nor xgboost: the classes do, when they need them."""

from models.rankers.logistic import LogisticRanker
from models.rankers.mmoe import MMoERanker
from models.rankers.popularity import PopularityRanker
from models.rankers.protocol import Ranker
from models.rankers.xgboost import XGBoostRanker

RANKERS: dict[str, type[Ranker]] = {
    ranker.kind: ranker for ranker in (PopularityRanker, LogisticRanker, XGBoostRanker, MMoERanker)
}
"""Weakest first: a training run fits them in this order."""
BASELINE = PopularityRanker.kind
"""Fitted every time: the endpoint's fallback, and the champion where none was ever deployed."""
