"""What a label says as of a time. Every reader of `labels` asks here, so that no reader looks ahead of its own cut."""

from datetime import datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.lake.tables import TIME

Outcome = Literal["clicked", "converted"]
MATURES = {"clicked": "click_matures_at", "converted": "matures_at"}
PREFIX = {"clicked": "click", "converted": "conversion"}


def told_by(outcome: Outcome) -> tuple[str, ...]:
    """The columns of `labels` that tell an outcome as of any time."""
    prefix = PREFIX[outcome]
    return (outcome, f"{prefix}_known_at", f"{prefix}_superseded", MATURES[outcome])


def so_far(labels: pa.Table, outcome: Outcome, cut: datetime) -> pa.ChunkedArray:
    """Whether the outcome was known before `cut`, (n,) without nulls: False where there is no label."""
    happened, known_at, superseded, _ = (labels.column(name) for name in told_by(outcome))
    at = pa.scalar(cut, TIME)
    for_good = pc.and_(happened, pc.less(known_at, at))
    lists = superseded.combine_chunks()
    entries = lists.flatten()
    held = pc.and_(pc.less(entries.field("known_at"), at), pc.less_equal(at, entries.field("until")))
    then = np.zeros(len(labels), bool)
    then[pc.list_parent_indices(lists).filter(held).to_numpy()] = True
    return pc.or_(pc.fill_null(for_good, False), pa.chunked_array([pa.array(then)]))


def as_known(labels: pa.Table, outcome: Outcome, cut: datetime) -> pa.ChunkedArray:
    """True where the outcome was known before `cut`, else False from its maturity on, and null (unknown) before it.

    It is what a run of `attribute` with only the rows ingested before `cut` would have led to, whatever came later.
    Also null where there is no label.
    """
    mature = pc.less_equal(labels.column(MATURES[outcome]), pa.scalar(cut, TIME))
    unknown = pa.scalar(None, pa.bool_())
    return pc.if_else(so_far(labels, outcome, cut), True, pc.if_else(pc.fill_null(mature, False), False, unknown))


def with_clicks(impressions: pa.Table, labels: pa.Table, cut: datetime) -> pa.Table:
    """The impressions that have a label, with `clicked` (as known before `cut`) and `click_matures_at`."""
    at = pc.index_in(impressions["impression_id"], labels["impression_id"]).combine_chunks()
    columns = {"clicked": so_far(labels, "clicked", cut), "click_matures_at": labels["click_matures_at"]}
    found = impressions
    for name, column in columns.items():
        found = found.append_column(name, column.combine_chunks().take(at))
    return found.filter(found["clicked"].is_valid())


def immature_note(shown: pa.Table, cut: Any) -> str:
    """What share of the clicks may still come after `cut`; both arms had the same time."""
    open_share = pc.mean(pc.cast(pc.greater(shown["click_matures_at"], pa.scalar(cut)), pa.float64())).as_py() or 0.0
    return f"clicks so far: {open_share:.0%} of impressions are inside their click window" if open_share else ""
