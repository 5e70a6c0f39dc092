"""What the suites look at besides raw columns: facts of a row, of a day, and of a day's columns.

Numbers only (times are microseconds since 1970, days are days since 1970): pandas compares those a whole column at a
time, while Great Expectations compares anything else value by value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionDtype

from jobs.tables import EVENTS, STR, TIME

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
EPOCH = date(1970, 1, 1)

Floats = NDArray[np.float64]
Facts = dict[str, Floats | pa.Array]


@dataclass(frozen=True)
class Neighbours:
    """What a table of a day is held against: the day's other tables, and impressions of the days just before."""

    day: Mapping[str, pa.Table]
    shown_before: pa.Table
    """Columns impression_id and event_time."""


def day_number(day: date) -> int:
    """Days since 1970."""
    return (day - EPOCH).days


def of_rows(name: str, rows: pa.Table, day: date, neighbours: Neighbours) -> Facts:
    """Columns of length n to judge single rows by: text as it is, numbers and times as floats, and what follows."""
    facts: Facts = {}
    for field in rows.schema:
        if field.type == STR:
            facts[field.name] = rows.column(field.name).combine_chunks()
        elif field.type == TIME:
            facts[field.name] = _microseconds(rows.column(field.name))
        elif field.type in (pa.int32(), pa.float64()):
            facts[field.name] = _number(rows.column(field.name))
    facts["day"] = np.full(len(rows), float(day_number(day)))
    if name in EVENTS:
        facts["event_day"] = np.floor(_microseconds(rows.column("event_time")) / DAY_US)
    if "ingested_at" in rows.column_names:
        facts["ingest_delay_seconds"] = _seconds(rows.column("ingested_at"), _microseconds(rows.column("event_time")))
    if "created_at" in rows.column_names:
        created = np.floor(_microseconds(rows.column("created_at")) / DAY_US)
        facts["created_after_days"] = created - day_number(day)
    if name == "requests":
        facts |= _of_candidates(rows)
    if name == "clicks":
        facts["seconds_since_impression"] = _seconds(rows.column("event_time"), _shown_at(rows, neighbours))
        joinable = pc.or_(rows.column("impression_id").is_valid(), rows.column("user_id").is_valid())
        facts["has_impression_or_user"] = _number(joinable)
    return facts


def frame(parts: Sequence[Facts], columns: Sequence[str]) -> pd.DataFrame:
    """Facts of several days one after the other, index 0…n-1.

    Text is categorical: Great Expectations copies the frame once per expectation, and copying and comparing codes takes
    a quarter of the time Python strings do (650k impressions: 4.1 s, not 15 s).
    """
    series: dict[str, Floats | pd.Categorical] = {}
    for name in columns:
        values = [part[name] for part in parts]
        if isinstance(values[0], np.ndarray):
            series[name] = np.concatenate(values)
        else:
            coded = pa.concat_arrays(values).dictionary_encode()
            codes = pc.fill_null(coded.indices, -1).to_numpy()
            series[name] = pd.Categorical.from_codes(codes, pd.array(coded.dictionary, dtype="string[pyarrow]"))
    return pd.DataFrame(series, copy=False)


def of_day(name: str, rows: pa.Table, neighbours: Neighbours) -> dict[str, float]:
    """One figure each: how many rows, and which share of them is complete or refers to something that exists."""
    facts = {"rows": float(len(rows))}
    if name == "impressions":
        facts["propensity_share"] = _share(rows.column("propensity").is_valid())
        facts["user_share"] = _share(rows.column("user_id").is_valid())
        facts["known_item_share"] = _known_share(rows, "item_id", neighbours.day["items"])
        facts["known_user_share"] = _known_share(rows, "user_id", neighbours.day["users"])
        facts["known_request_share"] = _known_share(rows, "request_id", neighbours.day["requests"])
    if name == "clicks":
        named = rows.filter(rows.column("impression_id").is_valid())
        facts["known_impression_share"] = _share(np.isfinite(_shown_at(named, neighbours)))
    if name in ("clicks", "purchases"):
        facts["known_item_share"] = _known_share(rows, "item_id", neighbours.day["items"])
    if name == "items":
        facts["category_share"] = _share(rows.column("category").is_valid())
    return facts


def of_columns(rows: pa.Table) -> pd.DataFrame:
    """An empty frame whose dtypes are the columns' types; a list column `x` shows its values' type as `x.element`."""
    series: dict[str, pd.Series] = {}
    for field in rows.schema:
        series[field.name] = pd.Series(dtype=_dtype(field.type))
        if pa.types.is_list(field.type):
            series[f"{field.name}.element"] = pd.Series(dtype=_dtype(field.type.value_type))
    return pd.DataFrame(series)


def _dtype(kind: pa.DataType) -> ExtensionDtype | np.dtype[np.generic]:
    """A dtype that tells every Arrow type from every other; the contract's own have their plain pandas names."""
    if kind == STR:
        return pd.StringDtype("pyarrow")
    if kind == TIME:
        return pd.DatetimeTZDtype("us", "UTC")
    if kind in (pa.int32(), pa.float64()):
        return cast(np.dtype[np.generic], np.dtype(kind.to_pandas_dtype()))
    return cast(ExtensionDtype, pd.ArrowDtype(kind))


def _of_candidates(rows: pa.Table) -> Facts:
    lists = rows.column("candidates").combine_chunks()
    parents = np.asarray(pc.list_parent_indices(lists))
    missing = np.bincount(parents, np.asarray(pc.list_flatten(lists).is_null()), minlength=len(rows))
    return {"candidate_count": _number(pc.list_value_length(lists)), "null_candidates": missing[: len(rows)]}


def _shown_at(clicks: pa.Table, neighbours: Neighbours) -> Floats:
    """When the impression each click names was shown (µs); NaN where it names none or an unknown one."""
    today = neighbours.day["impressions"].select(["impression_id", "event_time"])
    shown = pa.concat_tables([neighbours.shown_before, today])
    index = pc.index_in(clicks.column("impression_id"), shown.column("impression_id"), skip_nulls=True)
    return _microseconds(shown.column("event_time").take(index))


def _known_share(rows: pa.Table, column: str, referred: pa.Table) -> float:
    """Share of the rows with a value whose value exists in `referred`; NaN when either side is empty."""
    values = rows.column(column).drop_null()
    if not len(referred):
        return float("nan")
    return _share(pc.is_in(values, referred.column(column)))


def _share(true: pa.ChunkedArray | NDArray[np.bool_]) -> float:
    """The share that is true; NaN of nothing."""
    return float(np.mean(np.asarray(true))) if len(true) else float("nan")


def _seconds(times: pa.ChunkedArray, since: Floats) -> Floats:
    return (_microseconds(times) - since) / SECOND_US


def _microseconds(times: pa.ChunkedArray) -> Floats:
    """Microseconds since 1970 as floats, NaN for null: exact until the year 2255."""
    return _number(times.cast(pa.int64()))


def _number(column: pa.Array | pa.ChunkedArray) -> Floats:
    """Floats, NaN for null."""
    floats = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan"))
    return np.asarray(floats, dtype=np.float64)
