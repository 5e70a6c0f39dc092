"""Ids to look for in rows that come some at once: they take eight bytes each, whatever is looked through.

A lookup of texts would be built anew for each of these parts, or hold them all.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import chain

import numpy as np
import pyarrow as pa

from jobs.asof.keys import ABSENT, Indices, Words, hashes_of
from jobs.lake.parts import in_one, whole
from jobs.lake.run import Run


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

    def read(self, run: Run, table: str, days: Iterable[date], columns: list[str], key: str) -> pa.Table:
        """`among` the rows of some days, in their order."""

        def kept(some: Iterator[pa.Table]) -> list[pa.Table]:
            return in_one(self.among(rows, key) for rows in some)

        return whole(table, columns, chain.from_iterable(run.told(table, days, columns, kept))).combine_chunks()
