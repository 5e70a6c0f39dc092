"""Rows of the lake as a ranker's arrays: the one place where Arrow columns become numpy for learning and replay.

`user_arrays`, `user_row`, `item_arrays` and `encodings_of` (or `encodings_seen`) give `decision_columns` what it takes
of each feature table.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.clock import seen
from jobs.asof.core import microseconds
from jobs.errors import Refused
from models.features import Feature, Of, read
from models.rankers.features import (
    ATTRIBUTE_PREFIX,
    COUNT_PREFIX,
    EVERYTHING,
    NO_BUCKET,
    SERVING_POSITION,
    USER_NUMBERS,
    WIDTHS,
    Encodings,
    attribute,
    packed,
    steps,
    there,
)
from models.rankers.protocol import Floats, FurtherOutcome, Inputs, TrainingData
from models.rankers.words import Words, repeated
from models.settings import OutcomeSettings

LABELS = ("clicked", "converted", "weight")
Columns = dict[str, NDArray[Any]]
Indices = NDArray[np.int64]


def numbers(column: pa.ChunkedArray | pa.Array) -> Floats:
    """float64, NaN where null; booleans become 0.0 and 1.0."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    values = pc.fill_null(column.cast(pa.float64()), float("nan"))
    return np.asarray(values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy())


def words(column: pa.ChunkedArray | pa.Array) -> Words:
    """Arrow's own codes into the distinct values, in order of appearance: an object a value, none a row."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = whole.cast(pa.string()).dictionary_encode()
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    return Words(coded.dictionary.to_pylist(), codes)


def strings(column: pa.ChunkedArray | pa.Array) -> NDArray[np.object_]:
    """Python strings, None where null; equal values share one object, so a million rows cost eight bytes each."""
    return words(column).strings()


def attribute_keys(column: pa.ChunkedArray) -> list[str]:
    """The keys that occur in a map column, sorted."""
    keys: set[str] = set()
    for chunk in column.chunks:
        keys.update(pc.unique(_entries(chunk)[1]).to_pylist())
    return sorted(keys)


def attribute_columns(column: pa.ChunkedArray, keys: Iterable[str]) -> dict[str, NDArray[np.object_]]:
    """`attribute_words` as Python strings."""
    return {name: found.strings() for name, found in attribute_words(column, keys).items()}


def attribute_words(column: pa.ChunkedArray, keys: Iterable[str]) -> dict[str, Words]:
    """`attributes.<key>` for each of `keys`, unknown where a row's map lacks it; the last of equal keys counts.

    One pass over all entries: `pc.map_lookup` walks the whole column once a key, a second per million rows.
    """
    wanted = list(keys)
    if not len(column):
        return {ATTRIBUTE_PREFIX + key: Words.unknown(0) for key in wanted}
    rows, names, texts = _entries(column.combine_chunks())
    which = pc.fill_null(pc.index_in(names, pa.array(wanted, pa.string())), -1).to_numpy(zero_copy_only=False)
    columns = {}
    for number, key in enumerate(wanted):
        mine = np.flatnonzero(which == number)
        said, at = words(texts.take(pa.array(mine))), np.full(len(column), -1, np.int32)
        at[rows[mine]] = said.at
        columns[ATTRIBUTE_PREFIX + key] = Words(said.values, at)
    return columns


def outcome_words(column: pa.ChunkedArray, of: Of) -> pa.MapArray:
    """`jobs.lake.tables.ATTRIBUTES` (n,) of the counts of users or items: `<of>.outcomes.<name>` to the number's step.

    Where the counts are null there is nothing to tell: an empty map.
    """
    maps = column.combine_chunks()
    maps = maps.take(pa.array(np.arange(len(maps))))  # unsliced: keys and items are the whole of it
    keys = pc.binary_join_element_wise(f"{of}.{COUNT_PREFIX}", maps.keys, "")
    words = pa.array(steps(maps.items.to_numpy(zero_copy_only=False)), pa.string())
    return pa.MapArray.from_arrays(np.asarray(maps.offsets), keys, words)


def outcome_columns(column: pa.ChunkedArray, names: Iterable[str]) -> dict[str, Floats]:
    """Each further outcome of `examples.outcomes`, (n,): 0 or 1, or the value; NaN where it is unknown."""
    rows, keys, values = _entries(column.combine_chunks())
    columns = {}
    for name in names:
        mine = np.flatnonzero(pc.equal(keys, name).to_numpy(zero_copy_only=False))
        columns[name] = found = np.full(len(column), np.nan)
        found[rows[mine]] = values.take(pa.array(mine)).to_numpy()
    return columns


def _entries(maps: pa.MapArray) -> tuple[NDArray[np.int64], pa.Array, pa.Array]:
    """Every entry of a map array: its row, key and value. (`pc.list_flatten` of a sliced map aborts the process.)"""
    offsets = np.asarray(maps.offsets)
    first, length = int(offsets[0]), int(offsets[-1] - offsets[0])
    rows = np.repeat(np.arange(len(maps)), np.diff(offsets))
    return rows, maps.keys.slice(first, length), maps.items.slice(first, length)


def columns_read(inputs: Inputs) -> tuple[str, ...]:
    """The columns of `examples` that `ranker_columns` reads."""
    return (*inputs.named, *inputs.vectors, *(("attributes",) if inputs.attributes else ()))


def ranker_columns(
    examples: pa.Table,
    keys: Iterable[str] | None = None,
    at_serving_position: bool = False,
    inputs: Inputs = EVERYTHING,
) -> dict[str, Any]:
    """The `inputs` in `examples`, row by row, words as `Words`; `keys` names the attributes wanted (default: those that
    occur).

    `at_serving_position` asks what the ranker would say if every item were shown first: that is how items compare.
    """
    columns: dict[str, Any] = {name: words(examples[name]) for name in (*inputs.ids, *inputs.categories)}
    columns.update({name: numbers(examples[name]) for name in inputs.numbers})
    columns.update({name: _listed(examples[name], WIDTHS[name])[:-1] for name in inputs.lists})
    columns.update(there({name: _given(examples[name]) for name in inputs.vectors}))
    if inputs.attributes:
        wanted = attribute_keys(examples["attributes"]) if keys is None else keys
        found = attribute_words(examples["attributes"], wanted)
        columns.update({name: attribute(name, column) for name, column in found.items()})
    if at_serving_position and "position" in columns:
        columns["position"] = np.full(len(examples), float(SERVING_POSITION))
    return columns


def training_data(
    examples: pa.Table,
    keys: Iterable[str],
    inputs: Inputs = EVERYTHING,
    outcomes: Mapping[str, OutcomeSettings] | None = None,
) -> TrainingData:
    """What a ranker of these inputs learns from, of the further `outcomes` declared too; unknown labels are NaN."""
    clicked, converted, weight = (numbers(examples[name]) for name in LABELS)
    declared = outcomes if outcomes and inputs.outcomes else {}
    found = outcome_columns(examples["outcomes"], declared) if declared else {}
    further = {name: FurtherOutcome(declared[name], label) for name, label in found.items()}
    features = ranker_columns(examples, keys, inputs=inputs)
    return TrainingData(features, clicked, converted, weight, outcomes=further)


def user_arrays(features: pa.Table, at: Indices) -> Columns:
    """Row `at[i]` of `user_features` for each of n rows; what nobody knows where it is -1.

    Raises `Refused` for a vector of another length than declared.
    """
    return _arrays("user", features, at)


def item_arrays(features: pa.Table, at: Indices, prefix: str = "") -> Columns:
    """Likewise of `item_features`, without the id; `prefix` is what its columns are called with."""
    return _arrays("item", features, at, prefix)


def _arrays(of: Of, features: pa.Table, at: Indices, prefix: str = "") -> Columns:
    return {feature.name: with_unknown(feature, features[prefix + feature.name])[at] for feature in read(of)}


def with_unknown(feature: Feature, column: pa.ChunkedArray) -> NDArray[Any]:
    """A feature's m rows as an array of m + 1: the last, which index -1 finds, is what nobody knows."""
    if feature.kind == "items":
        return _listed(column, feature.width).strings()
    if feature.kind == "buckets":
        buckets = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return _padded(column, feature.width, buckets.astype(np.int8), NO_BUCKET)
    if feature.kind == "given":
        given = _given(column)
        return np.concatenate([given, np.full((1, given.shape[1]), np.nan, given.dtype)])
    if feature.kind == "vector":
        lists = column.combine_chunks()
        flat, there = lists.flatten().to_numpy(zero_copy_only=False), lists.is_valid().to_numpy(zero_copy_only=False)
        if len(flat) != there.sum() * feature.width:
            needed = f"{feature.of}_features needs {feature.width} {feature.name} a row"
            raise Refused(f"{needed}; found {len(flat)} in {there.sum()} rows")
        values: NDArray[Any] = np.full((len(lists), feature.width), np.nan, flat.dtype)
        values[there] = flat.reshape(-1, feature.width)
    elif feature.kind == "bucket":
        values = pc.fill_null(column, NO_BUCKET).to_numpy().astype(np.int64)
    else:
        values = numbers(column) if feature.kind == "number" else strings(column)
    return np.concatenate([values, packed(feature, [None]).astype(values.dtype)])


def user_row(user: Mapping[str, Any] | None, n: int) -> Columns:
    """One user's features for n rows, from a row of `user_features` as a mapping; None: an unknown user."""
    known = user or {}
    told = [known.get(name) for name in USER_NUMBERS]
    # Numbers are few enough to be written out, which takes less time than views of one row.
    each = np.array([np.nan if number is None else number for number in told], dtype=np.float64).repeat(n)
    rows: Columns = dict(zip(USER_NUMBERS, each.reshape(len(told), n), strict=True))
    for feature in read("user"):
        if feature.kind != "number":
            row = packed(feature, [known.get(feature.name)])
            rows[feature.name] = repeated(row.reshape(row.shape[1:]), n)
    return rows


def encodings_of(table: pa.Table) -> Encodings:
    """`encodings` rows of one publication, which all rows see."""
    return Encodings(_rates(table, np.zeros(len(table), np.int64), 1), np.array([0]))


def encodings_seen(table: pa.Table, available_us: Indices, event_time: pa.ChunkedArray) -> Encodings:
    """`encodings` rows of the publications `available_us`; each of n rows sees those of the one it sees, see `seen`."""
    at = np.searchsorted(available_us, microseconds(table["available_at"]))
    return Encodings(_rates(table, at, len(available_us)), seen(available_us, event_time))


def _rates(table: pa.Table, at: Indices, publications: int) -> dict[str, dict[str, Floats]]:
    """Encoding, then value, to its rate in each publication, NaN where there is none; row i is of publication at[i]."""
    rates: dict[str, dict[str, Floats]] = {}
    rows = zip(table["encoding"].to_pylist(), table["value"].to_pylist(), at, numbers(table["click_rate"]), strict=True)
    for name, value, publication, rate in rows:
        of = rates.setdefault(name, {})
        if value not in of:
            of[value] = np.full(publications, np.nan)
        of[value][publication] = rate
    return rates


def _given(lists: pa.ChunkedArray) -> NDArray[np.float32]:
    """(m, longest): each vector, then NaN."""
    whole = lists.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(whole), 0).to_numpy(zero_copy_only=False)
    found = np.full((len(whole), int(lengths.max(initial=0))), np.nan, np.float32)
    flat = pc.fill_null(whole.flatten(), np.nan).to_numpy(zero_copy_only=False)
    found[np.arange(found.shape[1]) < lengths[:, None]] = flat
    return found


def _listed(lists: pa.ChunkedArray, width: int) -> Words:
    """(m + 1, width): each list's first words, then unknown; of the last row, which index -1 finds, all are."""
    flat = words(lists.combine_chunks().flatten())
    return Words(flat.values, _padded(lists, width, flat.at, -1))


def _padded(lists: pa.ChunkedArray, width: int, values: NDArray[Any], filler: int) -> NDArray[Any]:
    """(m + 1, width): each list's first of the flat `values`, then `filler`; the last row is all of it.

    A null list is empty.
    """
    whole = lists.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(whole), 0).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(whole)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table = np.full((len(whole) + 1, width), filler, dtype=values.dtype)
    kept = place < width
    table[row[kept], place[kept]] = values[kept]
    return table
