"""Trees that order lists: what is learned is which of the items shown together is clicked, not how often one is."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import sigmoid
from models.evaluation.hashing import hashed
from models.rankers.bins import binned
from models.rankers.encoding import Encoding
from models.rankers.features import ATTRIBUTE_PREFIX, OF_REQUEST
from models.rankers.labels import Label
from models.rankers.protocol import Floats, Room, TrainingData, parts, picked, taken
from models.rankers.rounds import HELD_OUT
from models.rankers.threads import threads_to_learn
from models.rankers.xgboost import Later, Rows, XGBoostRanker, best, boosted, from_bytes, growing
from models.settings import XGBoostSettings

if TYPE_CHECKING:
    import xgboost

log = logging.getLogger(__name__)
FOLDS = 3
"""Of lists, each of which is scored by trees of the others' clicks, to see what a score is worth."""
ORDER = {
    "objective": "rank:ndcg",
    "lambdarank_normalization": False,
    "lambdarank_score_normalization": False,
}
"""As Burges has it: with both of xgboost's own normalisations 120 trees came 0.55 of a simulated world's way to the
best ranking, without them 0.58."""
LOSS = "softmax"
FLATTEST = 1e-3
"""Least slope of the map: a flat one would make all items alike."""
LEVEL_FILE, MAP_FILE = "level.ubj", "map.json"


@dataclass(frozen=True)
class Lists:
    """n rows that lie list by list, with a clicked and an unclicked one in each: others say nothing about an order."""

    rows: NDArray[np.int64]
    """Positions in the label's rows."""
    ids: NDArray[np.int64]
    """(n,) ascending."""
    value: Floats
    weight: Floats
    """One a list: the mean of its clicked rows', so that unclicked ones that were left out are not missed."""

    @classmethod
    def of(cls, label: Label, groups: NDArray[np.int64]) -> Self:
        """`groups`: (n,) the list of each of the label's rows."""
        order = np.argsort(groups, kind="stable")
        _, ids = np.unique(groups[order], return_inverse=True)
        value, weight = label.value[order], label.weight[order]
        clicks, shown = np.bincount(ids, value), np.bincount(ids)
        every = cls(order, ids, value, np.bincount(ids, value * weight) / np.maximum(clicks, 1))
        return every.where(((clicks > 0) & (clicks < shown))[ids])

    def where(self, kept: NDArray[np.bool_]) -> Self:
        """Of the n rows those of some lists."""
        which, ids = np.unique(self.ids[kept], return_inverse=True)
        return type(self)(self.rows[kept], ids, self.value[kept], self.weight[which])

    def loss(self, scores: NDArray[np.floating[Any]]) -> float:
        """Mean over lists of -log of the share that clicked items have in the softmax of the n rows' scores (ListNet's
        top one, Cao et al. 2007): smooth, where NDCG jumps with the place of one click."""
        first = np.flatnonzero(np.diff(self.ids, prepend=-1))
        top = np.maximum.reduceat(scores, first)
        total = top + np.log(np.add.reduceat(np.exp(scores - top[self.ids]), first))
        clicked = np.bincount(self.ids, self.value * scores) / np.bincount(self.ids, self.value)
        return float(np.average(total - clicked, weights=self.weight))

    @property
    def clicks(self) -> float:
        """How many there are."""
        return float(self.value.sum())


class LambdaMARTRanker(XGBoostRanker):
    """P(click) = sigmoid(slope x order + level): a booster of xgboost's `rank:ndcg` (LambdaMART, Burges 2010), which
    learns by pairs of one list and by what swapping them costs in NDCG, and one of the log-loss that sees only what
    all items of a request have in common (`OF_REQUEST`), so that it moves no item past another.

    A list without a click, or with nothing else, teaches no order; how likely clicks are, every row teaches. The slope
    and the level are learned from scores of lists by trees that other lists taught (`FOLDS`): what trees say of their
    own rows is too sure. Without lists to learn from there is the level alone. P(conversion | click) is that of
    `XGBoostRanker`. A warm start adds trees to each booster and keeps the slope.
    """

    kind = "lambdamart"

    def __init__(
        self,
        encoding: Encoding,
        click: "xgboost.Booster",
        conversion: "tuple[xgboost.Booster, ...] | float",
        level: "xgboost.Booster",
        line: tuple[float, float],
    ) -> None:
        """`click`: what orders; `line`: slope and intercept of what `level` is added to, in the logit."""
        super().__init__(encoding, click, conversion)
        self._level = level
        self._line = line
        self._shared = shared(encoding)

    @classmethod
    def fit(  # type: ignore[override] # its trees are all grown here
        cls, data: TrainingData, settings: XGBoostSettings, seed: int, start_from: Self | None = None
    ) -> Self:
        """See `Ranker.fit`; raises ValueError too where nobody says which rows were shown together."""
        rows = Rows.of(data, settings, start_from)
        if data.groups is None:
            raise ValueError("lambdamart needs the list that each row was shown in (groups); found none")
        conversion = rows.conversions(data, settings, seed, start_from)
        groups, start = data.groups[rows.click.rows], None if start_from is None else start_from._click
        lists, known = Lists.of(rows.click, groups), taken(rows.table, rows.click.rows, rows.room)
        log.info("lambdamart: %d of %d lists have clicked and unclicked items; the others teach no order",
                 len(lists.weight), len(np.unique(groups)))  # fmt: skip
        later = _later(data.held_out, rows.later.click)
        order = _ordered(known, lists, rows.encoding, settings, seed, rows.room, start, later)
        if start_from is None:
            said = _crossed(known, lists, groups, rows, settings, seed, order.num_boosted_rounds())
            line = _line(said, rows.click)
        else:
            said, line = _scores(order, known), start_from._line
        level = _level(rows, order, said, line, settings, seed, start_from)
        return cls(rows.encoding, order, conversion, level, line)

    def _p_click(self, table: NDArray[np.float32]) -> Floats:
        offset = self._line[0] * _scores(self._click, table) + self._line[1]
        if not len(table):
            return offset
        part = table[:, self._shared.columns]
        logit = self._level.inplace_predict(part, base_margin=offset.astype(np.float32), predict_type="margin")
        return sigmoid(logit.astype(np.float64))

    def _boosters(self) -> "tuple[xgboost.Booster, ...]":
        return (*super()._boosters(), self._level)

    def to_files(self) -> dict[str, bytes]:
        """Those of `XGBoostRanker`, `click.ubj` being what orders; the level and the line."""
        line = json.dumps(dict(zip(("slope", "intercept"), self._line, strict=True))).encode()
        return {**super().to_files(), LEVEL_FILE: bytes(self._level.save_raw("ubj")), MAP_FILE: line}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        of, line = XGBoostRanker.from_files(files), json.loads(files[MAP_FILE])
        parts = (of._encoding, of._click, of._conversion)
        return cls(*parts, from_bytes(files[LEVEL_FILE]), (line["slope"], line["intercept"]))


@dataclass(frozen=True)
class Shared:
    """What all items of a request have in common: those columns of a table."""

    columns: NDArray[np.int64]
    encoding: Encoding


def shared(encoding: Encoding) -> Shared:
    """Of an encoding's tables: the columns of `OF_REQUEST`, and attributes that are not an item's."""

    def common(name: str) -> bool:
        if name.startswith(ATTRIBUTE_PREFIX):
            return not name.startswith(f"{ATTRIBUTE_PREFIX}item.")
        return name in OF_REQUEST

    names = (*encoding.numeric, *encoding.vocabularies)
    numeric = tuple(filter(common, encoding.numeric))
    kept = {name: values for name, values in encoding.vocabularies.items() if common(name)}
    return Shared(np.flatnonzero([common(name) for name in names]), Encoding(numeric, kept))


def _ordered(
    table: NDArray[np.float32],
    lists: Lists,
    encoding: Encoding,
    settings: XGBoostSettings,
    seed: int,
    room: Room,
    start: "xgboost.Booster | None" = None,
    later: "tuple[NDArray[np.float32], Lists] | None" = None,
    rounds: int | None = None,
) -> "xgboost.Booster":
    """A booster of the lists' order, of as many trees as `later` is ordered best by, or of `rounds`."""
    import xgboost as xgb

    if not len(lists.rows) and start is not None:
        return start.copy()
    matrix = _matrix(table, lists, encoding, seed, room)
    parameters = growing(settings, seed, warm=start is not None) | ORDER
    parameters["nthread"] = threads_to_learn(len(lists.rows))
    if not len(lists.rows):
        return xgb.train(parameters, matrix, 0)
    stump = xgb.train({**parameters, "max_depth": 1, "min_child_weight": 0.0}, matrix, 1)
    known = json.loads(stump.get_dump(with_stats=True, dump_format="json")[0])["cover"]
    if rounds is None:
        rounds = settings.rounds if start is None else settings.warm_rounds
    parameters["min_child_weight"] = known / max(1.0, lists.clicks) ** 0.5
    if later is None or not len(later[1].rows) or not settings.stop_after:
        return xgb.train(parameters, matrix, rounds, xgb_model=start)
    held_out = later[1]
    losses: dict[str, dict[str, list[float]]] = {}
    booster = xgb.train(
        {**parameters, "disable_default_eval_metric": True},
        matrix,
        rounds,
        xgb_model=start,
        evals=[(_matrix(*later, encoding, seed, room, matrix), HELD_OUT)],
        evals_result=losses,
        custom_metric=lambda scores, _: (LOSS, held_out.loss(scores)),
        early_stopping_rounds=settings.stop_after,
        verbose_eval=False,
    )
    own = np.inf if start is None else held_out.loss(_scores(start, later[0][held_out.rows]))
    return best(booster, losses[HELD_OUT][LOSS], start, own)


def _matrix(
    table: NDArray[np.float32],
    lists: Lists,
    encoding: Encoding,
    seed: int,
    room: Room,
    like: "xgboost.QuantileDMatrix | None" = None,
) -> "xgboost.QuantileDMatrix":
    matrix = binned(picked(table, lists.rows, room), encoding, seed, like, room=room)
    matrix.set_info(label=lists.value, qid=lists.ids, weight=lists.weight)
    return matrix


def _later(data: TrainingData | None, later: Later | None) -> tuple[NDArray[np.float32], Lists] | None:
    if data is None or later is None or data.groups is None:
        return None
    return later.table, Lists.of(later.label, data.groups[later.label.rows])


def _crossed(
    table: NDArray[np.float32],
    lists: Lists,
    groups: NDArray[np.int64],
    of: Rows,
    settings: XGBoostSettings,
    seed: int,
    rounds: int,
) -> Floats:
    """(n,) each row's score by trees that other lists taught, as many as there are in the booster of all."""
    fold = (hashed(groups, seed) % np.uint64(FOLDS)).astype(np.int64)
    found = np.empty(len(table))
    for at in range(FOLDS):
        here, others = np.flatnonzero(fold == at), lists.where(fold[lists.rows] != at)
        trees = _ordered(table, others, of.encoding, settings, seed, of.room, rounds=rounds)
        found[here] = _scores(trees, picked(table, here, of.room))
    return found


def _line(scores: Floats, label: Label) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of the label on the scores (Platt 1999)."""
    from scipy.optimize import minimize

    rate, whole = label.rate(), label.weight.sum()

    def loss(line: Floats) -> tuple[float, Floats]:
        each, slope, _ = label.targets.at(line[0] * scores + line[1])
        return each.sum() / whole, np.array([slope @ scores, slope.sum()]) / whole

    bounds = [(FLATTEST, None), (None, None)]
    found = minimize(loss, np.array([1.0, np.log(rate / (1 - rate))]), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.x[0]), float(found.x[1])


def _level(
    rows: Rows,
    order: "xgboost.Booster",
    scores: Floats,
    line: tuple[float, float],
    settings: XGBoostSettings,
    seed: int,
    start_from: LambdaMARTRanker | None,
) -> "xgboost.Booster":
    """Trees on what requests have in common, beside the line through the scores."""
    seen, later, start = shared(rows.encoding), rows.later.click, start_from and start_from._level
    label = replace(rows.click, rows=np.arange(len(scores)))
    known = taken(rows.table, rows.click.rows, rows.room)
    table = rows.room((len(known), len(seen.columns)), np.float32)
    for part in parts(len(known)):
        table[part] = known[part][:, seen.columns]
    if later is not None:
        later = Later(later.table[:, seen.columns], later.label, line[0] * _scores(order, later.table) + line[1])
    offset = line[0] * scores + line[1]
    return boosted(table, label, seen.encoding, settings, seed, start, later, curve=True, offset=offset, room=rows.room)


def _scores(order: "xgboost.Booster", table: NDArray[np.float32]) -> Floats:
    """(n,) of rows; nought of a booster without trees."""
    if not len(table) or not order.num_boosted_rounds():
        return np.zeros(len(table))
    found: Floats = order.inplace_predict(table).astype(np.float64)
    return found
