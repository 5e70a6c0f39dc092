"""What a network over vectors is told of a row: numbers, and rows of its table of vectors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.rankers.embeddings import Embeddings, Sightings, Words, of_columns, sightings
from models.rankers.encoding import Encoding, require
from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, IDS, LISTS, NUMERIC
from models.rankers.logistic import Scaling, logged
from models.rankers.protocol import Columns

SHARED = dict.fromkeys(LISTS, "item_id")
"""Lists of ids and the column whose vectors they share."""
PARENTS = {"item_id": "item_category"}
"""A new value of the first begins where the values of its second are, on average."""
ROWS_AT_ONCE = 8_192
"""Numbers are prepared in as many rows as a processor keeps at hand."""


@dataclass(frozen=True)
class Layout:
    """What the network is told of a row: numbers, then one word each of `words`, then the words of `lists`."""

    numeric: tuple[str, ...]
    words: tuple[str, ...]
    lists: tuple[str, ...]
    listed: int
    """Entries of all lists together."""
    scaling: Scaling

    @classmethod
    def fit(cls, features: Columns, rows: NDArray[np.int64]) -> Self:
        """Every numeric and categorical column, each `attributes.*`, id and list column there is; needed from then on.

        A list is left out where the column is not there whose vectors it shares.
        """
        require(features, (*NUMERIC, *CATEGORICAL))
        attributes = sorted(name for name in features if name.startswith(ATTRIBUTE_PREFIX))
        words = (*CATEGORICAL, *attributes, *(name for name in IDS if name in features))
        lists = tuple(name for name, of in SHARED.items() if name in features and of in words)
        listed = sum(np.asarray(features[name]).shape[1] for name in lists)
        one = [Scaling.fit(logged(Encoding((name,), {}), rows_of(features, (name,), rows))) for name in NUMERIC]
        scaling = Scaling(np.concatenate([of.mean for of in one]), np.concatenate([of.spread for of in one]))
        return cls(NUMERIC, words, lists, listed, scaling)

    @property
    def sources(self) -> dict[str, str]:
        """Each column of strings and the field whose rows it looks up."""
        return {**{name: name for name in self.words}, **{name: SHARED[name] for name in self.lists}}

    @property
    def fields(self) -> tuple[str, ...]:
        """The field of each code of a row."""
        of_lists = [SHARED[name] for name in self.lists for _ in range(self.listed // max(1, len(self.lists)))]
        return (*self.words, *of_lists)

    def numbers(self, features: Columns) -> NDArray[np.float32]:
        """(n, 2 numeric): logarithms of what is heavy-tailed, standardised, and one flag per missing value."""
        require(features, self.numeric)
        encoding, n = Encoding(self.numeric, {}), len(features[self.numeric[0]])
        found = np.empty((n, 2 * len(self.numeric)), dtype=np.float32)
        for first in range(0, n, ROWS_AT_ONCE):  # a million rows in double precision would be a gigabyte, five times
            part = slice(first, first + ROWS_AT_ONCE)
            some = {name: features[name][part] for name in self.numeric}
            found[part] = self.scaling.apply(logged(encoding, some))
        return found

    def codes(self, features: Mapping[str, NDArray[Any] | Words], table: Embeddings, n: int) -> NDArray[np.int32]:
        """(n, words + listed) rows of the table; a missing `attributes.*` column is unknown, any other an error."""
        require(features, [name for name in self.sources if not name.startswith(ATTRIBUTE_PREFIX)])
        return of_columns(table, features, self.sources, n)

    def hashed(self, features: Columns, rows: NDArray[np.int64]) -> dict[str, Words]:
        """The columns of strings there are, of some rows."""
        return {name: Words.of(column) for name, column in rows_of(features, self.sources, rows).items()}

    def seen(self, columns: Mapping[str, Words], days: NDArray[np.int64]) -> dict[str, Sightings]:
        """Of each field, in the columns that look it up, whose rows are of these days."""
        nothing = Words([None], np.zeros(len(days), np.int32))
        found = {}
        for field in self.words:
            mine = [(columns.get(name, nothing), days) for name, of in self.sources.items() if of == field]
            parent = (columns[field], columns[PARENTS[field]]) if field in PARENTS else None
            found[field] = sightings(mine, parent)
        return found


def rows_of(features: Columns, names: Iterable[str], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Those columns there are, of some rows: copied only where these are not all."""
    there = {name: np.asarray(features[name]) for name in names if name in features}
    return {name: column if len(column) == len(rows) else column[rows] for name, column in there.items()}
