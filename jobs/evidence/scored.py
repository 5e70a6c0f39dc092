"""Rows whose click is known and what rankers say of them: scored once for every part, and compared in one way.

`train` chooses among the rankers it fitted by what `backtest` will judge the chosen one by.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.bundle import Bundle
from jobs.moment.columns import Columns, attribute_keys, numbers, outcome_columns, ranker_columns
from jobs.moment.decisions import clusters
from models.evaluation.comparison import LOWER_IS_BETTER, METRICS, compare
from models.evaluation.estimate import Finding
from models.rankers.features import SERVING_POSITION, TABLE, attributes_of
from models.rankers.protocol import Floats, Inputs, Scorer
from models.rankers.words import unpacked
from models.settings import GateSettings

Ints = NDArray[np.int64]
Pair = tuple[Bundle, Bundle]
"""Champion, challenger."""
AT_ONCE = 1 << 16
"""Rows (or candidates) whose columns are held together: about 70 MiB. No figure depends on it."""
CHOSEN_BY = ("ndcg_at_10", "log_loss")
"""The order of a request's items, each as if shown first; then the probabilities, at the positions shown."""
MEASURED = (*CHOSEN_BY, "auc")
"""What is told of every ranker."""
NEW_ITEM_DAYS = 7.0
SLICED = ("surface", "device", "region", "item_category", "position")
"""Columns that are attributes as they are; `attributes.*` of users, items and requests join them."""


@dataclass(frozen=True)
class Scored:
    """n rows; every array is (n,), `as_*` and `p_conversion` are by the name of the ranker (in evidence, its side)."""

    clicked: Floats
    users: Ints
    requests: Ints
    as_shown: Mapping[str, Floats]
    """p_click at the position that was shown."""
    as_first: Mapping[str, Floats]
    """p_click as if every item were shown first: that is how items compare."""
    p_conversion: Mapping[str, Floats]
    """At the position that was shown."""
    attributes: Mapping[str, NDArray[Any]]
    """What rows can be told apart by."""
    outcomes: Mapping[str, Floats] = field(default_factory=dict)
    """Further outcomes by name, NaN where one is not known."""
    predicted: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    """Of each, by those rankers that predict it."""

    def __len__(self) -> int:
        return len(self.clicked)

    def of(self, names: Iterable[str]) -> "Scored":
        """The same rows, of some of the rankers, in that order."""
        wanted = list(names)
        first, shown, later = ({n: by[n] for n in wanted} for by in (self.as_first, self.as_shown, self.p_conversion))
        return replace(self, as_shown=shown, as_first=first, p_conversion=later)

    def asked_by(self, metric: str) -> Mapping[str, Floats]:
        """The p_click a metric is of: an order is of items each shown first, a probability of what was shown."""
        return self.as_shown if metric in LOWER_IS_BETTER else self.as_first


def scored(
    rows: pa.Table,
    rankers: Mapping[str, Scorer],
    identity: pa.Table,
    at_once: int = AT_ONCE,
    outcomes: Sequence[str] = (),
) -> Scored:
    """The rankers, by name, on those of `rows` (of `examples`) with a known click; the others say nothing yet.

    `outcomes`: which further ones are looked at.
    `identity`: the catalogue's `jobs.moment.identity.IDENTITY`, which tells items that are there under several ids.
    """
    rows = with_known_click(rows)
    keys = attribute_keys(rows["attributes"])
    parts = [_part(rows.slice(start, at_once), rankers, keys) for start in range(0, max(len(rows), 1), at_once)]

    def whole(of: Callable[[_Part], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        return {name: np.concatenate([of(part)[name] for part in parts]) for name in of(parts[0])}

    return Scored(
        clicked=numbers(rows["clicked"]),
        users=clusters(rows),
        requests=rows["request_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64),
        as_shown=whole(lambda part: part.as_shown),
        as_first=whole(lambda part: part.as_first),
        p_conversion=whole(lambda part: part.p_conversion),
        attributes=whole(lambda part: part.attributes) | _of_rows(rows, identity),
        outcomes=outcome_columns(rows["outcomes"], outcomes) if outcomes else {},
        predicted={
            outcome: {
                name: np.concatenate([part.predicted[name][outcome] for part in parts])
                for name, of in parts[0].predicted.items()
                if outcome in of
            }
            for outcome in outcomes
        },
    )


def as_shown(rows: pa.Table, side: Bundle, at_once: int) -> Floats:
    """(n,) the bundle's p_click of rows at the position that was shown."""
    parts = (rows.slice(start, at_once) for start in range(0, max(len(rows), 1), at_once))
    ranker = side.ranker
    return np.concatenate([ranker.predict(ranker_columns(part, inputs=ranker.inputs)).p_click for part in parts])


def asked_for(rankers: Iterable[Scorer]) -> Inputs:
    """What the rankers need, and what rows are told apart by: all of a table's numbers and categories."""
    return reduce(or_, (ranker.inputs for ranker in rankers), TABLE)


def with_known_click(test: pa.Table) -> pa.Table:
    """The rows whose click is known."""
    return test.filter(test["clicked"].is_valid()) if test["clicked"].null_count else test


def compared(
    rows: Scored,
    champion: str,
    challenger: str,
    settings: GateSettings,
    metrics: Sequence[str] = METRICS,
) -> dict[str, dict[str, Finding]]:
    """`compare` of two of the rankers, each metric by the p_click it asks for."""
    return {
        metric: compare(
            rows.clicked,
            rows.asked_by(metric)[champion],
            rows.asked_by(metric)[challenger],
            rows.requests,
            rows.users,
            settings,
            [metric],
        )[metric]
        for metric in metrics
    }


@dataclass(frozen=True)
class _Part:
    """As `Scored`, of some rows."""

    as_shown: Mapping[str, Floats]
    as_first: Mapping[str, Floats]
    p_conversion: Mapping[str, Floats]
    attributes: Mapping[str, NDArray[Any]]
    predicted: Mapping[str, Mapping[str, Floats]]
    """Further outcomes by ranker, then name."""


def _part(rows: pa.Table, rankers: Mapping[str, Scorer], keys: list[str]) -> _Part:
    shown = ranker_columns(rows, keys, inputs=asked_for(rankers.values()))
    first = {**shown, "position": np.full(len(rows), float(SERVING_POSITION))}
    said = {name: ranker.predict(shown) for name, ranker in rankers.items()}
    told = [name for name in (*SLICED, *attributes_of(shown)[0]) if name in shown]
    found = {name: unpacked(shown[name]) for name in told}
    found |= {"item_age": item_age(shown), "user_known": user_known(shown)}
    return _Part(
        as_shown={name: of.p_click for name, of in said.items()},
        as_first={name: ranker.predict(first).p_click for name, ranker in rankers.items()},
        p_conversion={name: of.p_conversion for name, of in said.items()},
        attributes=found,
        predicted={name: of.outcomes for name, of in said.items()},
    )


def item_age(columns: Columns) -> NDArray[np.object_]:
    """new, older or unknown."""
    age = columns["item_age_days"]
    return np.where(np.isnan(age), "unknown", np.where(age < NEW_ITEM_DAYS, "new", "older")).astype(object)


def user_known(columns: Columns) -> NDArray[np.object_]:
    """Whether anything was known of the user."""
    return np.where(np.isnan(columns["user_impressions"]), "unknown", "known").astype(object)


def _of_rows(rows: pa.Table, identity: pa.Table) -> dict[str, NDArray[Any]]:
    """The attributes that other rows, or the catalogue, have a part in."""
    found: dict[str, NDArray[Any]] = {"seen_before": _seen_before(rows)}
    if len(identity):
        several = pa.chunked_array([*identity["item_id"].chunks, *identity["identity"].chunks], pa.string())
        copied = pc.is_in(rows["item_id"], pc.unique(several)).to_numpy()
        found["item_ids"] = np.where(copied, "several", "one").astype(object)
    return found


def _seen_before(rows: pa.Table) -> NDArray[np.object_]:
    """Whether the user was shown the very item before, among these rows; `unknown` without a user."""
    user, item = (rows[name].combine_chunks().dictionary_encode().indices for name in ("user_id", "item_id"))
    known = np.asarray(user.is_valid())
    pair = user.fill_null(0).to_numpy().astype(np.int64) * (len(rows) + 1) + item.to_numpy()
    order = np.lexsort((rows["event_time"].cast(pa.int64()).to_numpy(), pair))
    again = np.zeros(len(rows), bool)
    again[order[1:]] = pair[order[1:]] == pair[order[:-1]]
    return np.where(~known, "unknown", np.where(again, "again", "first")).astype(object)
