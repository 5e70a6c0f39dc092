"""Values that cannot be, cannot be meant, or do not fit what other rows and tables say."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from jobs.lake.tables import EVENTS
from tests.jobs.validate.corruptions import HARMLESS, ROW, Corruptions, aside, refused, warned
from tests.jobs.validate.raw_days import FIRST, N, put, retyped

VALUES = Corruptions()
AT = datetime(FIRST.year, FIRST.month, FIRST.day, 10, tzinfo=UTC)
for bad, value in {
    "negative": -0.2,
    "zero": 0.0,
    "above one": 1.5,
    "infinite": float("inf"),
    "in percent": 25.0,
}.items():
    VALUES.one_value("impressions", f"propensity {bad}", "propensity", value, aside("propensity_in_unit_interval"))
VALUES.one_value("impressions", "propensity NaN", "propensity", float("nan"), warned("propensity_share"))
VALUES.rows_of(
    "impressions",
    "no propensity at all",
    lambda rows: retyped(rows, "propensity", pa.nulls(N)),
    warned("propensity_share"),
)
VALUES.rows_of(
    "impressions",
    "propensities of every second place only",
    lambda rows: retyped(rows, "propensity", pa.array([0.5, None] * (N // 2))),
    warned("whole_propensity_share"),
)
VALUES.rows_of(
    "impressions",
    "propensities of the whole slate",
    lambda rows: retyped(rows, "propensity", pa.array([0.5] * N)),
    warned("last_choice_certain"),
)
VALUES.rows_of(
    "impressions",
    "propensities divided by the catalogue",
    lambda rows: retyped(rows, "propensity", pa.array([0.001] * N)),
    warned("propensities_not_too_small"),
)
VALUES.rows_of(
    "impressions",
    "certain choices a rounding above one",
    lambda rows: retyped(rows, "propensity", pa.array([0.5, 1.0000001192092896] * (N // 2))),
    HARMLESS,
)
VALUES.one_value("impressions", "position zero", "position", 0, aside("position_from_one"))
VALUES.one_value("impressions", "position negative", "position", -3, aside("position_from_one"))
VALUES.one_value("impressions", "position huge", "position", 2**31 - 1, warned("position_plausible"))
VALUES.one_value("impressions", "two items at one position", "position", 1, warned("position_taken_once"))
VALUES.rows_of(
    "impressions",
    "positions counted from the second row of the page",
    lambda rows: retyped(rows, "position", pc.add(rows.column("position"), 1).cast(pa.int32())),
    warned("from_top_share"),
)
VALUES.as_type(
    "impressions",
    "positions NaN",
    "position",
    lambda c: pa.array([float("nan") if n == ROW else float(v) for n, v in enumerate(c.to_pylist())]),
    aside("position_present"),
)
VALUES.one_value("impressions", "an item twice on one page", "item_id", "i06", warned("item_shown_once"))
VALUES.one_value("impressions", "a request nobody logged", "request_id", "r999", warned("known_request_share"))
VALUES.one_value("impressions", "an item that is not in the catalogue", "item_id", "i999", warned("known_item_share"))
VALUES.one_value("impressions", "a Cyrillic letter that looks Latin", "item_id", "\u045607", warned("known_item_share"))
for column in ("impression_id", "request_id", "item_id", "surface", "policy"):
    VALUES.one_value("impressions", f"{column} null", column, None, aside(f"{column}_present"))
VALUES.one_value("impressions", "id empty", "impression_id", "", aside("impression_id_real"))
VALUES.one_value("impressions", "user is the word null", "user_id", "null", aside("user_id_real"))
VALUES.one_value("impressions", "id with a space after it", "impression_id", "i01-07 ", aside("impression_id_tidy"))
VALUES.one_value("impressions", "id of spaces", "impression_id", "   ", aside("impression_id_tidy"))
VALUES.one_value("impressions", "id with a line break", "item_id", "i07\n", aside("item_id_tidy"))
VALUES.one_value("impressions", "id with a zero byte", "item_id", "i07\x00", aside("item_id_tidy"))
VALUES.one_value("impressions", "id with a zero-width space", "item_id", "i\u200b07", aside("item_id_tidy"))
VALUES.one_value("impressions", "id with a byte order mark", "user_id", "\ufeffu07", aside("user_id_tidy"))
VALUES.one_value("impressions", "id of ten megabytes", "impression_id", "x" * 10_000_000, aside("impression_id_short"))
VALUES.one_value("impressions", "query of ten megabytes", "query", "x" * 10_000_000, aside("query_short"))
VALUES.rows_of(
    "impressions",
    "context of a megabyte",
    lambda rows: rows.append_column("context_page", pa.array(["x" * 1_000_000 if n == ROW else "x" for n in range(N)])),
    aside("attributes_short"),
)
VALUES.one_value("items", "title of ten megabytes", "title", "x" * 10_000_000, aside("title_short"))
for table in EVENTS:
    VALUES.one_value(table, "event of tomorrow", "event_time", AT + timedelta(days=1), aside("event_time_in_partition"))
    VALUES.one_value(
        table, "event of yesterday", "event_time", AT - timedelta(days=1), aside("event_time_in_partition")
    )
VALUES.one_value(
    "clicks", "event of 1970", "event_time", datetime(1970, 1, 1, tzinfo=UTC), aside("event_time_in_partition")
)
VALUES.one_value(
    "clicks",
    "event of the year 9999",
    "event_time",
    datetime(9999, 12, 31, tzinfo=UTC),
    aside("event_time_in_partition"),
)
VALUES.as_type(
    "clicks",
    "event beyond every calendar",
    "event_time",
    lambda c: pa.array([2**63 - 1 if n == ROW else v for n, v in enumerate(c.cast(pa.int64()).to_pylist())]).cast(
        c.type
    ),
    aside("event_time_in_partition"),
)
VALUES.one_value("clicks", "event time null", "event_time", None, aside("event_time_present"))
VALUES.rows_of(
    "impressions",
    "the whole file of another day",
    lambda rows: retyped(rows, "event_time", pc.add(rows.column("event_time"), pa.scalar(timedelta(days=1)))),
    refused("found 40 of 40 bad: event_time_in_partition"),
)
VALUES.one_value(
    "clicks", "known in 1970", "ingested_at", datetime(1970, 1, 1, tzinfo=UTC), aside("ingested_at_believable")
)
VALUES.one_value(
    "clicks",
    "known in the year 9999",
    "ingested_at",
    datetime(9999, 12, 31, tzinfo=UTC),
    aside("ingested_at_believable"),
)
VALUES.one_value("clicks", "known two months later", "ingested_at", AT + timedelta(days=60), warned("ingested_at_soon"))
VALUES.one_value("clicks", "click before its impression", "event_time", AT, warned("not_before_impression"))
VALUES.one_value("clicks", "click on another item than shown", "item_id", "i00", warned("clicked_item_share"))
VALUES.rows_of(
    "clicks",
    "a few clicks on unknown impressions",
    lambda rows: retyped(rows, "impression_id", pa.array(["x"] * 5 + rows.column("impression_id").to_pylist()[5:])),
    warned("known_impression_share"),
)
VALUES.rows_of(
    "clicks",
    "all clicks on unknown impressions",
    lambda rows: retyped(rows, "impression_id", pa.array(["x"] * N)),
    refused("at least half of the named impressions known; found known_impression_share 0"),
)
VALUES.rows_of(
    "clicks",
    "clicks joined one row off",
    lambda rows: retyped(rows, "impression_id", pa.array([*rows.column("impression_id").to_pylist()[1:], "i01-00"])),
    refused("found clicked_item_share 0"),
)
VALUES.one_value("clicks", "no item", "item_id", None, aside("item_id_present"))
VALUES.rows_of(
    "clicks",
    "neither impression nor user",
    lambda rows: put(put(rows, "user_id", None), "impression_id", None),
    warned("has_impression_or_user"),
)
VALUES.one_value("purchases", "no user", "user_id", None, aside("user_id_present"))
VALUES.one_value("purchases", "value negative", "value", -9.5, aside("value_not_negative"))
VALUES.one_value("purchases", "value infinite", "value", float("inf"), aside("value_not_negative"))
VALUES.one_value("purchases", "value of a whole economy", "value", 1e300, aside("value_not_negative"))
VALUES.one_value("items", "price negative", "price", -0.01, aside("price_not_negative"))
VALUES.one_value("items", "price minus infinity", "price", float("-inf"), aside("price_not_negative"))
VALUES.one_value(
    "items", "made in 1970", "created_at", datetime(1970, 1, 1, tzinfo=UTC), warned("created_at_plausible")
)
VALUES.one_value(
    "items", "made in the year 9999", "created_at", datetime(9999, 12, 31, tzinfo=UTC), aside("created_at_believable")
)
VALUES.one_value("users", "signs up tomorrow", "created_at", AT + timedelta(days=1), warned("created_at_not_in_future"))
VALUES.one_value("requests", "candidates null", "candidates", None, aside("candidates_present"))
VALUES.one_value("requests", "candidates empty", "candidates", [], aside("has_candidates"))
VALUES.one_value("requests", "a null among the candidates", "candidates", ["i14", None], aside("candidates_real"))
VALUES.one_value("requests", "an empty candidate", "candidates", ["i14", ""], aside("candidates_real"))
VALUES.one_value("requests", "candidates twice", "candidates", ["i14", "i15", "i14"], warned("candidates_once"))
VALUES.one_value(
    "requests", "candidates without what was shown", "candidates", ["i01", "i02"], warned("shown_candidate_share")
)
VALUES.one_value("requests", "slate size zero", "slate_size", 0, aside("slate_size_positive"))
VALUES.one_value("requests", "slate size negative", "slate_size", -1, aside("slate_size_positive"))
VALUES.one_value("requests", "slate size below what was shown", "slate_size", 1, warned("slate_holds_shown"))
VALUES.one_value("requests", "slate size above the candidates", "slate_size", 50, warned("candidates_fill_slate"))
