"""`jobs.assemble.core`, step by step in hash buckets of each step's own key; the same rows as on one machine.

    labelled    impressions and labels                                        (impression_id)
    marked      where a selection is asked for: those, and earlier clicks     (user_id)
    with items  what is selected, items' features and snapshot                (item_id)
    examples    that, users' features and snapshot; written by each bucket    (user_id)

Rows that have a source ask for its category by a few columns of their own. The driver holds paths, counts and sums,
however many rows, users and items there are: snapshots are read by workers, an id is counted in the one bucket it is
in, and the card's sums are those of the buckets. Which items are one item is found from the pairs that are, of all
buckets in one: few are. Only `encodings`, few too, are read whole by every worker.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache, partial

import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.asof.core import Indices
from jobs.asof.spark import fitted
from jobs.assemble import card, core, negatives, selection
from jobs.assemble.inputs import Inputs, read
from jobs.config import SelectionSettings
from jobs.lake.parts import batches
from jobs.lake.tables import LAKE, STR
from jobs.moment import identity
from jobs.parcels.core import Keys
from jobs.parcels.spark import Out, Rows, Steps
from jobs.places import Place, write_parquet
from models.settings import TaskSettings

BY_IMPRESSION: Keys = ("impression_id",)
BY_ITEM: Keys = ("item_id",)
BY_USER: Keys = ("user_id", "impression_id")
"""Unknown users have no history and no features to meet: they are spread by what they have."""
TOGETHER = pa.schema([*identity.LINKS, ("of", STR)])
"""`LINKS` that are sent by what is null: to one bucket."""
PAIRS = pa.schema([("user_id", STR), ("item_id", STR)])
KNOWN = pa.schema([*PAIRS, ("identity", STR)])


def write_dataset(spark: SparkSession, given: Inputs, buckets: int, folders: Mapping[str, Place]) -> card.Told:
    """Write examples and negatives as part files into their folders; returns what buckets told of them.

    Each part file of the examples holds one bucket of users, by event time.
    """
    steps = Steps(spark, buckets)
    same = _identity(steps, given)
    selected, asked, labelled, left_out = _selected(steps, given, same)
    if given.settings.retrieval.per_click:
        _write_negatives(steps, selected, labelled, same, given, folders["retrieval_negatives"])
    features = steps.read(given.files["item_features"], core.ITEM_FEATURES, BY_ITEM)
    items = steps.parts(given.files["items"], "items", ["item_id", "attributes"], BY_ITEM)
    rows, answers, distinct = steps.joint(
        [selected, asked, features, items, same],
        partial(_with_items, publications=given.publications),
        [Out(core.WITH_ITEMS, BY_USER), Out(core.ANSWERED, BY_USER), Out(card.DISTINCT, ("what",))],
    )
    known = steps.read(given.files["user_features"], core.USER_FEATURES, ("user_id",))
    users = steps.parts(given.files["users"], "users", ["user_id", "attributes"], ("user_id",))
    finish = partial(
        _examples,
        encodings=tuple(given.files["encodings"]),
        publications=given.publications,
        tasks=given.tasks,
        folder=folders["examples"],
    )
    return card.Told.whole(steps.told([rows, answers, known, users, distinct, left_out], finish))


# -- which items are one ----------------------------------------------------------------------------
def _identity(steps: Steps, given: Inputs) -> Rows:
    """`identity.IDENTITY` by item."""
    rule = given.settings.selection.same_items
    files = given.files["items"] if rule != "item_id" else []
    outs = [Out(TOGETHER, ("of",)), Out(identity.DESCRIBED, ("title",))]
    linked, described = steps.work(files, partial(_linked, described=rule == "content"), outs)
    alike = steps.meet([described], _alike, TOGETHER, ("of",))
    return steps.meet([linked, alike], _joined, identity.IDENTITY, BY_ITEM)


def _linked(path: str, described: bool) -> Iterator[list[pa.Table]]:
    for rows in batches(path, "items", identity.IDENTIFYING):
        found = identity.described(rows) if described else identity.DESCRIBED.empty_table()
        yield [_sent_together(identity.links(rows)), found]


def _alike(described: pa.Table) -> pa.Table:
    return _sent_together(identity.alike(described))


def _sent_together(links: pa.Table) -> pa.Table:
    return links.append_column("of", pa.nulls(len(links), STR))


def _joined(*links: pa.Table) -> pa.Table:
    return identity.joined(pa.concat_tables(links).select(identity.LINKS.names))


def _known(steps: Steps, sides: Sequence[Rows], same: Rows) -> Rows:
    """`KNOWN` by user: of the items that their rows name, those that have another's identity."""
    pairs = steps.meet(sides, _pairs, PAIRS, BY_ITEM)
    return steps.meet([pairs, same], _identified, KNOWN, ("user_id",))


def _pairs(*sides: pa.Table) -> pa.Table:
    rows = pa.concat_tables([side.select(PAIRS.names).cast(PAIRS) for side in sides])
    return rows.filter(rows.column("user_id").is_valid()).group_by(PAIRS.names).aggregate([])


def _identified(pairs: pa.Table, same: pa.Table) -> pa.Table:
    return pairs.join(same, "item_id", join_type="inner").select(KNOWN.names)


def _of_bucket(known: pa.Table) -> pa.Table:
    """`identity.IDENTITY` of what a bucket's rows name."""
    return known.select(identity.IDENTITY.names).group_by(identity.IDENTITY.names).aggregate([])


# -- which rows become examples ---------------------------------------------------------------------
def _selected(steps: Steps, given: Inputs, same: Rows) -> tuple[Rows, Rows, Rows, Rows]:
    """What `selection.selected` keeps by item, `core.ASKED` of it by source, all labelled rows, what was left out."""
    settings = given.settings.selection
    impressions = steps.read(given.files["impressions"], core.IMPRESSIONS, BY_IMPRESSION)
    labels = steps.read(given.files["labels"], core.LABELS, BY_IMPRESSION)
    outs = [
        Out(core.SELECTED, BY_ITEM),
        Out(core.ASKED, ("source_item_id",)),
        Out(selection.LEFT_OUT, ("split",)),
    ]
    if not settings.any:
        rows, asked, left_out = steps.joint([impressions, labels], partial(_all, data=given.data), outs)
        return rows, asked, rows, left_out
    labelled = steps.meet([impressions, labels], partial(core.labelled, data=given.data), core.LABELLED, BY_USER)
    clicks = steps.work(given.files["clicks"], _clicks, [Out(selection.CLICKS, ("user_id",))])[0]
    sides = [labelled, clicks, _known(steps, [labelled, clicks], same)]
    mark = partial(_marked, settings=settings, last_train_day=given.last_train_day)
    if settings.max_train_rows is None:
        rows, asked, left_out = steps.joint(sides, lambda *tables: _kept(mark(*tables)), outs)
        return rows, asked, labelled, left_out
    marked = steps.meet(sides, mark, selection.MARKED, BY_ITEM)
    rates = selection.surface_rates(steps.count(marked, selection.totals, selection.TOTALS), settings)
    thin = partial(selection.thinned, rates=rates, seed=settings.seed)
    rows, asked, left_out = steps.joint([marked], lambda rows: _kept(thin(rows)), outs)
    return rows, asked, labelled, left_out


def _all(impressions: pa.Table, labels: pa.Table, data: core.Dataset) -> list[pa.Table]:
    rows = selection.unselected(core.labelled(impressions, labels, data))
    return [rows, core.asked(rows), selection.LEFT_OUT.empty_table()]


def _clicks(path: str) -> Iterator[list[pa.Table]]:
    for rows in batches(path, "labels", selection.CLICK_LABELS.names):
        yield [selection.clicks(rows)]


def _marked(
    rows: pa.Table, clicks: pa.Table, known: pa.Table, settings: SelectionSettings, last_train_day: date
) -> pa.Table:
    return selection.marked(rows, clicks, _of_bucket(known), settings, last_train_day)


def _kept(marked: pa.Table) -> list[pa.Table]:
    rows = selection.kept(marked)
    return [rows, core.asked(rows), selection.left_out(marked)]


# -- what is written --------------------------------------------------------------------------------
def _write_negatives(steps: Steps, selected: Rows, labelled: Rows, same: Rows, given: Inputs, folder: Place) -> None:
    """`negatives.drawn` day by day, then `negatives.unseen` by user."""
    rule = partial(negatives.clicked, publications=given.publications)
    clicks = steps.each(selected, rule, negatives.CLICKED, ("available_at",))
    catalogue = steps.read(given.files["item_features"], negatives.CATALOGUE, ("available_at",))
    draw = partial(negatives.drawn, settings=given.settings.retrieval)
    drawn = steps.meet([clicks, catalogue], draw, negatives.NEGATIVES, ("user_id",))
    shown = steps.each(labelled, negatives.shown, negatives.SHOWN, ("user_id",))
    sides = [drawn, shown, _known(steps, [drawn, shown], same)]
    steps.write(sides, _unseen, negatives.NEGATIVES, folder)


def _unseen(drawn: pa.Table, shown: pa.Table, known: pa.Table) -> pa.Table:
    return negatives.unseen(drawn, shown, _of_bucket(known))


def _with_items(
    rows: pa.Table, asked: pa.Table, features: pa.Table, items: pa.Table, same: pa.Table, publications: Indices
) -> list[pa.Table]:
    """`core.with_items`, answers about the items that are sources, and how many items there are."""
    attributed = core.with_attributes(rows, core.prefixed(items, "item"), "item")
    counted = [card.distinct(rows, "items"), card.count("duplicate_items", len(same))]
    return [
        core.with_items(attributed, features, publications),
        core.with_sources(asked, features, publications),
        pa.concat_tables(counted),
    ]


def _examples(
    bucket: int,
    rows: pa.Table,
    answers: pa.Table,
    features: pa.Table,
    users: pa.Table,
    distinct: pa.Table,
    left_out: pa.Table,
    *,
    encodings: tuple[str, ...],
    publications: Indices,
    tasks: TaskSettings,
    folder: Place,
) -> card.Told:
    """Writes a bucket's examples; its users are in no other bucket. What other steps told in it is told on."""
    told = [card.Told(card.sums([]), distinct, left_out)]
    if len(rows):
        rows = core.with_attributes(core.with_answers(rows, answers), core.prefixed(users, "user"), "user")
        made = core.examples(rows, features, _encodings(encodings), publications, tasks)
        made = fitted(made, LAKE["examples"].schema)
        write_parquet(made, folder / f"part-{bucket:05d}.parquet", coerce_timestamps="us")
        told.append(card.Told(card.sums([made]), card.distinct(made, "users"), selection.LEFT_OUT.empty_table()))
    return card.Told.whole(told)


@lru_cache(1)
def _encodings(files: tuple[str, ...]) -> pa.Table:
    """Of every publication, kept by a worker from bucket to bucket."""
    return read(files, core.ENCODINGS)
