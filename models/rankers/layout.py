"""What a network over vectors is told of a row: numbers, and rows of its table of vectors.

The vector that the catalogue gives of an item is numbers too, of an item that nobody has clicked the only ones that
tell what it is like.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.rankers.embeddings import Embeddings, Sightings, of_columns, sightings
from models.rankers.encoding import Encoding, require
from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, IDS, LISTS, NUMERIC, attributes_of, widened
from models.rankers.logistic import Scaling, logged
from models.rankers.protocol import Columns, Room, of_part, parts, taken
from models.rankers.words import Words

SHARED = dict.fromkeys(LISTS, "item_id")
"""Lists of ids and the column whose vectors they share."""
PARENTS = {"item_id": "item_category"}
"""A new value of the first begins where the values of its second are, on average."""
VECTOR = "item_vector"


@dataclass(frozen=True)
class Layout:
    """What the network is told of a row: numbers, those of a vector too, then one word each of `words`, then the words
    of `lists`.
    """

    numeric: tuple[str, ...]
    words: tuple[str, ...]
    lists: tuple[str, ...]
    listed: int
    """Entries of all lists together."""
    scaling: Scaling
    """Of `numeric`, then of the vector's numbers."""
    vector: int = 0
    """How many numbers an item's vector has; 0: nobody had one."""

    @classmethod
    def fit(cls, features: Columns, rows: NDArray[np.int64]) -> Self:
        """Every numeric and categorical column, each `attributes.*`, id and list column there is; needed from then on.

        A list is left out where the column is not there whose vectors it shares. An item's vector is of the length that
        most rows' have.
        """
        require(features, (*NUMERIC, *CATEGORICAL))
        attributes, told = attributes_of(features)
        numeric = (*NUMERIC, *told)
        words = (*CATEGORICAL, *attributes, *(name for name in IDS if name in features))
        lists = tuple(name for name, of in SHARED.items() if name in features and of in words)
        listed = sum(features[name].shape[1] for name in lists)
        one = [Scaling.fit(logged(Encoding((name,), {}), rows_of(features, (name,), rows))) for name in numeric]
        given = rows_of(features, (VECTOR,), rows).get(VECTOR, np.empty((len(rows), 0), np.float32))
        vectors = _of_length(given, d := _commonest(given))
        one += [Scaling.fit(vectors[:, [at]].astype(np.float64)) for at in range(d)]
        scaling = Scaling(np.concatenate([of.mean for of in one]), np.concatenate([of.spread for of in one]))
        return cls(numeric, words, lists, listed, scaling, d)

    @cached_property
    def sources(self) -> dict[str, str]:
        """Each column of strings and the field whose rows it looks up."""
        return {**{name: name for name in self.words}, **{name: SHARED[name] for name in self.lists}}

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The field of each code of a row."""
        of_lists = [SHARED[name] for name in self.lists for _ in range(self.listed // max(1, len(self.lists)))]
        return (*self.words, *of_lists)

    @cached_property
    def of_numbers(self) -> tuple[str, ...]:
        """The columns that `numbers` reads."""
        return (*self.numeric, *((VECTOR,) if self.vector else ()))

    @cached_property
    def width(self) -> int:
        """How many numbers the network is told: 2 numeric, and where there are vectors theirs and one flag."""
        return 2 * len(self.numeric) + (self.vector + 1 if self.vector else 0)

    def vectors(self, features: Columns) -> NDArray[np.float32]:
        """(n, vector) of the items, NaN where one has none, or one of another length or not of finite numbers."""
        none = np.empty((len(features[self.numeric[0]]), 0), np.float32)
        if not self.vector:
            return none
        return _of_length(np.asarray(features.get(VECTOR, none)), self.vector)

    def otherwise_long(self, features: Columns) -> int:
        """How many rows' items have a vector of another length, which the network cannot look at."""
        lengths = _lengths(np.asarray(features[VECTOR])) if VECTOR in features else np.zeros(0, np.int64)
        return int(((lengths > 0) & (lengths != self.vector)).sum())

    def numbers(self, features: Columns, room: Room = np.empty) -> NDArray[np.float32]:
        """(n, width): logarithms of what is heavy-tailed and vectors, standardised, and a flag per missing value; of a
        vector that is missing one.
        """
        require(features, [name for name in self.numeric if not name.startswith(ATTRIBUTE_PREFIX)])
        encoding, n = Encoding(self.numeric, {}), len(features[self.numeric[0]])
        found: NDArray[np.float32] = room((n, self.width), np.float32)
        for part in parts(n):  # a million rows in double precision would be a gigabyte, five times
            some = of_part(features, self.of_numbers, part)
            told = logged(encoding, some)
            if self.vector:
                told = np.hstack([told, self.vectors(some)])
            found[part] = self.scaling.apply(told)[:, : self.width]  # the vector's flags are last, and all alike
        return found

    def codes(self, features: Columns, table: Embeddings, n: int, room: Room = np.empty) -> NDArray[np.int32]:
        """(n, words + listed) rows of the table; a missing `attributes.*` column is unknown, any other an error."""
        require(features, [name for name in self.sources if not name.startswith(ATTRIBUTE_PREFIX)])
        return of_columns(table, features, self.sources, n, room)

    def hashed(self, features: Columns, rows: NDArray[np.int64], room: Room = np.empty) -> dict[str, Words]:
        """The columns of strings there are, of some rows."""
        return {name: Words.of(column) for name, column in rows_of(features, self.sources, rows, room).items()}

    def seen(self, columns: Mapping[str, Words], days: NDArray[np.int64]) -> dict[str, Sightings]:
        """Of each field, in the columns that look it up, whose rows are of these days."""
        nothing = Words.unknown(len(days))
        found = {}
        for field in self.words:
            mine = [(columns.get(name, nothing), days) for name, of in self.sources.items() if of == field]
            parent = (columns[field], columns[PARENTS[field]]) if field in PARENTS else None
            found[field] = sightings(mine, parent)
        return found


def _lengths(given: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) of given vectors, which NaN follows; 0 for none."""
    places = np.arange(1, given.shape[1] + 1)
    found: NDArray[np.int64] = np.where(np.isnan(given), 0, places).max(axis=1, initial=0)
    return found


def _commonest(given: NDArray[Any]) -> int:
    """The most frequent length, the shorter one of two; 0 where nobody has a vector."""
    counts = np.bincount(_lengths(given))[1:]
    return int(counts.argmax()) + 1 if counts.any() else 0


def _of_length(given: NDArray[Any], d: int) -> NDArray[np.float32]:
    """(n, d) those of d finite numbers, NaN in place of all others."""
    wide = widened(given, d).astype(np.float32, copy=False)
    whole = np.column_stack([np.isfinite(wide[:, :d]), np.isnan(wide[:, d:])]).all(axis=1, keepdims=True)
    return np.where(whole, wide[:, :d], np.float32(np.nan))


def rows_of(features: Columns, names: Iterable[str], rows: NDArray[np.int64], room: Room = np.empty) -> dict[str, Any]:
    """Those columns there are, of some rows: copied only where these are not all."""
    return {name: taken(features[name], rows, room) for name in names if name in features}
