"""Which numbers and which category codes a learned ranker sees; fitted once, then the same for every batch."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, NUMERIC, attributes_of
from models.rankers.protocol import Column, Columns, Floats, Room, parts, taken
from models.rankers.words import Words, repeated, said_once

UNKNOWN_CODE, REST_CODE, FIRST_KEPT_CODE = 0, 1, 2
"""Codes of a category: unknown (None), known but not among the kept values, and from here on the kept values."""


@dataclass(frozen=True)
class Encoding:
    """The columns a ranker was fitted on and the values it kept of each category, most frequent first."""

    numeric: tuple[str, ...]
    vocabularies: Mapping[str, tuple[str, ...]]

    @classmethod
    def fit(cls, features: Columns, rows: NDArray[np.int64], max_categories: int) -> Self:
        """Every numeric and categorical column of `models.rankers.features` and every `attributes.*` column present,
        those of numbers as numbers.

        The `max_categories` most frequent values of a column among `rows` are kept, ties going to the smaller value.
        Raises ValueError when a named column is missing.
        """
        attributes, told = attributes_of(features)
        require(features, (*NUMERIC, *CATEGORICAL))
        kept = {name: _frequent(taken(features[name], rows), max_categories) for name in (*CATEGORICAL, *attributes)}
        return cls((*NUMERIC, *told), kept)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each categorical column has."""
        return tuple(FIRST_KEPT_CODE + len(kept) for kept in self.vocabularies.values())

    def numbers(self, features: Columns) -> Floats:
        """The numeric columns as (n, numeric), NaN where a value is unknown or not finite, or an attribute missing."""
        require(features, [name for name in self.numeric if not name.startswith(ATTRIBUTE_PREFIX)])
        n = max(len(features[name]) for name in self.numeric if name in features)
        table = np.empty((n, len(self.numeric)))
        for at, name in enumerate(self.numeric):
            table[:, at] = features.get(name, np.nan)
        table[~np.isfinite(table)] = np.nan
        return table

    def by_parts(self, features: Columns, rows: NDArray[np.int64]) -> Iterator[Floats]:
        """`numbers` of some rows, some at once."""
        there = {name: features[name] for name in self.numeric if name in features}
        for part in parts(len(rows)):
            yield self.numbers({name: column[rows[part]] for name, column in there.items()})

    def codes(self, features: Columns, room: Room = np.empty) -> NDArray[np.int32]:
        """The categorical columns as (n, categorical) codes in [0, size of the column).

        A missing `attributes.*` column is unknown throughout, because an absent key of a map means just that; any
        other missing column raises ValueError.
        """
        require(features, [name for name in self.vocabularies if not name.startswith(ATTRIBUTE_PREFIX)])
        n = len(features[self.numeric[0]])
        table: NDArray[np.int32] = room((n, len(self.vocabularies)), np.int32)
        for at, (name, kept) in enumerate(self.vocabularies.items()):
            table[:, at] = UNKNOWN_CODE
            if name in features:
                codes = {value: code for code, value in enumerate(kept, start=FIRST_KEPT_CODE)}
                table[:, at] = codes_of(features[name], codes, otherwise=REST_CODE, unknown=UNKNOWN_CODE)
        return table

    def to_json(self) -> bytes:
        """Readable bytes for `from_json`."""
        return json.dumps({"numeric": self.numeric, "vocabularies": list(self.vocabularies.items())}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The very encoding `to_json` wrote."""
        tree = json.loads(content)
        return cls(tuple(tree["numeric"]), {name: tuple(kept) for name, kept in tree["vocabularies"]})


def require(features: Mapping[str, object], names: Iterable[str]) -> None:
    """Raises ValueError naming the columns that `features` lacks."""
    missing = [name for name in names if name not in features]
    if missing:
        raise ValueError(f"a ranker needs the columns {missing}; found {sorted(features)}")


def codes_of(column: Column, codes: Mapping[str, int], *, otherwise: int, unknown: int) -> NDArray[np.int64]:
    """Each value's code: `unknown` for None or NaN, `otherwise` for a value that has none.

    A column that repeats one value without a copy (`repeated`), as what a request says once is for all its
    candidates, is looked up once and stays so. Raises ValueError for a value that is neither a string nor unknown.
    """
    if said_once(column):
        one = codes_of(column[:1], codes, otherwise=otherwise, unknown=unknown)
        return repeated(one.reshape(one.shape[1:]), len(column))
    if isinstance(column, Words):
        found: NDArray[np.int64] = column.looked_up(codes, otherwise=otherwise, unknown=unknown)[column.at]
        return found
    values = column.tolist()
    # Of the values that occur, not of all codes: a few candidates are looked up among millions of items.
    table: dict[Any, int] = {}
    for value in set(values):
        if value is None or value != value:
            table[value] = unknown
        elif not isinstance(value, str):
            raise ValueError(f"a category needs to be a string or None; found {value!r}")
        else:
            table[value] = codes.get(value, otherwise)
    return np.fromiter(map(table.__getitem__, values), dtype=np.int64, count=len(values))


def _frequent(column: Column, most: int) -> tuple[str, ...]:
    """The `most` most frequent strings of a column, ties to the smaller value."""
    words = Words.of(column)
    known = [pair for pair in zip(words.values, words.counts().tolist(), strict=True) if pair[1]]
    return tuple(value for value, _ in sorted(known, key=lambda pair: (-pair[1], pair[0]))[:most])
