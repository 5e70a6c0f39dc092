"""Ids of a publication's items, written out beforehand as JSON has them: of a thousand candidates an answer says fifty.

A string of Python's lies anywhere in memory, and a thousand of them are a thousand places to fetch for nothing but to
copy them into the answer.
"""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import orjson
from numpy.typing import NDArray

MOST = 64
"""Bytes of the longest id, as JSON, that all are given room for: about 60 MiB a million."""
Column = NDArray[Any]
Ints = NDArray[np.int64]


class Names:
    """The ids of all items, by row."""

    def __init__(self, ids: Column) -> None:
        """`ids`: (n,) object, strings."""
        self.ids = ids
        said = [orjson.dumps(item) + b"," for item in ids.tolist()]
        self._said = np.array(said, dtype=np.bytes_) if said and max(map(len, said)) <= MOST else None

    def of(self, rows: Ints) -> "Named | None":
        """Of these rows (k,); None where one is -1, or names are too long to be written out."""
        if self._said is None or not len(rows) or rows.min() < 0:
            return None
        return Named(self.ids, self._said, rows)


class Named(Sequence[str]):
    """Ids of some rows: strings only where somebody looks."""

    def __init__(self, ids: Column, said: NDArray[np.bytes_], rows: Ints) -> None:
        self._ids, self._said, self._rows = ids, said, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload  # type: ignore[override]
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice | Ints) -> Column: ...
    def __getitem__(self, at: Any) -> Any:
        return self._ids[self._rows[at]]

    def __iter__(self) -> Iterator[str]:
        return iter(self[:].tolist())

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, Named) else other)

    __hash__ = None  # type: ignore[assignment]

    def json(self) -> bytes:
        """As JSON has a list of them. Room that an id did not need is NUL, which is in no JSON."""
        return b"[" + self._said[self._rows].tobytes().replace(b"\0", b"")[:-1] + b"]"
