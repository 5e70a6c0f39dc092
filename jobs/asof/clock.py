"""When a day's features count as known, and which day's a moment sees: one clock for training, replay, serving, alarms.

A feature row of day D knows D up to the midnight that ends it and is published hours later. It counts as known from
its `available_at`, `features.available_after_hours` past that midnight: a promise that the daily run keeps, not the
moment at which it was kept, so that a day computed again, or for the first time years later, has the same rows. From
then on it is what everybody sees, until the `available_at` of the next day that has been published.

A publication that is early waits for its time, in the online store. One that is late is an alarm: of `featurize` when
it publishes, of `monitor` for the requests that were answered with older features in between.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.core import Indices, microseconds
from jobs.config import FeatureSettings
from jobs.errors import Refused
from jobs.lake.store import midnight
from jobs.lake.tables import TIME

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def available_at(day: date, settings: FeatureSettings) -> datetime:
    """From when on the features of `day` count as known."""
    return midnight(day + DAY) + timedelta(hours=settings.available_after_hours)


def late_minutes(day: date, published: datetime, settings: FeatureSettings) -> int:
    """Begun minutes from the time promised for `day` to `published`; 0 where it was kept.

    Also 0 once the next day's time has come: then it is history that was published, and no request waited for it.
    """
    late = published - available_at(day, settings)
    return -(-late // MINUTE) if timedelta(0) < late < DAY else 0


def published_at(day: date, available: Mapping[str, pa.ChunkedArray], settings: FeatureSettings) -> datetime:
    """When the feature rows of `day` became available, by the `available_at` of each table; as promised without rows.

    What rows say counts, not what is promised today: replayed, they are known from when they were. Raises `Refused`
    where not all became available together.
    """
    found = {time for column in available.values() for time in pc.min_max(column).as_py().values() if time is not None}
    if len(found) > 1:
        times = ", ".join(f"{time:%Y-%m-%d %H:%M}" for time in sorted(found))
        raise Refused(f"feature rows of {day} must become available together; found {times}: featurize it again")
    return found.pop() if found else available_at(day, settings)


def refuse_early(day: date, available: Mapping[str, pa.ChunkedArray], settings: FeatureSettings) -> None:
    """Raise `Refused` where a feature row of `day` claims to be known earlier than promised: nobody could serve it."""
    promised = available_at(day, settings)
    for table, column in available.items():
        earliest = pc.min(column).as_py()
        if earliest is not None and earliest < promised:
            raise Refused(
                f"{table} of {day} need available_at at or after {promised:%Y-%m-%d %H:%M}, "
                f"features.available_after_hours after that day; found {earliest:%Y-%m-%d %H:%M}: featurize it again"
            )


def instants(available: Sequence[datetime]) -> Indices:
    """Times as microseconds since 1970, earliest first: what `seen` takes."""
    return np.sort(microseconds(pa.chunked_array([pa.array(available, TIME)])))


def seen(available_us: Indices, event_time: pa.ChunkedArray) -> Indices:
    """Which of the publications, earliest first, each moment sees: the newest available at or before it, else -1."""
    return np.searchsorted(available_us, microseconds(event_time), side="right").astype(np.int64) - 1
