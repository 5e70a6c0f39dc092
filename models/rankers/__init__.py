"""Every ranker by its kind. Importing this loads neither torch nor xgboost: the classes do, when they need them.

A ranker is one file, named here; its settings are a class of `models.settings`, named in `RankerSettings`.
"""

from collections.abc import Mapping
from typing import cast

from models.rankers import calibrated
from models.rankers.crosses import CrossesRanker
from models.rankers.factorization import FactorizationRanker
from models.rankers.lambdamart import LambdaMARTRanker
from models.rankers.logistic import LogisticRanker
from models.rankers.mmoe import MMoERanker
from models.rankers.popularity import PopularityRanker
from models.rankers.protocol import Checkpoints, Columns, Ranker, Resumable, Scorer, TrainingData
from models.rankers.served import GRAPH_FILE, HALVES_FILE, Exportable, Served, exportable
from models.rankers.single_task import SingleTaskRanker
from models.rankers.xgboost import Elsewhere, XGBoostRanker
from models.settings import RankerSettings

_WEAKEST_FIRST: tuple[type[Ranker], ...] = (
    *(PopularityRanker, LogisticRanker, CrossesRanker, FactorizationRanker),
    *(XGBoostRanker, LambdaMARTRanker, SingleTaskRanker, MMoERanker),
)
RANKERS: dict[str, type[Ranker]] = {ranker.kind: ranker for ranker in _WEAKEST_FIRST}
"""A training run fits those of `RankerSettings.kinds`, in this order."""
BASELINE = PopularityRanker.kind
"""Fitted every time: the endpoint's fallback, and the champion where none was ever deployed."""
RESUMABLE: dict[str, type[Resumable]] = {ranker.kind: ranker for ranker in (SingleTaskRanker, MMoERanker)}
"""Those that learn in steps and can go on from a checkpoint."""


def fit(
    kind: str,
    data: TrainingData,
    settings: RankerSettings,
    start_from: Scorer | None = None,
    checkpoints: Checkpoints | None = None,
    elsewhere: Elsewhere | None = None,
) -> Ranker:
    """A new ranker of a kind by its own settings; see `Ranker.fit`. Of a calibrated one the ranker within goes on.

    `checkpoints` is for those of `RESUMABLE`, `elsewhere` for XGBoost.
    """
    own, before = getattr(settings, kind), None if start_from is None else calibrated.uncalibrated(start_from)
    if kind in RESUMABLE:
        going_on = cast(Resumable | None, before)
        return RESUMABLE[kind].fit(data, own, settings.seed, start_from=going_on, checkpoints=checkpoints)
    if kind == XGBoostRanker.kind:
        trees = cast(XGBoostRanker | None, before)
        return XGBoostRanker.fit(data, own, settings.seed, start_from=trees, elsewhere=elsewhere)
    return RANKERS[kind].fit(data, own, settings.seed, start_from=before)


def load(kind: str, files: Mapping[str, bytes]) -> Scorer:
    """The very ranker that wrote the files, with what maps its words; scored by its graph where there is one."""
    found = calibrated.from_files(RANKERS[kind], files)
    graphs = {name: files[name] for name in (GRAPH_FILE, HALVES_FILE) if name in files}
    return Served(exportable(found), graphs, files) if GRAPH_FILE in graphs else found


def exported(ranker: Scorer, rows: Columns) -> Scorer:
    """The ranker with a graph that it is scored by from now on, where its kind has one; popularity and trees do not,
    which are sooner done as they are. Raises `models.rankers.served.Unlike` where the two differ on these rows.
    """
    if isinstance(ranker, Served) or not isinstance(calibrated.uncalibrated(ranker), Exportable):
        return ranker
    return Served.of(exportable(ranker), rows)
