"""What the suites look at besides raw columns: facts of a row, of a day, and of a day's columns.

Text, and numbers as floats (times are microseconds since 1970, days are days since 1970): one comparison a column.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.lake.tables import EVENTS, RAW, STR, TIME
from jobs.validate import slates
from jobs.validate.coded import CODED, codes, in_one_piece, is_among, plain, row_of
from jobs.validate.columns import ROW_ATTRIBUTES
from jobs.validate.figures import MANY, Moments, Seconds, Sum
from jobs.validate.slates import Slates

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
EPOCH = date(1970, 1, 1)
PLACEHOLDERS = ("", "nan", "NaN", "None", "none", "null", "NULL")
"""What loggers write for nothing; the suites name the same words for ids."""
ID_CHARACTERS = 256
"""The longest id the suites let through."""
HISTORY_DAYS = 7
"""A day's volume is held against the median of up to so many days before it, and of no fewer than three."""
ENOUGH_HISTORY = 3
STEADY_ROWS = 100
"""Below so many rows a day, half or double is chance: a Poisson count of 100 strays by 10%."""
EVERY_HOUR_ROWS = 1_000
"""From so many rows a day, hours without any are no chance."""

REFERENCES = {
    "impressions": {"known_user_share": ("user_id", "users"), "known_item_share": ("item_id", "items")},
    "clicks": {"known_item_share": ("item_id", "items")},
    "purchases": {"known_item_share": ("item_id", "items")},
    "feedback": {"known_item_share": ("item_id", "items")},
    "requests": {"known_candidate_share": ("candidates", "items")},
}
"""Figures of a table that say which ids of a column are in a snapshot of the day."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Facts = dict[str, Floats | pa.Array]


@dataclass(frozen=True)
class Neighbours:
    """What a table of a day is held against: the day's other tables, and impressions of the days just before."""

    day: Mapping[str, pa.Table]
    shown_before: pa.Table
    """Columns impression_id and event_time."""
    ids_before: Mapping[str, pa.Array | pa.ChunkedArray] = field(default_factory=dict)
    """Of each event table, the ids of the day before."""
    rows_before: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Of each table, how many rows each of the last `HISTORY_DAYS` good days had, oldest first."""

    @cached_property
    def slates(self) -> Slates:
        """The day's impressions in their requests."""
        return slates.slates(self.day["impressions"], self.day["requests"])


def day_number(day: date) -> int:
    """Days since 1970."""
    return (day - EPOCH).days


def of_rows(name: str, rows: pa.Table, day: date, neighbours: Neighbours) -> Facts:
    """Columns of length n to judge single rows by: text as it is, numbers and times as floats, and what follows."""
    return of_own(name, rows, day, neighbours.ids_before.get(name)) | of_neighbours(name, rows, neighbours)


def of_own(name: str, rows: pa.Table, day: date, ids_before: pa.Array | pa.ChunkedArray | None) -> Facts:
    """The facts of `of_rows` that need nothing but the row, and the ids that were used the day before."""
    facts: Facts = {}
    for column in rows.schema:
        if column.type in (STR, CODED):
            facts[column.name] = in_one_piece(rows.column(column.name))
        elif column.type == TIME:
            facts[column.name] = _microseconds(rows.column(column.name))
        elif column.type in (pa.int32(), pa.float64()):
            facts[column.name] = _number(rows.column(column.name))
    facts["day"] = np.full(len(rows), float(day_number(day)))
    if name in EVENTS:
        facts["event_day"] = np.floor(_microseconds(rows.column("event_time")) / DAY_US)
        facts["used_before"] = _used(rows.column(RAW[name].key[0]), ids_before)
    if "ingested_at" in rows.column_names:
        facts["ingest_delay_seconds"] = _seconds(rows.column("ingested_at"), _microseconds(rows.column("event_time")))
    if ROW_ATTRIBUTES in rows.column_names:
        facts["attribute_characters"] = _characters(rows.column(ROW_ATTRIBUTES))
    if "created_at" in rows.column_names:
        created = np.floor(_microseconds(rows.column("created_at")) / DAY_US)
        facts["created_after_days"] = created - day_number(day)
    if name == "requests":
        facts |= _of_candidates(rows)
    if name in ("clicks", "feedback"):
        joinable = pc.or_(rows.column("impression_id").is_valid(), rows.column("user_id").is_valid())
        facts["has_impression_or_user"] = _number(joinable)
    return facts


def of_neighbours(name: str, rows: pa.Table, neighbours: Neighbours) -> Facts:
    """The facts of `of_rows` that need rows of other tables: those of the same request, or of the same impression."""
    if name == "impressions":
        return _of_places(neighbours.slates)
    if name == "requests":
        return {"places_shown": slates.places_shown(neighbours.slates, len(rows))}
    if name == "clicks":
        return {"seconds_since_impression": _seconds(rows.column("event_time"), _shown_at(rows, neighbours))}
    return {}


def of_day(name: str, rows: pa.Table, day: date, neighbours: Neighbours) -> dict[str, float]:
    """One figure each: how many rows, when, which share of them is complete or refers to something that exists.

    A figure that cannot be judged (a share of fewer than `MANY` rows, a volume without history) is NaN.
    """
    return figures(sums(name, rows, day, neighbours), neighbours.rows_before.get(name, ()))


def figures(found: Mapping[str, Sum], before: Sequence[int]) -> dict[str, float]:
    """What the sums of a day amount to, given how many rows each day before it had."""
    facts = {}
    rows = 0
    for name, part in found.items():
        if isinstance(part, Seconds):
            facts[name] = part.longest_silence_hours() if max(rows, _usual(before)) >= EVERY_HOUR_ROWS else float("nan")
        elif name == "rows":
            rows = part.n
            facts |= {"rows": float(rows), "volume_ratio": _volume(rows, before)}
        else:
            facts[name] = slates.figure(name, part) if name in slates.FIGURES else part.mean(MANY)
    if "shown_request_share" in facts and math.isnan(facts["shown_request_share"]):
        facts["known_request_share"] = float("nan")  # a source without requests: nothing could be known
    return facts


def sums(name: str, rows: pa.Table, day: date, neighbours: Neighbours) -> dict[str, Sum]:
    """The day's figures as sums over its rows, `rows` first: those of parts that no request spans add up."""
    found = own_sums(name, rows, day) | neighbour_sums(name, rows, neighbours)
    for figure, (column, snapshot) in REFERENCES.get(name, {}).items():
        found[figure] = _known(referring(rows.column(column)), neighbours.day[snapshot])
    return found


def own_sums(name: str, rows: pa.Table, day: date) -> dict[str, Sum]:
    """Those of `sums` that need nothing but the rows, `rows` first."""
    found: dict[str, Sum] = {"rows": Moments(len(rows), 0.0, 0.0)}
    if name in EVENTS:
        times = _microseconds(rows.column("event_time").drop_null()) - day_number(day) * DAY_US
        found["longest_silence_hours"] = Seconds.of(times / SECOND_US)
    if name == "impressions":
        found["propensity_share"] = _there(rows.column("propensity"))
    if name == "clicks":
        found["named_impression_share"] = _there(rows.column("impression_id"))
    if name in ("impressions", "clicks", "requests"):
        found["user_share"] = _there(rows.column("user_id"))
    if name == "items":
        found["category_share"] = _there(rows.column("category"))
    return found


def neighbour_sums(name: str, rows: pa.Table, neighbours: Neighbours) -> dict[str, Sum]:
    """Those of `sums` that need rows of other tables: those of the same request, or of the same impression."""
    found: dict[str, Sum] = {}
    if name == "impressions":
        of = neighbours.slates
        found["known_request_share"] = Moments.of(of.asked[of.request >= 0] >= 0)
        found |= slates.sums(neighbours.slates, rows.column("position"), len(neighbours.day["requests"]))
    if name == "clicks":
        named = np.asarray(rows.column("impression_id").is_valid())
        found["known_impression_share"] = Moments.of(np.isfinite(_shown_at(rows, neighbours)[named]))
        found["clicked_item_share"] = Moments.of(_same_item(rows, neighbours.day["impressions"]))
    return found


def referring(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The ids that a column of ids, or of lists of them, names; without nulls."""
    return (pc.list_flatten(ids) if pa.types.is_list(ids.type) else ids).drop_null()


def of_columns(rows: pa.Table, unknown: Sequence[str] = ()) -> dict[str, str]:
    """Each column's type by its pandas name, the unknown columns' too; a list `x` shows its values' as `x.element`."""
    types = dict.fromkeys(unknown, "unknown")
    for column in rows.schema:
        types[column.name] = _type_name(column.type)
        if pa.types.is_list(column.type):
            types[f"{column.name}.element"] = _type_name(column.type.value_type)
    return types


def _type_name(kind: pa.DataType) -> str:
    """A name that tells every Arrow type from every other; the contract's own have their plain pandas names."""
    if kind in (STR, CODED):
        return "string"
    if kind == TIME:
        return "datetime64[us, UTC]"
    if kind == pa.bool_():
        return "bool"
    return str(kind.to_pandas_dtype().__name__) if kind in (pa.int32(), pa.float64()) else f"{kind}[pyarrow]"


def _of_places(found: Slates) -> Facts:
    return {
        "others_at_position": found.others_at_position,
        "others_of_item": found.others_of_item,
        "among_candidates": found.among_candidates,
    }


def _of_candidates(rows: pa.Table) -> Facts:
    lists = rows.column("candidates").combine_chunks()
    values = codes(pc.list_flatten(lists))
    parents = np.asarray(pc.list_parent_indices(lists))
    long = pc.greater(pc.utf8_length(values.values), ID_CHARACTERS)
    unusable = np.append(np.asarray(pc.or_(pc.is_in(values.values, pa.array(PLACEHOLDERS)), long)), True)[values.of]
    return {
        "candidate_count": _number(pc.list_value_length(lists)),
        "unusable_candidates": np.bincount(parents, unusable, minlength=len(rows))[: len(rows)],
        "repeated_candidates": slates.repeated(lists),
    }


def _characters(attributes: pa.ChunkedArray) -> Floats:
    """Characters of each row's values together."""
    total = []
    for maps in attributes.chunks:
        upto = np.concatenate([[0], np.cumsum(np.asarray(pc.fill_null(pc.utf8_length(maps.items), 0)))])
        total.append(np.diff(upto[np.asarray(maps.offsets)]))
    return np.concatenate(total).astype(np.float64) if total else np.zeros(0)


def _usual(before: Sequence[int]) -> float:
    """Rows of a usual day; 0 where too few days are known."""
    lately = before[-HISTORY_DAYS:]
    return float(np.median(lately)) if len(lately) >= ENOUGH_HISTORY else 0.0


def _volume(rows: int, before: Sequence[int]) -> float:
    """Rows per row of a usual day; NaN where there is no usual day, or it is too small to be steady."""
    usual = _usual(before)
    return rows / usual if usual >= STEADY_ROWS else float("nan")


def _shown_at(clicks: pa.Table, neighbours: Neighbours) -> Floats:
    """When the impression each click names was shown (µs); NaN where it names none or an unknown one."""
    shown = np.full(len(clicks), np.nan)
    for impressions in (neighbours.day["impressions"], neighbours.shown_before):
        row = row_of(clicks.column("impression_id"), impressions.column("impression_id"))
        at = np.append(_microseconds(impressions.column("event_time")), np.nan)[row]
        shown = np.where(row >= 0, at, shown)  # of two of one id, the earlier day's
    return shown


def _there(column: pa.ChunkedArray) -> Moments:
    """Which values are not null."""
    there = len(column) - column.null_count
    return Moments(len(column), float(there), float(there))


def _used(ids: pa.ChunkedArray, before: pa.Array | pa.ChunkedArray | None) -> Floats:
    """1 where an id is among some others, 0 where it is not, NaN for null."""
    used = is_among(ids, before) if before is not None and len(before) else np.zeros(len(ids))
    return np.where(np.asarray(ids.is_valid()), used, np.nan) if ids.null_count else used.astype(np.float64)


def _known(ids: pa.ChunkedArray, referred: pa.Table) -> Moments:
    """Which of the ids are those of `referred`; nothing is known where either side is empty."""
    return Moments.of(is_among(ids, referred.column(0)) if len(referred) else np.zeros(0))


def _same_item(clicks: pa.Table, impressions: pa.Table) -> Bools:
    """Of each click on one of these impressions: whether it names the impression's item."""
    at = row_of(clicks.column("impression_id"), impressions.column("impression_id"))
    mine = plain(clicks.select(["item_id"]).filter(pa.array(at >= 0)))
    shown = plain(impressions.select(["item_id"]).take(pa.array(at[at >= 0])))
    return np.asarray(pc.equal(mine.column(0), shown.column(0)).drop_null())


def _seconds(times: pa.ChunkedArray, since: Floats) -> Floats:
    return (_microseconds(times) - since) / SECOND_US


def _microseconds(times: pa.ChunkedArray) -> Floats:
    """Microseconds since 1970 as floats, NaN for null: exact until the year 2255."""
    return _number(times.cast(pa.int64()))


def _number(column: pa.Array | pa.ChunkedArray) -> Floats:
    """Floats, NaN for null."""
    floats = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan"))
    return np.asarray(floats, dtype=np.float64)
