"""`jobs.assemble.core`, step by step in hash buckets of each step's own key; the same rows as on one machine."""

from collections.abc import Mapping
from functools import partial

import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.asof.core import Indices
from jobs.assemble import core, negatives, selection
from jobs.assemble.inputs import Inputs
from jobs.lake.tables import LAKE
from jobs.parcels.core import Keys
from jobs.parcels.spark import Rows, Steps
from jobs.places import Place
from models.settings import TaskSettings

BY_IMPRESSION: Keys = ("impression_id",)
BY_ITEM: Keys = ("item_id",)
BY_SOURCE: Keys = ("source_item_id", "impression_id")
"""Few impressions have a source: the others are spread by what they have."""
BY_USER: Keys = ("user_id", "impression_id")
"""Unknown users have no history and no features to meet: likewise."""


def write_dataset(spark: SparkSession, given: Inputs, buckets: int, folders: Mapping[str, Place]) -> pa.Table:
    """Write examples and negatives as part files into their folders; returns `selection.LEFT_OUT`.

    Each part file of the examples holds one bucket of users, by event time.
    """
    steps, settings = Steps(spark, buckets), given.settings
    impressions = steps.read(given.files["impressions"], core.IMPRESSIONS, BY_IMPRESSION)
    labels = steps.read(given.files["labels"], core.LABELS, BY_IMPRESSION)
    labelled = steps.meet([impressions, labels], partial(core.labelled, data=given.data), core.LABELLED, BY_USER)
    selected, left_out = _selected(steps, labelled, given)
    if settings.retrieval.per_click:
        _write_negatives(steps, selected, labelled, given, folders["retrieval_negatives"])
    _write_examples(steps, selected, given, folders["examples"])
    return left_out


def _selected(steps: Steps, labelled: Rows, given: Inputs) -> tuple[Rows, pa.Table]:
    """`selection.selected` by item: the first three rules by user, the last by row."""
    settings = given.settings.selection
    if not settings.any:
        selected = steps.each(labelled, selection.unselected, core.SELECTED, BY_ITEM)
        return selected, selection.LEFT_OUT.empty_table()
    labels = steps.read(given.files["clicks"], selection.CLICK_LABELS, ("user_id",))
    clicks = steps.each(labels, selection.clicks, selection.CLICKS, ("user_id",))
    rule = partial(selection.marked, identity=given.identity, settings=settings, last_train_day=given.last_train_day)
    marked = steps.meet([labelled, clicks], rule, selection.MARKED, BY_ITEM)
    rates = selection.surface_rates(steps.count(marked, selection.totals, selection.TOTALS), settings)
    thin = partial(selection.thinned, rates=rates, seed=settings.seed)
    thinned = steps.each(marked, thin, selection.MARKED, BY_ITEM)
    left_out = steps.count(thinned, selection.left_out, selection.LEFT_OUT)
    return steps.each(thinned, selection.kept, core.SELECTED, BY_ITEM), left_out


def _write_negatives(steps: Steps, selected: Rows, labelled: Rows, given: Inputs, folder: Place) -> None:
    """`negatives.drawn` day by day, then `negatives.unseen` by user."""
    rule = partial(negatives.clicked, publications=given.publications)
    clicks = steps.each(selected, rule, negatives.CLICKED, ("available_at",))
    catalogue = steps.read(given.files["item_features"], negatives.CATALOGUE, ("available_at",))
    draw = partial(negatives.drawn, settings=given.settings.retrieval)
    drawn = steps.meet([clicks, catalogue], draw, negatives.NEGATIVES, ("user_id",))
    shown = steps.each(labelled, negatives.shown, negatives.SHOWN, ("user_id",))
    unseen = partial(negatives.unseen, identity=given.identity)
    steps.write([drawn, shown], unseen, negatives.NEGATIVES, folder)


def _write_examples(steps: Steps, selected: Rows, given: Inputs, folder: Place) -> None:
    """The point-in-time joins."""
    features = steps.read(given.files["item_features"], core.ITEM_FEATURES, BY_ITEM)
    items, users = steps.send(given.items, BY_ITEM), steps.send(given.users, ("user_id",))
    with_items = partial(_with_items, publications=given.publications)
    rows = steps.meet([selected, features, items], with_items, core.WITH_ITEMS, BY_SOURCE)
    with_sources = partial(core.with_sources, publications=given.publications)
    rows = steps.meet([rows, features], with_sources, core.WITH_SOURCES, BY_USER)
    known = steps.read(given.files["user_features"], core.USER_FEATURES, ("user_id",))
    finish = partial(_examples, encodings=given.encodings, publications=given.publications, tasks=given.tasks)
    steps.write([rows, known, users], finish, LAKE["examples"].schema, folder)


def _with_items(rows: pa.Table, features: pa.Table, items: pa.Table, publications: Indices) -> pa.Table:
    return core.with_items(core.with_attributes(rows, items, "item"), features, publications)


def _examples(
    rows: pa.Table, features: pa.Table, users: pa.Table, encodings: pa.Table, publications: Indices, tasks: TaskSettings
) -> pa.Table:
    return core.examples(core.with_attributes(rows, users, "user"), features, encodings, publications, tasks)
