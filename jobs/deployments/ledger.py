"""The ledger of releases, a row a step, appended and never changed: what serves is the last *live* row of an endpoint.

Its clock is the wall clock of the steps, never the day of the data. A model of an older day that was put live later,
or put back, is the champion; a run of whatever day, a backfill too, sees what serves while it runs.

What was *refused* (by `deploy`) or *rejected* (by a person) has its row too, and moved nothing: what serves, what
served before and what is under way are the same with and without it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from jobs.lake.run import Run, now
from jobs.lake.tables import LAKE

TABLE = "deployments"
APPROVED, SHADOW, CANARY, LIVE, ROLLED_BACK = "approved", "shadow", "canary", "live", "rolled back"
REFUSED, REJECTED = "refused", "rejected"
ENDED = (LIVE, ROLLED_BACK)
"""After any other step a release is under way."""
NOTED = (REFUSED, REJECTED)
"""No steps of a release: somebody or something said no before it was one."""

Row = dict[str, Any]
"""One row of `deployments` with its partition column `endpoint`."""


class Reader(Protocol):
    """A `Run` (reads at the version the run first saw) or a `Lake` (reads the newest)."""

    def read(self, table: str) -> pa.Table:
        """All rows of a table."""
        ...


def champion(
    source: Reader, endpoint: str, as_of: datetime | None = None, where: Callable[[Row], bool] | None = None
) -> Row | None:
    """The live row of what the endpoint serves, or served at `as_of`; None where nothing was live.

    With `where`, the nearest that passes it of the line champion, what served before it, and so on: a candidate judged
    again is compared with what it replaced, not with itself.
    """
    known = [row for row in steps(source, endpoint) if as_of is None or row["at"] <= as_of]
    found = last_live(known)
    while found is not None and where is not None and not where(found):
        found = before(known, found)
    return found


def steps(source: Reader, endpoint: str) -> list[Row]:
    """Every row of an endpoint, in their order: a handful a week. What only was said no to is among them: `moves`."""
    rows: list[Row] = source.read(TABLE).to_pylist()
    return sorted((row for row in rows if row["endpoint"] == endpoint), key=lambda row: int(row["number"]))


def last_live(known: Sequence[Row]) -> Row | None:
    """The champion among an endpoint's steps."""
    return next((row for row in reversed(known) if row["step"] == LIVE), None)


def before(known: Sequence[Row], live: Row) -> Row | None:
    """What served when `live` took over, as its own live row; None where nothing did."""
    return last_live([row for row in known if row["number"] < live["number"] and row["config"] == live["before"]])


def moves(known: Sequence[Row]) -> list[Row]:
    """The steps of releases alone."""
    return [row for row in known if row["step"] not in NOTED]


def newest(known: Sequence[Row]) -> Row | None:
    """The last step that any release took; None before the first."""
    return next((row for row in reversed(known) if row["step"] not in NOTED), None)


def under_way(known: Sequence[Row]) -> Row | None:
    """The last step of a release that has neither gone live nor been rolled back; None where all have ended."""
    last = newest(known)
    return None if last is None or last["step"] in ENDED else last


def begun(known: Sequence[Row]) -> int:
    """The number of the approval with which the newest release began: no other release has it."""
    return int(next(row["number"] for row in reversed(known) if row["step"] == APPROVED))


def deployed(source: Reader) -> list[Row]:
    """Every bundle that was ever live at any endpoint, once each, the one that went live last at the end."""
    return _once(row for row in _by_time(source) if row["step"] == LIVE)


def released(source: Reader) -> list[Row]:
    """Every bundle whose release was ever begun, once each: it may have answered requests, though never live."""
    return _once(moves(_by_time(source)))


def note(run: Run, known: Sequence[Row], said: Mapping[str, Any]) -> list[Row]:
    """As `append`, of a no; one that was said before, in the same words and of the same evidence, is there already."""
    names = ("step", "bundle_sha256", "evidence_sha256", "by", "why")
    if any(all(row[name] == said[name] for name in names) for row in known):
        return list(known)
    return append(run, known, said)


def append(run: Run, known: Sequence[Row], *new: Mapping[str, Any]) -> list[Row]:
    """The endpoint's steps with `new` at their end, published in one commit.

    Raises `NotReady` where another run has appended since this one started: of two releases at a time one stops.
    """
    at = max([now(), *(row["at"] for row in known[-1:])])  # a clock that was set back must not reorder the ledger
    endpoint, first = run.config.endpoint.name, 1 + (known[-1]["number"] if known else 0)
    more = [{**step, "number": first + n, "at": at, "endpoint": endpoint} for n, step in enumerate(new)]
    rows = [{name: row[name] for name in LAKE[TABLE].columns} for row in (*known, *more)]
    run.publish(TABLE, {"endpoint": endpoint}, pa.Table.from_pylist(rows, LAKE[TABLE].schema))
    return [*known, *more]


def decision(source: Reader, partition: Mapping[str, str]) -> Row | None:
    """The verdict of a day and mode, a row of `promotions`; None before `promote` ran."""
    rows: list[Row] = source.read("promotions").to_pylist()
    found = [row for row in rows if all(row[key] == value for key, value in partition.items())]
    return max(found, key=lambda row: (row["decided_at"], row["candidate_id"]), default=None)


def _by_time(source: Reader) -> list[Row]:
    rows: list[Row] = source.read(TABLE).to_pylist()
    return sorted(rows, key=lambda row: (row["at"], row["endpoint"], row["number"]))


def _once(rows: Iterable[Row]) -> list[Row]:
    last: dict[str, Row] = {}
    for row in rows:
        last.pop(row["bundle_sha256"], None)
        last[row["bundle_sha256"]] = row
    return list(last.values())
