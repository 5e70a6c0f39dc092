"""Users go online from Spark's workers, a part file at a time: what one writes no other does."""

from pathlib import Path

from jobs.asof.spark import refusals
from jobs.config import SparkSettings
from jobs.features.rows import Parts, features, read, some
from jobs.features.writing import Target
from jobs.spark import session


def written(settings: SparkSettings, target: Target, rows: Parts) -> int:
    """`Target.write` of a day's user features, as many files at once as there are cores; raises as that does.

    A task that runs twice writes the same values again.
    """
    table = rows.table
    there = Target(target.slot, target.redis_url, Path())

    def put(path: str) -> int:
        part = some(Parts(table, [path]), read(table))
        return there.write(table, (features(piece, table) for piece in part))

    with session(settings, "publish") as spark, refusals():
        return int(spark.sparkContext.parallelize(rows.files, max(len(rows.files), 1)).map(put).sum())
