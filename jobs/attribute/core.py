"""Which impression earned which click, and which click earned which purchase. Complete on one machine: the oracle.

Five steps; each needs together only the rows that share the key named with it, so `spark` runs these very functions in
hash buckets of that key:

    first_known            copies of an event count once                  (its own id)
    named_impression       a click finds the impression it names          (impression_id)
    latest_impression      else the user's latest of that item            (user_id, item_id)
    credits                a purchase pays the user's latest click on it  (user_id, item_id)
    labels                 one row per impression, with its credits       (impression_id)

So far the only rule is last click; `first_click`, `linear` and `time_decay` share out 1.0 and come later. A late click
can take over a purchase (or a late impression a click) that an earlier one was paid for: the rule is about what
happened, the `*_known_at` columns about when the outcome was known. Copies of an id are told among the days given: one
on days further apart than a run reads counts on each.
"""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.core import ABSENT, Indices, first_known, latest, take
from jobs.config import AttributionSettings
from jobs.tables import LAKE, STR, TIME

COLUMNS = {
    "impressions": ("impression_id", "request_id", "event_time", "ingested_at", "user_id", "item_id"),
    "clicks": ("click_id", "impression_id", "event_time", "ingested_at", "user_id", "item_id"),
    "purchases": ("purchase_id", "event_time", "ingested_at", "user_id", "item_id", "value"),
}
"""What attribution looks at."""
SHOWN = {"shown_id": STR, "shown_at": TIME, "shown_known_at": TIME, "shown_user_id": STR}
"""What a click knows of its impression: id, time, when it was known, whose; null where it has none."""
MATCHED = pa.schema([*((name, LAKE["clicks"].columns[name].type) for name in COLUMNS["clicks"]), *SHOWN.items()])
"""Clicks with their impression."""
CREDITS = pa.schema(
    [
        ("kind", STR),  # click, purchase
        ("event_time", TIME),
        ("ingested_at", TIME),
        ("shown_id", STR),  # the impression that earned it
        ("paid", pa.bool_()),  # a purchase that has a click; every click
        ("click_known_at", TIME),
        ("conversion_known_at", TIME),
        ("value", pa.float64()),
    ]
)
"""One row per click and per purchase: the impression it is credited to (null: none is known), and from when."""


COUNTED = pa.schema(
    [
        ("day", STR),
        *((n, pa.int64()) for n in ("clicks", "clicks_without_impression", "attributed", "unattributed", "late")),
    ]
)
"""Per day of the event, copies excluded; `late`: known only after that day."""


def attribute(
    impressions: pa.Table, clicks: pa.Table, purchases: pa.Table, settings: AttributionSettings
) -> tuple[pa.Table, pa.Table]:
    """The `labels` rows of all impressions given, by event time and id, and the `CREDITS`: every step at once."""
    seen = first_known(impressions.select(COLUMNS["impressions"]), "impression_id")
    matched = named_impression(first_known(clicks.select(COLUMNS["clicks"]), "click_id"), seen, settings)
    matched = latest_impression(matched, seen, settings)
    earned = credits(first_known(purchases.select(COLUMNS["purchases"]), "purchase_id"), matched, settings)
    return labels(seen, earned, settings), earned


def named_impression(clicks: pa.Table, impressions: pa.Table, settings: AttributionSettings) -> pa.Table:
    """`MATCHED`: each click with the impression it names, if that was within a click window of it.

    Either side of it, since two loggers' clocks differ; beyond it the name counts as unknown: until
    `click_matures_at` every click must be known, and a rerun that reads fewer days must not decide otherwise.
    """
    ids = impressions.column("impression_id").combine_chunks()
    rows = pc.fill_null(pc.index_in(clicks.column("impression_id"), ids, skip_nulls=True), ABSENT)
    found = np.asarray(rows.to_numpy(), dtype=np.int64)
    shown = _microseconds(take(impressions.select(["event_time"]), found).column("event_time"))
    apart = np.abs(_microseconds(clicks.column("event_time")) - shown)
    found[apart >= _us(settings.click_window_days)] = ABSENT
    return _with_shown(clicks, impressions, found)


def latest_impression(matched: pa.Table, impressions: pa.Table, settings: AttributionSettings) -> pa.Table:
    """`MATCHED`: clicks without an impression get the latest of their user and item, `shown <= click < shown + window`.

    Ties go to the larger `impression_id`. A click of an unknown user stays without.
    """
    orphan = matched.column("shown_id").is_null()
    clicks = matched.filter(orphan).select(COLUMNS["clicks"])
    if not len(clicks):
        return matched
    found = latest(clicks, impressions, keys=("user_id", "item_id"), tie="impression_id")
    found = _within(clicks, impressions, found, settings.click_window_days)
    return pa.concat_tables([matched.filter(pc.invert(orphan)), _with_shown(clicks, impressions, found)])


def credits(purchases: pa.Table, matched: pa.Table, settings: AttributionSettings) -> pa.Table:
    """`CREDITS`: every click, credited to its impression, and every purchase, credited to that of its last click."""
    clicks = _clicked(matched)
    found = last_click(purchases, clicks, settings)
    click = take(clicks.select(["shown_id", "known_at"]), found)
    bought_known = _later(purchases.column("ingested_at"), click.column("known_at"))
    value = pc.fill_null(purchases.column("value"), 0.0)
    clicks_part = {
        "kind": pa.array(["click"] * len(clicks), STR),
        **{name: clicks.column(name) for name in ("event_time", "ingested_at", "shown_id")},
        "paid": pa.array(np.ones(len(clicks), bool)),
        "click_known_at": clicks.column("known_at"),
        "conversion_known_at": pa.nulls(len(clicks), TIME),
        "value": pa.nulls(len(clicks), pa.float64()),
    }
    purchases_part = {
        "kind": pa.array(["purchase"] * len(purchases), STR),
        **{name: purchases.column(name) for name in ("event_time", "ingested_at")},
        "shown_id": click.column("shown_id"),
        "paid": pa.array(found != ABSENT),
        "click_known_at": pa.nulls(len(purchases), TIME),
        "conversion_known_at": bought_known,
        "value": value,
    }
    return pa.concat_tables([pa.table(part, schema=CREDITS) for part in (clicks_part, purchases_part)])


def last_click(purchases: pa.Table, clicks: pa.Table, settings: AttributionSettings) -> Indices:
    """Each purchase's row of `clicks`: its user's latest on its item, `click <= purchase < click + window`; else -1.

    Ties go to the larger `click_id`. The click pays whether or not its impression is known.
    """
    found = latest(purchases, clicks, keys=("user_id", "item_id"), tie="click_id")
    return _within(purchases, clicks, found, settings.window_days)


def _clicked(matched: pa.Table) -> pa.Table:
    """Clicks as a purchase sees them: an anonymous one is its impression's user's; `known_at` once both are known."""
    known_at = _later(matched.column("ingested_at"), matched.column("shown_known_at"))
    user = pc.coalesce(matched.column("user_id"), matched.column("shown_user_id"))
    clicks = matched.select(["click_id", "item_id", "event_time", "ingested_at", "shown_id"])
    return clicks.append_column("user_id", user).append_column("known_at", known_at)


def labels(impressions: pa.Table, earned: pa.Table, settings: AttributionSettings) -> pa.Table:
    """The `labels` rows of unique `impressions`: an outcome is known from its first known event on.

    `conversion_value` sums all conversions of the impression, 0 where there is none or no value was logged.
    """
    # Sorted, because a float sum depends on its order.
    earned = earned.filter(earned.column("shown_id").is_valid()).sort_by(
        [(name, "ascending") for name in ("shown_id", "conversion_known_at", "value")]
    )
    totals = pa.TableGroupBy(earned, "shown_id", use_threads=False).aggregate(
        [("click_known_at", "min"), ("conversion_known_at", "min"), ("value", "sum")]
    )
    rows = pc.index_in(impressions.column("impression_id"), totals.column("shown_id").combine_chunks())
    mine = take(totals, np.asarray(pc.fill_null(rows, ABSENT).to_numpy(), dtype=np.int64))
    shown = impressions.column("event_time")
    click_known, conversion_known = mine.column("click_known_at_min"), mine.column("conversion_known_at_min")
    window = settings.click_window_days + settings.window_days
    columns = {
        **{name: impressions.column(name) for name in COLUMNS["impressions"] if name != "ingested_at"},
        "known_at": impressions.column("ingested_at"),
        "clicked": click_known.is_valid(),
        "click_known_at": click_known,
        "click_matures_at": pc.add(shown, timedelta(days=settings.click_window_days)),
        "converted": conversion_known.is_valid(),
        "conversion_known_at": conversion_known,
        "conversion_value": pc.fill_null(mine.column("value_sum"), 0.0),
        "matures_at": pc.add(shown, timedelta(days=window)),
    }
    schema = LAKE["labels"].schema
    table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
    return table.sort_by([("event_time", "ascending"), ("impression_id", "ascending")])


def counted(earned: pa.Table) -> pa.Table:
    """`COUNTED`: what happened to the clicks and purchases of each day; counts of parts add up."""
    click = pc.equal(earned.column("kind"), "click")
    credited, paid = earned.column("shown_id").is_valid(), earned.column("paid")
    late = pc.greater(pc.days_between(earned.column("event_time"), earned.column("ingested_at")), 0)
    flags = {
        "clicks": click,
        "clicks_without_impression": pc.and_(click, pc.invert(credited)),
        "attributed": pc.and_(pc.invert(click), paid),
        "unattributed": pc.and_(pc.invert(click), pc.invert(paid)),
        "late": late,
    }
    day = pc.strftime(earned.column("event_time"), "%Y-%m-%d")
    table = pa.table({"day": day, **{name: flag.cast(pa.int64()) for name, flag in flags.items()}})
    totals = table.group_by("day").aggregate([(name, "sum") for name in flags])
    return pa.Table.from_arrays([totals.column("day"), *(totals.column(f"{n}_sum") for n in flags)], schema=COUNTED)


def _with_shown(clicks: pa.Table, impressions: pa.Table, found: Indices) -> pa.Table:
    shown = take(impressions.select(["impression_id", "event_time", "ingested_at", "user_id"]), found)
    return pa.Table.from_arrays([*clicks.select(COLUMNS["clicks"]).columns, *shown.columns], schema=MATCHED)


def _within(left: pa.Table, right: pa.Table, found: Indices, days: int) -> Indices:
    """`found` where the left event came less than `days` after the right one."""
    since = _microseconds(take(right.select(["event_time"]), found).column("event_time"))
    return np.where(_microseconds(left.column("event_time")) - since < _us(days), found, ABSENT)


def _later(one: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    """The later of two times, `one` where the other is null."""
    return pc.if_else(pc.fill_null(pc.greater(other, one), False), other, one)


def _microseconds(column: pa.ChunkedArray) -> Indices:
    return np.asarray(pc.fill_null(column.cast(TIME).cast(pa.int64()), 0).to_numpy(), dtype=np.int64)


def _us(days: int) -> int:
    return days * 86_400_000_000
