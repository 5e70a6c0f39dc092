"""`jobs.attribute.core`, step by step in hash buckets of each step's own key; the same rows as on one machine.

Two jobs, however many days: one finds the impression that each event names and which events ask for another; the other
finds those and writes the labels. Impressions are sent once, and each step reads their bucket where it lies.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from jobs.attribute import core
from jobs.attribute.told import Told, by_day, in_order, put
from jobs.config import AttributionSettings
from jobs.lake.tables import LAKE, STR
from jobs.parcels.core import Hashes, Pair, key_hashes
from jobs.parcels.spark import Out, Rows, Steps, pieces
from jobs.places import Place

BY_IMPRESSION = ("impression_id",)
BY_SHOWN = ("shown_id",)
BY_BUYER = Pair(("user_id", "shown_user_id", "click_id"), "item_id")
"""Whose impression it is, where nobody is named; who is known by neither meets nobody and is spread by the click."""
BY_PURCHASE = Pair(("user_id", "purchase_id"), "item_id")
BY_VIEWER = Pair(("user_id", "impression_id"), "item_id")
OTHERS = {
    table: pa.schema([(name, LAKE[table].schema.field(name).type) for name in core.LOOKED_AT[table]])
    for table in ("clicks", "purchases", "feedback")
}
ASKING = 200_000
"""So many pairs of user and item that ask for an impression are told to every worker, by their hashes; for more of them
all impressions are sent to their users."""


def write_labels(
    spark: SparkSession,
    events: Mapping[str, list[str]],
    days: Sequence[str],
    published: Sequence[str],
    settings: AttributionSettings,
    outcomes: core.Outcomes,
    buckets: int,
    folder: Place,
    most_asking: int = ASKING,
) -> Told:
    """Write the labels of `days` as `folder/day=…/part-….parquet`, a file a bucket, each in the core's order.

    `events` names the part files of the event tables, `feedback` where a further outcome is declared, and `labels`
    those that are published, of the days `published`; of `most_asking` see `ASKING`. Raises `Refused` for a file that
    is no part of a table.
    """
    steps, rules = Steps(spark, buckets), settings
    impressions, matched, fed, bought = _named(steps, events, rules, outcomes)
    asking = _all(steps.told([matched, fed], partial(_asking, most=most_asking // buckets)))
    shown = steps.send(impressions.schema.empty_table(), BY_VIEWER)
    if asking is None or len(asking):
        find = partial(_shown_to, settings=rules, asking=asking)
        [shown] = steps.joint([impressions], find, [Out(impressions.schema, BY_VIEWER)])
    earned, counted = steps.joint(
        [matched, fed, bought, shown],
        partial(_credits, settings=rules, outcomes=outcomes),
        [Out(core.CREDITS, BY_SHOWN), Out(core.COUNTED, ("day",))],
    )
    there = steps.parts(events["labels"], "labels", LAKE["labels"].schema.names, BY_IMPRESSION)
    write = partial(_written, days=days, published=published, settings=rules, outcomes=outcomes, folder=folder)
    return Told.whole(steps.told([impressions, earned, counted, there], write))


def _named(
    steps: Steps, events: Mapping[str, list[str]], settings: AttributionSettings, outcomes: core.Outcomes
) -> tuple[Rows, Rows, Rows, Rows]:
    """Impressions as they are; of the others each event once, clicks and feedback with the impressions they name."""
    impressions = steps.parts(events["impressions"], "impressions", core.LOOKED_AT["impressions"], BY_IMPRESSION)
    outs = [Out(schema, LAKE[table].key) for table, schema in OTHERS.items()]
    others = steps.work([(table, path) for table in OTHERS for path in events.get(table, ())], _other, outs)
    clicks, bought, feedback = steps.joint(
        others,
        partial(_unique, settings=settings),
        [
            Out(others[0].schema, ("impression_id", "click_id")),
            Out(others[1].schema, BY_PURCHASE),
            Out(others[2].schema, ("impression_id", "feedback_id")),
        ],
    )
    matched, fed = steps.joint(
        [impressions, clicks, feedback],
        partial(_with_named, settings=settings, outcomes=outcomes),
        [Out(core.MATCHED, BY_BUYER), Out(core.FED, BY_BUYER)],
    )
    return impressions, matched, fed, bought


def _other(file: tuple[str, str]) -> Iterator[list[pa.Table]]:
    """A part file's rows on the side of its table."""
    of, path = file
    for rows in pieces(path, of, core.LOOKED_AT[of]):
        yield [rows if table == of else schema.empty_table() for table, schema in OTHERS.items()]


def _unique(
    clicks: pa.Table, purchases: pa.Table, feedback: pa.Table, settings: AttributionSettings
) -> tuple[pa.Table, ...]:
    tables = {"clicks": clicks, "purchases": purchases, "feedback": feedback}
    return tuple(core.unique(rows, table, settings) for table, rows in tables.items())


def _with_named(
    impressions: pa.Table,
    clicks: pa.Table,
    feedback: pa.Table,
    settings: AttributionSettings,
    outcomes: core.Outcomes,
) -> tuple[pa.Table, ...]:
    # All copies of those that are named; of the others nobody asks here.
    named = pc.unique(pa.chunked_array([*clicks["impression_id"].chunks, *feedback["impression_id"].chunks], STR))
    impressions = impressions.filter(pc.is_in(impressions["impression_id"], named))
    seen = core.unique(impressions, "impressions", settings)
    return (
        core.named_impression(clicks, seen, settings),
        core.named_feedback(feedback, seen, settings, outcomes),
    )


def _asking(_bucket: int, matched: pa.Table, fed: pa.Table, most: int) -> Hashes | None:
    """The users and items whose latest impression is asked for, by their hashes; None for more than `most`."""
    found = np.unique(np.concatenate([_pairs(core.asking(matched)), _pairs(core.asking(fed))]))
    return None if len(found) > most else found


def _all(asking: Sequence[Hashes | None]) -> Hashes | None:
    some = [part for part in asking if part is not None]
    return None if len(some) < len(asking) else np.concatenate([np.zeros(0, np.uint64), *some])


def _pairs(rows: pa.Table) -> Hashes:
    return key_hashes(rows, Pair(("user_id",), "item_id"))


def _shown_to(impressions: pa.Table, settings: AttributionSettings, asking: Hashes | None) -> list[pa.Table]:
    """The impressions of who asks, and perhaps of a few others: nobody finds another's."""
    seen = core.unique(impressions, "impressions", settings)
    known = seen if asking is None else seen.filter(pc.is_in(pa.array(_pairs(seen)), pa.array(asking)))
    return [known.filter(known.column("user_id").is_valid())]


def _credits(
    matched: pa.Table,
    fed: pa.Table,
    purchases: pa.Table,
    shown: pa.Table,
    settings: AttributionSettings,
    outcomes: core.Outcomes,
) -> tuple[pa.Table, pa.Table]:
    """What is credited to impressions, and `core.COUNTED` of all there is."""
    earned = core.credits(purchases, core.latest_impression(matched, shown, settings), settings)
    if outcomes:
        further = core.feedback_credits(core.latest_feedback(fed, shown, settings, outcomes))
        earned = pa.concat_tables([earned, further])
    return earned.filter(earned.column("shown_id").is_valid()), core.counted(earned)


def _written(
    bucket: int,
    impressions: pa.Table,
    earned: pa.Table,
    counted: pa.Table,
    there: pa.Table,
    days: Sequence[str],
    published: Sequence[str],
    settings: AttributionSettings,
    outcomes: core.Outcomes,
    folder: Place,
) -> Told:
    """The labels of one bucket of impressions, a part file a day; a task that runs twice writes the same."""
    seen = core.unique(impressions, "impressions", settings)
    found = by_day(core.labels(seen, earned, settings, outcomes), days)
    for day, rows in found.items():
        if len(rows):
            put(rows, folder / f"day={day}" / f"part-{bucket:05d}.parquet")
    return Told.of(found, by_day(in_order(there), published), counted, outcomes)
