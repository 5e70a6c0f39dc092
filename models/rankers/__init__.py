"""Every ranker by its kind. Importing this loads neither torch nor xgboost: the classes do, when they need them.

A ranker is one file, named here; its settings are a class of `models.settings`, named in `RankerSettings`.
"""

from collections.abc import Mapping
from typing import cast

from models.rankers import calibrated
from models.rankers.by_surface import BySurfaceRanker, by_surface
from models.rankers.crosses import CrossesRanker
from models.rankers.factorization import FactorizationRanker
from models.rankers.lambdamart import LambdaMARTRanker
from models.rankers.logistic import LogisticRanker
from models.rankers.mmoe import MMoERanker
from models.rankers.popularity import PopularityRanker
from models.rankers.protocol import Checkpoints, Columns, Ranker, Resumable, Scorer, TrainingData
from models.rankers.served import GRAPH_FILE, Exportable, Served, exportable
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
_BY_SURFACE: tuple[type[Ranker], ...] = tuple(by_surface(of) for of in _WEAKEST_FIRST if of is not PopularityRanker)
EVERY_KIND: dict[str, type[Ranker]] = RANKERS | {made.kind: made for made in _BY_SURFACE}
"""And those that have one of these for each surface, behind them: of two that are as good one is simpler than many."""
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
    own, before = settings.of_kind(kind), None if start_from is None else calibrated.uncalibrated(start_from)
    if kind in RESUMABLE:
        going_on = cast(Resumable | None, before)
        return RESUMABLE[kind].fit(data, own, settings.seed, start_from=going_on, checkpoints=checkpoints)
    if kind == XGBoostRanker.kind:
        trees = cast(XGBoostRanker | None, before)
        return XGBoostRanker.fit(data, own, settings.seed, start_from=trees, elsewhere=elsewhere)
    return EVERY_KIND[kind].fit(data, own, settings.seed, start_from=before)


def load(kind: str, files: Mapping[str, bytes]) -> Scorer:
    """The very ranker that wrote the files, with what maps its words; scored by its graph where there is one."""
    found = calibrated.from_files(EVERY_KIND[kind], files)
    return Served(exportable(found), files[GRAPH_FILE], files) if GRAPH_FILE in files else found


def exported(ranker: Scorer, rows: Columns) -> Scorer:
    """The ranker with a graph that it is scored by from now on, where its kind has one; popularity and trees do not,
    which are sooner done as they are. Raises `models.rankers.served.Unlike` where the two differ on these rows.
    """
    within = calibrated.uncalibrated(ranker)
    if isinstance(within, BySurfaceRanker):
        return calibrated.calibrated(within.graphed(rows), *calibrated.maps_of(ranker))
    if isinstance(ranker, Served) or not isinstance(within, Exportable):
        return ranker
    return Served.of(exportable(ranker), rows)
