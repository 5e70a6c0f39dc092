"""Which impression earned which click, and which clicks earned which purchase. Complete on one machine: the oracle.

Five steps; each needs together only the rows that share the key named with it, so `spark` runs these very functions in
hash buckets of that key:

    first_known            copies of an event count once                  (its own id)
    named_impression       a click finds the impression it names          (impression_id)
    latest_impression      else the user's latest of that item            (user_id, item_id)
    credits                a purchase pays its user's clicks on it        (user_id, item_id)
    labels                 one row per impression, with its credits       (impression_id)

Events of declared further outcomes find their impressions by the same steps, `named_feedback` and `latest_feedback`,
and are credited to them alone.

The rule is about what happened: a late click can take over a purchase (or a late impression a click) that an earlier
one was credited with. What was told before stays readable: the credit that ended is kept with the time it ended, and
`as_known` gives for any T the label of a run that had only the rows ingested before T.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.core import ABSENT, Indices, Spans, first_known, latest, microseconds, spans, take
from jobs.attribute.shares import Paid, paid
from jobs.attribute.takeover import NEVER, as_lists, merged, reigns
from jobs.config import AttributionSettings
from jobs.lake.tables import LAKE, OUTCOMES, STR, SUPERSEDED, TIME
from models.settings import OutcomeSettings

Outcomes = Mapping[str, OutcomeSettings]
"""Further ones by name, in order of names."""
NONE: Outcomes = MappingProxyType({})
COLUMNS = {
    "impressions": ("impression_id", "request_id", "event_time", "ingested_at", "user_id", "item_id", "surface"),
    "clicks": ("click_id", "impression_id", "event_time", "ingested_at", "user_id", "item_id"),
    "purchases": ("purchase_id", "event_time", "ingested_at", "user_id", "item_id", "value"),
}
"""What attribution looks at."""
FEEDBACK = ("feedback_id", "outcome", "impression_id", "event_time", "ingested_at", "user_id", "item_id", "value")
"""Likewise, where further outcomes are declared."""
LOOKED_AT = {**COLUMNS, "feedback": FEEDBACK}
SHOWN = {"shown_id": STR, "shown_at": TIME, "shown_known_at": TIME, "shown_user_id": STR}
"""What a click knows of its impression: id, time, when it was known, whose; null where it has none."""
MATCHED = pa.schema(
    [*((name, LAKE["clicks"].columns[name].type) for name in COLUMNS["clicks"]), *SHOWN.items(), ("until", TIME)]
)
"""Clicks with their impression: one row a click for good, and one more for each it had until a better one was known."""
OF_FEEDBACK = [("outcome", STR), ("value", pa.float64())]
FED = pa.schema([*list(MATCHED)[: len(COLUMNS["clicks"])], *OF_FEEDBACK, *list(MATCHED)[len(COLUMNS["clicks"]) :]])
"""Likewise events of further outcomes, their ids as `click_id`: they find their impressions as clicks do."""
CREDITS = pa.schema(
    [
        ("outcome", STR),  # of a further outcome its name, else null
        ("bought", pa.bool_()),  # a purchase, else a click
        ("event_time", TIME),
        ("ingested_at", TIME),
        ("shown_id", STR),  # the impression credited, null: none is known
        ("shown_at", TIME),
        ("clicked_at", TIME),  # of a purchase the click it pays, null: none
        ("known_at", TIME),  # the credit held for every T after this
        ("until", TIME),  # up to this, null: for good
        ("credit", pa.float64()),  # the share of the purchase, 0 for a click and for what ended
        ("value", pa.float64()),  # that share of its value; of a further outcome the event's
        ("paid", pa.bool_()),  # a click has it; every click
        ("counts", pa.bool_()),  # one row of each event
    ]
)
"""One row per click (or event of a further outcome) and impression, and per purchase, click it pays and impression."""
COUNTED = pa.schema(
    [
        ("day", STR),
        *((n, pa.int64()) for n in ("clicks", "clicks_without_impression", "attributed", "unattributed", "late")),
    ]
)
"""Per day of the event, copies excluded; `late`: known only after that day."""


def attribute(
    impressions: pa.Table,
    clicks: pa.Table,
    purchases: pa.Table,
    settings: AttributionSettings,
    feedback: pa.Table | None = None,
    outcomes: Outcomes = NONE,
) -> tuple[pa.Table, pa.Table]:
    """The `labels` rows of all impressions given, by event time and id, and the `CREDITS`: every step at once.

    `feedback` may be left out where no further outcome is declared.
    """
    seen = unique(impressions, "impressions", settings)
    matched = named_impression(unique(clicks, "clicks", settings), seen, settings)
    matched = latest_impression(matched, seen, settings)
    earned = credits(unique(purchases, "purchases", settings), matched, settings)
    if feedback is not None:
        fed = named_feedback(unique(feedback, "feedback", settings), seen, settings, outcomes)
        fed = latest_feedback(fed, seen, settings, outcomes)
        earned = pa.concat_tables([earned, feedback_credits(fed)])
    return labels(seen, earned, settings, outcomes), earned


def unique(rows: pa.Table, table: str, settings: AttributionSettings) -> pa.Table:
    """The events without copies: of rows with one id at most `late_days` days apart only the one known first counts."""
    return first_known(rows.select(LOOKED_AT[table]), LAKE[table].key[0], within_days=settings.late_days)


def named_impression(clicks: pa.Table, impressions: pa.Table, settings: AttributionSettings) -> pa.Table:
    """`MATCHED`: each click with the impression it names, if that was within a click window of it.

    Either side of it, since two loggers' clocks differ; beyond it the name counts as unknown: until
    `click_matures_at` every click must be known, and a rerun that reads fewer days must not decide otherwise.
    """
    window = _us(settings.to_click)
    us = microseconds(clicks.column("event_time"))
    named = pa.table({"impression_id": clicks.column("impression_id"), "event_time": _times(us + window - 1)})
    found = latest(named, impressions, keys=("impression_id",))
    shown = microseconds(take(impressions.select(["event_time"]), found).column("event_time"))
    found[us - shown >= window] = ABSENT
    return _with_shown(clicks, impressions, found, pa.nulls(len(clicks), TIME))


def latest_impression(matched: pa.Table, impressions: pa.Table, settings: AttributionSettings) -> pa.Table:
    """`MATCHED`: clicks without an impression get the latest of their user and item, `shown <= click < shown + window`.

    Ties go to the larger `impression_id`. A click of an unknown user stays without. A click that was known before its
    impression also gets a row for each one it had before.
    """
    wanted = _asking(matched)
    clicks = matched.filter(wanted)
    if not len(clicks):
        return matched
    keys, known = ("user_id", "item_id"), microseconds(clicks.column("ingested_at"))
    shown = spans(clicks, impressions, keys, _us(settings.to_click), tie="impression_id")
    best = shown.best()
    named = _flags(clicks.column("shown_id").is_valid())
    shown_known = microseconds(impressions.column("ingested_at"))
    some = np.flatnonzero(best != ABSENT)
    rows = some[named[some] | (shown_known[best[some]] > known[some])]
    before = reigns(*shown.at(rows).pairs(), known[rows], shown_known)
    # A name is followed from when its impression is known.
    limit = np.where(named, microseconds(clicks.column("shown_known_at")), NEVER)[rows][before.left]
    until = np.minimum(before.until, limit)
    over = np.flatnonzero((until != NEVER) & (before.since < until))
    plain = clicks.drop_columns([*SHOWN, "until"])
    for_good, unnamed_rows = pa.nulls(int((~named).sum()), TIME), pa.array(~named)
    parts = [
        matched.filter(pc.invert(wanted)),
        clicks.filter(pa.array(named)),
        _with_shown(plain.filter(unnamed_rows), impressions, best[~named], for_good),
        _with_shown(
            plain.take(pa.array(rows[before.left[over]])), impressions, before.right[over], _times(until[over])
        ),
    ]
    return pa.concat_tables(parts)


def asking(matched: pa.Table) -> pa.Table:
    """The rows that `latest_impression` looks for another impression of: their user's and item's."""
    return matched.filter(_asking(matched))


def _asking(matched: pa.Table) -> pa.ChunkedArray:
    """Whether no impression is known by name, or it was known only after the click; of unknown users none asks."""
    late = pc.fill_null(pc.greater(matched.column("shown_known_at"), matched.column("ingested_at")), False)
    return pc.and_(matched.column("user_id").is_valid(), pc.or_(matched.column("shown_id").is_null(), late))


def named_feedback(
    feedback: pa.Table, impressions: pa.Table, settings: AttributionSettings, outcomes: Outcomes
) -> pa.Table:
    """`FED`: as `named_impression`, each event of a declared outcome by that one's window; others are left out."""
    names = ["click_id" if name == "feedback_id" else name for name in feedback.column_names]
    events = feedback.rename_columns(names).select(FED.names[: -len(SHOWN) - 1])
    parts = [
        named_impression(events.filter(pc.equal(events.column("outcome"), name)), impressions, rules)
        for name, rules in _windows(settings, outcomes)
    ]
    return pa.concat_tables([FED.empty_table(), *parts])


def latest_feedback(
    fed: pa.Table, impressions: pa.Table, settings: AttributionSettings, outcomes: Outcomes
) -> pa.Table:
    """`FED`: as `latest_impression`."""
    parts = [
        latest_impression(fed.filter(pc.equal(fed.column("outcome"), name)), impressions, rules)
        for name, rules in _windows(settings, outcomes)
    ]
    return pa.concat_tables([FED.empty_table(), *parts])


def _windows(settings: AttributionSettings, outcomes: Outcomes) -> list[tuple[str, AttributionSettings]]:
    """Each outcome with the rules for clicks as they would be with its window."""
    return [
        (name, settings.model_copy(update={"click_window_days": of.window_days, "click_window": of.window}))
        for name, of in outcomes.items()
    ]


def feedback_credits(fed: pa.Table) -> pa.Table:
    """`CREDITS`: every event of a further outcome, credited to its impression with all its value."""
    found = _click_credits(fed)
    columns = dict(zip(CREDITS.names, found.columns, strict=True))
    columns |= {"outcome": fed.column("outcome"), "value": pc.fill_null(fed.column("value"), 0.0)}
    return pa.table(columns, schema=CREDITS)


def credits(purchases: pa.Table, matched: pa.Table, settings: AttributionSettings) -> pa.Table:
    """`CREDITS`: every click, credited to its impression, and every purchase, to those of the clicks it pays."""
    return pa.concat_tables([_click_credits(matched), purchase_credits(purchases, matched, settings)])


def purchase_credits(purchases: pa.Table, matched: pa.Table, settings: AttributionSettings) -> pa.Table:
    """`CREDITS` of unique `purchases`, at least one row each.

    A purchase pays its user's clicks on its item with `click <= purchase < click + window`, by `settings.model`; among
    clicks at one time those with the larger `click_id` are later. A click pays whether or not its impression is known;
    one of an unknown user is its impression's user's.
    """
    matched = matched.append_column("known_at", _known_at(matched))
    clicks, former = matched, matched.slice(0, 0)
    if matched.column("until").null_count < len(matched):
        for_good = matched.column("until").is_null()
        clicks, former = matched.filter(for_good), matched.filter(pc.invert(for_good))
    user = clicks.column("user_id")
    buyers = clicks
    if user.null_count:
        buyers = clicks.set_column(
            clicks.schema.get_field_index("user_id"), "user_id", pc.coalesce(user, clicks.column("shown_user_id"))
        )
    pairs = paid(
        spans(purchases, buyers, ("user_id", "item_id"), _us(settings.to_purchase), tie="click_id"),
        microseconds(purchases.column("event_time")),
        microseconds(clicks.column("event_time")),
        microseconds(purchases.column("ingested_at")),
        # Whose an anonymous click is, is known with its impression.
        microseconds(pc.if_else(user.is_valid(), clicks.column("ingested_at"), clicks.column("known_at"))),
        settings,
    )
    return _through_clicks(purchases, clicks, former, pairs)


def _click_credits(matched: pa.Table) -> pa.Table:
    nothing = pa.array(np.zeros(len(matched)))
    columns = {
        "outcome": pa.nulls(len(matched), STR),
        "bought": pa.array(np.zeros(len(matched), bool)),
        **{name: matched.column(name) for name in ("event_time", "ingested_at", "shown_id", "shown_at")},
        "clicked_at": pa.nulls(len(matched), TIME),
        "known_at": _known_at(matched),
        "until": matched.column("until"),
        "credit": nothing,
        "value": nothing,
        "paid": pa.array(np.ones(len(matched), bool)),
        "counts": matched.column("until").is_null(),
    }
    return pa.table(columns, schema=CREDITS)


def _through_clicks(purchases: pa.Table, clicks: pa.Table, former: pa.Table, pairs: Paid) -> pa.Table:
    """What each pair credits: the click's impression, and before that was known the `former` ones it had."""
    of_click = ["shown_id", "shown_at", "known_at", "event_time"]
    shown = take(clicks.select(of_click), pairs.click)
    parts = [_credited(purchases, pairs, shown, NEVER)]
    if len(former):
        click = _same_event(former.column("click_id"), former.column("event_time"), clicks, "click_id")
        order = np.argsort(click, kind="stable")
        first, last = (np.searchsorted(click[order], pairs.click, side=side) for side in ("left", "right"))
        at, row = Spans(order, first, last).pairs()
        some = Paid(pairs.purchase[at], pairs.click[at], pairs.since[at], pairs.until[at], np.zeros(len(at)))
        shown = former.select(of_click).take(pa.array(row))
        parts.append(_credited(purchases, some, shown, microseconds(former.column("until"))[row]))
    return pa.concat_tables(parts)


def _credited(purchases: pa.Table, pairs: Paid, shown: pa.Table, until: Indices | int) -> pa.Table:
    """`CREDITS` of pairs whose click, of `event_time`, has the impression `shown` up to `until`, without those that
    never held.
    """
    since, until = np.maximum(pairs.since, microseconds(shown.column("known_at"))), np.minimum(pairs.until, until)
    mine = purchases.select(["event_time", "ingested_at", "value"]).take(pa.array(pairs.purchase))
    first = np.append(True, pairs.purchase[1:] != pairs.purchase[:-1])[: len(until)]
    columns = {
        "outcome": pa.nulls(len(until), STR),
        "bought": pa.array(np.ones(len(until), bool)),
        **{name: mine.column(name) for name in ("event_time", "ingested_at")},
        **{name: shown.column(name) for name in ("shown_id", "shown_at")},
        "clicked_at": shown.column("event_time"),
        "known_at": _times(since),
        "until": _times(until),
        "credit": pa.array(pairs.share),
        "value": pc.multiply(pc.fill_null(mine.column("value"), 0.0), pa.array(pairs.share)),
        "paid": pa.array(pairs.click != ABSENT),
        "counts": pa.array(first & (until == NEVER)),
    }
    return pa.table(columns, schema=CREDITS).filter(pa.array(since < until))


def _same_event(ids: pa.ChunkedArray, times: pa.ChunkedArray, events: pa.Table, key: str) -> Indices:
    """The row of `events` with each id and time; -1 for a null. An id used again long after is another event."""
    found = _rows(pc.index_in(ids, events.column(key).combine_chunks(), skip_nulls=True))
    there = take(events.select(["event_time"]), found).column("event_time")
    if pc.all(pc.fill_null(pc.equal(there, times), True)).as_py():
        return found
    return latest(pa.table({key: ids, "event_time": times}), events, keys=(key,))


def labels(
    impressions: pa.Table, earned: pa.Table, settings: AttributionSettings, outcomes: Outcomes = NONE
) -> pa.Table:
    """The `labels` rows of unique `impressions`: what came of each, from when it was known, what was said before.

    `clicked` is what counts as a click on the impression's surface, `converted` a purchase within the surface's window
    (`settings.surfaces`). A purchase comes of a click whatever counts as one there; one that came of a click and too
    late for its surface is nobody's conversion.
    """
    row = _same_event(earned.column("shown_id"), earned.column("shown_at"), impressions, "impression_id")
    rules = LabelRules.of(impressions.column("surface"), settings, outcomes)
    mine = rules.purchases(earned, row)
    clicked = _outcome(earned, row, rules.clicks(earned, row), len(impressions))
    converted = _outcome(earned, row, mine, len(impressions))
    credit, value = (np.asarray(earned.column(name).to_numpy(), dtype=np.float64)[mine] for name in ("credit", "value"))
    # In one order, because a float sum depends on it.
    order = np.lexsort((value, credit, row[mine]))
    shown = impressions.column("event_time")
    columns = {
        **{name: impressions.column(name) for name in COLUMNS["impressions"]},
        "known_at": impressions.column("ingested_at"),
        "clicked": clicked[0].is_valid(),
        "click_known_at": clicked[0],
        "click_superseded": clicked[1],
        "click_matures_at": _times(microseconds(shown) + rules.to_click),
        "converted": converted[0].is_valid(),
        "conversion_known_at": converted[0],
        "conversion_superseded": converted[1],
        "conversion_credit": np.bincount(row[mine][order], credit[order], minlength=len(impressions)),
        "conversion_value": np.bincount(row[mine][order], value[order], minlength=len(impressions)),
        "matures_at": _times(microseconds(shown) + _us(settings.to_click) + rules.to_purchase),
        "outcomes": _further(earned, row, shown, outcomes),
    }
    schema = LAKE["labels"].schema
    table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
    return table.sort_by([("event_time", "ascending"), ("impression_id", "ascending")])


@dataclass(frozen=True)
class LabelRules:
    """What is a click of m impressions: an event of `names[code]` (m,), a click where that is "", within `to_click`
    (m,) microseconds; and what a conversion: a purchase within `to_purchase` (m,) of its click.
    """

    names: tuple[str, ...]
    code: Indices
    to_click: Indices
    to_purchase: Indices

    @classmethod
    def of(cls, surface: pa.ChunkedArray, settings: AttributionSettings, outcomes: Outcomes) -> Self:
        """By each impression's surface."""
        names = ("", *sorted({own.click for own in settings.surfaces.values() if own.click is not None}))
        n, code = len(surface), np.zeros(len(surface), np.int64)
        to_click, to_purchase = (np.full(n, _us(span)) for span in (settings.to_click, settings.to_purchase))
        for on, own in settings.surfaces.items():
            mine = _flags(pc.fill_null(pc.equal(surface, on), False))
            longest = outcomes[own.click].span if own.click else settings.to_click
            code[mine] = names.index(own.click or "")
            to_click[mine] = _us(min(own.span or longest, longest))
            to_purchase[mine] = _us(own.to_purchase or settings.to_purchase)
        return cls(names, code, to_click, to_purchase)

    def clicks(self, earned: pa.Table, row: Indices) -> Indices:
        """The rows of `earned` that are a click of the impression each credits, `row`."""
        named = pc.fill_null(earned.column("outcome"), "")
        known = np.flatnonzero((row != ABSENT) & ~_flags(earned.column("bought")))
        code = _rows(pc.index_in(named, pa.array(self.names, STR)))[known]
        at, shown = (microseconds(earned.column(name))[known] for name in ("event_time", "shown_at"))
        of = row[known]
        counted: Indices = known[(code == self.code[of]) & (at - shown < self.to_click[of])]
        return counted

    def purchases(self, earned: pa.Table, row: Indices) -> Indices:
        """The rows of `earned` that are a conversion of the impression each credits, `row`."""
        known = np.flatnonzero((row != ABSENT) & _flags(earned.column("bought")))
        bought, clicked = (microseconds(earned.column(name))[known] for name in ("event_time", "clicked_at"))
        counted: Indices = known[bought - clicked < self.to_purchase[row[known]]]
        return counted


def _further(earned: pa.Table, row: Indices, shown: pa.ChunkedArray, outcomes: Outcomes) -> pa.Array:
    """`jobs.lake.tables.OUTCOMES` of the impressions shown at `shown`, null where no further outcome is declared."""
    names, size = list(outcomes), len(shown)
    if not names:
        return pa.nulls(size, OUTCOMES)
    which = _rows(pc.index_in(earned.column("outcome"), pa.array(names, STR), skip_nulls=True))
    mine = np.flatnonzero((row != ABSENT) & (which != ABSENT))
    place = row[mine] * len(names) + which[mine]
    value = np.asarray(earned.column("value").to_numpy(), dtype=np.float64)[mine]
    since, until = (microseconds(earned.column(name))[mine] for name in ("known_at", "until"))
    until[_flags(earned.column("until").is_null())[mine]] = NEVER
    # In one order, because a float sum depends on it.
    order = np.lexsort((value, until, since, place))
    event = OUTCOMES.value_type.field("events").type.value_type
    events = pa.StructArray.from_arrays(
        [pa.array(value[order]), _times(since[order]), _times(until[order])], fields=list(event)
    )
    shown_us = microseconds(shown)[:, None] + np.array([_us(outcomes[name].span) for name in names])
    told = [
        pa.array(np.tile(np.array(names, object), size), STR),
        _times(shown_us.ravel()),
        as_lists(place[order], events, size * len(names)),
    ]
    entries = pa.StructArray.from_arrays(told, fields=list(OUTCOMES.value_type))
    offsets = np.arange(0, size * len(names) + 1, len(names), dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), entries).cast(OUTCOMES)


def _outcome(earned: pa.Table, row: Indices, of: Indices, size: int) -> tuple[pa.Array, pa.Array]:
    """Per impression row: from when its outcome is known for good, and the list of earlier times it was thought true.

    `of` are the rows of `earned` that make this outcome, `row` the impression each credits.
    """
    place = row[of]
    since, until = (microseconds(earned.column(name))[of] for name in ("known_at", "until"))
    lasts = _flags(earned.column("until").is_null())[of]
    until[lasts] = NEVER
    known = np.full(size, NEVER)
    np.minimum.at(known, place[lasts], since[lasts])
    changed = np.zeros(size, bool)
    changed[place[~lasts]] = True
    here = np.flatnonzero(changed[place])
    place, since, until = merged(place[here], since[here], until[here])
    known[place[until == NEVER]] = since[until == NEVER]
    over = until != NEVER
    entries = pa.StructArray.from_arrays([_times(since[over]), _times(until[over])], fields=list(SUPERSEDED.value_type))
    return _times(known), as_lists(place[over], entries, size)


def counted(earned: pa.Table) -> pa.Table:
    """`COUNTED`: what happened to the clicks and purchases of each day; counts of parts add up."""
    earned = earned.filter(pc.and_(earned.column("counts"), earned.column("outcome").is_null()))
    click = pc.invert(earned.column("bought"))
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


def _with_shown(clicks: pa.Table, impressions: pa.Table, found: Indices, until: pa.Array) -> pa.Table:
    shown = take(impressions.select(["impression_id", "event_time", "ingested_at", "user_id"]), found)
    names = [*clicks.column_names, *SHOWN, "until"]
    return pa.Table.from_arrays(
        [*clicks.columns, *shown.columns, until], schema=pa.schema([FED.field(n) for n in names])
    )


def _known_at(matched: pa.Table) -> pa.ChunkedArray:
    """When both a click and its impression were known, or the click alone where it has none."""
    click, shown = matched.column("ingested_at"), matched.column("shown_known_at")
    return pc.if_else(pc.fill_null(pc.greater(shown, click), False), shown, click)


def _rows(found: pa.Array | pa.ChunkedArray) -> Indices:
    return np.asarray(pc.fill_null(found, ABSENT).to_numpy(), dtype=np.int64)


def _flags(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(), dtype=bool)


def _times(us: Indices) -> pa.Array:
    """Microseconds as times, null for NEVER."""
    return pa.array(us, pa.int64(), mask=us == NEVER).cast(TIME)


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
