"""A day that breaks many rules of every suite at once."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from tests.jobs.validate.raw_days import Tables, put, tables_of


def damaged(day: date) -> Tables:
    """Rows of every table that break something, copies and contradictions included."""
    tables = tables_of(day)
    shown = tables["impressions"]
    shown = put(put(put(shown, "position", 0, 1), "propensity", 1.5, 2), "item_id", "null", 3)
    shown = put(put(shown, "impression_id", None, 5), "position", 1, 6)
    late = put(shown, "ingested_at", shown.column("ingested_at")[9].as_py() + timedelta(hours=1), 9)
    other = put(shown, "surface", "search", 10)
    tables["impressions"] = pa.concat_tables([shown, late.slice(9, 1), other.slice(10, 1), shown.slice(11, 2)])
    clicks = put(put(tables["clicks"], "impression_id", None, 0), "impression_id", "unknown", 1)
    clicks = put(clicks, "event_time", clicks.column("event_time")[4].as_py() - timedelta(seconds=9), 4)
    tables["clicks"] = pa.concat_tables([put(clicks, "item_id", "", 2), clicks.slice(3, 1)])
    tables["purchases"] = put(put(tables["purchases"], "value", float("inf"), 3), "user_id", None, 4)
    told = put(put(tables["feedback"], "value", -1.0, 0), "impression_id", "unknown", 1)
    tables["feedback"] = pa.concat_tables([put(told, "outcome", None, 2), told.slice(3, 1)])
    asked = put(put(tables["requests"], "candidates", [], 0), "candidates", ["i01", None, "i01"], 1)
    tables["requests"] = put(asked, "event_time", datetime(2030, 1, 1, tzinfo=UTC), 2)
    tables["items"] = put(put(tables["items"], "price", -1.0, 0), "category", None, 1)
    tables["users"] = pa.concat_tables([tables["users"], tables["users"].slice(0, 1)])
    return tables
