"""Impressions and clicks of users as arrays: what every feature of a user is counted from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.featurize.core import Ints


@dataclass(frozen=True)
class UserEvents:
    """Impressions and clicks of some users. `slot` is the interest bucket, `NO_SLOT` where the item has none."""

    user: Ints
    """Codes into `user_ids`, which are sorted."""
    user_ids: pa.Array
    item: Ints
    """Codes into `item_ids`, which are sorted; read for clicks only."""
    item_ids: pa.Array
    clicked: NDArray[np.bool_]
    slot: Ints
    event_us: Ints
    """Microseconds since 1970, UTC."""
    start_day: Ints

    @classmethod
    def of(cls, table: pa.Table) -> "UserEvents":
        """From the columns user_id, item_id (null for impressions), clicked, slot, event_us, start_day."""
        user, user_ids = _coded(table["user_id"])
        item, item_ids = _coded(table["item_id"])
        return cls(
            user,
            user_ids,
            item,
            item_ids,
            table["clicked"].to_numpy().astype(bool),
            table["slot"].to_numpy().astype(np.int64),
            table["event_us"].to_numpy().astype(np.int64),
            table["start_day"].to_numpy().astype(np.int64),
        )

    def of_users(self, low: int, high: int) -> "UserEvents":
        """The events of the users low..high-1, renumbered from 0."""
        rows = np.flatnonzero((self.user >= low) & (self.user < high))
        return UserEvents(
            self.user[rows] - low,
            self.user_ids[low:high],
            self.item[rows],
            self.item_ids,
            self.clicked[rows],
            self.slot[rows],
            self.event_us[rows],
            self.start_day[rows],
        )


def _coded(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Codes into the sorted distinct values; null becomes -1."""
    values = pc.drop_null(column.unique())
    values = values.take(pc.array_sort_indices(values))
    codes = pc.fill_null(pc.index_in(column, values), -1)
    return codes.to_numpy().astype(np.int64), values
