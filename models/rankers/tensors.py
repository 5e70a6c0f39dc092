"""Named arrays as one safetensors file: a JSON header and the raw numbers, nothing in it that could run.

The format as its authors describe it (https://github.com/huggingface/safetensors, "Format"), so that any reader of it
can open a bundle; written out here because two functions are less than one more package.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
METADATA = "__metadata__"
ALIGNED = 8
"""The header is filled up with spaces to so many bytes, so that numbers start where a processor likes them to."""


def to_bytes(tensors: Mapping[str, NDArray[Any]], about: Mapping[str, str] | None = None) -> bytes:
    """The same arrays in the same order give the same bytes; `about` is text that goes with them.

    Raises ValueError for an array whose type the format has no name for here (see `DTYPES`).
    """
    header: dict[str, Any] = {} if about is None else {METADATA: dict(about)}
    parts, end = [], 0
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES:
            raise ValueError(f"a tensor needs to be of {', '.join(DTYPES)}; found {name} of {tensor.dtype}")
        part = np.ascontiguousarray(tensor).tobytes()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def from_bytes(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays `to_bytes` wrote: read-only views of `content`, no copies.

    Raises ValueError where the content ends before its header says.
    """
    header, first = _header(content)
    found = {}
    for name, about in header.items():
        if name == METADATA:
            continue
        begin, end = about["data_offsets"]
        if first + end > len(content):
            raise ValueError(f"tensor {name} needs {first + end} bytes of file; found {len(content)}")
        dtype = np.dtype(DTYPES[about["dtype"]])
        flat = np.frombuffer(content, dtype, (end - begin) // dtype.itemsize, first + begin)
        found[name] = flat.reshape(about["shape"])
    return found


def places(content: bytes) -> dict[str, tuple[np.dtype[Any], list[int], int, int]]:
    """Of each array its type, its shape, and where its numbers lie in the file: the first byte and how many."""
    header, first = _header(content)
    found = {}
    for name, about in header.items():
        if name != METADATA:
            begin, end = about["data_offsets"]
            found[name] = np.dtype(DTYPES[about["dtype"]]), about["shape"], first + begin, end - begin
    return found


def about_of(content: bytes) -> dict[str, str]:
    """The text that `to_bytes` was given, or nothing."""
    return dict(_header(content)[0].get(METADATA, {}))


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    """What the file says of itself, and where its numbers begin."""
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), 8 + length
