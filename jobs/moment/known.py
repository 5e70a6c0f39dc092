"""What the requests of a day could know: the same clock as the point-in-time join, publication by publication."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.clock import available_at, published_at
from jobs.asof.wanted import Wanted
from jobs.errors import NotReady
from jobs.flow import FEATURES
from jobs.lake.run import Run
from jobs.lake.tables import LAKE, TIME
from jobs.moment.decisions import Known

USERS = "user_features"
VISIBLE = 2
"""Feature days that the requests of one day can see: a day's rows count as known within a day of its end."""


def feature_days(run: Run) -> list[date]:
    """The days of which every feature table is published, oldest first."""
    return sorted(set.intersection(*(set(run.published_days(table)) for table in FEATURES)))


def known_before(
    run: Run, day: date, snapshots: date | None = None, with_users: bool = False, of: Wanted | None = None
) -> list[Known]:
    """The two newest feature days before `day`, oldest first: its requests see one of them, by their time.

    Attributes are those of the catalogue as of `snapshots`, by default as of each feature day: what its publication
    brought online. `with_users` adds the users' snapshot, for rows that do not carry their users' attributes; `of` some
    users alone, whom rows are of: there may be more than memory holds.
    Raises `NotReady` where no day before is published.
    """
    days = [published for published in feature_days(run) if published < day][-VISIBLE:]
    if not days:
        raise NotReady(f"requests of {day} need {', '.join(FEATURES)} of a day before it; found none")
    return [_known(run, published, snapshots or published, with_users, of) for published in days]


def known_of(run: Run, day: date, of: Wanted | None = None) -> Known:
    """What the publication of one feature day brought online, `of` some users; raises `NotReady` where it is not
    published.
    """
    if day not in feature_days(run):
        raise NotReady(f"answers with the features of {day} need {', '.join(FEATURES)} of that day; found none")
    return _known(run, day, day, with_users=True, of=of)


def promised_before(run: Run, day: date, known: Sequence[Known]) -> list[tuple[date, datetime]]:
    """The feature days that requests of `day` were to see, oldest first, and from when; published (`known`) or not.

    None from before the first day that was ever published.
    """
    days = [day - timedelta(days=back) for back in range(VISIBLE, 0, -1)]
    published = {one.day: one.available_at for one in known}
    first = min(feature_days(run), default=day)
    return [(one, published.get(one, available_at(one, run.config.features))) for one in days if one >= first]


def _known(run: Run, day: date, snapshots: date, with_users: bool, of: Wanted | None) -> Known:
    tables: dict[str, pa.Table] = {table: run.read(table, [day]) for table in FEATURES if table != USERS or of is None}
    times = {name: rows["available_at"] for name, rows in tables.items()}
    if of is not None:
        tables[USERS], times[USERS] = _of_users(run, day, of)
    return Known(
        day=day,
        available_at=published_at(day, times, run.config.features),
        user_features=tables["user_features"],
        item_features=tables["item_features"],
        encodings=tables["encodings"],
        items=_attributes(run, "items", snapshots),
        users=_attributes(run, "users", snapshots, of) if with_users else None,
        tasks=run.config.tasks,
    )


def _of_users(run: Run, day: date, of: Wanted) -> tuple[pa.Table, pa.ChunkedArray]:
    """The features of some users, and since when those of all were known: the first and the last, part by part."""
    kept, times = [LAKE[USERS].schema.empty_table()], []
    for rows in run.batches(USERS, [day], None, list(LAKE[USERS].columns)):
        ends = pc.min_max(rows["available_at"])
        times.append(pa.array([ends["min"].as_py(), ends["max"].as_py()], TIME))
        kept.append(of.among(rows, "user_id"))
    return pa.concat_tables(kept).combine_chunks(), pa.chunked_array(times, TIME)


def _attributes(run: Run, table: str, day: date, of: Wanted | None = None) -> pa.Table:
    """Id and attributes of a snapshot as of `day`, `of` some ids; a source without the table has none."""
    schema = pa.schema([LAKE[table].schema.field(name) for name in (*LAKE[table].key, "attributes")])
    known = [published for published in run.published_days(table) if published <= day]
    if not known:
        return schema.empty_table()
    if of is None:
        return run.newest(table, schema.names, day)
    kept = (of.among(rows, *LAKE[table].key) for rows in run.batches(table, known[-1:], None, schema.names))
    return pa.concat_tables([schema.empty_table(), *kept]).combine_chunks()
