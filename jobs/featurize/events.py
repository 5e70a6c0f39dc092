"""Events as features are counted from them: those that are known, of items added up, of users as arrays."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.featurize.categories import NO_SLOT
from jobs.featurize.core import DAY_US, FEEDBACK, HOUR_US, PARTS, Ints, Window, day_number

IDS, TIMES = ("item_id", "user_id"), ("event_time", "ingested_at")
CONTEXT = ("surface", "query", "source_item_id")
MORE = {
    "impressions": ("impression_id", *CONTEXT),
    "clicks": ("impression_id",),
    FEEDBACK: ("outcome", "value"),
}
"""What a table's events have beside ids and times."""
FED = ("outcome", "parts")
"""What an event of a further outcome has beside ids and times."""
_DAYS = [pa.field("event_day", pa.int32()), pa.field("start_day", pa.int32())]
COUNTED = pa.schema(
    [
        *(("kind", pa.string()), ("item_id", pa.string()), *_DAYS),
        *(("last_hour", pa.bool_()), ("n", pa.int64())),
    ]
)
"""Events of an item of one kind; `last_hour`: of that before the midnight that ends their day."""
ACTED = pa.schema(
    [
        *(("user_id", pa.string()), ("item_id", pa.string()), ("clicked", pa.bool_()), ("slot", pa.int32())),
        *(("event_us", pa.int64()), ("start_day", pa.int32())),
    ]
)
"""An impression or a click of a known user; the item is that of clicks, null otherwise."""
FEEDBACK_OF = pa.schema(
    [
        *(("user_id", pa.string()), ("clicked", pa.bool_()), ("slot", pa.int32())),
        *(("event_us", pa.int64()), ("start_day", pa.int32()), ("outcome", pa.string()), ("parts", pa.int64())),
    ]
)
"""An event of a further outcome of a known user."""


def columns_of(table: str) -> list[str]:
    """What is read of a table of events."""
    return [*IDS, *MORE.get(table, ()), *TIMES]


def known(table: str, rows: pa.Table, window: Window) -> pa.Table:
    """The `columns_of` events that count for some feature day, with event_us, event_day, start_day for their times.

    Feedback is of declared outcomes alone, with `parts` for `value`: how much each counts, in thousandths.
    """
    columns = [*IDS, *MORE.get(table, ())]
    event_us, known_us = (rows[name].cast(pa.int64()).to_numpy() for name in TIMES)
    event_day = event_us // DAY_US
    start_day = np.maximum(event_day, known_us // DAY_US)
    counts = (start_day <= day_number(window.days[-1])) & (event_day > window.first - window.long_term_days)
    times = {"event_us": event_us, "event_day": event_day, "start_day": start_day}
    found = pa.table({**{name: rows[name] for name in columns}, **times})
    found = found if counts.all() else found.filter(pa.array(counts))
    return _in_parts(found, window) if table == FEEDBACK else found


def _in_parts(feedback: pa.Table, window: Window) -> pa.Table:
    feedback = feedback.filter(pc.is_in(feedback["outcome"], pa.array([*window.outcomes], pa.string())))
    value = pc.fill_null(feedback["value"], 0.0).to_numpy()
    summed = pc.is_in(feedback["outcome"], pa.array(window.values, pa.string())).to_numpy()
    parts = np.where(summed, np.floor(value * PARTS + 0.5), PARTS).astype(np.int64)
    return feedback.drop_columns(["value"]).append_column("parts", pa.array(parts))


def counted(table: str, events: pa.Table) -> pa.Table:
    """`COUNTED` of the known events of a table; of a further outcome `n` is in thousandths."""
    keys = ["item_id", "event_day", "start_day", "last_hour"]
    last_hour = events["event_us"].to_numpy() % DAY_US >= DAY_US - HOUR_US
    events = events.append_column("last_hour", pa.array(last_hour))
    if table == FEEDBACK:
        found = events.group_by([*keys, "outcome"]).aggregate([("parts", "sum")])
        kinds = pc.binary_join_element_wise(table, found["outcome"], ".")
        found = found.drop_columns(["outcome"])
    else:
        found = events.group_by(keys).aggregate([([], "count_all")])
        kinds = pa.repeat(table, len(found))
    return found.rename_columns([*keys, "n"]).append_column("kind", kinds).select(COUNTED.names).cast(COUNTED)


def acted(table: str, events: pa.Table, slots: Ints) -> pa.Table:
    """`ACTED` of known impressions or clicks; `slots` are of their items on their days."""
    clicked = table == "clicks"
    columns = {
        "user_id": events["user_id"],
        "item_id": events["item_id"] if clicked else pa.nulls(len(events), pa.string()),
        "clicked": np.full(len(events), clicked),
        "slot": slots.astype(np.int32),
        "event_us": events["event_us"],
        "start_day": events["start_day"],
    }
    return pa.table(columns).filter(pc.is_valid(events["user_id"])).cast(ACTED)


def fed(events: pa.Table) -> pa.Table:
    """`FEEDBACK_OF` of known feedback."""
    n = len(events)
    columns = {name: events[name] for name in ("user_id", "event_us", "start_day", *FED)}
    columns |= {"clicked": np.full(n, False), "slot": np.full(n, NO_SLOT, np.int32)}
    rows = pa.table(columns).filter(pc.is_valid(events["user_id"]))
    return rows.select(FEEDBACK_OF.names).cast(FEEDBACK_OF)


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
