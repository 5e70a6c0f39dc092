"""What the requests of a day could know: the same clock as the point-in-time join, publication by publication."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.clock import available_at, published_at
from jobs.asof.wanted import Wanted
from jobs.config import FeatureSettings
from jobs.errors import NotReady
from jobs.flow import FEATURES
from jobs.lake.parts import in_one, read_part, told, whole
from jobs.lake.run import Each, Run
from jobs.lake.tables import LAKE, TIME
from jobs.moment.decisions import Known
from models.settings import TaskSettings

USERS = "user_features"
VISIBLE = 2
"""Feature days that the requests of one day can see: a day's rows count as known within a day of its end."""
NEVER = date.min
OLDEST = 30
"""Feature days that an answer may have seen: no endpoint serves any older."""


@dataclass(frozen=True)
class Publication:
    """Where what one feature day brought online lies, to be read by whoever this is given to."""

    day: date
    files: Mapping[str, Sequence[str]]
    """Part files by table; of snapshots those that count for it, of a source without one none."""
    features: FeatureSettings
    tasks: TaskSettings

    def known(self, with_users: bool = True, of: Wanted | None = None, each: Each = map) -> Known:
        """As `known_before`; `each` goes through the files of users."""
        tables = {table: self._rows(table) for table in FEATURES if table != USERS or of is None}
        times = {table: rows["available_at"] for table, rows in tables.items()}
        if of is not None:
            tables[USERS], times[USERS] = self._of_users(of, each)
        return Known(
            day=self.day,
            available_at=published_at(self.day, times, self.features),
            user_features=tables[USERS],
            item_features=tables["item_features"],
            encodings=tables["encodings"],
            items=self._attributes("items", None, each),
            users=self._attributes("users", of, each) if with_users else None,
            tasks=self.tasks,
        )

    def removed(self) -> frozenset[str]:
        """Items that were deleted or blocked."""
        rows = self._rows("items", ["item_id", "removed"])
        return frozenset(rows.filter(pc.fill_null(rows["removed"], False))["item_id"].to_pylist())

    def _rows(self, table: str, columns: list[str] | None = None) -> pa.Table:
        names = list(LAKE[table].columns) if columns is None else columns
        return whole(table, names, (read_part(path, table, names) for path in self.files[table]))

    def _of_users(self, of: Wanted, each: Each) -> tuple[pa.Table, pa.ChunkedArray]:
        """The features of some users, and since when those of all were known: of each file the first and the last."""

        def kept(some: Iterator[pa.Table]) -> tuple[list[datetime | None], list[pa.Table]]:
            times, mine = list[datetime | None](), list[pa.Table]()
            for rows in some:
                times += pc.min_max(rows["available_at"]).as_py().values()
                mine.append(of.among(rows, "user_id"))
            return times, in_one(mine)

        names = list(LAKE[USERS].columns)
        found = [*each(partial(told, kept, USERS, names), self.files[USERS])]
        rows = whole(USERS, names, chain.from_iterable(mine for _, mine in found))
        return rows.combine_chunks(), pa.chunked_array([pa.array(times, TIME) for times, _ in found], TIME)

    def _attributes(self, table: str, of: Wanted | None, each: Each) -> pa.Table:
        """Id and attributes of a snapshot, `of` some ids."""
        names = [*LAKE[table].key, "attributes"]
        if of is None:
            return self._rows(table, names)

        def kept(some: Iterator[pa.Table]) -> list[pa.Table]:
            return in_one(of.among(rows, *LAKE[table].key) for rows in some)

        found = each(partial(told, kept, table, names), self.files[table])
        return whole(table, names, chain.from_iterable(found)).combine_chunks()


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
    published = [one for one in feature_days(run) if one < day][-VISIBLE:]
    if not published:
        raise NotReady(f"requests of {day} need {', '.join(FEATURES)} of a day before it; found none")
    columns = {"items": ("item_id", "attributes"), **({"users": ("user_id", "attributes")} if with_users else {})}
    found = _publications(run, {one: snapshots or one for one in published}, columns)
    return [one.known(with_users, of, run.each) for one in found]


def publications(run: Run, until: date | None = None) -> dict[str, Publication]:
    """Those that answers may have seen, by their days as answers name them: the newest ones (up to `until`)."""
    days = [day for day in feature_days(run) if until is None or day <= until][-OLDEST:]
    columns = {"items": ("item_id", "attributes", "removed"), "users": ("user_id", "attributes")}
    found = _publications(run, {day: day for day in days}, columns)
    return {one.day.isoformat(): one for one in found}


def _publications(run: Run, days: Mapping[date, date], columns: Mapping[str, Sequence[str]]) -> list[Publication]:
    """Of feature days, for whoever reads these `columns` of snapshots, as of the day that each is given."""
    listed = {(table, day): day for table in FEATURES for day in days}
    for table in columns:
        there = run.published_days(table)
        newest = ((day, max((one for one in there if one <= at), default=None)) for day, at in days.items())
        listed |= {(table, day): one for day, one in newest if one is not None}
    files: dict[tuple[str, date], list[str]] = {}
    for table in (*FEATURES, *columns):
        wanted = {of for (name, _), of in listed.items() if name == table}
        for path, values in run.files(table, sorted(wanted), None, columns.get(table, LAKE[table].columns)):
            files.setdefault((table, date.fromisoformat(values["day"])), []).append(path)
    return [
        Publication(
            day,
            {table: files.get((table, listed.get((table, day), NEVER)), []) for table in (*FEATURES, *columns)},
            run.config.features,
            run.config.tasks,
        )
        for day in days
    ]


def promised_before(run: Run, day: date, known: Sequence[Known]) -> list[tuple[date, datetime]]:
    """The feature days that requests of `day` were to see, oldest first, and from when; published (`known`) or not.

    None from before the first day that was ever published.
    """
    days = [day - timedelta(days=back) for back in range(VISIBLE, 0, -1)]
    published = {one.day: one.available_at for one in known}
    first = min(feature_days(run), default=day)
    return [(one, published.get(one, available_at(one, run.config.features))) for one in days if one >= first]
