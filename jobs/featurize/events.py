"""Impressions, clicks and feedback of users as arrays: what every feature of a user is counted from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.featurize.core import Ints

FED = ("outcome", "parts")
"""What an event of a further outcome has beside ids and times."""


@dataclass(frozen=True)
class Feedback:
    """Events of further outcomes of some users, (events,) each."""

    user: Ints
    """Codes of the users."""
    outcome: NDArray[np.object_]
    parts: Ints
    """How much it counts, in thousandths."""
    event_us: Ints
    start_day: Ints


@dataclass(frozen=True)
class UserEvents:
    """Impressions, clicks and feedback of some users.

    `slot` is the interest bucket, `NO_SLOT` where the item has none.
    """

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
    feedback: Feedback

    @classmethod
    def of(cls, table: pa.Table) -> "UserEvents":
        """From the columns user_id, item_id (null for impressions), clicked, slot, event_us, start_day.

        And, where further outcomes are declared, of their events alone: outcome, parts.
        """
        user, user_ids = _coded(table["user_id"])
        if FED[0] in table.column_names:
            fed = table[FED[0]].is_valid()
            feedback = _feedback(table.filter(fed), user[fed.to_numpy()])
            table, user = table.filter(pc.invert(fed)), user[~fed.to_numpy()]
        else:
            nothing = np.empty(0, np.int64)
            feedback = Feedback(nothing, np.empty(0, object), nothing, nothing, nothing)
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
            feedback,
        )

    def of_users(self, low: int, high: int) -> "UserEvents":
        """The events of the users low..high-1, renumbered from 0."""
        rows = np.flatnonzero((self.user >= low) & (self.user < high))
        fed = self.feedback
        of = np.flatnonzero((fed.user >= low) & (fed.user < high))
        return UserEvents(
            self.user[rows] - low,
            self.user_ids[low:high],
            self.item[rows],
            self.item_ids,
            self.clicked[rows],
            self.slot[rows],
            self.event_us[rows],
            self.start_day[rows],
            Feedback(fed.user[of] - low, fed.outcome[of], fed.parts[of], fed.event_us[of], fed.start_day[of]),
        )


def _feedback(table: pa.Table, user: Ints) -> Feedback:
    parts, event_us, start_day = (table[name].to_numpy().astype(np.int64) for name in (FED[1], "event_us", "start_day"))
    return Feedback(user, np.asarray(table[FED[0]].to_numpy(), dtype=object), parts, event_us, start_day)


def _coded(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Codes into the sorted distinct values; null becomes -1."""
    values = pc.drop_null(column.unique())
    values = values.take(pc.array_sort_indices(values))
    codes = pc.fill_null(pc.index_in(column, values), -1)
    return codes.to_numpy().astype(np.int64), values
