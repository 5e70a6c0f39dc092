"""KuaiRand-Pure (Gao et al. 2022): real short-video impressions of six days, without propensities.

`tab` is the surface; `is_click` the click, logged at the impression's time for want of its own; `long_view` the
conversion, at click time plus play time. Nobody logged what the app chose from, so there are no requests, and no
propensity is invented. Columns derived from the outcome (finish, like, play time, ...) never become features. The log's
own days are Chinese ones; here days are UTC, so the hours before the first whole UTC day are left out and the last day
ends at 16:00. 3 % of the rows are in the log twice: they keep one id each, as any logger's duplicates.
"""

from datetime import date
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config
from jobs.errors import Misconfigured
from jobs.lake.tables import RAW, TIME, Tables
from jobs.sources import Source, within
from jobs.sources._files import folder_of, read_csv, read_parquet

SPAN = (date(2022, 4, 25), date(2022, 4, 30))
LOG, USERS, VIDEOS = "val.parquet", "user_features_pure.csv", "video_features_basic_pure.csv"
LAYOUT = f"{LOG}, {USERS}, {VIDEOS} of KuaiRand-Pure"
LOG_COLUMNS = ["user_id", "video_id", "time_ms", "tab", "is_click", "long_view", "play_time_ms"]
USER_FEATURES = [
    "user_active_degree",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
]
VIDEO_FEATURES = ["video_type", "upload_type", "music_type"]
POLICY = "kuaishou"


def source(config: Config) -> Source:
    """The files in `source.data`."""
    return KuaiRand(config.source.data)


class KuaiRand:
    """The three files in `data`."""

    def __init__(self, data: Path | None) -> None:
        self._data = data

    def span(self) -> tuple[date, date]:
        """The days of the log, by UTC."""
        return SPAN

    def day(self, day: date) -> Tables:
        """All six tables; requests have no rows. A purchase lies on the day its video was watched to the end."""
        within(day, SPAN, "kuairand")
        log = _on(self._log, "event_time", day)
        clicked = log.filter(pc.equal(log.column("is_click"), 1))
        shown = ["impression_id", "request_id", "event_time", "user_id", "item_id", "surface", "position", "policy"]
        bought = _on(self._bought, "event_time", day)
        return {
            "impressions": log.select(shown),
            "clicks": clicked.select(["click_id", "impression_id", "event_time", "user_id", "item_id"]),
            "purchases": bought.select(["purchase_id", "event_time", "user_id", "item_id"]),
            "requests": RAW["requests"].schema.empty_table(),
            "items": self._items(day),
            "users": self._users,
        }

    def go_live(self, day: date) -> int:  # noqa: ARG002
        """Nothing: what was shown is history."""
        return 0

    def late(self, day: date, arrived: date) -> Tables:  # noqa: ARG002
        """The log does not say when it became known."""
        return {}

    @cached_property
    def _folder(self) -> Path:
        return folder_of(self._data, "kuairand", LAYOUT)

    @cached_property
    def _log(self) -> pa.Table:
        log = read_parquet(self._folder / LOG, LOG_COLUMNS)
        try:
            numbers = {name: log.column(name).cast(pa.int64()) for name in LOG_COLUMNS}
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Misconfigured(f"source.data: {LOG} needs whole numbers in {LOG_COLUMNS}; found: {error}") from error
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
                "position": pa.array([1] * len(log), pa.int32()),  # the log has none: one video fills the screen
                "policy": pa.array([POLICY] * len(log)),
                "is_click": numbers["is_click"],
                "long_view": numbers["long_view"],
                "play_time_ms": numbers["play_time_ms"],
            }
        )
        rows = rows.filter(pc.greater_equal(pc.cast(rows.column("event_time"), pa.date32()), pa.scalar(SPAN[0])))
        return rows.sort_by([("event_time", "ascending"), ("impression_id", "ascending")])

    @cached_property
    def _bought(self) -> pa.Table:
        viewed = self._log.filter(pc.equal(self._log.column("long_view"), 1))
        watched = pc.multiply(viewed.column("play_time_ms"), 1000).cast(pa.duration("us"))
        at = viewed.column_names.index("event_time")
        viewed = viewed.set_column(at, "event_time", pc.add(viewed.column("event_time"), watched))
        return viewed.sort_by([("event_time", "ascending"), ("purchase_id", "ascending")])

    def _items(self, day: date) -> pa.Table:
        columns = ["video_id", "upload_dt", "tag", *VIDEO_FEATURES]
        found = read_csv(self._folder / VIDEOS, VIDEOS, columns, columns)
        uploaded = pc.strptime(found.column("upload_dt"), format="%Y-%m-%d", unit="us").cast(TIME)
        items = pa.table(
            {
                "item_id": found.column("video_id"),
                "created_at": uploaded,
                "category": found.column("tag"),
                **{f"feature_{name}": found.column(name) for name in VIDEO_FEATURES},
            }
        )
        here = pc.fill_null(pc.less_equal(pc.cast(uploaded, pa.date32()), pa.scalar(day)), True)
        return items.filter(here).sort_by("item_id")

    @cached_property
    def _users(self) -> pa.Table:
        found = read_csv(self._folder / USERS, USERS, ["user_id", *USER_FEATURES], ["user_id", *USER_FEATURES])
        features = {f"feature_{name}": found.column(name) for name in USER_FEATURES}
        return pa.table({"user_id": found.column("user_id"), **features}).sort_by("user_id")


def _on(table: pa.Table, column: str, day: date) -> pa.Table:
    return table.filter(pc.equal(pc.cast(table.column(column), pa.date32()), pa.scalar(day)))
