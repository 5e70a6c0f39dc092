"""Rows as trees are grown from them: in bins, in memory or, where they are many, in pages on disk."""

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.rankers.encoding import Encoding
from models.rankers.labels import Label
from models.rankers.protocol import OnDisk, Room
from models.rankers.threads import threads_to_learn

if TYPE_CHECKING:
    import xgboost

BINS = 128
"""Half of xgboost's own: a third less time, the same log-loss to the fourth digit on a million rows."""
CUT_ROWS = 100_000
"""Where the bins lie is read off so many rows, drawn: the pass over all of them costs seconds. Evenly spaced ones would
be of one position each, where pages are as long as their step divides, and no tree could then ask for the position."""
ROWS_IN_MEMORY = 1 << 18
"""The bins of more rows are kept on disk, where there is room for them; what is learned is the same to the byte."""
PAGE_ROWS = 1 << 15


def feature_types(encoding: Encoding) -> list[str]:
    """xgboost's of the table's columns."""
    return ["float"] * len(encoding.numeric) + ["c"] * len(encoding.vocabularies)


def binned(
    rows: NDArray[np.float32],
    encoding: Encoding,
    seed: int,
    like: "xgboost.QuantileDMatrix | None" = None,
    label: Label | None = None,
    room: Room = np.empty,
) -> "xgboost.QuantileDMatrix":
    """The rows in bins, those of `like` or their own, with what `label` says of each; on disk where they are more than
    `ROWS_IN_MEMORY` and `room` is.
    """
    import xgboost as xgb

    shape = {"enable_categorical": True, "max_bin": BINS, "nthread": threads_to_learn(len(rows))}
    types = feature_types(encoding)
    if like is None and len(rows) > CUT_ROWS:
        drawn = np.sort(np.random.default_rng(seed).choice(len(rows), CUT_ROWS, replace=False))
        like = xgb.QuantileDMatrix(rows[drawn], feature_types=types, **shape)
    said = {} if label is None else {"label": label.value, "weight": label.weight}
    if len(rows) <= ROWS_IN_MEMORY or not isinstance(room, OnDisk):
        return xgb.QuantileDMatrix(rows, ref=like, feature_types=types, **said, **shape)
    pages = room.pages()
    matrix = xgb.ExtMemQuantileDMatrix(_batches(rows, types, pages), ref=like, **shape)
    matrix.pages = pages  # the folder goes when the matrix does
    matrix.set_info(**said)
    return matrix


def _batches(rows: NDArray[np.float32], types: list[str], pages: "TemporaryDirectory[str]") -> "xgboost.DataIter":
    """The rows one page at a time; xgboost writes what it makes of them into the folder."""
    import xgboost as xgb

    class Batches(xgb.DataIter):  # type: ignore[misc] # of a library without types
        """From the first row on, and anew after `reset`."""

        first = 0

        def next(self, input_data: Any) -> bool:
            """Hands over the next page; False after the last one."""
            part = np.ascontiguousarray(rows[self.first : self.first + PAGE_ROWS])
            self.first += PAGE_ROWS
            if len(part):
                input_data(data=part, feature_types=types)
            return bool(len(part))

        def reset(self) -> None:
            self.first = 0

    return Batches(cache_prefix=f"{pages.name}/bins")
