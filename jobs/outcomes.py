"""What a label says as of a time, and from when on that is final. Every reader of `labels` asks here.

So no reader looks ahead of its own cut, and none learns from a label that may still change. An outcome is *open* until
nothing that may still come can change it, and then *closed*. While it is open, what it says is unknown, whatever has
been heard already: a yes can be known early, a no never, and who keeps the one and drops the other learns too much.
Training may learn from open conversions all the same, by `heard_at` and their age, never as an answer.

    converted   closes at the midnight after the last day its purchase can be heard of. A purchase counts up to
                `window` after its click, and that up to `click_window` after its impression: this is the label's
                `matures_at`. And it may come `late_days` after its own day.
    clicked     closes at `click_matures_at`, `click_window` after its impression; late clicks are not waited for.
    further     closes as a click does, its own `window` after its impression; where it counts only of clicked
                impressions, not before these are closed. A value is then the sum of its events' values.

Clicks of the newest days are what a dataset is for: waiting for those that come late would make every dataset
`late_days` older. The embargo of a dataset is its click window, so all its clicks are closed, and its train days are
older than late clicks can be unless `validate_days + test_days` is less than `late_days`. `reevaluate` counts them all.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.config import AttributionSettings
from jobs.lake.tables import TIME, VALUES
from models.settings import OutcomeSettings

Outcome = Literal["clicked", "converted"]
MATURES = {"clicked": "click_matures_at", "converted": "matures_at"}
PREFIX = {"clicked": "click", "converted": "conversion"}


def told_by(outcome: Outcome) -> tuple[str, ...]:
    """The columns of `labels` that tell an outcome as of any time."""
    prefix = PREFIX[outcome]
    return (outcome, f"{prefix}_known_at", f"{prefix}_superseded", MATURES[outcome])


def so_far(labels: pa.Table, outcome: Outcome, cut: datetime) -> pa.ChunkedArray:
    """Whether the outcome was known before `cut`, (n,) without nulls: False where there is no label.

    Of an open outcome it is no answer, only what has been heard.
    """
    return pc.is_valid(heard_at(labels, outcome, cut))


def heard_at(labels: pa.Table, outcome: Outcome, cut: datetime) -> pa.ChunkedArray:
    """Since when the outcome was known before `cut`, (n,): null where it was not, or where there is no label.

    It is what a run of `attribute` with only the rows ingested before `cut` would have said, whatever came later.
    """
    happened, known_at, superseded, _ = (labels.column(name) for name in told_by(outcome))
    at = pa.scalar(cut, TIME)
    for_good = pc.fill_null(pc.and_(happened, pc.less(known_at, at)), False)
    lists = superseded.combine_chunks()
    entries = lists.flatten()
    held = pc.and_(pc.less(entries.field("known_at"), at), pc.less_equal(at, entries.field("until")))
    then = np.full(len(labels), -1)
    rows = np.flatnonzero(pc.fill_null(held, False).to_numpy(zero_copy_only=False))
    then[pc.list_parent_indices(lists).to_numpy()[rows]] = rows
    meanwhile = entries.field("known_at").take(pa.array(then, mask=then < 0))
    return pc.if_else(for_good, known_at, pa.chunked_array([meanwhile]))


def closes_at(matures: Any, outcome: Outcome, late_days: int) -> Any:
    """The first time at which the outcome is closed, from its maturity: arrays in, arrays out; scalars likewise."""
    if outcome == "clicked":
        return matures
    midnight = pc.ceil_temporal(matures, unit="day")
    return pc.add(midnight, pa.scalar(timedelta(days=late_days), pa.duration("us")))


def closed(labels: pa.Table, outcome: Outcome, cut: datetime, late_days: int) -> pa.ChunkedArray:
    """Whether the outcome is closed at `cut`, (n,) without nulls: False where there is no label."""
    known = pc.less_equal(closes_at(labels.column(MATURES[outcome]), outcome, late_days), pa.scalar(cut, TIME))
    return pc.fill_null(known, False)


def further_as_known(
    labels: pa.Table, outcomes: Mapping[str, OutcomeSettings], cut: datetime, late_days: int
) -> pa.Array:
    """`jobs.lake.tables.VALUES` (n,): each further outcome that is closed at `cut`; an open or undeclared one is not
    there, nor any without a label. All null where `outcomes` is empty.

    What is said is what a run of `attribute` with only the rows ingested before `cut` would have said.
    """
    if not outcomes:
        return pa.nulls(len(labels), VALUES)
    names = sorted(outcomes)
    said = np.column_stack([_further(labels, name, outcomes[name], cut, late_days) for name in names])
    closed = ~np.isnan(said)
    keys = np.broadcast_to(np.array(names, object), said.shape)[closed]
    offsets = np.append(0, np.cumsum(closed.sum(axis=1))).astype(np.int32)
    return pa.MapArray.from_arrays(pa.array(offsets), pa.array(keys, pa.string()), pa.array(said[closed]))


def _further(
    labels: pa.Table, name: str, outcome: OutcomeSettings, cut: datetime, late_days: int
) -> NDArray[np.float64]:
    """(n,) 0 or 1, or the value, as heard of before `cut`; NaN while it is open."""
    lists = labels.column("outcomes").combine_chunks()
    entries, parent = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
    mine = np.flatnonzero(pc.equal(entries.field("outcome"), name).to_numpy(zero_copy_only=False))
    entries, parent = entries.take(pa.array(mine)), parent[mine]
    at = pa.scalar(cut, TIME)
    found, events = np.full(len(labels), np.nan), entries.field("events")
    closes = pc.less_equal(entries.field("matures_at"), at).to_numpy(zero_copy_only=False)
    found[parent[closes]] = 0.0
    told, of = events.flatten(), parent[pc.list_parent_indices(events).to_numpy()]
    held = pc.and_(pc.less(told.field("known_at"), at), pc.fill_null(pc.less_equal(at, told.field("until")), True))
    counts = held.to_numpy(zero_copy_only=False)
    heard = np.bincount(of[counts], told.field("value").to_numpy()[counts], minlength=len(labels))
    if outcome.kind == "binary":
        heard = (np.bincount(of[counts], minlength=len(labels)) > 0).astype(np.float64)
    found += heard
    if outcome.through is not None:
        through = pc.cast(as_known(labels, outcome.through, cut, late_days), pa.float64())
        found *= pc.fill_null(through, float("nan")).to_numpy()
    return found


def closes_on(shown: datetime, settings: AttributionSettings, outcomes: Mapping[str, OutcomeSettings]) -> date:
    """The day at whose end all outcomes of an impression shown at `shown` are closed, late purchases included."""
    matures = pa.scalar(shown + settings.to_click + settings.to_purchase, TIME)
    midnight: datetime = closes_at(matures, "converted", settings.late_days).as_py()
    last = max([midnight, *(shown + of.span for of in outcomes.values())])
    return (last - timedelta(microseconds=1)).date()


def as_known(labels: pa.Table, outcome: Outcome, cut: datetime, late_days: int) -> pa.ChunkedArray:
    """True or False where the outcome is closed at `cut`; null (unknown) while it is open, or without a label."""
    known = closed(labels, outcome, cut, late_days)
    return pc.if_else(known, so_far(labels, outcome, cut), pa.scalar(None, pa.bool_()))


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
