"""What breaks each rule of the suites about rows, and a day judged from memory as the stage judges it."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa

from jobs.flow import SNAPSHOTS
from jobs.lake.raw import Part, RawDay
from jobs.lake.tables import EVENTS, RAW
from jobs.validate.batch import NOTHING, Past, Rules, Verdict, verdicts
from jobs.validate.suites import Suites
from tests.jobs.validate.raw_days import N, Tables, put, retyped

Break = Callable[[pa.Table], pa.Table]
ROW = 7


def twice(rows: pa.Table) -> pa.Table:
    """One row logged again."""
    return pa.concat_tables([rows, rows.slice(ROW, 1)])


def a_day_later(rows: pa.Table) -> pa.Table:
    """One event filed under the day before its own."""
    return put(rows, "event_time", rows.column("event_time")[ROW].as_py() + timedelta(days=1))


def nulls(table: str, columns: str) -> dict[tuple[str, str], Break]:
    """One null in each of the columns."""
    return {(table, f"{name}_present"): partial(put, column=name, value=None) for name in columns.split()}


def words_for_nothing(table: str, columns: str) -> dict[tuple[str, str], Break]:
    """What loggers write for nothing, in each of the columns."""
    return {(table, f"{name}_real"): partial(put, column=name, value="null") for name in columns.split()}


def wrapped(table: str, columns: str) -> dict[tuple[str, str], Break]:
    """A space after what would be the right id, in each of the columns."""
    return {(table, f"{name}_tidy"): lambda rows, name=name: put(rows, name, f"{name}-7 ") for name in columns.split()}


def endless(table: str, columns: str, characters: int = 257) -> dict[tuple[str, str], Break]:
    """A document where a short text belongs, in each of the columns."""
    return {(table, f"{name}_short"): partial(put, column=name, value="x" * characters) for name in columns.split()}


def document(table: str) -> dict[tuple[str, str], Break]:
    """A row whose extra columns hold a document."""
    column = f"{RAW[table].extra_prefix}page"

    def corrupt(rows: pa.Table) -> pa.Table:
        return rows.append_column(column, pa.array(["x" * 20_001 if n == ROW else "x" for n in range(N)]))

    return {(table, "attributes_short"): corrupt}


def known(seconds: int) -> Break:
    """One row known so long after its event (before it, where negative)."""
    return lambda rows: put(rows, "ingested_at", rows.column("event_time")[ROW].as_py() + timedelta(seconds=seconds))


TIMED = ("impressions", "clicks", "purchases", "feedback")
DAY_SECONDS = 86_400
BREAKS: dict[tuple[str, str], Break] = {
    **nulls("impressions", "impression_id request_id event_time item_id surface position policy"),
    **nulls("clicks", "click_id event_time item_id"),
    **nulls("purchases", "purchase_id event_time user_id item_id"),
    **nulls("feedback", "feedback_id outcome event_time item_id"),
    **nulls("requests", "request_id event_time surface policy candidates slate_size"),
    **nulls("items", "item_id"),
    **nulls("users", "user_id"),
    **words_for_nothing("impressions", "impression_id request_id item_id"),
    **words_for_nothing("clicks", "click_id item_id"),
    **words_for_nothing("purchases", "purchase_id user_id item_id"),
    **words_for_nothing("feedback", "feedback_id outcome item_id impression_id user_id"),
    **words_for_nothing("requests", "request_id"),
    **words_for_nothing("items", "item_id"),
    **words_for_nothing("users", "user_id"),
    **words_for_nothing("impressions", "user_id surface policy"),
    **words_for_nothing("clicks", "impression_id user_id"),
    **words_for_nothing("requests", "user_id surface policy"),
    **wrapped("impressions", "impression_id request_id item_id user_id"),
    **wrapped("clicks", "click_id impression_id item_id user_id"),
    **wrapped("purchases", "purchase_id user_id item_id"),
    **wrapped("feedback", "feedback_id outcome impression_id item_id user_id"),
    **wrapped("requests", "request_id user_id"),
    **wrapped("items", "item_id"),
    **wrapped("users", "user_id"),
    **endless("impressions", "impression_id request_id user_id item_id surface policy device region source_item_id"),
    **endless("clicks", "click_id impression_id user_id item_id"),
    **endless("purchases", "purchase_id user_id item_id"),
    **endless("feedback", "feedback_id outcome impression_id user_id item_id"),
    **endless("requests", "request_id user_id surface policy"),
    **endless("items", "item_id category"),
    **endless("users", "user_id"),
    **endless("impressions", "query", 10_001),
    **endless("items", "title", 10_001),
    **{name: corrupt for table in ("impressions", "items", "users") for name, corrupt in document(table).items()},
    **{(table, "ingested_at_believable"): known(-DAY_SECONDS - 1) for table in TIMED},
    **{
        (table, "created_at_believable"): partial(put, column="created_at", value=datetime(9999, 12, 31, tzinfo=UTC))
        for table in SNAPSHOTS
    },
    **{(table, f"{RAW[table].key[0]}_unique"): twice for table in RAW},
    **{(table, "event_time_in_partition"): a_day_later for table in EVENTS},
    ("impressions", "position_from_one"): partial(put, column="position", value=0),
    ("impressions", "propensity_in_unit_interval"): partial(put, column="propensity", value=1.5),
    ("purchases", "value_not_negative"): partial(put, column="value", value=-1.0),
    ("feedback", "value_not_negative"): partial(put, column="value", value=-1.0),
    ("requests", "slate_size_positive"): partial(put, column="slate_size", value=0),
    ("requests", "has_candidates"): partial(put, column="candidates", value=[]),
    ("requests", "candidates_real"): partial(put, column="candidates", value=["i01", None, "i02"]),
    ("items", "price_not_negative"): partial(put, column="price", value=-0.01),
}


def all_of(rows: pa.Table, column: str, value: object) -> pa.Table:
    """One value everywhere."""
    return retyped(rows, column, pa.array([value] * len(rows), rows.schema.field(column).type))


def some_of(rows: pa.Table, column: str, value: object, count: int) -> pa.Table:
    """One value in the first rows."""
    for row in range(count):
        rows = put(rows, column, value, row)
    return rows


WARNINGS: dict[tuple[str, str], Break] = {
    **{
        (t, "columns_known"): lambda rows: rows.append_column("Event_Time", rows.column(rows.column_names[0]))
        for t in RAW
    },
    **{(table, "ingested_at_not_before_event_time"): known(-1) for table in TIMED},
    **{(table, "ingested_at_soon"): known(31 * DAY_SECONDS) for table in TIMED},
    **{(t, "user_share"): partial(all_of, column="user_id", value=None) for t in ("impressions", "clicks", "requests")},
    **{(t, "known_item_share"): partial(put, column="item_id", value="i999") for t in TIMED},
    ("impressions", "position_plausible"): partial(put, column="position", value=1001),
    ("impressions", "propensity_share"): partial(put, column="propensity", value=None),
    ("impressions", "known_user_share"): partial(all_of, column="user_id", value="u999"),
    ("impressions", "known_request_share"): partial(put, column="request_id", value="r999"),
    ("impressions", "requests_were_shown"): lambda rows: rows.slice(0, N - 2),
    ("impressions", "shown_candidate_share"): partial(put, column="item_id", value="i00"),
    ("impressions", "whole_propensity_share"): partial(put, column="propensity", value=None),
    ("impressions", "from_top_share"): partial(some_of, column="position", value=3, count=6),
    ("impressions", "propensities_not_too_small"): partial(all_of, column="propensity", value=0.01),
    ("impressions", "propensities_have_support"): lambda rows: all_of(all_of(rows, "propensity", 1.0), "position", 1),
    ("impressions", "last_choice_certain"): partial(put, column="propensity", value=0.5),
    ("impressions", "position_taken_once"): partial(put, column="position", value=1),
    ("impressions", "item_shown_once"): partial(put, column="item_id", value="i06"),
    ("clicks", "has_rows"): lambda rows: rows.slice(0, 0),
    ("clicks", "named_impression_share"): partial(all_of, column="impression_id", value=None),
    ("clicks", "known_impression_share"): partial(some_of, column="impression_id", value="x", count=5),
    ("clicks", "clicked_item_share"): partial(put, column="item_id", value="i00"),
    **{
        (t, "has_impression_or_user"): lambda rows: put(put(rows, "impression_id", None), "user_id", None)
        for t in ("clicks", "feedback")
    },
    ("clicks", "not_before_impression"): lambda rows: put(
        rows, "event_time", rows.column("event_time")[ROW].as_py() - timedelta(seconds=9)
    ),
    ("requests", "known_candidate_share"): partial(put, column="candidates", value=["i14", "i15", "i998", "i999"]),
    ("requests", "candidates_once"): partial(put, column="candidates", value=["i14", "i15", "i14"]),
    ("requests", "candidates_fill_slate"): partial(put, column="candidates", value=["i14"]),
    ("requests", "slate_holds_shown"): partial(put, column="slate_size", value=1),
    ("items", "has_rows"): lambda rows: rows.slice(0, 0),
    ("items", "category_share"): partial(all_of, column="category", value=None),
    ("users", "has_rows"): lambda rows: rows.slice(0, 0),
    **{
        (table, "created_at_not_in_future"): lambda rows: put(
            rows, "created_at", rows.column("created_at")[ROW].as_py() + timedelta(days=1)
        )
        for table in SNAPSHOTS
    },
    **{
        (table, "created_at_plausible"): partial(put, column="created_at", value=datetime(1970, 1, 1, tzinfo=UTC))
        for table in SNAPSHOTS
    },
}


def judge(
    suites: Suites, days: dict[date, Tables], max_share: float = 0.05, past: Past = NOTHING
) -> dict[date, dict[str, Verdict]]:
    """All days in one batch, as the stage does it, from memory."""

    def read(table: str, day: date) -> RawDay:
        return RawDay((Part(Path("part-0.parquet"), days[day][table]),), "")

    return dict(verdicts(Rules(suites, max_share, 1), list(days), read, past))
