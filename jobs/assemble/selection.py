"""Which train examples are kept, and what each then weighs. Validate and test are never touched: they are all traffic.

Four rules, in this order, each off unless a setting asks for it. What they do to probabilities:

    inactive user   the user had clicked too few different items by then       calibrated for active users only
    duplicate       the user saw the item again within `duplicate_days`        see `_duplicates`
    negative        unclicked, and a coin of probability r fell against it     weight 1/r: stays calibrated
    surface         beyond its surface's part of `max_train_rows`              weight 1/rate: stays calibrated

Weighted sums over the kept rows then have the expectation of sums over all rows (Horvitz & Thompson 1952). Every coin
is a hash of the impression's id, so a rerun, any engine and any number of buckets keep the same rows, and a smaller
rate keeps a part of what a larger one keeps.
"""

from collections.abc import Mapping
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.coins import uniform
from jobs.asof.core import Indices
from jobs.assemble.core import LABELLED, SELECTED, day_numbers
from jobs.config import SelectionSettings
from jobs.errors import Refused
from jobs.lake.tables import STR, TIME

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

CLICKS = pa.schema([("user_id", STR), ("item_id", STR), ("click_known_at", TIME)])
"""What makes a user active."""
CLICK_LABELS = pa.schema([("user_id", STR), ("item_id", STR), ("clicked", pa.bool_()), ("click_known_at", TIME)])
"""What is read of `labels` for them."""
MARKED = pa.schema([*LABELLED, ("weight", pa.float64()), ("left_out", STR)])
"""`LABELLED` with what the row weighs and why it is left out; null: it is kept."""
TOTALS = pa.schema([("surface", STR), ("rows", pa.int64()), ("revenue_micros", pa.int64())])
LEFT_OUT = pa.schema([("split", STR), ("surface", STR), ("left_out", STR), ("rows", pa.int64())])
KEPT, INACTIVE, DUPLICATE, NEGATIVE, SURFACE = range(5)
REASONS = pa.array([None, "inactive_user", "duplicate", "negative", "surface"], STR)
"""What `left_out` says, by the five numbers above."""
CALIBRATED = {
    "all": "p(click) of an impression",
    "last": "p(click) of an impression, if a click neither ends nor draws further impressions of the item",
    "per_outcome": "p(click) of an impression",
    "clicked_else_last": "p(the user clicks the item within duplicate_days): not that of an impression",
}
"""What a ranker's probability means after each treatment of duplicates."""
REVENUE_FLOOR = 0.01
"""The least part of the rows a surface gets by revenue: one that earns nothing must not vanish beyond repair."""


def selected(
    rows: pa.Table, clicks: pa.Table, identity: pa.Table, settings: SelectionSettings, last_train_day: date
) -> tuple[pa.Table, pa.Table]:
    """The `LABELLED` rows that become examples as `SELECTED`, and `LEFT_OUT` of the others: all rules at once."""
    if not settings.any:
        return unselected(rows), LEFT_OUT.empty_table()
    found = marked(rows, clicks, identity, settings, last_train_day)
    found = thinned(found, surface_rates(totals(found), settings), settings.seed)
    return kept(found), left_out(found)


def unselected(rows: pa.Table) -> pa.Table:
    """`SELECTED`: all of the rows, each for itself."""
    return rows.append_column("weight", pa.array(np.ones(len(rows)))).select(SELECTED.names)


def clicks(labels: pa.Table) -> pa.Table:
    """`CLICKS` of `CLICK_LABELS`."""
    known = pc.and_(labels.column("clicked"), labels.column("user_id").is_valid())
    return labels.filter(known).select(CLICKS.names)


def kept(rows: pa.Table) -> pa.Table:
    """The rows of `MARKED` that no rule left out, as `SELECTED`."""
    return rows.filter(rows.column("left_out").is_null()).select(SELECTED.names).cast(SELECTED)


def marked(
    rows: pa.Table, clicks: pa.Table, identity: pa.Table, settings: SelectionSettings, last_train_day: date
) -> pa.Table:
    """`MARKED`: the first three rules on `LABELLED` rows. Rows and clicks of one user must be together.

    `clicks` is `CLICKS` of the days before; `identity` is `jobs.moment.identity.identities`.
    """
    train = pc.equal(rows.column("split"), "train").to_numpy()
    items = identified(rows.column("item_id"), identity)
    weight, reason = np.ones(len(rows)), np.full(len(rows), KEPT)
    if settings.active_clicks:
        clicks = clicks.set_column(1, "item_id", identified(clicks.column("item_id"), identity))
        reason[train & ~_active(rows, clicks, settings)] = INACTIVE
    if settings.duplicates != "all":
        here = np.flatnonzero(train & (reason == KEPT) & rows.column("user_id").is_valid().to_numpy())
        block = (last_train_day - date(1970, 1, 1)).days - day_numbers(rows.column("event_time"))
        stands_for = _duplicates(rows.take(pa.array(here)), items.take(pa.array(here)), block[here], settings)
        reason[here[stands_for == 0]] = DUPLICATE
        weight[here] = np.maximum(stands_for, 1)
    if settings.negative_rate < 1:
        unclicked = pc.fill_null(pc.equal(rows.column("clicked"), False), False).to_numpy()
        here = np.flatnonzero(train & (reason == KEPT) & unclicked)
        coin = uniform(rows.column("impression_id").take(pa.array(here)), "negative", settings.seed)
        reason[here[coin >= settings.negative_rate]] = NEGATIVE
        weight[here] /= settings.negative_rate
    return rows.append_column("weight", pa.array(weight)).append_column("left_out", REASONS.take(pa.array(reason)))


def totals(rows: pa.Table) -> pa.Table:
    """`TOTALS` of the train rows of `MARKED` that are kept so far; integers, so that parts add up exactly."""
    train = rows.filter(pc.and_(pc.equal(rows.column("split"), "train"), rows.column("left_out").is_null()))
    summed = train.group_by("surface").aggregate([("impression_id", "count"), ("revenue_micros", "sum")])
    return summed.rename_columns(TOTALS.names).cast(TOTALS)


def surface_rates(total: pa.Table, settings: SelectionSettings) -> dict[str, float]:
    """The share of each surface's train rows to keep, so that about `max_train_rows` are kept in all.

    The rows are shared out by traffic, by revenue or as named; what a surface has too few rows for goes to the others.
    A surface that is not named gets none, and no weight brings it back: that is what leaving out a name means.
    """
    found = sorted(total.to_pylist(), key=lambda row: str(row["surface"]))
    rows = np.array([row["rows"] for row in found], float)
    share = _shares(found, settings.surface_shares)
    if settings.max_train_rows is None or not len(rows):
        return {row["surface"]: 1.0 for row in found}
    if not share.any():
        names = [row["surface"] for row in found]
        raise Refused(f"dataset.selection.surface_shares needs a surface that has train rows; found {names}")
    kept, left = np.zeros(len(rows)), float(settings.max_train_rows)
    waiting = share > 0
    while waiting.any():
        part = np.where(waiting, left * share / share[waiting].sum(), 0.0)
        full = waiting & (part >= rows)
        if not full.any():
            kept[waiting] = part[waiting]
            break
        kept[full] = rows[full]
        left -= rows[full].sum()
        waiting &= ~full
    return {row["surface"]: float(n) / row["rows"] for row, n in zip(found, kept, strict=True)}


def thinned(rows: pa.Table, rates: Mapping[str, float], seed: int) -> pa.Table:
    """`MARKED` after the fourth rule: each surface's kept train rows at its rate, weights multiplied by 1 / rate."""
    weight, left_out = rows.column("weight").to_numpy().copy(), rows.column("left_out")
    open_ = pc.and_(pc.equal(rows.column("split"), "train"), left_out.is_null()).to_numpy()
    names = pa.array(list(rates), STR)
    at = pc.index_in(rows.column("surface"), names).to_numpy()
    here = np.flatnonzero(open_)
    rate = np.array(list(rates.values()), float)[at[here].astype(np.int64)] if len(here) else np.empty(0)
    kept = uniform(rows.column("impression_id").take(pa.array(here)), "surface", seed) < rate
    weight[here[kept]] /= rate[kept]
    dropped = np.zeros(len(rows), bool)
    dropped[here[~kept]] = True
    columns = {"weight": pa.array(weight), "left_out": pc.if_else(pa.array(dropped), REASONS[SURFACE], left_out)}
    return pa.table({name: columns.get(name, rows.column(name)) for name in rows.column_names}).cast(MARKED)


def left_out(rows: pa.Table) -> pa.Table:
    """`LEFT_OUT`: how many rows of `MARKED` each rule left out, per split and surface."""
    gone = rows.filter(rows.column("left_out").is_valid())
    counted = gone.group_by(["split", "surface", "left_out"]).aggregate([("impression_id", "count")])
    return counted.rename_columns(LEFT_OUT.names).cast(LEFT_OUT)


def identified(item_id: pa.ChunkedArray, identity: pa.Table) -> pa.ChunkedArray:
    """Each item's identity: the id it shares with its copies, else its own."""
    at = pc.index_in(item_id, identity.column("item_id").combine_chunks())
    return pc.coalesce(identity.column("identity").combine_chunks().take(at), item_id)


def _active(rows: pa.Table, clicks: pa.Table, settings: SelectionSettings) -> Mask:
    """Whether the user had clicked enough different items in the `active_days` days before the impression's day.

    A click counts from the day after it was known. So no row is selected by its own outcome, by what came after it or
    by what the held-out days say, and the same question can be asked when serving.
    """
    known = rows.column("user_id").is_valid().to_numpy()
    clicks = clicks.filter(clicks.column("user_id").is_valid())
    users = pa.chunked_array([*rows.column("user_id").chunks, *clicks.column("user_id").chunks], STR)
    codes = _codes(users)
    mine, theirs = codes[: len(rows)], codes[len(rows) :]
    # Click days per user and item, ascending: each says "one more" from the day after it on, and "one less" when it
    # leaves the window, unless the next click of the same item has come by then.
    day = day_numbers(clicks.column("click_known_at"))
    item = _codes(clicks.column("item_id"))
    user, item, day = np.unique(np.stack([theirs, item, day]), axis=1)
    last = day + settings.active_days
    again = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    last[:-1][again] = np.minimum(last[:-1][again], day[1:][again])
    shown = day_numbers(rows.column("event_time"))
    span = max(int(max(last.max(initial=0), shown.max(initial=0))) + 2, 1)
    begun = np.sort(user * span + day + 1)
    over = np.sort(user * span + last + 1)
    at = mine * span + shown
    first = mine * span
    items = (_before(begun, at) - _before(begun, first)) - (_before(over, at) - _before(over, first))
    return np.where(known, items >= settings.active_clicks, settings.keep_anonymous)


def _before(ordered: Indices, values: Indices) -> Indices:
    return np.searchsorted(ordered, values, side="right")


def _duplicates(rows: pa.Table, items: pa.ChunkedArray, block: Indices, settings: SelectionSettings) -> Indices:
    """How many impressions each row stands for, 0 for those left out; all of one user, item and block of days.

    last               the last one, for all of them. Calibrated if a click neither ends nor draws further impressions.
    per_outcome        the last clicked one for all clicked, the last unclicked one for all unclicked: weighted clicks
                       and impressions are those of all rows, so probabilities stay calibrated.
    clicked_else_last  the last clicked one, else the last, for itself. Not calibrated: p becomes the probability that
                       the user clicks the item at all within `duplicate_days`, and no weight can undo that.
    """
    outcome = pc.fill_null(rows.column("clicked").cast(pa.int8()), -1).to_numpy().astype(np.int64)
    keys = [_codes(rows.column("user_id")), _codes(items), block // settings.duplicate_days]
    if settings.duplicates == "per_outcome":
        keys.append(outcome)
    group = np.unique(np.stack(keys), axis=1, return_inverse=True)[1].ravel()
    age = pc.rank(rows.column("impression_id"), tiebreaker="dense").to_numpy()
    time = rows.column("event_time").cast(pa.int64()).to_numpy()
    best = outcome == 1 if settings.duplicates == "clicked_else_last" else np.zeros(len(rows), bool)
    order = np.lexsort((age, time, best, group))
    last = np.append(np.diff(group[order]) > 0, True)[: len(order)]
    stands_for = np.zeros(len(rows), np.int64)
    size = np.bincount(group)[group[order]]
    stands_for[order] = np.where(last, 1 if settings.duplicates == "clicked_else_last" else size, 0)
    return stands_for


def _shares(found: list[dict[str, object]], shares: str | Mapping[str, float]) -> Floats:
    """The part of the rows that each surface is due, adding up to 1 unless nothing is."""
    if isinstance(shares, str):
        name = {"traffic": "rows", "revenue": "revenue_micros"}[shares]
        due = np.array([row[name] for row in found], float)
        if shares == "revenue":
            due = np.maximum(due, REVENUE_FLOOR * max(due.sum(), 1.0))
    else:
        due = np.array([shares.get(str(row["surface"]), 0.0) for row in found], float)
    return due / due.sum() if due.sum() > 0 else due


def _codes(column: pa.ChunkedArray) -> Indices:
    """Values as dense integers, -1 for null."""
    indices = column.combine_chunks().dictionary_encode().indices
    return np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)
