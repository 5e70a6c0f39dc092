"""Examples put in place batch by batch: no more of them is in memory at once than a batch."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.moment.columns import LABELS, attribute_keys, training_data
from models.rankers.features import ATTRIBUTE_PREFIX, attribute
from models.rankers.protocol import FurtherOutcome, Inputs, Room, TrainingData, parts
from models.rankers.words import Words
from models.settings import OutcomeSettings

FIRST_ROWS = 1 << 16
OUTCOME = "outcome\x1f"
"""Before the name of a further outcome, among columns."""


class Gathered:
    """`training_data` of all the batches there were, in `room`."""

    def __init__(self, inputs: Inputs, outcomes: Mapping[str, OutcomeSettings], room: Room) -> None:
        self._inputs, self._outcomes, self._room = inputs, outcomes, room
        self._n, self._most = 0, FIRST_ROWS
        self._arrays: dict[str, NDArray[Any]] = {}
        self._codes: dict[str, dict[str, int]] = {}
        self._further: dict[str, OutcomeSettings] = {}

    def add(self, examples: pa.Table) -> None:
        """The next rows."""
        data = training_data(examples, attribute_keys(examples["attributes"]), self._inputs, self._outcomes)
        self._further = {name: of.declared for name, of in data.outcomes.items()}
        columns = {**data.features, **{name: getattr(data, name) for name in LABELS}}
        columns |= {f"{OUTCOME}{name}": of.label for name, of in data.outcomes.items()}
        first, self._n = self._n, self._n + len(examples)
        while self._most < self._n:
            self._most *= 2
        for name in dict.fromkeys((*self._arrays, *columns)):
            column = columns.get(name)
            if isinstance(column, Words):
                column = self._coded(name, column)
            into = self._wide_enough(name, column, first)
            if column is None:
                into[first : self._n] = _unknown(into)
            elif column.ndim == 1:
                into[first : self._n] = column
            else:
                into[first : self._n, : column.shape[1]] = column
                into[first : self._n, column.shape[1] :] = _unknown(into)

    def data(self, keys: Iterable[str]) -> TrainingData:
        """All rows, with the attributes of `keys`, and those alone."""
        wanted = [f"{ATTRIBUTE_PREFIX}{key}" for key in keys]
        there = {name: array[: self._n] for name, array in self._arrays.items()}
        clicked, converted, weight = (there.pop(name) for name in LABELS)
        further = {
            name: FurtherOutcome(declared, there.pop(f"{OUTCOME}{name}")) for name, declared in self._further.items()
        }
        found: dict[str, Any] = {
            name: Words(tuple(self._codes[name]), array) if name in self._codes else array
            for name, array in there.items()
        }
        plain = {name: column for name, column in found.items() if not name.startswith(ATTRIBUTE_PREFIX)}
        told = {name: found[name] if name in found else attribute(name, Words.unknown(self._n)) for name in wanted}
        return TrainingData({**plain, **told}, clicked, converted, weight, outcomes=further, room=self._room)

    def _coded(self, name: str, words: Words) -> NDArray[np.int32]:
        known = self._codes.setdefault(name, {})
        place = np.array([*(known.setdefault(value, len(known)) for value in words.values), -1], np.int32)
        found: NDArray[np.int32] = place[words.at]
        return found

    def _wide_enough(self, name: str, column: NDArray[Any] | None, filled: int) -> NDArray[Any]:
        """The array of a column, in larger room where that has become too small; what was not told is unknown."""
        before = self._arrays.get(name)
        like = [array for array in (before, column) if array is not None]
        shape = tuple(np.max([array.shape[1:] for array in like], axis=0).astype(int).tolist())
        if before is not None and len(before) >= self._n and before.shape[1:] == shape:
            return before
        found = self._room((self._most, *shape), like[0].dtype)
        for part in parts(filled):
            rows = slice(part.start, min(part.stop, filled))
            found[rows] = _unknown(found)
            if before is not None:
                found[(rows, *map(slice, before.shape[1:]))] = before[rows]
        self._arrays[name] = found
        return found


def _unknown(array: NDArray[Any]) -> float:
    """Of codes, or of numbers."""
    return -1 if array.dtype.kind == "i" else float("nan")
