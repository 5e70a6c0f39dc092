"""Labels meet the features known before them. Complete on one machine: the oracle of `spark`.

Four steps; each needs together only the rows that share the key named with it:

    labelled        impressions known at the cut, with the labels as known at the cut     (impression_id)
    with_items      the item's row of the newest publication the impression sees          (item_id)
    with_sources    likewise the category of the item whose page it is                    (source_item_id)
    examples        the user's likewise; all of it as a ranker's columns                  (user_id)

Between the first two, `jobs.assemble.selection` says which rows become examples and what they weigh. Which publication
an impression sees is `jobs.asof.clock`'s to say, as for replay and serving. Snapshot attributes are taken as of the
dataset's day, so a raw `feature_*` column must describe what does not change; an item that the publication lacks has
none, since it was not in the endpoint's catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.clock import seen
from jobs.asof.core import ABSENT, Indices, first_known, latest, microseconds, take
from jobs.config import AttributionSettings, DatasetSettings
from jobs.errors import NotReady, Refused
from jobs.lake.store import midnight
from jobs.lake.tables import ATTRIBUTES, LAKE
from jobs.moment.assembler import Moments, assembled
from jobs.moment.columns import Columns, encodings_seen, item_arrays, numbers, outcome_words, strings, user_arrays
from jobs.outcomes import as_known, further_as_known, heard_at, so_far, told_by
from models.features import OUTCOMES, read
from models.rankers.features import CATEGORICAL, LISTS, NUMERIC, VECTORS, Encodings, Strings
from models.settings import OutcomeSettings, TaskSettings

IMPRESSION_COLUMNS = (
    "impression_id",
    "request_id",
    "event_time",
    "ingested_at",
    "user_id",
    "item_id",
    "surface",
    "position",
    "propensity",
    "policy",
    "device",
    "region",
    "query",
    "source_item_id",
    "attributes",
)
LABEL_COLUMNS = (
    *("impression_id", "event_time", "known_at"),
    *told_by("clicked"),
    *told_by("converted"),
    "conversion_value",
    "outcomes",
)
USER_COLUMNS = ("user_id", "available_at", *(feature.name for feature in read("user")), OUTCOMES)
ITEM_COLUMNS = ("item_id", "available_at", *(feature.name for feature in read("item")), OUTCOMES)
OF_ITEM = "item:"
"""What a feature column of an item is called while the row waits for its user's."""
SOURCE_CATEGORY = "source_category"


def _types(table: str, names: Sequence[str]) -> list[tuple[str, pa.DataType]]:
    return [(name, LAKE[table].columns[name].type) for name in names]


IMPRESSIONS = pa.schema(_types("impressions", IMPRESSION_COLUMNS))
LABELS = pa.schema(_types("labels", LABEL_COLUMNS))
USER_FEATURES = pa.schema(_types("user_features", USER_COLUMNS))
ITEM_FEATURES = pa.schema(_types("item_features", ITEM_COLUMNS))
ENCODINGS = LAKE["encodings"].schema
LABELLED = pa.schema(
    [
        *_types("impressions", IMPRESSION_COLUMNS),
        *_types("examples", ("split", "clicked", "converted", "conversion_heard_at", "outcomes")),
        ("revenue_micros", pa.int64()),  # of a conversion known at the cut, in millionths: sums are exact in any order
    ]
)
SELECTED = pa.schema([*LABELLED, *_types("examples", ("weight",))]).remove(len(LABELLED) - 1)
"""`LABELLED` rows that become examples, with their weight (`jobs.assemble.selection`)."""
SCHEMAS = {
    "impressions": IMPRESSIONS,
    "labels": LABELS,
    "user_features": USER_FEATURES,
    "item_features": ITEM_FEATURES,
}
"""What is read of each table."""
ATTRIBUTED = pa.schema([*SELECTED, ("item_attributes", ATTRIBUTES)])
"""`SELECTED` with the item snapshot's attributes, keys already prefixed; a null map where there is none."""
WITH_ITEMS = pa.schema([*ATTRIBUTED, *((OF_ITEM + of.name, of.type) for of in [*ITEM_FEATURES][2:])])
WITH_SOURCES = pa.schema([*WITH_ITEMS, (SOURCE_CATEGORY, pa.string())])
ASKED = pa.schema(_types("impressions", ("impression_id", "user_id", "source_item_id", "event_time")))
"""Impressions with a source; few have one."""
ANSWERED = pa.schema([*ASKED, (SOURCE_CATEGORY, pa.string())])


@dataclass(frozen=True)
class Dataset:
    """Which days are learned from, chosen on and judged on; and `cut`: what was known later does not exist.

    `late_days`: how late an event may come, for an outcome that is open at the cut is unknown. `outcomes`: the further
    ones that are carried. `without_surfaces`: they have no rows in it.
    """

    splits: Mapping[str, Sequence[date]]
    cut: datetime
    late_days: int
    outcomes: Mapping[str, OutcomeSettings] = field(default_factory=dict)
    without_surfaces: tuple[str, ...] = ()

    @property
    def days(self) -> list[date]:
        """All days of it, oldest first."""
        return sorted(day for days in self.splits.values() for day in days)


def dataset(day: date, settings: DatasetSettings, windows: AttributionSettings, published: Sequence[date]) -> Dataset:
    """The dataset of `day`: test days end a click window before it, validation before them, training before those.

    So every click is closed at the cut, the midnight after `day`; conversions only of the older train days are. Train
    days before the first of `published` are left out; raises `NotReady` where none is left.
    """
    last = day - timedelta(days=windows.click_days)
    test = _days(last, settings.test_days)
    validate = _days(test[0] - timedelta(days=1), settings.validate_days)
    wanted = _days(validate[0] - timedelta(days=1), settings.train_days)
    train = [d for d in wanted if published and d >= min(published)]
    if not train:
        found = f"the first published is {min(published)}" if published else "none is published"
        raise NotReady(f"a dataset of {day} needs impressions of {wanted[-1]} or earlier to train on; {found}")
    splits = {"train": train, "validate": validate, "test": test}
    cut = midnight(day + timedelta(days=1))
    return Dataset(splits, cut, windows.late_days, without_surfaces=settings.without_surfaces)


def warm(data: Dataset, train_days: int) -> Dataset:
    """The dataset with only the last `train_days` of its train days."""
    return replace(data, splits={**data.splits, "train": list(data.splits["train"])[-train_days:]})


def _days(last: date, count: int) -> list[date]:
    return [last - timedelta(days=n) for n in reversed(range(count))]


def labelled(impressions: pa.Table, labels: pa.Table, data: Dataset) -> pa.Table:
    """`LABELLED`: the unique impressions known before the cut, each with its split and its outcomes as known there.

    An outcome that is open at the cut is null (unknown) whatever has been heard of it, see `jobs.outcomes`; beside it
    lies since when a conversion has been heard of, for who can learn from open ones. Revenue is what has been heard,
    since surfaces are only weighed against each other by it.
    """
    shown = first_known(impressions, "impression_id")
    shown = shown.filter(pc.less(shown.column("ingested_at"), pa.scalar(data.cut)))
    if data.without_surfaces:
        shown = shown.filter(pc.invert(pc.is_in(shown.column("surface"), pa.array(data.without_surfaces, pa.string()))))
    names = np.array([*data.splits, None], dtype=object)
    split = np.full(len(shown), len(names) - 1)
    shown_on = day_numbers(shown.column("event_time"))
    for number, days in enumerate(data.splits.values()):
        split[np.isin(shown_on, [(day - date(1970, 1, 1)).days for day in days])] = number
    unique = first_known(labels, "impression_id", ("known_at", "event_time"))
    rows = pc.index_in(shown.column("impression_id"), unique.column("impression_id").combine_chunks())
    label = take(unique, np.asarray(pc.fill_null(rows, ABSENT).to_numpy(), dtype=np.int64))
    columns = [*shown.select(IMPRESSION_COLUMNS).columns, pa.array(names[split], pa.string())]
    columns += [as_known(label, outcome, data.cut, data.late_days) for outcome in ("clicked", "converted")]
    columns.append(heard_at(label, "converted", data.cut))
    columns.append(further_as_known(label, data.outcomes, data.cut, data.late_days))
    revenue = pc.round(pc.multiply(label.column("conversion_value"), 1e6)).cast(pa.int64())
    columns.append(pc.if_else(so_far(label, "converted", data.cut), revenue, 0))
    return pa.Table.from_arrays(columns, schema=LABELLED).filter(pa.array(split < len(data.splits)))


def prefixed(snapshot: pa.Table, key: str) -> pa.Table:
    """(`<key>_id`, `<key>_attributes`) of a snapshot, its attribute keys as `<key>.<name>`."""
    maps = snapshot.column("attributes").combine_chunks()
    maps = maps.take(pa.array(np.arange(len(maps))))  # unsliced: keys and items are then the whole of it
    keys = pc.binary_join_element_wise(key, maps.keys, ".")
    named = pa.MapArray.from_arrays(maps.offsets, keys, maps.items)
    return pa.table({f"{key}_id": snapshot.column(f"{key}_id"), f"{key}_attributes": named})


def with_attributes(rows: pa.Table, snapshot: pa.Table, key: str) -> pa.Table:
    """The rows with `<key>_attributes`: those of their user or item, null where the `prefixed` snapshot lacks it."""
    ids = snapshot.column(f"{key}_id").combine_chunks()
    at = pc.fill_null(pc.index_in(rows.column(f"{key}_id"), ids, skip_nulls=True), ABSENT)
    found = take(snapshot.select([f"{key}_attributes"]), np.asarray(at.to_numpy(), dtype=np.int64))
    return rows.append_column(f"{key}_attributes", found.column(0))


def with_items(rows: pa.Table, features: pa.Table, publications: Indices) -> pa.Table:
    """`WITH_ITEMS`: each impression with the item's row of the publication it sees, null where that has none."""
    found = _seen(rows, features, "item_id", publications)
    known = take(features, found, OF_ITEM)
    columns = dict(zip(ATTRIBUTED.names, rows.select(ATTRIBUTED.names).columns, strict=True))
    columns |= {name: known.column(name) for name in WITH_ITEMS.names[len(ATTRIBUTED) :]}
    listed = pa.chunked_array([pa.array(found != ABSENT)])
    columns["item_attributes"] = pc.if_else(listed, columns["item_attributes"], pa.scalar(None, ATTRIBUTES))
    return pa.Table.from_arrays(list(columns.values()), schema=WITH_ITEMS)


def with_sources(rows: pa.Table, features: pa.Table, publications: Indices) -> pa.Table:
    """`WITH_SOURCES` of `WITH_ITEMS` rows, `ANSWERED` of `ASKED`: with the category of the source item, as seen by each
    impression; null without a source.
    """
    found = _seen(rows, features, "item_id", publications, "source_item_id")
    return rows.append_column(SOURCE_CATEGORY, take(features.select(["category"]), found).column("category"))


def asked(rows: pa.Table) -> pa.Table:
    """`ASKED` of the rows: what `with_sources` needs of them."""
    return rows.filter(rows.column("source_item_id").is_valid()).select(ASKED.names)


def with_answers(rows: pa.Table, answers: pa.Table) -> pa.Table:
    """`with_sources` of `WITH_ITEMS` rows, from what was `ANSWERED` of them elsewhere."""
    at = pc.fill_null(
        pc.index_in(rows.column("impression_id"), answers.column("impression_id").combine_chunks()), ABSENT
    )
    found = take(answers.select([SOURCE_CATEGORY]), np.asarray(at.to_numpy(), dtype=np.int64))
    return rows.append_column(SOURCE_CATEGORY, found.column(0))


def examples(
    rows: pa.Table, features: pa.Table, encodings: pa.Table, publications: Indices, tasks: TaskSettings
) -> pa.Table:
    """The `examples` rows by event time and id: the user's row of the publication seen joined, as a ranker's columns.

    `rows` are `WITH_SOURCES` with `user_attributes`.
    `encodings` are those of every publication the rows may see: few enough to be everywhere.
    """
    found = _seen(rows, features, "user_id", publications)
    rates = encodings_seen(encodings, publications, rows.column("event_time"))
    words = {name: strings(rows.column(name)) for name in ("user_id", "surface", "device", "region", "query")}
    moments = Moments(strings(rows.column("item_id")), words, numbers(rows.column("position")))
    columns = assembled(moments, AsOf(rows, features, found, rates), tasks)
    schema = LAKE["examples"].schema
    ready = {name: columns[name] for name in (*NUMERIC, *CATEGORICAL)}
    made = {name: pa.array(values, from_pandas=True) for name, values in ready.items()}
    made |= {name: take(features.select([name]), found).column(0) for name in LISTS}  # no string becomes an object
    made |= {of.column: rows.column(OF_ITEM + of.name) for of in read("item") if of.column in VECTORS}
    own, of_user, of_item = (
        rows.column(name).combine_chunks() for name in ("attributes", "user_attributes", "item_attributes")
    )
    user_counts = outcome_words(take(features.select([OUTCOMES]), found).column(0), "user")
    item_counts = outcome_words(rows.column(OF_ITEM + OUTCOMES), "item")
    made["attributes"] = merged([own, of_user, user_counts, of_item, item_counts])
    table = pa.table({name: made[name] if name in made else rows.column(name) for name in schema.names}).cast(schema)
    return table.take(
        pc.sort_indices(
            table.select(["event_time", "impression_id"]), [("event_time", "ascending"), ("impression_id", "ascending")]
        )
    )


def _seen(rows: pa.Table, features: pa.Table, key: str, publications: Indices, of: str | None = None) -> Indices:
    """The key's feature row in the publication each impression sees, ABSENT where there is none of the key.

    `publications`: when each publication became available, see `jobs.asof.clock.instants`. `of` names the impression's
    column that `key` is looked up with, `key` itself by default.

    Every publication is whole, so who is not in the newest one has left the window: the endpoint, which answers from
    one publication only, knows nothing of them either. Raises `Refused` where a row was available only afterwards.
    """
    asked = rows.select([of or key, "event_time"]).rename_columns([key, "event_time"])
    found = latest(asked, features, keys=(key,), right_time="available_at")
    available_at = take(features.select(["available_at"]), found).column(0)
    refuse_leaks(rows, available_at, f"{key.removesuffix('_id')}_features")
    newest = np.append(publications, ABSENT)[seen(publications, rows.column("event_time"))]
    return np.where(microseconds(available_at) == newest, found, ABSENT)


def refuse_leaks(rows: pa.Table, available_at: pa.ChunkedArray, table: str) -> None:
    """Raise `Refused` where a joined feature row became available only after the impression it is joined to."""
    leaks = pc.sum(pc.greater(available_at, rows.column("event_time"))).as_py()
    if leaks:
        raise Refused(
            f"examples need {table} rows that were available at or before the impression; found {leaks} available later"
        )


@dataclass(frozen=True)
class AsOf:
    """What impressions saw, by time: `WITH_SOURCES` rows, and the user's row found in `features` for each of them."""

    rows: pa.Table
    features: pa.Table
    found: Indices
    encodings: Encodings

    def users(self) -> Columns:
        """See `Knowledge`."""
        return user_arrays(self.features, self.found)

    def items(self) -> Columns:
        """See `Knowledge`."""
        return item_arrays(self.rows, np.arange(len(self.rows)), OF_ITEM)

    def source_category(self) -> Strings:
        """See `Knowledge`."""
        return strings(self.rows.column(SOURCE_CATEGORY))

    def attributes(self) -> Columns:
        """None: they stay the maps they are, since nobody knows their keys before all parts are written."""
        return {}


def merged(maps: Sequence[pa.MapArray]) -> pa.MapArray:
    """Row-aligned maps as one: each row's entries of the first, then the second, and so on; a null map has none."""
    parts = [part.take(pa.array(np.arange(len(part)))) for part in maps]  # unsliced: keys and items are the whole of it
    lengths = np.stack([_lengths(part) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths.sum(axis=0))])
    starts = offsets[:-1] + np.cumsum(lengths, axis=0) - lengths
    # Where in the result each entry of each part goes: its row's start, plus its place within the row.
    places = [
        np.repeat(start - (np.cumsum(length) - length), length) + np.arange(length.sum())
        for start, length in zip(starts, lengths, strict=True)
    ]
    order = np.empty(offsets[-1], np.int64)
    order[np.concatenate(places)] = np.arange(offsets[-1])
    keys, items = (
        pa.concat_arrays([getattr(part, side) for part in parts]).take(pa.array(order)) for side in ("keys", "items")
    )
    return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, items)


def _lengths(maps: pa.MapArray) -> Indices:
    return np.diff(np.asarray(maps.offsets)).astype(np.int64)


def day_numbers(times: pa.ChunkedArray) -> Indices:
    """Each time's UTC day, counted from 1970-01-01."""
    return np.asarray(times.cast(pa.int64()).to_numpy() // 86_400_000_000, dtype=np.int64)
