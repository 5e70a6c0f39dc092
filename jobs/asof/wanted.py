"""Ids to look for in rows that come some at once: they take eight bytes each, whatever is looked through.

A lookup of texts would be built anew for each of these parts, or hold them all.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.asof.keys import ABSENT, Indices, Words, hashes_of


@dataclass(frozen=True)
class Wanted:
    """Sorted, each once."""

    hashes: Words

    @classmethod
    def of(cls, ids: pa.ChunkedArray | pa.Array) -> "Wanted":
        """Those of a column; null is none."""
        whole = ids if isinstance(ids, pa.ChunkedArray) else pa.chunked_array([ids])
        return cls(np.unique(hashes_of(whole.drop_null())))

    def places(self, ids: pa.ChunkedArray) -> Indices:
        """(n,) which of them each id is, `ABSENT` for one that is not wanted."""
        hashes = hashes_of(ids)
        at = np.searchsorted(self.hashes, hashes)
        found = np.append(self.hashes, np.uint64(0))[at] == hashes
        return np.where(found & (at < len(self.hashes)) & ids.is_valid().to_numpy(), at, ABSENT)

    def among(self, rows: pa.Table, key: str) -> pa.Table:
        """The rows of these ids, and hardly ever one of another: a join of what is left is of the ids themselves."""
        return rows.filter(pa.array(self.places(rows[key]) != ABSENT))
