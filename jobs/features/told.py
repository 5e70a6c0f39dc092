"""What a slot of the online store was told of many keys, as one hash a row: which rows are other ones now.

Half of all keys are what the users' snapshot says, and of one day's hardly any differ from the day's before. The file
is there only while the store holds exactly those rows: it goes before the first is written and comes after the last.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.asof.keys import fingerprints

ATTRIBUTES = "user_attributes"
"""The view it is kept for, and how its files begin."""
CHUNK = 1 << 20
Hashes = NDArray[np.uint64]
MIXED = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(29))


def gathered(draft: Path, rows: Iterable[tuple[pa.Array, pa.Array]]) -> str:
    """Write the hashes of (key, text) pairs to a file, 8 bytes each, and sort it there; returns its digest.

    The file is mapped, so that its pages need no memory that others want.
    """
    with draft.open("wb") as file:
        for keys, texts in rows:
            file.write(_hashes(keys, texts).tobytes())
    whole = _mapped(draft, "r+")
    whole.sort()
    digest = hashlib.sha256()
    for at in range(0, len(whole), CHUNK):
        digest.update(whole[at : at + CHUNK].tobytes())
    return digest.hexdigest()[:16]


def other(held: Path, tables: Iterable[pa.Table], key: str, text: str) -> Iterator[pa.Table]:
    """Of each table the rows of which the file has no hash."""
    known = _mapped(held, "r")  # now: the file may be gone when the first row is asked for
    return (_unlike(known, table, key, text) for table in tables)


def _unlike(known: Hashes, table: pa.Table, key: str, text: str) -> pa.Table:
    hashes = _hashes(*(table.column(name).combine_chunks() for name in (key, text)))
    at = np.minimum(np.searchsorted(known, hashes), max(len(known) - 1, 0))
    return table.filter(pa.array(known[at] != hashes)) if len(known) else table


def _mapped(path: Path, mode: str) -> Hashes:
    """All hashes of a file; nothing can be mapped of an empty one."""
    if not path.stat().st_size:
        return np.zeros(0, np.uint64)
    return np.memmap(path, np.uint64, "r+" if mode == "r+" else "r")


def _hashes(keys: pa.Array, texts: pa.Array) -> Hashes:
    """(n,) of pairs of texts: others have others, but for one in some 10^19."""
    first, second, shift = MIXED
    mixed = fingerprints(keys) * first + fingerprints(texts)
    return np.asarray((mixed ^ mixed >> shift) * second)
