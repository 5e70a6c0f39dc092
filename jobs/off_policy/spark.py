"""The same sums on Spark: each partition reads its own rows as Arrow batches and sends back one row of numbers.

Rows that share a cluster (else, for pages, a page) are brought to one partition, so that each can close its clusters
and the driver adds up a few hundred numbers per partition, however many users there are. A page must be of one cluster.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from jobs.off_policy import columns, wire
from jobs.off_policy.question import Question
from jobs.off_policy.sums import Part, added_up, read


def read_frame(frame: DataFrame, question: Question) -> Part:
    """The sums of a frame with the question's columns; raises `Refused` where one is missing or of another type."""
    return added_up(parts_of(frame, question))


def parts_of(frame: DataFrame, question: Question) -> list[Part]:
    """What each partition found."""
    columns.refuse_columns(to_arrow_schema(frame.schema), question.columns, "the frame")
    rows = frame.select(*question.columns)
    if question.clustered or question.of_pages:
        rows = rows.repartition("cluster" if question.clustered else "slate")
    if question.of_pages:
        rows = rows.sortWithinPartitions("slate")

    def sums(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context: Any = TaskContext.get()
        yield wire.sent(read(batches, question, f"partition {context.partitionId()}"))

    return wire.arrived(rows.mapInArrow(sums, from_arrow_schema(wire.SCHEMA)).toArrow())
