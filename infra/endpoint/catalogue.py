"""One publication of features, packed for serving: any list of ids becomes row-aligned columns by one array lookup."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.endpoint.request import CONTEXT_COLUMNS, RankRequest
from jobs.moment.columns import user_row
from models.rankers.features import ATTRIBUTE_PREFIX, ITEM_NUMBERS, NO_BUCKET, Encodings, decision_columns
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
        missing = [name for name in ("item_id", "category", "interest_bucket", *ITEM_NUMBERS) if name not in items]
        if items and missing:
            raise ValueError(f"a catalogue needs the item columns {missing}; found {sorted(items)}")
        ids = objects(items["item_id"] if items else [])
        self.ids: list[str] = ids.tolist()
        self._encodings, self._tasks = encodings, tasks
        self._rows = {item: row for row, item in enumerate(self.ids)}
        self._numbers = {name: np.append(_floats(items, name), np.nan) for name in ITEM_NUMBERS}
        self._bucket = np.append(np.asarray(items.get("interest_bucket", []), dtype=np.int64), NO_BUCKET)
        self._words = {
            name: np.append(objects(items[name] if items else []), np.array([None], dtype=object))
            for name in ("category", *(n for n in items if n.startswith(ATTRIBUTE_PREFIX)))
        }
        age = self._numbers["age_days"][:-1]
        # Unknown ages are no news; ties by id, so that a refresh changes nothing.
        youngest = sorted((days, item) for days, item in zip(age.tolist(), self.ids, strict=True) if days == days)
        self.newest: list[str] = [item for _, item in youngest[:NEWEST]]

    def columns(
        self, candidates: Sequence[str], user: Mapping[str, Any] | None, request: RankRequest
    ) -> dict[str, Column]:
        """What a ranker is shown for n candidates; NaN and None where user or item is unknown. No I/O."""
        n = len(candidates)
        rows = np.array([self._rows.get(item, -1) for item in candidates], dtype=np.int64)
        items: dict[str, Column] = {name: column[rows] for name, column in self._numbers.items()}
        items["item_id"] = objects(candidates)
        items["interest_bucket"] = self._bucket[rows]
        items["category"] = self._words["category"][rows]
        source = self._rows.get(request.context.get(SOURCE_ITEM) or "", -1)
        words = {**_context(user, request), "source_category": self._words["category"][source]}
        context: dict[str, Column] = {name: _repeated(value, n) for name, value in words.items()}
        for name, column in self._words.items():
            if name.startswith(ATTRIBUTE_PREFIX):
                context[name] = column[rows]
        return decision_columns(user_row(user, n), items, context, self._encodings, self._tasks)


def _context(user: Mapping[str, Any] | None, request: RankRequest) -> dict[str, str | None]:
    """The request's and the user's words under the names a ranker knows them by."""
    words: dict[str, str | None] = {"surface": request.surface, "device": None, "region": None, "query": None}
    for key, value in request.context.items():
        if key != SOURCE_ITEM:
            words[key if key in CONTEXT_COLUMNS else ATTRIBUTE_PREFIX + key] = value
    for key, value in dict((user or {}).get("attributes") or {}).items():
        words[f"{ATTRIBUTE_PREFIX}user.{key}"] = value
    return words


def _floats(items: Mapping[str, Column], name: str) -> NDArray[np.float64]:
    return np.asarray(items[name] if items else [], dtype=np.float64)


def _repeated(word: str | None, n: int) -> Column:
    """As it is: `np.full` would take it for a numpy string and drop a NUL at its end."""
    column = np.empty(n, dtype=object)
    column.fill(word)
    return column


def objects(values: Sequence[Any] | Column) -> Column:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
