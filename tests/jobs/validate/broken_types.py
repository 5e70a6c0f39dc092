"""Columns of another type: refused by name where a value could change, taken as they are where none can."""

from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from tests.jobs.validate.corruptions import HARMLESS, Corruptions, Outcome, refused, warned
from tests.jobs.validate.raw_days import N

TYPES = Corruptions()


def _needs(column: str, found: str) -> Outcome:
    return refused(rf"needs column {column} of type .*; found type {found}")


TYPES.as_type(
    "impressions",
    "ids are whole numbers",
    "impression_id",
    lambda c: pa.array(range(N)),
    _needs("impression_id", "int64"),
)
TYPES.as_type("clicks", "ids are bytes", "click_id", lambda c: c.cast(pa.binary()), _needs("click_id", "binary"))
TYPES.as_type(
    "users",
    "ids are UUID bytes",
    "user_id",
    lambda c: pa.array([bytes(16)] * N, pa.binary(16)),
    _needs("user_id", r"fixed_size_binary\[16\]"),
)
TYPES.as_type(
    "impressions",
    "times are text",
    "event_time",
    lambda c: pa.array(["2026-01-01T10:00:00Z"] * N),
    _needs("event_time", "string"),
)
TYPES.as_type(
    "clicks",
    "times are epoch seconds",
    "event_time",
    lambda c: pa.array([1767261600] * N),
    _needs("event_time", "int64"),
)
TYPES.as_type(
    "purchases", "times are days", "event_time", lambda c: c.cast(pa.date32()), _needs("event_time", "date32")
)
TYPES.as_type(
    "impressions",
    "times of another clock: time of day",
    "event_time",
    lambda c: pa.array([36_000_000_000] * N, pa.time64("us")),
    _needs("event_time", "time64"),
)
TYPES.as_type(
    "impressions",
    "nanoseconds that do not fit microseconds",
    "event_time",
    lambda c: pa.array([1767261600_000_000_001] * N, pa.timestamp("ns", "UTC")),
    _needs("event_time", "timestamp.* with values that it cannot hold"),
)
TYPES.as_type(
    "impressions",
    "positions are true and false",
    "position",
    lambda c: pa.array([True] * N),
    _needs("position", "bool"),
)
TYPES.as_type(
    "impressions", "positions are text", "position", lambda c: pa.array(["1"] * N), _needs("position", "string")
)
TYPES.as_type(
    "impressions",
    "positions are halves",
    "position",
    lambda c: pa.array([1.5] * N),
    _needs("position", "double with values that it cannot hold"),
)
TYPES.as_type(
    "impressions",
    "positions beyond 32 bits",
    "position",
    lambda c: pa.array([2**31] * N),
    _needs("position", "int64 with values that it cannot hold"),
)
TYPES.as_type(
    "impressions",
    "propensities are text",
    "propensity",
    lambda c: pa.array(["0.5"] * N),
    _needs("propensity", "string"),
)
TYPES.as_type(
    "impressions", "the user is a struct", "user_id", lambda c: pa.array([{"id": "u"}] * N), _needs("user_id", "struct")
)
TYPES.as_type(
    "impressions", "the item is a list", "item_id", lambda c: pa.array([["i"]] * N), _needs("item_id", "list")
)
TYPES.as_type(
    "impressions",
    "the surface is a dictionary of numbers",
    "surface",
    lambda c: pa.array([1] * N).dictionary_encode(),
    _needs("surface", "int64"),
)
TYPES.as_type(
    "items", "prices are decimals", "price", lambda c: pa.array([Decimal("9.50")] * N), _needs("price", "decimal128")
)
TYPES.as_type("items", "prices are text", "price", lambda c: pa.array(["9.50"] * N), _needs("price", "string"))
TYPES.as_type(
    "items",
    "vectors are lists of text",
    "feature_vector",
    lambda c: pa.array([["0.5", "0.1"]] * N),
    _needs("feature_vector", r"list<\w+: string>"),
)
TYPES.as_type(
    "purchases",
    "values are text with a currency",
    "value",
    lambda c: pa.array(["9.50 EUR"] * N),
    _needs("value", "string"),
)
TYPES.as_type(
    "requests",
    "candidates are JSON text",
    "candidates",
    lambda c: pa.array(['["i00"]'] * N),
    _needs("candidates", "string"),
)
TYPES.as_type(
    "requests", "candidates are numbers", "candidates", lambda c: pa.array([[1, 2]] * N), _needs("candidates", "list")
)
TYPES.as_type(
    "requests",
    "candidates are structs",
    "candidates",
    lambda c: pa.array([[{"item": "i00"}]] * N),
    _needs("candidates", "list"),
)
TYPES.as_type(
    "users",
    "ids are UUIDs",
    "user_id",
    lambda c: pa.array([bytes(16)] * N, pa.uuid()),
    _needs("user_id", r"extension<arrow\.uuid>"),
)
TYPES.as_type(
    "impressions",
    "searched by one person, who typed a number",
    "query",
    lambda c: pa.array([None] * (N - 1) + [7.5]),
    _needs("query", "double"),
)
BYTES = [bytes([200, n]) * 8 for n in range(N)]
for kind, values in {
    "a UUID": pa.array(BYTES, pa.uuid()),
    "bytes of a fixed size": pa.array(BYTES, pa.binary(16)),
    "bytes": pa.array(BYTES, pa.binary()),
    "a view of bytes": pa.array(BYTES, pa.binary_view()),
    "large bytes": pa.array(BYTES, pa.large_binary()),
    "bytes that happen to be text": pa.array([b"text"] * N, pa.binary()),
    "a dictionary of bytes": pa.array(BYTES, pa.binary()).dictionary_encode(),
    "JSON": pa.array(["{}"] * N, pa.json_()),
    "a struct": pa.array([{"a": 1}] * N),
    "a map": pa.array([[("a", "b")]] * N, pa.map_(pa.string(), pa.string())),
}.items():
    TYPES.rows_of(
        "items",
        f"a feature is {kind}",
        lambda rows, v=values: rows.append_column("feature_x", v),
        warned("columns_known"),
    )
MISSING = {
    "a double (pandas)": pa.array([float("nan")] * N),
    "of no type": pa.nulls(N),
    "whole numbers": pa.nulls(N, pa.int64()),
    "bytes": pa.nulls(N, pa.binary()),
    "a dictionary": pa.nulls(N, pa.dictionary(pa.int32(), pa.int64())),
    "a UUID": pa.nulls(N, pa.uuid()),
    "a struct": pa.nulls(N, pa.struct([("a", pa.int32())])),
}
for kind, values in MISSING.items():
    TYPES.as_type("impressions", f"nobody searched, and the query is {kind}", "query", lambda c, v=values: v, HARMLESS)
TYPES.as_type("impressions", "ids as large strings", "impression_id", lambda c: c.cast(pa.large_string()), HARMLESS)
TYPES.as_type("impressions", "surfaces as a dictionary", "surface", lambda c: c.dictionary_encode(), HARMLESS)
TYPES.as_type("impressions", "positions as unsigned bytes", "position", lambda c: c.cast(pa.uint8()), HARMLESS)
TYPES.as_type("impressions", "positions as floats that are whole", "position", lambda c: c.cast(pa.float64()), HARMLESS)
TYPES.as_type("impressions", "propensities as half floats", "propensity", lambda c: c.cast(pa.float16()), HARMLESS)
TYPES.as_type(
    "items", "vectors of single precision", "feature_vector", lambda c: c.cast(pa.list_(pa.float32())), HARMLESS
)
TYPES.as_type("clicks", "times in milliseconds", "event_time", lambda c: c.cast(pa.timestamp("ms", "UTC")), HARMLESS)
TYPES.as_type(
    "clicks",
    "times in nanoseconds of another zone",
    "event_time",
    lambda c: c.cast(pa.timestamp("ns", "Asia/Tokyo")),
    HARMLESS,
)
TYPES.as_type("clicks", "times without a zone, in UTC", "event_time", lambda c: c.cast(pa.timestamp("us")), HARMLESS)
TYPES.as_type(
    "clicks",
    "times without a zone, an hour ahead",
    "event_time",
    lambda c: pc.add(c, pa.scalar(timedelta(hours=1))).cast(pa.timestamp("us")),
    warned("ingested_at_not_before_event_time"),
)
TYPES.as_type(
    "clicks",
    "times without a zone, an hour behind",
    "event_time",
    lambda c: pc.subtract(c, pa.scalar(timedelta(hours=1))).cast(pa.timestamp("us")),
    warned("not_before_impression"),
)
