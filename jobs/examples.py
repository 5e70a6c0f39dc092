"""Rows of the lake as a ranker's arrays: the one place where Arrow columns become numpy for learning and replay."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, IDENTITY, NUMERIC, SERVING_POSITION
from models.rankers.protocol import Floats, TrainingData

FEATURES = (*IDENTITY, *NUMERIC, *CATEGORICAL, "attributes")
"""The columns of `examples` that a ranker may look at."""
LABELS = ("clicked", "converted", "weight")


def numbers(column: pa.ChunkedArray | pa.Array) -> Floats:
    """float64, NaN where null; booleans become 0.0 and 1.0."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    values = pc.fill_null(column.cast(pa.float64()), float("nan"))
    return np.asarray(values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy())


def strings(column: pa.ChunkedArray | pa.Array) -> NDArray[np.object_]:
    """Python strings, None where null; equal values share one object, so a million rows cost eight bytes each."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = whole.cast(pa.string()).dictionary_encode()
    values = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    codes: NDArray[np.int64] = pc.fill_null(coded.indices, len(values) - 1).to_numpy(zero_copy_only=False)
    return values[codes]


def attribute_keys(column: pa.ChunkedArray) -> list[str]:
    """The keys that occur in a map column, sorted."""
    keys: set[str] = set()
    for chunk in column.chunks:
        keys.update(pc.unique(_entries(chunk)[1]).to_pylist())
    return sorted(keys)


def attribute_columns(column: pa.ChunkedArray, keys: Iterable[str]) -> dict[str, NDArray[np.object_]]:
    """`attributes.<key>` for each of `keys`, None where a row's map lacks it; the last of equal keys counts.

    One pass over all entries: `pc.map_lookup` walks the whole column once a key, a second per million rows.
    """
    wanted = list(keys)
    if not len(column):
        return {ATTRIBUTE_PREFIX + key: np.empty(0, dtype=object) for key in wanted}
    rows, names, texts = _entries(column.combine_chunks())
    which = pc.fill_null(pc.index_in(names, pa.array(wanted, pa.string())), -1).to_numpy(zero_copy_only=False)
    values = strings(texts)
    columns = {}
    for number, key in enumerate(wanted):
        mine = np.flatnonzero(which == number)
        columns[ATTRIBUTE_PREFIX + key] = found = np.full(len(column), None, dtype=object)
        found[rows[mine]] = values[mine]
    return columns


def _entries(maps: pa.MapArray) -> tuple[NDArray[np.int64], pa.Array, pa.Array]:
    """Every entry of a map array: its row, key and value. (`pc.list_flatten` of a sliced map aborts the process.)"""
    offsets = np.asarray(maps.offsets)
    first, length = int(offsets[0]), int(offsets[-1] - offsets[0])
    rows = np.repeat(np.arange(len(maps)), np.diff(offsets))
    return rows, maps.keys.slice(first, length), maps.items.slice(first, length)


def ranker_columns(
    examples: pa.Table, keys: Iterable[str] | None = None, at_serving_position: bool = False
) -> dict[str, NDArray[Any]]:
    """The features of `examples`, row by row; `keys` names the attributes wanted (default: those that occur).

    `at_serving_position` asks what the ranker would say if every item were shown first: that is how items compare.
    """
    columns: dict[str, NDArray[Any]] = {name: strings(examples[name]) for name in (*IDENTITY, *CATEGORICAL)}
    columns.update({name: numbers(examples[name]) for name in NUMERIC})
    wanted = attribute_keys(examples["attributes"]) if keys is None else keys
    columns.update(attribute_columns(examples["attributes"], wanted))
    if at_serving_position:
        columns["position"] = np.full(len(examples), float(SERVING_POSITION))
    return columns


def training_data(examples: pa.Table, keys: Iterable[str]) -> TrainingData:
    """What a ranker learns from; unknown labels are NaN."""
    clicked, converted, weight = (numbers(examples[name]) for name in LABELS)
    return TrainingData(ranker_columns(examples, keys), clicked, converted, weight)
