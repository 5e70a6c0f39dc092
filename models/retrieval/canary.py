"""A frozen set of queries with exact answers that travels with an index: is it still as good as when it was built?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.retrieval.interactions import Floats, Ints
from models.retrieval.protocol import array_bytes, array_of

ALIKE = 1e-6
"""Scores this near to the k-th, as a share of the largest, are ties: any of those items is a right answer."""


@dataclass(frozen=True)
class Canary:
    """m queries (m, d) and the k best items of each, ties to the last included: `answers` laid end to end.

    `ends` (m,): where each query's answers end.
    """

    queries: NDArray[np.float32]
    answers: Ints
    ends: Ints
    k: int

    @classmethod
    def of(cls, vectors: NDArray[np.float32], codes: Ints, queries: Floats, k: int, size: int) -> Self:
        """Up to `size` of the queries, evenly spread, and their answers among all vectors (n, d), of items `codes`."""
        at = np.unique(np.linspace(0, len(queries) - 1, min(size, len(queries))).round().astype(np.int64))
        chosen = np.ascontiguousarray(queries[at], dtype=np.float32)
        k = min(k, len(vectors))
        answers = []
        for query in chosen:
            scores = vectors.astype(np.float64) @ query.astype(np.float64)
            least = np.partition(scores, -k)[-k] - ALIKE * np.abs(scores).max()
            answers.append(codes[scores >= least])
        ends = np.cumsum([len(found) for found in answers])
        return cls(chosen, np.concatenate(answers), ends, k)

    @property
    def size(self) -> int:
        """How many queries."""
        return len(self.queries)

    def recall(self, found: Ints) -> float:
        """The share of k that `found` (m, k) has of the exact answers, the mean over queries, in [0, 1]."""
        begins = self.ends - np.diff(self.ends, prepend=0)
        shares = [
            np.isin(row, self.answers[begin:end]).sum() / self.k
            for row, begin, end in zip(found, begins, self.ends, strict=True)
        ]
        return float(np.mean(shares))

    def to_files(self) -> dict[str, bytes]:
        """Arrays."""
        arrays: dict[str, NDArray[Any]] = {
            "queries": self.queries,
            "answers": self.answers,
            "ends": self.ends,
            "k": np.array(self.k),
        }
        return {f"canary.{name}.npy": array_bytes(array) for name, array in arrays.items()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very canary `to_files` wrote."""
        queries, answers, ends, k = (
            array_of(files[f"canary.{name}.npy"]) for name in ("queries", "answers", "ends", "k")
        )
        return cls(queries, answers, ends, int(k))
