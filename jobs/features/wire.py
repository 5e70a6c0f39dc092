"""Feature rows as Feast's online stores keep them: keys, values and times as bytes, made of Arrow columns.

Feast makes an object of every value and a dictionary of every row; nearly all of a publication's time went there. What
is written stays Feast's: its format of the stores (`docs/specs/online_store_format.md` there) and its protobuf messages
`Value`, and a test holds every byte against what Feast itself writes. Nothing here imports Feast, so that workers of a
cluster, which would pay seconds for that, write too.
"""

import struct
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TEXT = 2
"""Feast's number of the type of a text, in keys; all of ours are texts."""
FIELD = {"text": 2, "int32": 3, "double": 5, "texts": 12, "int32s": 13, "floats": 16}
"""Fields of `Value`, by what they hold."""
VARINT, EIGHT_BYTES, LENGTH = 0, 1, 2
"""How protobuf writes a field."""


def keys(rows: pa.Table, names: Sequence[str]) -> list[bytes]:
    """(n,) of each row's entity, of so many texts: Feast's keys of version 3."""
    ordered = sorted(names)
    head = struct.pack("<I", len(ordered)) + b"".join(_sized(TEXT, name.encode()) for name in ordered)
    columns = [[_sized(TEXT, text) for text in _bytes(rows.column(name))] for name in ordered]
    return [head + b"".join(parts) for parts in zip(*columns, strict=True)]


def values(column: pa.ChunkedArray) -> list[bytes]:
    """(n,) messages `Value`; an empty one where the value is null, or no number. Raises TypeError for other types."""
    array = column.combine_chunks()
    array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    found = _maker(array.type)(array)
    for at in np.flatnonzero(_unknown(array)).tolist():
        found[at] = b""
    return found


def moment(micros: int) -> bytes:
    """Microseconds since 1970 as a message `Timestamp`."""
    seconds, rest = divmod(micros, 1_000_000)
    nanos = _field(2, VARINT) + _varint(rest * 1000) if rest else b""
    return (_field(1, VARINT) + _varint(seconds) if seconds else b"") + nanos


def _unknown(array: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(n,); Feast's own way is through pandas, where NaN is as good as null."""
    return np.asarray(array.is_null(nan_is_null=True))


def _maker(kind: pa.DataType) -> Callable[[pa.Array], list[bytes]]:
    makers = {
        pa.string(): _texts,
        pa.int32(): _int32s,
        pa.float64(): _doubles,
        pa.list_(pa.string()): _lists_of_texts,
        pa.list_(pa.int32()): _lists_of_int32s,
        pa.list_(pa.float32()): _lists_of_floats,
    }
    if kind not in makers:
        raise TypeError(f"a column that goes online needs one of the types {', '.join(map(str, makers))}; found {kind}")
    return makers[kind]


def _texts(array: pa.Array) -> list[bytes]:
    start = _field(FIELD["text"], LENGTH)
    return [start + _varint(len(text)) + text for text in _bytes(array)]


def _int32s(array: pa.Array) -> list[bytes]:
    start = _field(FIELD["int32"], VARINT)
    return [start + _varint(number) for number in pc.fill_null(array, 0).to_pylist()]


def _doubles(array: pa.Array) -> list[bytes]:
    """A byte for the field, eight for the number, whatever it is."""
    numbers = np.asarray(pc.fill_null(array, 0.0), "<f8")
    raw = np.empty((len(numbers), 9), np.uint8)
    raw[:, 0] = _field(FIELD["double"], EIGHT_BYTES)[0]
    raw[:, 1:] = numbers.view(np.uint8).reshape(-1, 8)
    found: list[bytes] = raw.view("V9").ravel().tolist()
    return found


def _lists_of_floats(array: pa.Array) -> list[bytes]:
    numbers, ranges = _within(array)
    raw = np.asarray(numbers, "<f4").tobytes()
    return [_list("floats", raw[4 * a : 4 * b]) for a, b in ranges]


def _lists_of_int32s(array: pa.Array) -> list[bytes]:
    numbers, ranges = _within(array)
    each = [_varint(number) for number in numbers.to_pylist()]
    return [_list("int32s", b"".join(each[a:b])) for a, b in ranges]


def _lists_of_texts(array: pa.Array) -> list[bytes]:
    """Not packed, as lists of numbers are: each text is a field."""
    texts, ranges = _within(array)
    head, start = _field(1, LENGTH), _field(FIELD["texts"], LENGTH)
    each = [head + _varint(len(text)) + text for text in _bytes(texts)]
    inner = [b"".join(each[a:b]) for a, b in ranges]
    return [start + _varint(len(part)) + part for part in inner]


def _list(kind: str, packed: bytes) -> bytes:
    """A packed list as `Value`; nothing is said of its one field where it is empty."""
    return _list_head(kind, len(packed)) + packed


@cache
def _list_head(kind: str, size: int) -> bytes:
    inner = _field(1, LENGTH) + _varint(size) if size else b""
    return _field(FIELD[kind], LENGTH) + _varint(len(inner) + size) + inner


def _within(lists: pa.ListArray) -> tuple[pa.Array, list[tuple[int, int]]]:
    """What is in lists, of a slice no more than in that, and where each begins and ends in it."""
    starts = np.asarray(lists.offsets)
    first, last = int(starts[0]), int(starts[-1])
    ends: list[int] = (starts - first).tolist()
    return lists.values.slice(first, last - first), list(pairwise(ends))


def _bytes(column: pa.Array | pa.ChunkedArray) -> list[bytes]:
    """Of texts; of a null none."""
    found: list[bytes] = pc.fill_null(column.cast(pa.binary()), b"").to_pylist()
    return found


def _sized(kind: int, text: bytes) -> bytes:
    return struct.pack("<II", kind, len(text)) + text


@cache
def _field(number: int, written: int) -> bytes:
    return _varint(number << 3 | written)


@cache
def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as one of 64 bits."""
    left, found = number & (1 << 64) - 1, bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*found, left])
