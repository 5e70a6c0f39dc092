"""KuaiRand-Pure (Gao et al. 2022): real short-video impressions of six days, without propensities.

`tab` is the surface; `is_click` the click, logged at the impression's time for want of its own; `long_view` the
conversion, at click time plus play time. Of further outcomes it tells those that are declared by a name of `FEEDBACK`,
when the video was left: a like, the seconds watched, the long view once more. Nobody logged what the app chose from, so
there are no requests, and no propensity is invented. Columns derived from the outcome (finish, like, play time, ...)
never become features. The log is every Parquet file of the folder, whatever days they have. Its own days are Chinese
ones; here days are UTC, so the hours before the first whole UTC day are left out and the last day ends at 16:00. 3 % of
the rows are in the log twice: they keep one id each, as any logger's duplicates.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config
from jobs.errors import Misconfigured
from jobs.lake.tables import RAW, TIME, Tables
from jobs.sources import History, Source, within
from jobs.sources._files import folder_of, read_csv, read_parquet, whole_numbers

LOG, USERS, VIDEOS = "*.parquet", "user_features_pure.csv", "video_features_basic_pure.csv"
LAYOUT = f"{LOG} (the log), {USERS}, {VIDEOS} of KuaiRand-Pure"
WHOLE_FROM = timedelta(hours=1)
"""A day whose first event comes later has begun before the log."""
LOG_COLUMNS = ["user_id", "video_id", "time_ms", "tab", "is_click", "long_view", "play_time_ms"]
FEEDBACK = {"like": ("is_like", None), "watch_time": ("play_time_ms", 1000.0), "long_view": ("long_view", None)}
"""A further outcome's name, the log's column of it, and by what its value is divided; None: it has none."""
USER_FEATURES = [
    "user_active_degree",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
]
VIDEO_FEATURES = ["video_type", "upload_type", "music_type"]
DURATIONS = [0, 15, 30, 60, 120, 240]
"""Seconds from which on a video is counted to the next range."""
POLICY = "kuaishou"


def source(config: Config) -> Source:
    """The files in `source.data`."""
    return KuaiRand(config.source.data, [name for name in FEEDBACK if name in config.outcomes])


class KuaiRand(History):
    """The files in `data`."""

    def __init__(self, data: Path | None, outcomes: Sequence[str] = ()) -> None:
        self._data = data
        self._outcomes = outcomes

    def span(self) -> tuple[date, date]:
        """The days of the log, by UTC."""
        return self._span

    def day(self, day: date) -> Tables:
        """All tables; requests have no rows. A purchase, and feedback, lies on the day its video was left."""
        within(day, self._span, "kuairand")
        log = _on(self._log, "event_time", day)
        clicked = log.filter(pc.equal(log.column("is_click"), 1))
        shown = ["impression_id", "request_id", "event_time", "user_id", "item_id", "surface", "position", "policy"]
        bought = _on(self._bought, "event_time", day)
        return {
            "impressions": log.select(shown),
            "clicks": clicked.select(["click_id", "impression_id", "event_time", "user_id", "item_id"]),
            "purchases": bought.select(["purchase_id", "event_time", "user_id", "item_id"]),
            "feedback": _on(self._fed, "event_time", day),
            "requests": RAW["requests"].schema.empty_table(),
            "items": self._items(day),
            "users": self._users,
        }

    @cached_property
    def _folder(self) -> Path:
        return folder_of(self._data, "kuairand", LAYOUT)

    @cached_property
    def _span(self) -> tuple[date, date]:
        ends = pc.min_max(self._numbers["time_ms"])
        first, last = (datetime.fromtimestamp(ends[end].as_py() / 1000, UTC) for end in ("min", "max"))
        begins = first + timedelta(days=1) - WHOLE_FROM
        return begins.date(), last.date()

    @cached_property
    def _numbers(self) -> dict[str, pa.ChunkedArray]:
        """The columns of all files of the log."""
        wanted = list(dict.fromkeys([*LOG_COLUMNS, *(FEEDBACK[name][0] for name in self._outcomes)]))
        paths = sorted(self._folder.glob(LOG))
        if not paths:
            raise Misconfigured(f"source.data needs the file {LOG}, the log; found none in {self._folder}")
        numbers = [whole_numbers(read_parquet(path, wanted), path.name) for path in paths]
        found = pa.concat_tables(numbers)
        if not len(found):
            raise Misconfigured(f"source.data needs rows in {LOG}; found none in {self._folder}")
        return {name: found.column(name) for name in wanted}

    @cached_property
    def _log(self) -> pa.Table:
        numbers = self._numbers
        texts = {name: pc.cast(column, pa.string()) for name, column in numbers.items()}
        request = pc.binary_join_element_wise("k", texts["user_id"], texts["video_id"], texts["time_ms"], "-")
        impression = pc.binary_join_element_wise(request, "1", "-")
        rows = pa.table(
            {
                "impression_id": impression,
                "click_id": pc.binary_join_element_wise("c", impression, "-"),
                "purchase_id": pc.binary_join_element_wise("p", impression, "-"),
                "request_id": request,
                "event_time": pc.multiply(numbers["time_ms"], 1000).cast(TIME),
                "user_id": texts["user_id"],
                "item_id": texts["video_id"],
                "surface": pc.binary_join_element_wise("tab", texts["tab"], "-"),
                # The log has none: one video fills the screen.
                "position": pa.array([1] * len(request), pa.int32()),
                "policy": pa.array([POLICY] * len(request)),
                **{name: of for name, of in numbers.items() if name not in ("user_id", "video_id", "time_ms", "tab")},
            }
        )
        rows = rows.filter(pc.greater_equal(pc.cast(rows.column("event_time"), pa.date32()), pa.scalar(self._span[0])))
        return rows.sort_by([("event_time", "ascending"), ("impression_id", "ascending")])

    @cached_property
    def _bought(self) -> pa.Table:
        viewed = self._log.filter(pc.equal(self._log.column("long_view"), 1))
        return _left(viewed).sort_by([("event_time", "ascending"), ("purchase_id", "ascending")])

    @cached_property
    def _fed(self) -> pa.Table:
        """`feedback` of all days: an event where there was something, none where the column is 0."""
        parts = [RAW["feedback"].schema.empty_table().drop_columns(["ingested_at"])]
        for name in self._outcomes:
            column, divisor = FEEDBACK[name]
            rows = _left(self._log.filter(pc.greater(self._log.column(column), 0)))
            amount = pc.divide(rows.column(column).cast(pa.float64()), divisor) if divisor else pa.nulls(len(rows))
            ids = rows.column("impression_id")
            named = {
                "feedback_id": pc.binary_join_element_wise(name, ids, "-"),
                "outcome": pa.array([name] * len(rows)),
            }
            kept = {of: rows.column(of) for of in ("impression_id", "event_time", "user_id", "item_id")}
            parts.append(pa.table({**named, **kept, "value": amount}).cast(parts[0].schema))
        return pa.concat_tables(parts).sort_by([("event_time", "ascending"), ("feedback_id", "ascending")])

    def _items(self, day: date) -> pa.Table:
        columns = ["video_id", "upload_dt", "tag", *VIDEO_FEATURES]
        found = read_csv(self._folder / VIDEOS, VIDEOS, [*columns, "video_duration"], columns)
        uploaded = pc.strptime(found.column("upload_dt"), format="%Y-%m-%d", unit="us").cast(TIME)
        items = pa.table(
            {
                "item_id": found.column("video_id"),
                "created_at": uploaded,
                "category": found.column("tag"),
                **{f"feature_{name}": found.column(name) for name in VIDEO_FEATURES},
                "feature_duration": _ranges(found.column("video_duration")),
            }
        )
        here = pc.fill_null(pc.less_equal(pc.cast(uploaded, pa.date32()), pa.scalar(day)), True)
        return items.filter(here).sort_by("item_id")

    @cached_property
    def _users(self) -> pa.Table:
        found = read_csv(self._folder / USERS, USERS, ["user_id", *USER_FEATURES], ["user_id", *USER_FEATURES])
        features = {f"feature_{name}": found.column(name) for name in USER_FEATURES}
        return pa.table({"user_id": found.column("user_id"), **features}).sort_by("user_id")


def _ranges(milliseconds: pa.ChunkedArray) -> pa.Array:
    """How long a video is, as one of a few ranges in seconds: `15-30`, the last `240-`; None where unknown."""
    seconds = pc.divide(pc.cast(milliseconds, pa.float64()), 1000.0).to_numpy()
    names = [f"{low}-{high}" for low, high in zip(DURATIONS, [*DURATIONS[1:], ""], strict=True)]
    at = np.searchsorted(DURATIONS, np.nan_to_num(seconds), side="right") - 1
    return pa.array([None if np.isnan(of) else names[n] for of, n in zip(seconds, at, strict=True)], pa.string())


def _left(rows: pa.Table) -> pa.Table:
    """The rows at the time their video was left."""
    watched = pc.multiply(rows.column("play_time_ms"), 1000).cast(pa.duration("us"))
    at = rows.column_names.index("event_time")
    return rows.set_column(at, "event_time", pc.add(rows.column("event_time"), watched))


def _on(table: pa.Table, column: str, day: date) -> pa.Table:
    return table.filter(pc.equal(pc.cast(table.column(column), pa.date32()), pa.scalar(day)))
