"""A day's logged traffic as the maths sees it: what requests saw, what the watched model says of it, what came of it.

Of a large day the traffic of some users is taken, the same ones every day.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.core import DAY_US, microseconds
from jobs.asof.wanted import Wanted
from jobs.bundle import Bundle
from jobs.lake.parts import in_one
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.moment.columns import numbers, strings
from jobs.moment.decisions import Known, candidate_columns, clusters
from jobs.moment.known import known_before
from jobs.monitor.rows import MOST_JUDGED, MOST_ROWS, news, of_some_users
from jobs.outcomes import closed, so_far, told_by
from models.monitoring.day import Floats, Ints, Traffic

SHOWN = [
    *("impression_id", "request_id", "event_time", "user_id", "item_id", "surface", "position", "propensity"),
    *("device", "region", "query", "source_item_id", "attributes"),
]
LABELS = ["impression_id", *told_by("clicked"), *told_by("converted")]
NEWS = {"click": "click_known_at", "conversion": "conversion_known_at"}
WAITS = ["event_time", "user_id", *NEWS.values()]
ASKED = pa.schema([("request_id", pa.string()), ("n", pa.int32())])
KEYS = ["user_id", "item_id", "event_time", "position"]
MICROSECONDS = 1e6


def observed(run: Run, day: date, model: Bundle) -> Traffic:
    """The day as far as it is known at its end; raises `NotReady` without features of a day before it."""
    shown = of_some_users(run, "impressions", day, SHOWN, MOST_ROWS)
    labels = Wanted.of(shown["impression_id"]).read(run, "labels", [day], LABELS, "impression_id")
    rows = _with_labels(shown, labels, midnight(day + timedelta(days=1)))
    known = known_before(run, day, with_users=True, of=Wanted.of(rows["user_id"]))
    return _traffic(run, day, rows, known, model)


def keys_before(run: Run, day: date) -> tuple[pa.Table, pa.Table]:
    """What tells the events of the day before, and of the day, from one another; empty where it has no impressions."""
    before = day - timedelta(days=1)
    there = before in run.published_days("impressions")
    days = [of_some_users(run, "impressions", one, KEYS, MOST_ROWS) for one in ([before, day] if there else [day])]
    return (days[0] if there else days[0].slice(0, 0)), days[-1]


def coded(tables: Sequence[pa.Table]) -> list[tuple[Ints, ...]]:
    """Of each table its `KEYS` as integers, equal where they are equal in any of them; times are of the day."""
    whole = pa.concat_tables(tables)
    ids = [_codes(whole[name]) for name in ("user_id", "item_id")]
    time = microseconds(whole["event_time"]) % DAY_US
    position = np.nan_to_num(numbers(whole["position"]), nan=-1).astype(np.int64)
    ends = np.cumsum([0, *(len(table) for table in tables)])
    return [tuple(key[first:last] for key in (*ids, time, position)) for first, last in pairwise(ends)]


def closed_labels(run: Run, day: date, ids: pa.ChunkedArray, cut: datetime) -> tuple[Floats, Floats]:
    """(n,) clicked and converted of impressions of `day`, as known at `cut`; NaN while a label is open or missing."""
    if day not in run.published_days("labels"):
        return np.full(len(ids), np.nan), np.full(len(ids), np.nan)
    labels = Wanted.of(ids).read(run, "labels", [day], LABELS, "impression_id")
    late = run.config.attribution.late_days
    at = pc.index_in(ids, labels["impression_id"]).combine_chunks()
    outcomes = []
    for outcome in ("clicked", "converted"):
        said = pc.if_else(closed(labels, outcome, cut, late), so_far(labels, outcome, cut), pa.scalar(None, pa.bool_()))
        outcomes.append(numbers(said.combine_chunks().take(at)))
    return outcomes[0], outcomes[1]


def waits(run: Run, day: date) -> dict[str, tuple[Floats, Ints]]:
    """Outcome to the seconds from impression to news, of all news of the day; of the days whose outcomes may come."""
    windows = run.config.attribution
    back = windows.click_days + windows.purchase_days + windows.late_days
    there = set(run.published_days("labels"))
    days = [one for n in range(back + 1) if (one := day - timedelta(days=n)) in there]
    labels = news(run, "labels", days, WAITS, MOST_JUDGED, lambda rows: _heard_on(rows, day, list(NEWS.values())))
    at, users, found = microseconds(labels["event_time"]), clusters(labels), {}
    for outcome, column in NEWS.items():
        heard = np.flatnonzero(_heard_on(labels, day, [column]))
        known = microseconds(labels[column].take(pa.array(heard)))
        found[outcome] = ((known - at[heard]) / MICROSECONDS, users[heard])
    return found


def _heard_on(labels: pa.Table, day: date, columns: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) whether any of the columns says that there was news on the day."""
    start, end = midnight(day), midnight(day + timedelta(days=1))
    heard = [pc.and_(pc.greater_equal(labels[name], start), pc.less(labels[name], end)) for name in columns]
    told = [pc.fill_null(of, False).to_numpy(zero_copy_only=False) for of in heard]
    return np.asarray(np.logical_or.reduce(told), dtype=bool)


def _with_labels(shown: pa.Table, labels: pa.Table, cut: datetime) -> pa.Table:
    """The impressions that have a label, with `clicked` and `converted` as heard of before `cut`."""
    at = pc.index_in(shown["impression_id"], labels["impression_id"]).combine_chunks()
    found = shown
    for outcome in ("clicked", "converted"):
        found = found.append_column(outcome, so_far(labels, outcome, cut).combine_chunks().take(at))
    return found.filter(found["clicked"].is_valid())


def _traffic(run: Run, day: date, rows: pa.Table, known: Sequence[Known], model: Bundle) -> Traffic:
    n = len(rows)
    columns = candidate_columns(rows, np.arange(n), strings(rows["item_id"]), known)
    # Unlike a decision, a placement was seen where it was shown.
    columns["position"] = numbers(rows["position"])
    said = model.ranker.predict(columns)
    return Traffic(
        features={name: of for name, of in columns.items() if of.ndim == 1},
        users=clusters(rows),
        requests=_codes(rows["request_id"]),
        surface=strings(rows["surface"]),
        position=numbers(rows["position"]),
        clicked=numbers(rows["clicked"]),
        converted=numbers(rows["converted"]),
        p_click=said.p_click,
        p_conversion=said.p_conversion,
        propensity=numbers(rows["propensity"]),
        candidates=_candidates(run, day, rows),
        age_days=columns.get("item_age_days", np.full(n, np.nan)),
        waits=waits(run, day),
        keys=(),
    )


def _candidates(run: Run, day: date, rows: pa.Table) -> Floats:
    """How many items each request was chosen from; NaN where nobody logged that."""
    if day not in run.published_days("requests"):
        return np.full(len(rows), np.nan)
    wanted = Wanted.of(rows["request_id"])

    def counted(some: Iterator[pa.Table]) -> list[pa.Table]:
        mine = (wanted.among(part, "request_id") for part in some)
        columns = ([of["request_id"], pc.list_value_length(of["candidates"])] for of in mine)
        return in_one(pa.table(of, schema=ASKED) for of in columns)

    found = run.told("requests", [day], ["request_id", "candidates"], counted)
    requests = pa.concat_tables([ASKED.empty_table(), *chain.from_iterable(found)]).combine_chunks()
    at = pc.index_in(rows["request_id"], requests["request_id"]).combine_chunks()
    return numbers(requests["n"].combine_chunks().take(at))


def _codes(column: pa.ChunkedArray) -> NDArray[Any]:
    codes = pc.fill_null(column.combine_chunks().dictionary_encode().indices, -1)
    return np.asarray(codes.to_numpy(zero_copy_only=False)).astype(np.int64)
