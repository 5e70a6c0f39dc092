"""One publication of features, packed for serving: any list of ids becomes row-aligned columns by one array lookup."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.endpoint.request import CONTEXT_COLUMNS, RankRequest
from jobs.moment.columns import user_row
from models.features import Feature, read
from models.rankers.features import ATTRIBUTE_PREFIX, Encodings, decision_columns, packed
from models.settings import TaskSettings

NEWEST = 20
"""So many of the youngest items join what retrieval finds: nothing else would ever show them."""
SOURCE_ITEM = "source_item_id"
"""The context key of the item whose page it is: its category is looked up, the id itself is no feature."""
Column = NDArray[Any]


class Catalogue:
    """Item columns with one more row at the end, the unknown item: index -1 finds it."""

    def __init__(self, items: Mapping[str, Column], encodings: Encodings, tasks: TaskSettings) -> None:
        """`items`: row-aligned columns named as `item_features` and `attributes.item.<key>`; {} is an empty catalogue.

        `encodings` are of the same publication as the items.

        Raises ValueError where a column is missing.
        """
        missing = [name for name in ("item_id", *(feature.name for feature in read("item"))) if name not in items]
        if items and missing:
            raise ValueError(f"a catalogue needs the item columns {missing}; found {sorted(items)}")
        ids = objects(items["item_id"] if items else [])
        self.ids: list[str] = ids.tolist()
        self._encodings, self._tasks = encodings, tasks
        self._rows = {item: row for row, item in enumerate(self.ids)}
        self._features = {feature.name: _with_unknown(feature, items) for feature in read("item")}
        self._attributes = {
            name: np.append(objects(column), np.array([None], dtype=object))
            for name, column in items.items()
            if name.startswith(ATTRIBUTE_PREFIX)
        }
        age = self._features["age_days"][:-1]
        # Unknown ages are no news; ties by id, so that a refresh changes nothing.
        youngest = sorted((days, item) for days, item in zip(age.tolist(), self.ids, strict=True) if days == days)
        self.newest: list[str] = [item for _, item in youngest[:NEWEST]]

    def columns(
        self, candidates: Sequence[str], user: Mapping[str, Any] | None, request: RankRequest
    ) -> dict[str, Column]:
        """What a ranker is shown for n candidates; NaN and None where user or item is unknown. No I/O."""
        n = len(candidates)
        rows = np.array([self._rows.get(item, -1) for item in candidates], dtype=np.int64)
        items: dict[str, Column] = {name: column[rows] for name, column in self._features.items()}
        items["item_id"] = objects(candidates)
        source = self._rows.get(request.context.get(SOURCE_ITEM) or "", -1)
        words = {**_context(user, request), "source_category": self._features["category"][source]}
        context: dict[str, Column] = {name: _repeated(value, n) for name, value in words.items()}
        context |= {name: column[rows] for name, column in self._attributes.items()}
        return decision_columns(user_row(user, n), items, context, self._encodings, self._tasks)


def _context(user: Mapping[str, Any] | None, request: RankRequest) -> dict[str, str | None]:
    """The request's and the user's words under the names a ranker knows them by."""
    words: dict[str, str | None] = {"user_id": request.user_id, "surface": request.surface}
    words |= dict.fromkeys(("device", "region", "query"))
    for key, value in request.context.items():
        if key != SOURCE_ITEM:
            words[key if key in CONTEXT_COLUMNS else ATTRIBUTE_PREFIX + key] = value
    for key, value in dict((user or {}).get("attributes") or {}).items():
        words[f"{ATTRIBUTE_PREFIX}user.{key}"] = value
    return words


def _with_unknown(feature: Feature, items: Mapping[str, Column]) -> Column:
    """The column of each item, and then of the unknown one."""
    nothing = packed(feature, [None])
    return np.concatenate([np.asarray(items[feature.name], dtype=nothing.dtype), nothing]) if items else nothing


def _repeated(word: str | None, n: int) -> Column:
    """As it is: `np.full` would take it for a numpy string and drop a NUL at its end."""
    column = np.empty(n, dtype=object)
    column.fill(word)
    return column


def objects(values: Sequence[Any] | Column) -> Column:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
