"""What the requests of a day could know: the same clock as the point-in-time join, publication by publication."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import pyarrow as pa

from jobs.asof.clock import available_at, published_at
from jobs.errors import NotReady
from jobs.flow import FEATURES
from jobs.lake.run import Run
from jobs.lake.tables import LAKE
from jobs.moment.decisions import Known

VISIBLE = 2
"""Feature days that the requests of one day can see: a day's rows count as known within a day of its end."""


def feature_days(run: Run) -> list[date]:
    """The days of which every feature table is published, oldest first."""
    return sorted(set.intersection(*(set(run.published_days(table)) for table in FEATURES)))


def known_before(run: Run, day: date, snapshots: date | None = None, with_users: bool = False) -> list[Known]:
    """The two newest feature days before `day`, oldest first: its requests see one of them, by their time.

    Attributes are those of the catalogue as of `snapshots`, by default as of each feature day: what its publication
    brought online. `with_users` adds the users' snapshot, for rows that do not carry their users' attributes.
    Raises `NotReady` where no day before is published.
    """
    days = [published for published in feature_days(run) if published < day][-VISIBLE:]
    if not days:
        raise NotReady(f"requests of {day} need {', '.join(FEATURES)} of a day before it; found none")
    return [_known(run, published, snapshots or published, with_users) for published in days]


def known_of(run: Run, day: date) -> Known:
    """What the publication of one feature day brought online; raises `NotReady` where it is not published."""
    if day not in feature_days(run):
        raise NotReady(f"answers with the features of {day} need {', '.join(FEATURES)} of that day; found none")
    return _known(run, day, day, with_users=True)


def promised_before(run: Run, day: date, known: Sequence[Known]) -> list[tuple[date, datetime]]:
    """The feature days that requests of `day` were to see, oldest first, and from when; published (`known`) or not.

    None from before the first day that was ever published.
    """
    days = [day - timedelta(days=back) for back in range(VISIBLE, 0, -1)]
    published = {one.day: one.available_at for one in known}
    first = min(feature_days(run), default=day)
    return [(one, published.get(one, available_at(one, run.config.features))) for one in days if one >= first]


def _known(run: Run, day: date, snapshots: date, with_users: bool) -> Known:
    tables: dict[str, pa.Table] = {table: run.read(table, [day]) for table in FEATURES}
    return Known(
        day=day,
        available_at=published_at(day, {name: of["available_at"] for name, of in tables.items()}, run.config.features),
        user_features=tables["user_features"],
        item_features=tables["item_features"],
        encodings=tables["encodings"],
        items=_attributes(run, "items", snapshots),
        users=_attributes(run, "users", snapshots) if with_users else None,
        tasks=run.config.tasks,
    )


def _attributes(run: Run, table: str, day: date) -> pa.Table:
    """Id and attributes of a snapshot as of `day`; a source without the table has none."""
    schema = pa.schema([LAKE[table].schema.field(name) for name in (*LAKE[table].key, "attributes")])
    known = any(published <= day for published in run.published_days(table))
    return run.newest(table, schema.names, day) if known else schema.empty_table()
