"""`examples`: a time-split dataset of impressions, their labels as known at its cut, and features known before them."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.assemble import core
from jobs.errors import Refused
from jobs.run import Run
from jobs.store import midnight

Files: TypeAlias = dict[str, list[str]]


def run(run: Run) -> dict[str, Any]:
    """Publish the dataset of the run's day and mode; returns its rows per split and what is known of their labels.

    `warm` is `full` with only the last train days. Impressions, labels and the features before them must be published
    for every day of the dataset, and the labels of the run's own day: clicks of it belong to the day before.
    """
    settings = run.config.dataset
    published = run.published_days("impressions")
    data = core.dataset(
        run.day,
        settings.train_days,
        settings.validate_days,
        settings.test_days,
        run.config.attribution.click_window_days,
        published,
    )
    if run.mode == "warm":
        data = core.warm(data, settings.warm_train_days)
    run.files("labels", [run.day])
    files = _files(run, data, published)
    rows = sum(pq.read_metadata(file).num_rows for file in files["impressions"])
    engine = in_one_process if rows < run.config.spark.from_rows else on_spark
    run.say(f"{rows} impressions of {data.days[0]}..{data.days[-1]}: {engine.__name__}")
    folder = run.staging("examples") / f"day={run.day}" / f"mode={run.mode}"
    folder.mkdir(parents=True)
    engine(run, files, data, folder)
    parts = sorted(folder.glob("*.parquet"))
    counts = _counts(parts, data)
    if not counts["train"]:
        raise Refused(f"a dataset needs examples to train on; found none in {rows} impressions")
    run.publish("examples", run.partition, parts, counts)
    run.say(f"published {counts['train']} train, {counts['validate']} validate, {counts['test']} test examples")
    return counts


def in_one_process(run: Run, files: Files, data: core.Dataset, folder: Path) -> None:
    """Write the examples as one part file, by event time."""
    tables = {table: _read(files[table], schema) for table, schema in core.SCHEMAS.items()}
    labelled = core.labelled(tables.pop("impressions"), tables.pop("labels"), data)
    run.say("labels have met their impressions")
    rows = core.with_items(core.with_snapshots(labelled, *_snapshots(run)), tables.pop("item_features"))
    examples = core.examples(rows, tables.pop("user_features"))
    run.say("features have met their impressions")
    pq.write_table(examples, folder / "part-0.parquet", coerce_timestamps="us")


def on_spark(run: Run, files: Files, data: core.Dataset, folder: Path) -> None:
    """The same rows, by Spark."""
    from jobs.assemble.spark import write_examples
    from jobs.spark import session

    users, items = _snapshots(run)
    with session(run.config.spark, run.stage.name) as spark:
        run.say("Spark is up")
        write_examples(spark, files, users, items, data, run.config.spark.partitions, folder)


def _files(run: Run, data: core.Dataset, published: Sequence[date]) -> Files:
    """The part files to read; raises `NotReady` for a missing day, `Refused` for features that claim to be earlier.

    Features are needed of every day with impressions from the one before the first example on; before the start of
    history there are none to need.
    """
    days = data.days
    files = {table: [path for path, _ in run.files(table, days)] for table in ("impressions", "labels")}
    first, last = days[0] - timedelta(days=1), days[-1] - timedelta(days=1)
    known = [day for day in published if first <= day <= last]
    for table in ("user_features", "item_features"):
        found = run.files(table, known)
        for path, partition in found:
            _refuse_early(path, table, date.fromisoformat(partition["day"]))
        files[table] = [path for path, _ in found]
    return files


def _refuse_early(path: str, table: str, day: date) -> None:
    """Raise `Refused` where a feature row of `day` claims to have been available before that day was over."""
    earliest = pc.min(pq.ParquetFile(path).read(["available_at"]).column(0)).as_py()
    if earliest is not None and earliest < midnight(day + timedelta(days=1)):
        raise Refused(f"{table} of {day} need available_at at or after the midnight that ends it; found {earliest}")


def _snapshots(run: Run) -> tuple[pa.Table, pa.Table]:
    """Attributes of users and items as of the run's day; a source without such a table has none."""
    tables = []
    for key in ("user", "item"):
        columns = [f"{key}_id", "attributes"]
        known = any(day <= run.day for day in run.published_days(f"{key}s"))
        snapshot = run.newest(f"{key}s", columns) if known else core.snapshot_schema(key).empty_table()
        tables.append(core.prefixed(snapshot, key))
    return tables[0], tables[1]


def _read(files: list[str], schema: pa.Schema) -> pa.Table:
    parts = (pq.ParquetFile(file).read(schema.names).select(schema.names).cast(schema) for file in files)
    return pa.concat_tables([schema.empty_table(), *parts])


def _counts(parts: list[Path], data: core.Dataset) -> dict[str, int]:
    """Examples per split; train days there were; clicks and conversions known to have come, and those still unknown."""
    counts = {**dict.fromkeys(data.splits, 0), "train_days": len(data.splits["train"])}
    counts |= dict.fromkeys(("clicked", "converted", "clicked_unknown", "converted_unknown"), 0)
    for part in parts:
        rows = pq.ParquetFile(part).read(["split", "clicked", "converted"])
        for split in data.splits:
            counts[split] += pc.sum(pc.equal(rows.column("split"), split), min_count=0).as_py()
        for name in ("clicked", "converted"):
            counts[name] += pc.sum(rows.column(name), min_count=0).as_py()
            counts[f"{name}_unknown"] += rows.column(name).null_count
    return counts
