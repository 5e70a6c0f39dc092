"""Hours of a day's large tables, converted and laid down by Spark's workers."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.config import SparkSettings
from jobs.ingest.hours import Ask
from jobs.parcels.spark import Steps
from jobs.spark import session


@contextmanager
def workers(settings: SparkSettings, parts: int) -> Iterator[Ask]:
    """Of so many parts; they are there for as long as this is open. What they ask raises as `Steps.ask` does."""
    with session(settings, "ingest") as spark:
        yield Steps(spark, parts).ask
