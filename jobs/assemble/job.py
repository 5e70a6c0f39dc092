"""`examples`: a time-split dataset of impressions, their labels as known at its cut, and features known before them.

Beside it `retrieval_negatives`, empty unless a setting asks for them. Both commits carry the data card in their notes.
"""

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa

from jobs import memory
from jobs.assemble import card, core, negatives, selection
from jobs.assemble.inputs import Inputs, inputs, read, snapshot
from jobs.errors import Refused
from jobs.lake import lost
from jobs.lake.run import Run
from jobs.moment.identity import IDENTIFYING, identities
from jobs.places import Place, listed, write_parquet

BYTES_A_ROW = 1_700
"""Of memory that one process takes for an impression of a dataset, its features included."""


def run(run: Run) -> dict[str, Any]:
    """Publish the dataset of the run's day and mode; returns its rows per split and what is known of their labels.

    `warm` is `full` with only the last train days. Impressions, labels and the features before them must be published
    for every day of the dataset, and the labels of the run's own day: clicks of it belong to the day before.
    """
    settings = run.config.dataset
    published = run.published_days("impressions")
    data = core.dataset(run.day, settings, run.config.attribution, published)
    data = replace(data, outcomes=run.config.outcomes)
    if run.mode == "warm":
        data = core.warm(data, settings.warm_train_days)
    run.files("labels", [run.day])
    given = inputs(run, data, published)
    rows = given.rows("impressions")
    distributed = run.config.spark.distributes(rows, BYTES_A_ROW, memory.at_hand())
    engine = on_spark if distributed else in_one_process
    run.say(f"{rows} impressions of {data.days[0]}..{data.days[-1]}: {engine.__name__}")
    folders = {table: _folder(run, table) for table in run.stage.writes}
    told = engine(run, given, folders)
    parts = {table: listed(folder, "*.parquet") for table, folder in folders.items()}
    facts = card.card(told, parts["retrieval_negatives"], given, run.inputs)
    facts["lost_days"] = [day.isoformat() for day in lost.among(run.lineages("impressions", data.days))]
    counts = card.counts(facts)
    if not counts["train"]:
        raise Refused(f"a dataset needs examples to train on; found none in {rows} impressions")
    notes = {"card": json.dumps(facts, sort_keys=True)}
    # The examples last: who sees a new dataset finds its negatives there.
    for table in ("retrieval_negatives", "examples"):
        run.publish(table, run.partition, parts[table], counts, notes)
    run.say(f"published {counts['train']} train, {counts['validate']} validate, {counts['test']} test examples")
    return counts


def in_one_process(run: Run, given: Inputs, folders: dict[str, Place]) -> card.Told:
    """Write the examples as one part file, by event time, and the negatives."""
    files, settings, last_train_day = given.files, given.settings, given.last_train_day
    tables = {table: read(files[table], schema) for table, schema in core.SCHEMAS.items()}
    labelled = core.labelled(tables.pop("impressions"), tables.pop("labels"), given.data)
    run.say("labels have met their impressions")
    catalogue = snapshot(files["items"], "items", IDENTIFYING)
    identity = identities(catalogue, settings.selection)
    clicks = selection.clicks(read(files["clicks"], selection.CLICK_LABELS))
    selected, left_out = selection.selected(labelled, clicks, identity, settings.selection, last_train_day)
    run.say(f"{len(selected)} of {len(labelled)} are selected")
    if settings.retrieval.per_click:
        clicked = negatives.clicked(selected, given.publications)
        drawn = negatives.drawn(clicked, tables["item_features"], settings.retrieval)
        unseen = negatives.unseen(drawn, negatives.shown(labelled), identity)
        write_parquet(unseen, folders["retrieval_negatives"] / "part-0.parquet", coerce_timestamps="us")
        run.say(f"{len(unseen)} of {len(drawn)} drawn negatives are unseen")
    del labelled
    features = tables.pop("item_features")
    rows = core.with_attributes(selected, core.prefixed(catalogue, "item"), "item")
    rows = core.with_sources(core.with_items(rows, features, given.publications), features, given.publications)
    users = snapshot(files["users"], "users", ["user_id", "attributes"])
    rows = core.with_attributes(rows, core.prefixed(users, "user"), "user")
    encodings = read(files["encodings"], core.ENCODINGS)
    examples = core.examples(rows, tables.pop("user_features"), encodings, given.publications, given.tasks)
    run.say("features have met their impressions")
    write_parquet(examples, folders["examples"] / "part-0.parquet", coerce_timestamps="us")
    counted = [card.distinct(examples, what) for what in card.IDS]
    counted.append(card.count("duplicate_items", len(identity)))
    return card.Told(card.sums([examples]), pa.concat_tables(counted), left_out)


def on_spark(run: Run, given: Inputs, folders: dict[str, Place]) -> card.Told:
    """The same rows, by Spark."""
    from jobs.assemble.spark import write_dataset
    from jobs.spark import session

    with session(run.config.spark, run.stage.name) as spark:
        run.say("Spark is up")
        return write_dataset(spark, given, given.buckets(run.config.spark), folders)


def _folder(run: Run, table: str) -> Place:
    folder = run.staging(table) / f"day={run.day}" / f"mode={run.mode}"
    folder.mkdir(parents=True)
    return folder
