"""One publication of features, packed for serving: any list of ids becomes row-aligned columns by one array lookup."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from infra.endpoint.names import Column, Names
from infra.endpoint.request import CONTEXT_COLUMNS, RankRequest
from jobs.moment.assembler import Moments, assembled
from jobs.moment.columns import user_row
from models.features import Feature, read
from models.rankers.features import (
    ATTRIBUTE_PREFIX,
    SEEN_OF_ITEM,
    Encodings,
    alike,
    item_columns,
    packed,
    widened,
)
from models.rankers.words import repeated
from models.retrieval import FirstStage
from models.settings import TaskSettings

NEWEST = 20
"""So many of the youngest items join what retrieval finds: it knows what its training knew, and nothing younger."""
SOURCE_ITEM = "source_item_id"
"""The context key of the item whose page it is: its category is looked up, the id itself is no feature."""
_LISTS = tuple(feature.name for feature in read("user") if feature.kind == "items")
SPARSE = 16
"""A table of all kinds takes less time than sorting candidates until there are so many times as many."""


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
        self.names = Names(ids)
        self.encodings, self._tasks = encodings, tasks
        self._rows = {item: row for row, item in enumerate(self.ids)}
        self._by_code: WeakKeyDictionary[FirstStage, NDArray[np.int64]] = WeakKeyDictionary()
        self.features = {feature.name: _with_unknown(feature, items) for feature in read("item")}
        self.attributes = {
            name: np.append(objects(column), np.array([None], dtype=object))
            for name, column in items.items()
            if name.startswith(ATTRIBUTE_PREFIX)
        }
        whole = {**self.features, "item_id": np.append(ids, np.array([None], dtype=object))}
        self.known = {**item_columns(whole), **self.attributes}
        """Of a ranker's columns those that are the items' own."""
        self._alike = alike(whole)
        self._kinds = int(self._alike.max(initial=-1)) + 1
        age = self.features["age_days"][:-1]
        # Unknown ages are no news; ties by id, so that a refresh changes nothing.
        youngest = sorted((days, item) for days, item in zip(age.tolist(), self.ids, strict=True) if days == days)
        self._by_age = [item for _, item in youngest]

    def newest(self, removed: Collection[str]) -> list[str]:
        """The `NEWEST` youngest items that are not removed."""
        return list(islice((item for item in self._by_age if item not in removed), NEWEST))

    def rows(self, items: Sequence[str]) -> NDArray[np.int64]:
        """(n,) where each item is; -1 for one that is unknown."""
        return np.fromiter((self._rows.get(item, -1) for item in items), np.int64, len(items))

    def words(self, column: str) -> dict[str, str]:
        """Item to its word in a ranker column that only the item has a part in; one without is left out."""
        of = self.features["category"] if column == "item_category" else self.attributes.get(column)
        said = () if of is None else zip(self.ids, of.tolist(), strict=False)
        return {item: word for item, word in said if word is not None}

    def rows_of(self, first: FirstStage) -> NDArray[np.int64]:
        """Likewise of a retrieval's items by code; looked up once, so that nobody's request looks up a thousand."""
        known = self._by_code.get(first)
        if known is None:
            known = self._by_code[first] = self.rows(first.items)
        return known

    def kinds(
        self, rows: NDArray[np.int64], user: Mapping[str, Any] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places (k,) in `rows` (n,), and which of them is alike to each row, (n,), in all that is not the item's own.

        An item of the user's lists is alike to none, nor is one that is unknown.
        """
        key = self._alike[rows]
        listed = [item for name in _LISTS for item in (user or {}).get(name, ())]
        own = np.array([self._rows.get(item, -1) for item in listed], dtype=np.int64)
        alone = np.flatnonzero((rows < 0) | (own[:, None] == rows).any(axis=0))
        key[alone] = self._kinds + np.arange(len(alone))
        there = self._kinds + len(alone)
        if there > SPARSE * len(rows):
            _, at, kind = np.unique(key, return_index=True, return_inverse=True)
            return at, kind
        first = np.full(there, -1)
        first[key[::-1]] = np.arange(len(rows) - 1, -1, -1)  # of several places the last one stays: the first
        found = first >= 0
        return first[found], (np.cumsum(found) - 1)[key]

    def columns(
        self,
        candidates: Sequence[str] | Column,
        user: Mapping[str, Any] | None,
        request: RankRequest,
        rows: NDArray[np.int64] | None = None,
        whole: bool = True,
    ) -> dict[str, Column]:
        """What a ranker is shown for n candidates; NaN and None where user or item is unknown. No I/O.

        `rows`: theirs, where somebody has looked. Not `whole`: without what is the items' own.
        """
        n = len(candidates)
        rows = self.rows(list(candidates)) if rows is None else rows
        words = {name: _repeated(word, n) for name, word in _words(request).items()}
        known = Online(self, rows, user, self._rows.get(request.context.get(SOURCE_ITEM) or "", -1), whole)
        return assembled(Moments(objects(candidates), words), known, self._tasks, whole)


@dataclass(frozen=True)
class Online:
    """What one packed publication says of the items of n rows, and of one user (None: unknown)."""

    catalogue: Catalogue
    rows: NDArray[np.int64]
    user: Mapping[str, Any] | None
    source: int
    """The row of the item whose page it is."""
    whole: bool = True
    """Else of the items only what is made of them and a request together: each other column is a place to fetch."""

    @property
    def encodings(self) -> Encodings:
        """See `Knowledge`."""
        return self.catalogue.encodings

    def users(self) -> dict[str, Column]:
        """See `Knowledge`."""
        return user_row(self.user, len(self.rows))

    def items(self) -> dict[str, Column]:
        """See `Knowledge`."""
        known = self.catalogue.features
        return {name: known[name][self.rows] for name in (known if self.whole else SEEN_OF_ITEM)}

    def source_category(self) -> Column:
        """See `Knowledge`."""
        return _repeated(self.catalogue.features["category"][self.source], len(self.rows))

    def attributes(self) -> dict[str, Column]:
        """See `Knowledge`."""
        of_user = dict((self.user or {}).get("attributes") or {})
        found = {f"{ATTRIBUTE_PREFIX}user.{key}": _repeated(word, len(self.rows)) for key, word in of_user.items()}
        of_items = self.catalogue.attributes if self.whole else {}
        return found | {name: column[self.rows] for name, column in of_items.items()}


def _words(request: RankRequest) -> dict[str, str | None]:
    """What the request says, under the names a ranker knows it by."""
    words: dict[str, str | None] = {"user_id": request.user_id, "surface": request.surface}
    words |= dict.fromkeys(("device", "region", "query"))
    for key, value in request.context.items():
        if key != SOURCE_ITEM:
            words[key if key in CONTEXT_COLUMNS else ATTRIBUTE_PREFIX + key] = value
    return words


def _with_unknown(feature: Feature, items: Mapping[str, Column]) -> Column:
    """The column of each item, and then of the unknown one."""
    nothing = packed(feature, [None])
    if not items:
        return nothing
    known = np.asarray(items[feature.name], dtype=nothing.dtype)
    if feature.kind == "given":
        nothing = widened(nothing, known.shape[1])
    return np.concatenate([known, nothing])


def _repeated(word: str | None, n: int) -> Column:
    """One cell, seen n times: what a request says once is looked up once. `np.full` would drop a NUL at its end."""
    cell = np.empty((), dtype=object)
    cell.fill(word)
    return repeated(cell, n)


def objects(values: Sequence[Any] | Column) -> Column:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
