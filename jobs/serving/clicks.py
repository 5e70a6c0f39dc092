"""Which captured requests were clicked, by the raw log as far as it has come: the clicks of a release under way.

Raw events come by the hour (DESIGN 4), so an hour is whole once a later one has begun, of impressions and of clicks. A
request counts once the time in which its click counts lies in such hours: neither arm has had longer. That time is
short, `release.click_minutes`, for both arms alike; attribution's window is for labels. A user's first request counts
and no other: two of one user are no two draws, and all that a test's risk rests on is that users are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.errors import Misconfigured, NotReady, Refused
from jobs.lake import raw as log
from jobs.serving.captured import Said
from jobs.serving.files import Files

HOUR = timedelta(hours=1)
DATE = re.compile(r"[^/]+/date=\d{4}-\d\d-\d\d")
DATE_HOUR = re.compile(rf"{DATE.pattern}/hour=\d\d")
ASKED = {
    "impressions": ("impression_id", "request_id"),
    "clicks": ("impression_id", "event_time", "user_id", "item_id"),
}


@dataclass(frozen=True)
class Clicks:
    """n users' first requests in their order, (n,) each; `none_read` says why there are none."""

    treated: NDArray[np.bool_]
    """Whether the candidate answered."""
    clicked: NDArray[np.bool_]
    none_read: str = ""


def none(why: str) -> Clicks:
    """Nobody knows who clicked."""
    return Clicks(np.zeros(0, bool), np.zeros(0, bool), why)


def of(raw: Files, candidate: Sequence[Said], champion: Sequence[Said], minutes: int) -> Clicks:
    """Whether the first request of each user was clicked within `minutes`, as far as the raw log can tell."""
    first: dict[str, tuple[datetime, bool, Said]] = {}
    for said, treated in (*((one, True) for one in candidate), *((one, False) for one in champion)):
        user = said.user_id or f"request {said.answer.request_id}"
        if user not in first or said.asked_at < first[user][0]:
            first[user] = (said.asked_at, treated, said)
    asked = sorted(first.values(), key=lambda one: one[0])
    if not asked:
        return none("no request was captured")
    try:
        until = min(_whole_until(raw, table) for table in ASKED)
        wait = timedelta(minutes=minutes)
        closed = [one for one in asked if one[0] + wait <= until]
        if not closed:
            return none(
                f"no request's {minutes} minutes lie in hours of the raw log that are whole, up to {until:%H:%M}"
            )
        impressions, clicks = (_rows(raw, table, closed[0][0], until) for table in ASKED)
    except (NotReady, Refused, Misconfigured) as error:
        return none(str(error))
    requests = {said.answer.request_id for _, _, said in closed}
    shown = dict(zip(*(impressions[name].to_pylist() for name in ASKED["impressions"]), strict=True))
    if requests.isdisjoint(shown.values()):
        return none("the raw log has no impression of these requests")
    clicked = _clicked(closed, shown, clicks, wait)
    found = np.array([said.answer.request_id in clicked for _, _, said in closed], dtype=bool)
    return Clicks(np.array([treated for _, treated, _ in closed], dtype=bool), found)


def _clicked(
    closed: Sequence[tuple[datetime, bool, Said]], shown: dict[str, str], clicks: pa.Table, wait: timedelta
) -> set[str]:
    """Requests with a click in time: of one of their impressions, or, where it names none, of that user and item."""
    at = {said.answer.request_id: when for when, _, said in closed}
    by_item = {
        (said.user_id, place.item_id): said.answer.request_id for _, _, said in closed for place in said.answer.items
    }
    found = set()
    for row in clicks.to_pylist():
        request = shown.get(row["impression_id"]) or by_item.get((row["user_id"], row["item_id"]))
        if request in at and at[request] <= _aware(row["event_time"]) < at[request] + wait:
            found.add(request)
    return found


def _whole_until(raw: Files, table: str) -> datetime:
    """The begin of the newest hour of a raw table; raises `NotReady` where it has none."""
    for date in reversed([path for path in raw.below(table) if DATE.fullmatch(path)]):
        if hours := [path for path in raw.below(date) if DATE_HOUR.fullmatch(path)]:
            day, hour = (text.partition("=")[2] for text in hours[-1].split("/")[1:])
            return datetime.fromisoformat(f"{day}T{hour}:00:00+00:00")
    raise NotReady(f"raw {table} needs an hour below {raw.address}/{table}; found none")


def _rows(raw: Files, table: str, since: datetime, until: datetime) -> pa.Table:
    """The columns asked for of a raw table's hours from `since` to before `until`; one that is not there is null."""
    schema = pa.schema([(name, pa.timestamp("us", "UTC") if name == "event_time" else pa.string())
                        for name in ASKED[table]])  # fmt: skip
    found = [schema.empty_table()]
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < until:
        for path in map(Path, raw.below(f"{table}/date={hour:%Y-%m-%d}/hour={hour:%H}")):
            if path.suffix == ".parquet" and not path.name.startswith(log.HIDDEN):
                rows = log.parse(path, raw.read(str(path)))
                columns = [
                    rows[field.name].cast(field.type) if field.name in rows.column_names
                    else pa.nulls(len(rows), field.type)
                    for field in schema
                ]  # fmt: skip
                found.append(pa.table(columns, schema=schema))
        hour += HOUR
    whole = pa.concat_tables(found)
    return whole.filter(pc.is_valid(whole["event_time"])) if table == "clicks" else whole


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
